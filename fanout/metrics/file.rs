//! The file for `node_exporter`'s textfile collector. Who reads it sees the old text or the new one,
//! whole: written beside it, flushed, renamed over it. Failing is a warning, never a fault.
//!
//! Beside it, for `fanout status`, is the [same text of the last second](now): the collector's file may be an hour
//! old.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{Snapshot, render};

/// For everybody to read, whatever the umask.
const MODE: u32 = 0o644;

/// A longer text (some thousand series) is not worth its while each second.
const LONG: usize = 256 << 10;
/// Of a long text's seconds it is written in one.
const LONG_EVERY: u32 = 3;

/// Where the text of the last second is, for a metrics file: not `.prom`, which the collector would read.
#[must_use]
pub fn now(metrics_file: &Path) -> PathBuf {
    with_suffix(metrics_file, "", ".now")
}

/// The metrics file, and how its last writing went.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    /// `.NAME.prom.tmp` beside it: not `.prom`, which the collector would read. Always the same, so
    /// that what a killed process left behind goes with the next writing.
    temporary: PathBuf,
    now: PathBuf,
    /// Seconds for which a long text stays as it is.
    rest: u32,
    text: String,
    failing: bool,
}

impl MetricsFile {
    /// Touches nothing yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            temporary: with_suffix(&path, ".", ".tmp"),
            now: now(&path),
            path,
            rest: 0,
            text: String::new(),
            failing: false,
        }
    }

    /// Replaces the file. If that fails, logs one warning, and one line when it works again.
    pub fn update(&mut self, snapshot: &Snapshot<'_>) {
        render(snapshot, &mut self.text);
        let result = self.replace(&self.path, true);
        let failed_before = std::mem::replace(&mut self.failing, result.is_err());
        let path = self.path.display();
        match result {
            Err(error) if !failed_before => {
                log::warn!(
                    "metrics file can't be written, will try again path={path} error=\"{error}\""
                );
            }
            Ok(()) if failed_before => log::info!("metrics file is written again path={path}"),
            _ => {}
        }
    }

    /// Whether the text of the last second is to be replaced: to be asked each second, as a long one is only each
    /// third time.
    pub fn is_due(&mut self) -> bool {
        let rest = self.rest.checked_sub(1);
        self.rest = rest.unwrap_or_default();
        rest.is_none()
    }

    /// Replaces the text of the last second.
    pub fn update_now(&mut self, snapshot: &Snapshot<'_>) {
        render(snapshot, &mut self.text);
        // Not worth a word where the other one is written.
        let _ = self.replace(&self.now, false);
        if self.text.len() > LONG {
            self.rest = LONG_EVERY - 1;
        }
    }

    /// For a clean stop: a file that nobody updates would be exported for ever.
    ///
    /// # Errors
    /// The kernel's; a file that is not there is none.
    pub fn remove(self) -> io::Result<()> {
        remove_if_there(&self.temporary)?;
        remove_if_there(&self.now)?;
        remove_if_there(&self.path)
    }

    fn replace(&self, path: &Path, flush: bool) -> io::Result<()> {
        // Made anew each time: an open that follows no link, planted or left over.
        remove_if_there(&self.temporary)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&self.temporary)?;
        let done = fill(file, &self.text, flush).and_then(|()| fs::rename(&self.temporary, path));
        if done.is_err() {
            // The first error tells more than one of this.
            let _ = remove_if_there(&self.temporary);
        }
        done
    }
}

fn fill(mut file: File, text: &str, flush: bool) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(text.as_bytes())?;
    if flush { file.sync_all() } else { Ok(()) }
}

fn with_suffix(path: &Path, before: &str, after: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let mut changed = OsString::from(before);
    changed.push(name);
    changed.push(after);
    path.with_file_name(changed)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
