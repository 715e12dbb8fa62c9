//! Whether the metrics file can be written, and whether a node_exporter reads it.

use std::{
    ffi::CString,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::process::Process;
use crate::sys;

/// Where metrics go.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The folder of the file.
    pub folder: PathBuf,
    /// Whether that exists.
    pub exists: bool,
    /// Whether this process may make files there.
    pub writable: bool,
    /// Who this process is.
    pub user: u32,
    /// Each node_exporter that runs.
    pub exporters: Vec<Exporter>,
}

/// A running node_exporter.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// It.
    pub process: Process,
    /// The folder that its textfile collector reads; `None`: it reads none.
    pub folder: Option<String>,
    /// Whether that is the metrics file's.
    pub reads_ours: bool,
}

impl Metrics {
    /// Looks at the folder of `file`.
    #[must_use]
    pub fn read(file: &Path) -> Self {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let is_exporter = |process: &Process| process.name.contains("node_export");
        // A name of 15 bytes is cut: Debian's is prometheus-node-exporter.
        let is_debians = |process: &Process| process.name == "prometheus-node";
        let exporters = Process::all()
            .filter(|process| is_exporter(process) || is_debians(process))
            .map(|process| Exporter::read(process, folder));
        Self {
            exists: folder.is_dir(),
            writable: CString::new(folder.as_os_str().as_bytes())
                .is_ok_and(|folder| sys::process::may_write(&folder)),
            user: fs::metadata("/proc/self").map_or(0, |own| own.uid()),
            exporters: exporters.collect(),
            folder: folder.to_owned(),
        }
    }
}

impl Exporter {
    fn read(process: Process, ours: &Path) -> Self {
        let folder = folder(&process.command_line());
        let reads_ours = folder.as_ref().is_some_and(|folder| {
            let theirs = process.path(folder);
            match (fs::metadata(theirs), fs::metadata(ours)) {
                (Ok(theirs), Ok(ours)) => (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()),
                _ => Path::new(folder) == ours,
            }
        });
        Self {
            process,
            folder,
            reads_ours,
        }
    }
}

/// Which folder a node_exporter with this command line reads.
fn folder(command_line: &[String]) -> Option<String> {
    const OPTION: &str = "--collector.textfile.directory";
    let mut words = command_line.iter();
    let program = words.next()?;
    while let Some(word) = words.next() {
        match word.strip_prefix(OPTION) {
            Some("") => return words.next().cloned(),
            Some(value) if value.starts_with('=') => return Some(value[1..].to_owned()),
            _ => {}
        }
    }
    // Debian's has a default.
    let debians = program.ends_with("prometheus-node-exporter");
    debians.then(|| "/var/lib/prometheus/node-exporter".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_node_exporter() {
        let folder = |line: &str| {
            let words: Vec<_> = line.split(' ').map(ToOwned::to_owned).collect();
            folder(&words)
        };
        for (line, expected) in [
            (
                "/bin/node_exporter --collector.textfile.directory=/a/b",
                Some("/a/b"),
            ),
            (
                "node_exporter --collector.textfile.directory /c --x",
                Some("/c"),
            ),
            ("node_exporter --collector.textfile", None),
            (
                "/usr/bin/prometheus-node-exporter",
                Some("/var/lib/prometheus/node-exporter"),
            ),
        ] {
            assert_eq!(folder(line).as_deref(), expected, "{line}");
        }
    }
}
