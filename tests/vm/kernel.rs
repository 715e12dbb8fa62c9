//! Kernels as distribution packages, unpacked by `.ci/setup-vm.sh` and not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A kernel and its modules.
#[derive(Debug)]
pub struct Kernel {
    /// What a boot loader loads.
    pub image: PathBuf,
    root: PathBuf,
    release: String,
}

impl Kernel {
    /// The one of a series such as 6.18.
    pub fn find(series: &str) -> Result<Self, String> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("target/tmp");
        let root = target.join("vm/kernels").join(series);
        let images = fs::read_dir(root.join("boot")).into_iter().flatten();
        let found = images.flatten().find_map(|file| {
            let name = file.file_name().into_string().ok()?;
            Some((file.path(), name.strip_prefix("vmlinuz-")?.to_owned()))
        });
        let (image, release) = found.ok_or_else(|| {
            format!("there is no Linux {series}: '.ci/setup-vm.sh {series}' fetches it")
        })?;
        Ok(Self {
            image,
            root,
            release,
        })
    }

    /// The files of modules and of all that they need, in the order to load them in.
    pub fn modules(&self, names: &[&str]) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for name in names {
            let mut modprobe = Command::new("modprobe");
            modprobe.arg("-d").arg(&self.root);
            modprobe.args(["-S", &self.release, "--show-depends", name]);
            // One that it does not know is built in: not every package lists those.
            let output = modprobe.output().expect("modprobe");
            // `insmod FILE`, or `builtin NAME`
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                if let Some(file) = line.strip_prefix("insmod ") {
                    let file = PathBuf::from(file.trim());
                    if !files.contains(&file) {
                        files.push(file);
                    }
                }
            }
        }
        files
    }
}
