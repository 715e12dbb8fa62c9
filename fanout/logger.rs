//! The log: stderr, one line an event, `LEVEL message key=value …`. In front stands the time, or what journald, which
//! knows the time, takes for the line's priority.
//!
//! simple_logger decides what is worth a line (the config's level, overridden by `RUST_LOG`); the
//! line itself is ours, as the contract's has no target and a closed stderr must not end the program.

use std::{
    fs::File,
    io::{self, Write},
    os::{fd::AsFd, unix::fs::MetadataExt as _},
    time::SystemTime,
};

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};
use simple_logger::SimpleLogger;

use crate::sys::clock::Utc;

struct Logger {
    filter: SimpleLogger,
    /// Whether stderr is journald's, which takes a line's priority from its begin: sd-daemon(3).
    journal: bool,
}

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
    let journal = is_journal();
    log::set_boxed_logger(Box::new(Logger { filter, journal }))
}

/// Logs at `level` from now on, or as `RUST_LOG` says, if it does.
pub fn set_level(level: LevelFilter) {
    let given = std::env::var("RUST_LOG").ok();
    let given = given.and_then(|text| text.parse().ok());
    log::set_max_level(given.unwrap_or(level));
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // One write, so that lines of several threads don't mix.
            let (level, text) = (record.level(), record.args());
            let line = if self.journal {
                format!("<{}>{level} {text}\n", priority(level))
            } else if let Ok(now) = Utc::of(SystemTime::now()) {
                format!("{now} {level} {text}\n")
            } else {
                format!("{level} {text}\n")
            };
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// Whether stderr is the stream that `JOURNAL_STREAM` names, by its device and inode: systemd.exec(5).
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let Ok(metadata) = stderr.and_then(|stderr| stderr.metadata()) else {
        return false;
    };
    named == format!("{}:{}", metadata.dev(), metadata.ino())
}

/// syslog(3)'s number for a level.
const fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
