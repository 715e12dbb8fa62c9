//! `deploy/fanout.service` under a real systemd, booted in namespaces: what its lines forbid, the kernel
//! refuses.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    str::FromStr,
};

use caps::Capability;

use crate::{
    common::{
        delivery,
        fanout::{Folder, binary, wait_for},
        mode::{AF_XDP, TC, XDP},
        namespace::expect_success,
        sender::Traffic,
        topology::{self, Family, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    let mut test = |name, test: fn()| {
        let programs = &["systemctl", "journalctl", "nsenter", "unshare", "ethtool"];
        suite.test_when(name, programs, || cgroup2().map(drop), test);
    };
    test("service::in_each_mode", in_each_mode);
    test("service::killed", killed);
    test("service::wrong_config", wrong_config);
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Where the unit expects them.
const BINARY: &str = "usr/local/bin/fanout";
const CONFIG: &str = "etc/fanout/config.ini";
/// Where the unit lets it write.
const METRICS: &str = "var/lib/prometheus/node-exporter/fanout.prom";
/// What is of systemd, and needed.
const JOURNAL: [&str; 2] = ["systemd-journald.service", "systemd-journald.socket"];
const TARGETS: [&str; 6] = [
    "sysinit",
    "basic",
    "network-online",
    "shutdown",
    "umount",
    "final",
];

/// A machine of its own; powered off on drop.
struct Machine {
    systemd: Child,
    cgroup: PathBuf,
    /// Removed last.
    _files: Folder,
}

/// Where the cgroup2 file system is.
fn cgroup2() -> Result<PathBuf, String> {
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    let mut fields = mounts.lines().map(|line| line.split(' '));
    let found = fields.find_map(|mut mount| {
        let folder = mount.nth(1)?;
        (mount.next() == Some("cgroup2")).then(|| PathBuf::from(folder))
    });
    found.ok_or_else(|| "there is no cgroup2 file system".to_owned())
}

impl Machine {
    fn boot(network: &Topology) -> Self {
        let files = Folder::new();
        let write = |file: &str, text: &str| {
            let path = files.path(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        write(&format!("root/{CONFIG}"), "");
        write(&format!("root/{METRICS}"), "left by an instance of old\n");
        write(
            "root/etc/systemd/journald.conf",
            "[Journal]\nStorage=volatile\nReadKMsg=no\n",
        );
        write(&format!("root/{BINARY}"), "");
        fs::copy(binary(), files.path("root").join(BINARY)).expect("the binary");
        for target in TARGETS {
            write(
                &format!("units/{target}.target"),
                "[Unit]\nDefaultDependencies=no\n",
            );
        }
        for unit in JOURNAL {
            let text = fs::read_to_string(Path::new("/lib/systemd/system").join(unit));
            write(&format!("units/{unit}"), &text.expect("systemd's own"));
        }
        let unit = fs::read_to_string(Path::new(ROOT).join("deploy/fanout.service"));
        write("units/fanout.service", &unit.expect("the unit"));
        let cgroup = cgroup2()
            .expect("looked at before")
            .join(network.host.name());
        let systemd = Command::new(Path::new(ROOT).join("tests/netns/service/boot.sh"))
            .args([&files.path("."), &network.host.path(), &cgroup])
            .spawn()
            .expect("boot.sh");
        let machine = Self {
            systemd,
            cgroup,
            _files: files,
        };
        let running = || machine.systemctl(&["is-system-running"]).ok();
        wait_for(running).expect("systemd comes up");
        expect_success(&mut machine.command("systemctl", &["start", "systemd-journald.service"]));
        machine
    }

    /// The process id of its systemd.
    fn init(&self) -> String {
        let id = self.systemd.id();
        let child = || {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
            let child = children.trim().to_owned();
            (!child.is_empty()).then_some(child)
        };
        wait_for(child).expect("boot.sh starts systemd")
    }

    /// A file of its.
    fn path(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.init()).join("root").join(file)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init(), "--all", program])
            .args(arguments);
        command
    }

    /// What it says, also as an error.
    fn systemctl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self
            .command("systemctl", arguments)
            .output()
            .expect("nsenter");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    fn property(&self, name: &str) -> String {
        let value = self.systemctl(&["show", "--value", "--property", name, "fanout"]);
        value.expect("a property")
    }

    fn log(&self) -> String {
        self.journal(&[])
    }

    /// The messages that `arguments` select.
    fn journal(&self, arguments: &[&str]) -> String {
        let mut command = self.command("journalctl", &["--output=cat"]);
        let output = expect_success(command.args(arguments));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn must(&self, verb: &str) {
        if let Err(error) = self.systemctl(&[verb, "fanout"]) {
            panic!("systemctl {verb}: {error}\n{}", self.log());
        }
    }

    /// Has it run with the sections of `config`.
    fn start(&self, config: &str) {
        let config = format!("[fanout]\nmetrics_file = /{METRICS}\n{config}");
        fs::write(self.path(CONFIG), config).expect("the config");
        self.must("start");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // systemd goes with it, and with systemd all other processes of its namespace.
        let _ = self.systemd.kill();
        let _ = self.systemd.wait();
        let gone = || {
            remove_empty(&self.cgroup);
            (!self.cgroup.exists()).then_some(())
        };
        let _ = wait_for(gone);
    }
}

/// Removes a cgroup and those below it.
fn remove_empty(cgroup: &Path) {
    for below in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if below.path().is_dir() {
            remove_empty(&below.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

fn forwards(network: &Topology) {
    let traffic = Traffic::new(network.target(Family::V4), 10_000);
    delivery::of(network, Family::V4, &traffic).assert_complete();
}

/// With the capabilities, files, sockets and system calls that the unit leaves it.
fn in_each_mode() {
    let network = topology::other_interface(Shape::default()).with_gro();
    let machine = Machine::boot(&network);
    let keys = [AF_XDP, XDP, TC].map(|mode| mode.keys);
    for keys in keys.into_iter().chain(["mode = userspace\n"]) {
        machine.start(&("log_level = debug\n".to_owned() + &network.config(Family::V4) + keys));
        assert_eq!(machine.property("ActiveState"), "active");
        assert!(machine.property("StatusText").starts_with("ready "));
        assert_confined(&machine);
        forwards(&network);
        let text = fs::read_to_string(machine.path(METRICS)).expect("a metrics file");
        assert!(text.starts_with("# HELP fanout_build_info"), "{text}");
        machine.must("stop");
        assert_eq!(machine.property("Result"), "success", "{}", machine.log());
        assert!(!machine.path(METRICS).exists(), "left its metrics file");
    }
    let log = machine.log();
    let complaint = log.lines().find(|line| {
        line.contains("units/fanout.service:")
            || line.starts_with("WARN")
            || line.starts_with("ERROR")
    });
    assert_eq!(complaint, None, "{log}");
    // journald knows each line's level.
    for (priority, level) in [("info", "INFO "), ("debug", "DEBUG ")] {
        let range = format!("--priority={priority}..{priority}");
        let lines = machine.journal(&["--unit=fanout", &range]);
        let is_there = lines.lines().any(|line| line.starts_with(level));
        assert!(is_there, "no {priority}:\n{lines}\nof\n{log}");
    }
}

fn assert_confined(machine: &Machine) {
    let unit = fs::read_to_string(Path::new(ROOT).join("deploy/fanout.service")).expect("the unit");
    let set = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let capabilities = set.expect("a bounding set").split(' ');
    let mask = |name| Capability::from_str(name).expect("a capability").bitmask();
    let bounding = capabilities.map(mask).fold(0, |all, one| all | one);
    let status = format!("/proc/{}/status", machine.property("MainPID"));
    let output = expect_success(&mut machine.command("cat", &[&status]));
    let status = String::from_utf8_lossy(&output.stdout);
    for line in [
        format!("CapBnd:\t{bounding:016x}"),
        "NoNewPrivs:\t1".to_owned(),
        "Seccomp:\t2".to_owned(),
    ] {
        assert!(status.lines().any(|l| l == line), "no {line:?} in {status}");
    }
}

/// Started again, and the traffic is its again.
fn killed() {
    let network = topology::k3s(Shape::default());
    let machine = Machine::boot(&network);
    machine.start(&network.config(Family::V4));
    forwards(&network);
    let first = machine.property("MainPID");
    expect_success(&mut machine.command("kill", &["-KILL", &first]));
    let again = || {
        let state = [machine.property("ActiveState"), machine.property("MainPID")];
        // Between the two there is none, and the state may still be that of the first.
        let is_another = state[1] != "0" && state[1] != first;
        (state[0] == "active" && is_another).then_some(())
    };
    wait_for(again).unwrap_or_else(|| panic!("not started again:\n{}", machine.log()));
    forwards(&network);
    machine.must("stop");
}

/// `systemctl start` says so, and it is not tried again.
fn wrong_config() {
    let network = topology::k3s(Shape::default());
    let machine = Machine::boot(&network);
    fs::write(machine.path(CONFIG), "[listener l]\nspeed = 11\n").expect("the config");
    assert!(machine.systemctl(&["start", "fanout"]).is_err());
    assert_eq!(machine.property("ActiveState"), "failed");
    assert_eq!(machine.property("ExecMainStatus"), "2");
    assert!(
        machine.log().contains("config.ini:2: "),
        "{}",
        machine.log()
    );
}
