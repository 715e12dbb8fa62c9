//! Leaves the eBPF object in `$OUT_DIR/fanout.bpf.o`, and beside it the hash of its sources.
//!
//! The object is committed (`fanout-ebpf/prebuilt/`): as long as it belongs to the sources, a build
//! takes it and needs nothing but stable Rust. Once they differ it is built from source, by a
//! toolchain with core for `bpfel-unknown-none` (or with rust-src) and bpf-linker. `.ci/prebuilt`
//! renews the committed object, and proves that its source gives it.
//!
//! - `FANOUT_BPF_OBJECT=FILE` takes that file and builds nothing.
//! - `FANOUT_BPF_TOOLCHAIN=NAME` builds from source with that rustup toolchain and no other.
//! - `FANOUT_BPF_BUILD=1` builds from source with the first toolchain that can: the one that runs
//!   this build, rustup's nightly, the one in `/usr/bin`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "bpfel-unknown-none";
const LOCK: &str = "Cargo.lock";
const WORKSPACE: &str = "Cargo.toml";
const MANIFEST: &str = "fanout-ebpf/Cargo.toml";
const SOURCES: &str = "fanout-ebpf/src";
const PREBUILT: &str = "fanout-ebpf/prebuilt";
const HELP: &str = "the eBPF program must be built from source: install bpf-linker and a nightly with \
     rust-src, or on Debian run .ci/setup-debian.sh";

type Result<T> = std::result::Result<T, String>;

fn main() {
    for path in ["build.rs", LOCK, WORKSPACE, MANIFEST, SOURCES, PREBUILT] {
        println!("cargo::rerun-if-changed={path}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    if let Err(why) = provide(&out) {
        why.lines().for_each(|line| println!("cargo::error={line}"));
        exit(1);
    }
}

fn provide(out: &Path) -> Result<()> {
    let hash = hash_of_sources()?;
    let file = out.join("sources.hash");
    fs::write(&file, &hash).map_err(|e| format!("{}: {e}", file.display()))?;

    let object = out.join("fanout.bpf.o");
    let given = setting("FANOUT_BPF_OBJECT");
    let named = setting("FANOUT_BPF_TOOLCHAIN");
    let forced = setting("FANOUT_BPF_BUILD").is_some() || named.is_some();
    let prebuilt = Path::new(PREBUILT);
    if let Some(file) = given {
        println!("cargo::rerun-if-changed={file}");
        copy(Path::new(&file), &object)
    } else if !forced
        && read(&prebuilt.join("sources.hash")).is_ok_and(|committed| committed == hash)
    {
        copy(&prebuilt.join("fanout.bpf.o"), &object)
    } else {
        let builder = Builder::find(named)?;
        copy(&builder.build(&out.join("bpf"))?, &object)?;
        strip_dwarf(&object)
    }
}

fn setting(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .map_err(|e| format!("{}: {e}", from.display()))
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// FNV-1a over what decides the object: its sources, their manifest and profile, the locked aya-ebpf
/// crates.
fn hash_of_sources() -> Result<String> {
    let paragraphs = |file: &str, what: &str| -> Result<Vec<String>> {
        let text = read(Path::new(file))?;
        let those = text.split("\n\n").filter(|part| part.contains(what));
        Ok(those.map(str::to_owned).collect())
    };
    let mut parts = paragraphs(LOCK, "name = \"aya-ebpf")?;
    parts.extend(paragraphs(WORKSPACE, "[profile.bpf]")?);
    let mut paths = vec![PathBuf::from(MANIFEST), PathBuf::from(SOURCES)];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(list(&path));
        } else if !path.ends_with("tests.rs") {
            parts.extend([path.display().to_string(), read(&path)?]);
        }
    }
    let hash = parts
        .join("\0")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    Ok(format!("{hash:016x}\n"))
}

/// A toolchain that can build for eBPF.
struct Builder {
    sysroot: PathBuf,
    linker: PathBuf,
    build_std: bool,
}

impl Builder {
    fn find(named: Option<String>) -> Result<Self> {
        let sysroot = |rustc: &mut Command| run(rustc.args(["--print", "sysroot"]));
        let rustup = |name: &str| sysroot(Command::new("rustup").args(["run", name, "rustc"]));
        let candidates = match named {
            Some(name) => vec![rustup(&name)],
            None => vec![
                sysroot(&mut Command::new(env::var_os("RUSTC").unwrap_or_default())),
                rustup("nightly"),
                Ok("/usr".into()),
            ],
        };
        let mut refusals = vec![HELP.to_owned()];
        for candidate in candidates {
            match candidate.and_then(|sysroot| Self::new(sysroot.into())) {
                Ok(builder) => return Ok(builder),
                Err(why) => refusals.push(why),
            }
        }
        Err(refusals.join("\n"))
    }

    fn new(sysroot: PathBuf) -> Result<Self> {
        let refuse = |why: &str| Err(format!("{}: {why}", sysroot.display()));
        let rustlib = sysroot.join("lib/rustlib");
        let core = list(&rustlib.join(TARGET).join("lib"));
        let build_std = !core
            .iter()
            .any(|file| file.to_string_lossy().contains("/libcore-"));
        if build_std && !rustlib.join("src/rust/library/Cargo.lock").exists() {
            return refuse("neither core for bpfel-unknown-none nor rust-src");
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let dirs = [sysroot.join("bin"), cargo_home().join("bin")];
        let mut linkers = dirs
            .into_iter()
            .chain(env::split_paths(&path))
            .map(|dir| dir.join("bpf-linker"));
        match linkers.find(|file| file.is_file()) {
            Some(linker) => Ok(Self {
                sysroot,
                linker,
                build_std,
            }),
            None => refuse("no bpf-linker there, nor in PATH"),
        }
    }

    /// Builds in a target directory of its own: the outer build holds the lock of the usual one.
    fn build(&self, target_dir: &Path) -> Result<PathBuf> {
        let mut cargo = Command::new(self.sysroot.join("bin/cargo"));
        forget_outer_build(&mut cargo);
        cargo.args([
            "build",
            "--profile=bpf",
            "--locked",
            "--package=fanout-ebpf",
            "--bin=fanout-ebpf",
        ]);
        cargo
            .args(["--features=program", "--target", TARGET, "--target-dir"])
            .arg(target_dir);
        if self.build_std {
            cargo.arg("-Zbuild-std=core");
        }
        cargo.env("RUSTC", self.sysroot.join("bin/rustc"));
        // aya-ebpf uses an unstable feature, and so does -Z: a stable compiler is to let them.
        cargo.env(
            "RUSTC_BOOTSTRAP",
            if self.build_std { "1" } else { "aya_ebpf" },
        );
        cargo.env("CARGO_ENCODED_RUSTFLAGS", self.rustflags()?.join("\x1f"));
        run(&mut cargo)?;
        Ok(target_dir.join(TARGET).join("bpf/fanout-ebpf"))
    }

    fn rustflags(&self) -> Result<Vec<String>> {
        let mut flags = vec![
            format!("-Clinker={}", self.linker.display()),
            "-Clink-arg=--btf".into(),
            // All of a program in one function: the kernel refuses what becomes of Rust's types in the
            // BTF of others, and verifies twice what is called twice.
            "-Clink-arg=--llvm-args=-inline-threshold=100000".into(),
        ];
        // BTF names source files: the same names on every machine.
        let mut remap =
            |from: &Path, to| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        remap(&env::current_dir().map_err(|e| e.to_string())?, "/fanout");
        for registry in list(&cargo_home().join("registry/src")) {
            remap(&registry, "/crates");
        }
        Ok(flags)
    }
}

fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo");
    env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

/// Removes what the outer build set for itself (flags, wrappers, target), not what the machine did.
fn forget_outer_build(command: &mut Command) {
    const OURS: [&str; 4] = ["CARGO", "RUST", "OUT_DIR", "TARGET"];
    const MACHINE: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "RUSTUP_HOME",
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let starts = |prefix: &&str| text.starts_with(prefix);
        if OURS.iter().any(starts) && !MACHINE.iter().any(starts) {
            command.env_remove(&name);
        }
    }
}

/// What it prints; a failure carries what it says of it.
fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let done = command.output().map_err(|e| format!("{name}: {e}"))?;
    if !done.status.success() {
        return Err(format!(
            "{name}: {}\n{}",
            done.status,
            String::from_utf8_lossy(&done.stderr)
        ));
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
}

/// Leaves BTF. Where there is no llvm-strip the object stays larger, and works as well.
fn strip_dwarf(object: &Path) -> Result<()> {
    match Command::new("llvm-strip").arg("-g").arg(object).status() {
        Ok(status) if !status.success() => Err(format!("llvm-strip: {status}")),
        _ => Ok(()),
    }
}
