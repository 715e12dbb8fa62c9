//! The guest's root: programs with the libraries they load, modules, and `init.sh`, as one cpio archive
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::{
    collections::BTreeSet,
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::{fanout, namespace::expect_success};

/// What busybox stands in for.
const APPLETS: &[&str] = &["cat", "dd", "insmod", "mount", "printf", "sh"];
/// Programs that are the host's own.
const PROGRAMS: &[&str] = &["busybox", "ethtool", "ip"];
/// What the kernel expects mounted, or finds its way by.
const FOLDERS: &[&str] = &["dev", "proc", "run", "sys", "tmp"];

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// The archive for a guest that runs this binary with `arguments`.
pub fn build(modules: &[PathBuf], arguments: &str) -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.add(folder, FOLDER, b"");
    }
    archive.add("init", PROGRAM, include_bytes!("init.sh"));
    archive.add("arguments", PROGRAM, arguments.as_bytes());
    archive.add_program("fanout", Path::new(&fanout::binary()));
    archive.add_program("vm", &env::current_exe().expect("this binary"));
    for name in PROGRAMS {
        archive.add_program(name, &in_path(name));
    }
    for applet in APPLETS {
        archive.add(&format!("bin/{applet}"), LINK, b"busybox");
    }
    for (number, module) in modules.iter().enumerate() {
        // In the order of their names they can be loaded.
        archive.add(&format!("modules/{number:02}"), PROGRAM, &unpacked(module));
    }
    archive.finish()
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    /// A program under `/bin`, and the libraries that it loads where it expects them.
    fn add_program(&mut self, name: &str, file: &Path) {
        self.add(&format!("bin/{name}"), PROGRAM, &read(file));
        // Fails for one that is linked statically, and lists nothing.
        let libraries = Command::new("ldd").arg(file).output().expect("ldd");
        let libraries = String::from_utf8_lossy(&libraries.stdout);
        let paths = libraries
            .split_whitespace()
            .filter_map(|word| word.strip_prefix('/'));
        for path in paths {
            self.add(path, PROGRAM, &read(&Path::new("/").join(path)));
        }
    }

    /// An entry that is not there yet, after the folders that it lies in.
    fn add(&mut self, name: &str, mode: u32, data: &[u8]) {
        if self.names.contains(name) {
            return;
        }
        if let Some((folder, _)) = name.rsplit_once('/') {
            self.add(folder, FOLDER, b"");
        }
        self.names.insert(name.to_owned());
        self.write(name, mode, data);
    }

    fn write(&mut self, name: &str, mode: u32, data: &[u8]) {
        let number = self.names.len();
        let fields = [
            number,
            mode as usize,
            0,
            0,
            1,
            0,
            data.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        ];
        let mut header = "070701".to_owned();
        for field in fields {
            write!(header, "{field:08x}").expect("a string grows");
        }
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(data);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.write("TRAILER!!!", 0, b"");
        self.bytes
    }
}

fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Busybox loads modules only as they are.
fn unpacked(module: &Path) -> Vec<u8> {
    if module
        .extension()
        .is_some_and(|extension| extension == "xz")
    {
        return expect_success(Command::new("xz").arg("-dc").arg(module)).stdout;
    }
    read(module)
}

fn in_path(program: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("no {program}"))
}
