//! Network namespaces with names of their own, removed on drop.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread::{self, JoinHandle},
};

use super::{fanout::wait_for, sys};

const FOLDER: &str = "/run/netns";
const PREFIX: &str = "fo-";

/// A network namespace, removed on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes one called `fo-PID-NUMBER-ROLE`, with its loopback up.
    pub fn new(role: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let name = format!("{PREFIX}{}-{number}-{role}", std::process::id());
        expect_success(Command::new("ip").args(["netns", "add", &name]));
        let file = File::open(Path::new(FOLDER).join(&name)).expect("a namespace just made");
        let namespace = Self { name, file };
        // IPv6 addresses, link-local ones too, serve at once.
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0");
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it can be opened.
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// Runs `ip` commands in it, one a line.
    pub fn ip(&self, commands: &str) {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(commands.as_bytes()).expect("ip reads");
        drop(stdin);
        let output = child.wait_with_output().expect("ip ends");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "ip in {}:\n{commands}\n{error}",
            self.name
        );
    }

    /// Moves an interface of the caller's namespace into this one, as `name`. It goes back on drop.
    pub fn adopt(&self, interface: &str, name: &str) {
        let there = || {
            Path::new("/sys/class/net")
                .join(interface)
                .exists()
                .then_some(())
        };
        // The kernel takes its time to give one back.
        wait_for(there).unwrap_or_else(|| panic!("no interface {interface}"));
        let mut command = Command::new("ip");
        command.args(["link", "set", interface, "netns", &self.name, "name", name]);
        expect_success(&mut command);
    }

    /// A command that runs in it, with a `/sys` that shows its interfaces; its process id is the program's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a program in it to its end, which must be a success; returns what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = expect_success(self.command(program).args(arguments));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `f` in it, on a thread of its own.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                sys::enter_network_namespace(&self.file).expect("setns");
                f()
            });
            match inside.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a thread that runs `f` in it.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let file = self.file.try_clone().expect("dup");
        thread::spawn(move || {
            sys::enter_network_namespace(&file).expect("setns");
            f()
        })
    }

    /// Writes a sysctl, such as `net/ipv4/ip_forward`; one that this kernel lacks is left alone.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = Path::new("/proc/sys").join(name);
        self.enter(|| {
            if path.exists() {
                fs::write(&path, value).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            }
        });
    }

    /// A counter of `/proc/net/snmp` or `snmp6`, such as `Udp: InCsumErrors` or `Udp6InCsumErrors`.
    pub fn counter(&self, group: &str, name: &str) -> u64 {
        let [v4, v6] = ["snmp", "snmp6"].map(|file| {
            let path = format!("/proc/thread-self/net/{file}");
            self.enter(|| fs::read_to_string(path).unwrap_or_default())
        });
        v6.lines()
            .filter_map(|line| line.split_once(char::is_whitespace))
            .find(|(key, _)| *key == format!("{group}{name}"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .or_else(|| snmp_counter(&v4, group, name))
            .unwrap_or_else(|| panic!("no counter {group} {name}"))
    }

    /// Whether a UDP socket in it is bound to `port`.
    pub fn listens(&self, port: u16) -> bool {
        let port = format!(":{port:04X} ");
        let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        let tables = self.enter(|| [read("udp"), read("udp6")]);
        tables
            .into_iter()
            .flatten()
            .any(|table| table.contains(&port))
    }

    /// What `/sys/class/net/INTERFACE/FILE` of an interface in it says, such as `address`.
    pub fn interface(&self, interface: &str, file: &str) -> String {
        let path = format!("/sys/class/net/{interface}/{file}");
        self.run("cat", &[&path]).trim().to_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// Removes the namespaces of processes that were killed before they could.
pub fn sweep() {
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let dead = pid.is_some_and(|pid| {
            pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()
        });
        if dead {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

/// The file has a line of names and a line of values for each group.
fn snmp_counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let prefix = format!("{group}: ");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|n| n == name)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

/// Runs a command to its end, which must be a success.
pub fn expect_success(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
