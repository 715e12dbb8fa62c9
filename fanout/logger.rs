//! The log: stderr, one line an event, `LEVEL message key=value …`.
//!
//! simple_logger decides what is worth a line (the config's level, overridden by `RUST_LOG`); the
//! line itself is ours, as the contract's has no target and a closed stderr must not end the program.

use std::io::{self, Write};

use log::{LevelFilter, Log, Metadata, Record, SetLoggerError};
use simple_logger::SimpleLogger;

struct Logger(SimpleLogger);

/// Starts logging at `level`.
///
/// # Errors
/// If a logger is there already.
pub fn init(level: LevelFilter) -> Result<(), SetLoggerError> {
    // What the eBPF library says of features that fanout does not use is no news to an operator.
    let filter = SimpleLogger::new()
        .with_level(LevelFilter::Trace)
        .with_module_level("aya", LevelFilter::Error)
        .env();
    set_level(level);
    log::set_boxed_logger(Box::new(Logger(filter)))
}

/// Logs at `level` from now on, or as `RUST_LOG` says, if it does.
pub fn set_level(level: LevelFilter) {
    let given = std::env::var("RUST_LOG").ok();
    let given = given.and_then(|text| text.parse().ok());
    log::set_max_level(given.unwrap_or(level));
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // One write, so that lines of several threads don't mix.
            let line = format!("{} {}\n", record.level(), record.args());
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}
