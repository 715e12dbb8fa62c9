//! The `fanout` program: wiring only.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use fanout::{
    args::{self, Command},
    check::{self, report},
    config::{self, Config},
    logger,
    rules::Level,
    status, supervisor,
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
        Ok(Command::Check { config, json }) => return check(&config, json),
        Ok(Command::Status {
            config,
            watch,
            json,
        }) => return show_status(&config, watch, json),
        Err(error) => {
            eprintln!("fanout: {error}\ntry 'fanout --help'");
            return USAGE.into();
        }
    }
    ExitCode::SUCCESS
}

fn run(file: &Path) -> ExitCode {
    let config = match load(file) {
        Ok(config) => config,
        Err(wrong) => return wrong,
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

fn check(file: &Path, json: bool) -> ExitCode {
    let config = match load(file) {
        Ok(config) => config,
        Err(wrong) => return wrong,
    };
    let findings = match check::look(&config) {
        Ok(findings) => findings,
        Err(refusal) => {
            eprintln!("fanout: the kernel does not tell of this host: {refusal}");
            return FAULT.into();
        }
    };
    let text = if json {
        report::json(&findings)
    } else {
        report::text(&findings)
    };
    drop(write!(io::stdout(), "{text}"));
    match check::worst(&findings) {
        Level::Fail => FAULT.into(),
        Level::Ok | Level::Warn => ExitCode::SUCCESS,
    }
}

fn show_status(file: &Path, watch: bool, json: bool) -> ExitCode {
    let config = match load(file) {
        Ok(config) => config,
        Err(wrong) => return wrong,
    };
    match status::show(&config, watch, json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(nothing) => {
            eprintln!("fanout: {nothing}");
            FAULT.into()
        }
    }
}

fn load(file: &Path) -> Result<Config, ExitCode> {
    config::load(file).map_err(|errors| {
        for error in errors {
            eprintln!("{error}");
        }
        USAGE.into()
    })
}
