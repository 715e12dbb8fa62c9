//! The `fanout` program: wiring only.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use fanout::{
    args::{self, Command},
    config, logger, supervisor,
};

/// It could not run, or stopped on a fault.
const FAULT: u8 = 1;
/// Wrong usage, or a wrong config.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1)) {
        // To a closed pipe, such as that of `| head`, there is nothing more to say.
        Ok(Command::Help) => drop(write!(io::stdout(), "{}", args::HELP)),
        Ok(Command::Version) => drop(writeln!(io::stdout(), "{}", args::VERSION)),
        Ok(Command::Run { config }) => return run(&config),
        Err(error) => {
            eprintln!("fanout: {error}\ntry 'fanout --help'");
            return USAGE.into();
        }
    }
    ExitCode::SUCCESS
}

fn run(file: &Path) -> ExitCode {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(errors) => {
            for error in errors {
                eprintln!("{error}");
            }
            return USAGE.into();
        }
    };
    // Only a second logger is refused, and this is the first.
    let _ = logger::init(config.log_level);
    match supervisor::run(file, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            log::error!("{fault}");
            FAULT.into()
        }
    }
}
