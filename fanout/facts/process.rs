//! Who on this host does what, as `/proc` tells those who may know (proc(5)).

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// A process, also one in another network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// The name of its program, at most 15 bytes.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.id)
    }
}

impl Process {
    /// All but this one.
    pub fn all() -> impl Iterator<Item = Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let others = ids.filter(|&id| id != std::process::id());
        others.filter_map(|id| {
            let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
            let name = name.trim_end().to_owned();
            Some(Self { id, name })
        })
    }

    /// The one that has the socket with this inode open.
    #[must_use]
    pub fn with_socket(inode: u64) -> Option<Self> {
        let wanted = PathBuf::from(format!("socket:[{inode}]"));
        let has = |file: &Path| fs::read_link(file).is_ok_and(|link| link == wanted);
        Self::all().find(|process| process.files("fd").any(|file| has(&file)))
    }

    /// The one that has the eBPF program with this number open, and whether that is what keeps it attached.
    #[must_use]
    pub fn with_program(number: u32) -> Option<(Self, bool)> {
        let wanted = format!("prog_id:\t{number}");
        let mut holders: Vec<_> = Self::all()
            .flat_map(|process| {
                let files: Vec<_> = process.files("fdinfo").collect();
                files.into_iter().map(move |file| (process.clone(), file))
            })
            .filter_map(|(process, file)| {
                let info = fs::read_to_string(file).ok()?;
                let has = info.lines().any(|line| line == wanted);
                has.then(|| (process, info.contains("link_type:\txdp")))
            })
            .collect();
        holders.sort_by_key(|&(_, attaches)| !attaches);
        holders.into_iter().next()
    }

    /// The words of its command line.
    #[must_use]
    pub fn command_line(&self) -> Vec<String> {
        let line = fs::read(format!("/proc/{}/cmdline", self.id)).unwrap_or_default();
        let words = line
            .split(|&byte| byte == 0)
            .filter(|word| !word.is_empty());
        words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    }

    /// `path` as this process sees it: it may have another root.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.id);
        Path::new(&root).join(path.trim_start_matches('/'))
    }

    fn files(&self, folder: &str) -> impl Iterator<Item = PathBuf> + use<> {
        let entries = fs::read_dir(format!("/proc/{}/{folder}", self.id));
        let entries = entries.into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    }
}
