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
    /// The folders that its textfile collector reads, which may be patterns.
    pub folders: Vec<String>,
    /// Whether the metrics file's is one of them.
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
        let folders = folders(&process.command_line());
        let is_ours =
            |folder: &String| match (fs::metadata(process.path(folder)), fs::metadata(ours)) {
                (Ok(theirs), Ok(ours)) => (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()),
                _ => matches(folder, ours),
            };
        Self {
            reads_ours: folders.iter().any(is_ours),
            folders,
            process,
        }
    }
}

/// Whether `folder` is one of those that a pattern stands for. (fnmatch(3) does that and more, at the cost of musl's
/// tables of wide characters.)
fn matches(pattern: &str, folder: &Path) -> bool {
    let pattern = pattern.trim_end_matches('/');
    fits(pattern.as_bytes(), folder.as_os_str().as_bytes())
}

/// A wildcard stands for no slash.
fn fits(pattern: &[u8], path: &[u8]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        ([b'*', after @ ..], path) if fits(after, path) => true,
        ([b'*', ..], [first, rest @ ..]) => *first != b'/' && fits(pattern, rest),
        ([b'?', after @ ..], [first, rest @ ..]) => *first != b'/' && fits(after, rest),
        ([this, after @ ..], [first, rest @ ..]) => this == first && fits(after, rest),
        _ => false,
    }
}

/// Which folders a node_exporter with this command line reads: as many as it is given.
fn folders(command_line: &[String]) -> Vec<String> {
    const OPTION: &str = "--collector.textfile.directory";
    let mut folders = Vec::new();
    let mut words = command_line.iter();
    let Some(program) = words.next() else {
        return folders;
    };
    while let Some(word) = words.next() {
        match word.strip_prefix(OPTION) {
            Some("") => folders.extend(words.next().cloned()),
            Some(value) => folders.extend(value.strip_prefix('=').map(ToOwned::to_owned)),
            None => {}
        }
    }
    // Debian's has a default.
    if folders.is_empty() && program.ends_with("prometheus-node-exporter") {
        folders.push("/var/lib/prometheus/node-exporter".to_owned());
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_of_a_node_exporter() {
        assert!(matches("/d/*", Path::new("/d/fanout")));
        assert!(!matches("/d/*", Path::new("/e/fanout")));
        assert!(!matches("/d/*", Path::new("/d/fanout/deeper")));
        assert!(matches("/d/", Path::new("/d")));
        assert!(matches("/d/?anout*/*x", Path::new("/d/fanout/prom.x")));
        assert!(!matches("/d/*.prom", Path::new("/d/fanout")));
        assert!(!matches("/d?fanout", Path::new("/d/fanout")));
        for (line, expected) in [
            (
                "/bin/node_exporter --collector.textfile.directory=/a/b",
                &["/a/b"][..],
            ),
            (
                "node_exporter --collector.textfile.directory /c --x --collector.textfile.directory=/d/*",
                &["/c", "/d/*"],
            ),
            ("node_exporter --collector.textfile", &[]),
            (
                "/usr/bin/prometheus-node-exporter",
                &["/var/lib/prometheus/node-exporter"],
            ),
        ] {
            let words: Vec<_> = line.split(' ').map(ToOwned::to_owned).collect();
            assert_eq!(folders(&words), expected, "{line}");
        }
    }
}
