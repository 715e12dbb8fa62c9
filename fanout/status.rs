//! `fanout status`: what the running instance counts, from the file that it writes each second beside the metrics file.
//! Needs no privilege but to read that.

mod exposition;
mod table;
mod view;

use std::{
    fmt, fs,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nanoserde::SerJson as _;

use self::view::View;
use crate::{config::Config, metrics, sys};

/// An instance writes each second, with thousands of series each third: one that has not for so long does not run.
const OLD: Duration = Duration::from_secs(8);
/// Between two looks whether it has.
const POLL: Duration = Duration::from_millis(50);

/// Why there is nothing to show.
#[derive(Debug)]
pub enum Nothing {
    /// The config names no metrics file.
    NoFile,
    /// The file is not there.
    NotRunning(PathBuf),
    /// It has not been written for so long.
    Old(PathBuf, Duration),
    /// It can't be read.
    Unreadable(PathBuf, io::Error),
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str(
                "the config has no metrics_file, from which the status comes; add to [fanout]:\n\
                 metrics_file = /var/lib/prometheus/node-exporter/fanout.prom",
            ),
            Self::NotRunning(file) => write!(
                f,
                "no fanout with this config is running: {} is not there",
                file.display()
            ),
            Self::Old(file, age) => write!(
                f,
                "no fanout with this config is running: {} was written {} s ago, and is each few seconds; \
                 it was killed, or it hangs",
                file.display(),
                age.as_secs()
            ),
            Self::Unreadable(file, error) => {
                write!(f, "{} can't be read: {error}", file.display())
            }
        }
    }
}

/// One reading of the file.
struct Reading {
    text: String,
    written: SystemTime,
}

/// Prints the status to standard output, with `watch` again each second.
///
/// # Errors
/// See [`Nothing`].
pub fn show(config: &Config, watch: bool, json: bool) -> Result<(), Nothing> {
    let file = config.metrics_file.as_deref().ok_or(Nothing::NoFile)?;
    let file = metrics::now(file);
    let mut before = read(&file)?;
    loop {
        let now = read_next(&file, before.written)?;
        let between = now.written.duration_since(before.written);
        let milliseconds = between.unwrap_or_default().as_millis();
        let milliseconds = u64::try_from(milliseconds).unwrap_or(u64::MAX);
        let view = View::new(&now.text, &before.text, milliseconds);
        let text = if json {
            view.serialize_json() + "\n"
        } else {
            let time = SystemTime::now().duration_since(UNIX_EPOCH);
            table::table(&view, time.unwrap_or_default().as_secs())
        };
        let printed = print(&text, watch && !json);
        // To a closed pipe there is nothing more to say.
        if !watch || printed.is_err() {
            return Ok(());
        }
        before = now;
    }
}

fn read(file: &Path) -> Result<Reading, Nothing> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Nothing::NotRunning(file.to_owned()),
        _ => Nothing::Unreadable(file.to_owned(), error),
    };
    let written = fs::metadata(file).and_then(|metadata| metadata.modified());
    let written = written.map_err(unreadable)?;
    let age = SystemTime::now()
        .duration_since(written)
        .unwrap_or_default();
    if age > OLD {
        return Err(Nothing::Old(file.to_owned(), age));
    }
    let text = fs::read_to_string(file).map_err(unreadable)?;
    Ok(Reading { text, written })
}

/// The next one after that of `before`.
fn read_next(file: &Path, before: SystemTime) -> Result<Reading, Nothing> {
    let since = Instant::now();
    loop {
        sleep(POLL);
        match read(file) {
            Ok(reading) if reading.written == before => {}
            // Between two files there may be none for a moment.
            Err(Nothing::NotRunning(_)) if since.elapsed() < OLD => {}
            other => return other,
        }
    }
}

/// On a terminal that is watched, in place of what is there, and no longer than it.
fn print(text: &str, repaint: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !(repaint && out.is_terminal()) {
        out.write_all(text.as_bytes())?;
        return out.flush();
    }
    let rows = sys::process::terminal_rows().unwrap_or(24).max(2) - 1;
    let lines: Vec<_> = text.lines().collect();
    let mut screen = String::from("\x1b[H\x1b[2J");
    for line in lines.iter().take(rows) {
        screen += line;
        screen += "\r\n";
    }
    if lines.len() > rows {
        screen += "...";
    }
    out.write_all(screen.as_bytes())?;
    out.flush()
}
