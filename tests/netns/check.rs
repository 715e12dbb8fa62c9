//! `fanout check`: each rule that a namespace can break says so, and the command that it prints mends it.

use std::{fs, net::UdpSocket, process::Output};

use crate::{
    common::{
        fanout::{self, Fanout, Folder, wait_for},
        namespace::{Namespace, expect_success},
        report::{Finding, Report},
        topology::{self, ETH0, Family, INTERFACE, Shape, Topology},
    },
    harness::Suite,
};

mod impostors;

use impostors::Impostor;

pub fn register(suite: &mut Suite) {
    suite.test("check::all_is_well", all_is_well);
    suite.test("check::changes_nothing", changes_nothing);
    suite.test("check::wrong_config", wrong_config);
    suite.test("check::says_what_a_start_says", says_what_a_start_says);
    suite.test("check::mtu_for_native_xdp", mtu_for_native_xdp);
    suite.test_with("check::queues", &["ethtool"], queues);
    suite.test("check::link_down", link_down);
    suite.test("check::no_carrier", no_carrier);
    suite.test("check::no_interface", no_interface);
    suite.test("check::no_ethernet", no_ethernet);
    suite.test("check::foreign_program", foreign_program);
    suite.test("check::an_instance_runs", an_instance_runs);
    suite.test("check::port_taken", port_taken);
    suite.test("check::address_of_nobody", address_of_nobody);
    suite.test("check::no_route", no_route);
    suite.test_with("check::dead_neighbour", &["ping"], dead_neighbour);
    suite.test("check::no_such_name", no_such_name);
    suite.test("check::mtu_of_a_way", mtu_of_a_way);
    suite.test_with("check::mode_xdp", &["ethtool"], mode_xdp);
    let setpriv = &["setpriv", "setcap"];
    suite.test_with("check::missing_capability", setpriv, missing_capability);
    suite.test_with("check::unwritable_folder", setpriv, unwritable_folder);
    suite.test("check::open_files", open_files);
    suite.test("check::node_exporter", node_exporter);
}

/// A config file, the host that it is for, and who looks at it.
struct Host<'n> {
    namespace: &'n Namespace,
    folder: Folder,
    /// What the program is started by, and the program.
    command: Vec<String>,
}

impl<'n> Host<'n> {
    fn new(namespace: &'n Namespace, config: &str) -> Self {
        Self::at(namespace, config, Folder::new())
    }

    fn at(namespace: &'n Namespace, config: &str, folder: Folder) -> Self {
        let metrics = folder.path("fanout.prom");
        let header = format!("[fanout]\nmetrics_file = {}\n", metrics.display());
        fs::write(folder.path("config.ini"), header + config).expect("config");
        let program = fanout::binary().into_string().expect("a path");
        Self {
            namespace,
            folder,
            command: vec![program],
        }
    }

    /// As a user without any privilege, who has a copy of the program.
    fn as_nobody(namespace: &'n Namespace, config: &str) -> Self {
        let mut host = Self::at(namespace, config, Folder::public());
        let program = host.folder.path("fanout");
        fs::copy(fanout::binary(), &program).expect("copy");
        let program = program.display();
        let words =
            format!("setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps -all {program}");
        host.command = words.split(' ').map(ToOwned::to_owned).collect();
        host
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let [program, rest @ ..] = &self.command[..] else {
            panic!("no command")
        };
        self.namespace
            .command(program)
            .args(rest)
            .arg("check")
            .arg("-c")
            .arg(self.folder.path("config.ini"))
            .args(arguments)
            .output()
            .expect("fanout")
    }

    fn report(&self) -> Report {
        Report::of(&self.run(&[]))
    }

    fn finds(&self, rule: &str) -> Finding {
        self.report().finding(rule)
    }

    /// The rule is broken; the command that it prints, run `at` the place that it names, makes it ok.
    fn mended_at(&self, at: &Namespace, rule: &str, level: &str) -> String {
        let finding = self.finds(rule);
        assert_eq!(finding.level, level, "{finding:?}");
        let command = finding.command.clone();
        let command = command.unwrap_or_else(|| panic!("no command: {finding:?}"));
        expect_success(at.command("sh").args(["-c", &command]));
        let mended = wait_for(|| {
            let report = self.report();
            (report.finding(rule).level == "ok").then_some(report)
        });
        assert!(mended.is_some(), "{command}: {}", self.report().text);
        command
    }

    fn mended(&self, rule: &str, level: &str) -> String {
        self.mended_at(self.namespace, rule, level)
    }
}

fn k3s() -> Topology {
    topology::k3s(Shape::default())
}

fn all_is_well() {
    let network = k3s();
    let host = Host::new(&network.host, &network.config(Family::V4));
    let output = host.run(&[]);
    let report = Report::of(&output);
    assert_eq!(output.status.code(), Some(0), "{}", report.text);
    let expected = "kernel af_xdp capabilities driver link attached zero-copy native-xdp peer-mtu \
                    peer-queues address port route next-hop folder";
    for rule in expected.split_whitespace() {
        assert_eq!(report.finding(rule).level, "ok", "{rule}: {}", report.text);
    }
    assert!(report.text.is_ascii(), "{}", report.text);
    let too_wide = |line: &&str| line.len() > 100 && !line.trim_start().starts_with('$');
    assert_eq!(report.text.lines().find(too_wide), None);
    let json = host.run(&["--json"]);
    assert_eq!(json.status.code(), Some(0));
    assert_eq!(Report::of_json(&json).findings, report.findings);
}

/// With IPv6 and something to complain of too: links, neighbours, programs and files are as before.
fn changes_nothing() {
    let network = k3s();
    let config = format!("[interface {INTERFACE}]\nmtu = 1400\nchannels = 1\n");
    for family in [Family::V4, Family::V6] {
        let config = config.clone() + &network.config(family);
        let host = Host::new(&network.host, &config);
        let state = || {
            let ip = |arguments: &[&str]| network.host.run("ip", arguments);
            let files = fs::read_dir(host.folder.path(""))
                .expect("a folder")
                .count();
            // A neighbour's state, the last word, may age meanwhile.
            let neighbors = ip(&["-d", "neigh"]);
            let neighbors = neighbors.lines().filter_map(|line| line.rsplit_once(' '));
            let neighbors: Vec<_> = neighbors.map(|(entry, _)| entry.to_owned()).collect();
            (ip(&["link"]), neighbors, ip(&["route"]), files)
        };
        let before = state();
        let report = host.report();
        assert!(report.text.contains("the config sets mtu = 1400"));
        host.run(&["--json"]);
        assert_eq!(state(), before);
    }
}

fn wrong_config() {
    let network = k3s();
    let config = network.config(Family::V4) + "speed = 11\n";
    let host = Host::new(&network.host, &config);
    for arguments in [&[][..], &["--json"]] {
        let output = host.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut start = Fanout::spawn(&network.host, &config);
        assert_eq!(start.wait().code(), Some(2));
        let reason = |text: &str| text.split_once(": [").map(|(_, reason)| reason.to_owned());
        assert_eq!(reason(said.trim()), reason(&start.log()), "{said}");
    }
}

/// The same words and the same command in the log of a start that was refused.
fn says_what_a_start_says() {
    let network = k3s();
    let sender = &network.sender.namespace;
    sender.ip(&format!("link set {ETH0} mtu 9000"));
    let config = network.config(Family::V4);
    let finding = Host::new(&network.host, &config).finds("peer-mtu");
    let fanout = Fanout::start(&network.host, &config);
    let warning = fanout.logged("WARN").join("\n");
    assert!(warning.contains("Peer MTU is too large"), "{warning}");
    let command = finding.command.expect("a command");
    assert!(warning.contains(&command), "{warning}: {command}");
    let (rule, _) = finding.meaning.split_once(':').expect("what it means");
    assert!(warning.contains(rule), "{warning}: {rule}");
    fanout.stop();

    sender.run("sh", &["-c", &command]);
    let fanout = Fanout::start(&network.host, &config);
    assert!(fanout.log().contains("mode=native"), "{}", fanout.log());
    fanout.stop();
}

fn mtu_for_native_xdp() {
    let network = k3s();
    let sender = &network.sender.namespace;
    for (xdp, level, status) in [("auto", "warn", 0), ("native", "fail", 1)] {
        sender.ip(&format!("link set {ETH0} mtu 9000"));
        let config = format!("[interface {INTERFACE}]\nxdp = {xdp}\n");
        let host = Host::new(&network.host, &(config + &network.config(Family::V4)));
        assert_eq!(host.run(&[]).status.code(), Some(status));
        let finding = host.finds("peer-mtu");
        assert!(finding.meaning.contains("another network namespace"));
        host.mended_at(sender, "peer-mtu", level);
    }
}

fn queues() {
    let network = topology::k3s(Shape {
        queues: 2,
        ..Shape::default()
    });
    network
        .host
        .run("ethtool", &["-L", INTERFACE, "rx", "1", "tx", "1"]);
    let config = network.config(Family::V4);
    Host::new(&network.host, &config).mended("peer-queues", "warn");
    // What the config sets counts, not what is there now; then the other end has to give in.
    let config = format!("[interface {INTERFACE}]\nchannels = 1\n") + &config;
    let host = Host::new(&network.host, &config);
    let command = host.finds("peer-queues").command.expect("a command");
    assert_eq!(command, format!("ethtool -L {ETH0} tx 1"));
    network.sender.namespace.run("sh", &["-c", &command]);
    let fanout = Fanout::start(&network.host, &config);
    assert!(fanout.log().contains("mode=native"), "{}", fanout.log());
    fanout.stop();
    // How many of its queues the other end uses is not seen from another namespace.
    let native = config.replace("channels = 1", "channels = 1\nxdp = native");
    let finding = Host::new(&network.host, &native).finds("peer-queues");
    assert_eq!(finding.level, "warn", "{finding:?}");
    assert!(finding.meaning.contains("can't be seen"), "{finding:?}");
}

fn link_down() {
    let network = k3s();
    network.host.ip(&format!("link set {INTERFACE} down"));
    let host = Host::new(&network.host, &network.config(Family::V4));
    assert_eq!(host.run(&[]).status.code(), Some(1));
    host.mended("link", "fail");
}

/// A command could not mend it: nothing is plugged into the bridge.
fn no_carrier() {
    let network = k3s();
    let plug = |state: &str| {
        for receiver in &network.receivers {
            receiver.namespace.ip(&format!("link set {ETH0} {state}"));
        }
    };
    plug("down");
    let host = Host::new(&network.host, &network.config(Family::V4));
    let unplugged = || {
        let finding = host.report().broken("route");
        finding.filter(|finding| finding.meaning.contains("cni0, which has no carrier"))
    };
    let finding = wait_for(unplugged).unwrap_or_else(|| panic!("{}", host.report().text));
    assert_eq!(finding.level, "fail");
    assert_eq!((finding.command, finding.set), (None, None));
    plug("up");
    let mended = wait_for(|| host.report().broken("route").is_none().then_some(()));
    assert!(mended.is_some(), "{}", host.report().text);
}

fn no_interface() {
    let network = k3s();
    let config = network.config(Family::V4).replace(INTERFACE, "ens77");
    let host = Host::new(&network.host, &config);
    assert_eq!(host.run(&[]).status.code(), Some(1));
    assert_eq!(host.finds("exists").level, "fail");
}

/// The programs would be attached, and find nothing: a start is refused with the same words.
fn no_ethernet() {
    let network = k3s();
    network
        .host
        .ip("tuntap add dev tun0 mode tun\nlink set tun0 up");
    let config = network.config(Family::V4).replace(INTERFACE, "tun0");
    for mode in ["af_xdp", "xdp", "tc_ebpf"] {
        let config = format!("{config}mode = {mode}\n");
        let finding = Host::new(&network.host, &config).finds("ethernet");
        assert_eq!(finding.level, "fail", "{finding:?}");
        let mut start = Fanout::spawn(&network.host, &config);
        assert_eq!(start.wait().code(), Some(1), "{}", start.log());
        let error = start.logged("ERROR").join("\n");
        assert!(error.contains(&finding.meaning), "{error}");
        let key = finding.set.expect("a key");
        assert_eq!(key, "mode = userspace");
        assert!(error.contains(&key), "{error}");
        let config = config.replace(&format!("mode = {mode}"), &key);
        let report = Host::new(&network.host, &config).report();
        assert!(!report.text.contains("ethernet"), "{}", report.text);
    }
}

/// In both modes: another's, which `ip` can take off again.
fn foreign_program() {
    let network = k3s();
    let config = network.config(Family::V4);
    let host = Host::new(&network.host, &config);
    for (mode, flags) in [("xdpdrv", 1 << 2), ("xdpgeneric", 1 << 1)] {
        impostors::attach_foreign(&network.host, INTERFACE, flags);
        let finding = host.finds("attached");
        assert!(finding.meaning.contains("\"foreign\" (id "), "{finding:?}");
        let mut start = Fanout::spawn(&network.host, &config);
        assert_eq!(start.wait().code(), Some(1), "{}", start.log());
        let command = host.mended("attached", "fail");
        assert!(command.contains(mode), "{command}");
        assert!(start.log().contains(&command), "{}", start.log());
    }
}

fn an_instance_runs() {
    let network = k3s();
    let config = network.config(Family::V4);
    let fanout = Fanout::start(&network.host, &config);
    let neighbours = || {
        network
            .host
            .run("ip", &["-d", "neigh", "show", "dev", "cni0"])
    };
    let managed = |text: &str| text.matches("managed").count() + text.matches("proto 102").count();
    let before = managed(&neighbours());
    let report = Host::new(&network.host, &config).report();
    for rule in ["attached", "port"] {
        let finding = report.finding(rule);
        assert_eq!(finding.level, "ok", "{}", report.text);
        assert!(finding.meaning.contains("an instance"), "{finding:?}");
    }
    assert_eq!(managed(&neighbours()), before, "took its neighbours away");
    fanout.stop();
}

/// A child, so that the command that is printed ends it.
fn port_taken() {
    let network = topology::other_interface(Shape::default());
    let target = network.target(Family::V4);
    let userspace = network.config(Family::V4) + "mode = userspace\n";
    for (config, level) in [(network.config(Family::V4), "warn"), (userspace, "fail")] {
        let socket = network
            .host
            .enter(|| UdpSocket::bind(target))
            .expect("bind");
        let owner = Impostor::with_socket(socket);
        let host = Host::new(&network.host, &config);
        let finding = host.finds("port");
        assert!(finding.meaning.contains("sleep (process "), "{finding:?}");
        host.mended("port", level);
        drop(owner);
    }
}

fn address_of_nobody() {
    let network = k3s();
    for family in [Family::V4, Family::V6] {
        let config = network.config(family) + "mode = userspace\n";
        let host = Host::new(&network.host, &config);
        let mut start = Fanout::spawn(&network.host, &config);
        assert_eq!(start.wait().code(), Some(1), "{}", start.log());
        host.mended("address", "fail");
        Fanout::start(&network.host, &config).stop();
    }
}

fn no_route() {
    let network = k3s();
    let config = network
        .config(Family::V4)
        .replace("10.42.0.23", "192.0.2.7");
    let host = Host::new(&network.host, &config);
    assert_eq!(host.run(&[]).status.code(), Some(1));
    let worst = host.report().broken("route").expect("no route");
    assert_eq!(worst.subject, "listener syslog receiver-3");
    let command = worst.command.expect("a command");
    network.host.run("sh", &["-c", &command]);
    assert_eq!(
        host.run(&[]).status.code(),
        Some(0),
        "{}",
        host.report().text
    );
}

/// It is down, and comes back: the command has the kernel notice.
fn dead_neighbour() {
    let network = k3s();
    let receiver = &network.receivers[2].namespace;
    receiver.ip(&format!("link set {ETH0} down"));
    let host = Host::new(&network.host, &network.config(Family::V4));
    // Once: asked again, the kernel would have to find out again.
    let ask = ["-c", "1", "-W", "1", "10.42.0.23"];
    let _ = network.host.command("ping").args(ask).output();
    let dead = wait_for(|| {
        let broken = host.report().broken("next-hop");
        broken.filter(|finding| finding.level == "fail")
    });
    let dead = dead.unwrap_or_else(|| panic!("not noticed: {}", host.report().text));
    assert_eq!(
        (dead.level.as_str(), dead.subject.as_str()),
        ("fail", "listener syslog receiver-3")
    );
    assert!(
        dead.meaning.contains("10.42.0.23 did not answer on cni0"),
        "{dead:?}"
    );
    assert_eq!(host.run(&[]).status.code(), Some(1));
    receiver.ip(&format!("link set {ETH0} up"));
    let command = dead.command.expect("a command");
    let mended = wait_for(|| {
        let _ = network.host.command("sh").args(["-c", &command]).output();
        host.report().broken("next-hop").is_none().then_some(())
    });
    mended.unwrap_or_else(|| panic!("{command}: {}", host.report().text));
    assert_eq!(host.run(&[]).status.code(), Some(0));
}

fn no_such_name() {
    let network = k3s();
    let config = network
        .config(Family::V4)
        .replace("10.42.0.23:", "nobody.invalid:")
        .replace("10.42.0.22:", "localhost:");
    let report = Host::new(&network.host, &config).report();
    let broken = report.broken("name").expect("no name");
    assert_eq!(
        (broken.level.as_str(), broken.subject.as_str()),
        ("fail", "listener syslog receiver-3")
    );
    assert!(
        report.text.contains("localhost stands for 1 addresses"),
        "{}",
        report.text
    );
}

/// What a start refuses: the veth to the receivers takes no redirected frames.
fn mode_xdp() {
    let network = topology::other_interface(Shape::default());
    let config = network.config(Family::V4) + "mode = xdp\n";
    let host = Host::new(&network.host, &config);
    network.gro("off");
    let broken = host.report().broken("mode").expect("no way");
    assert!(
        broken.meaning.contains("takes no redirected frames"),
        "{broken:?}"
    );
    network.gro("on");
    assert!(host.report().broken("mode").is_none());
}

fn missing_capability() {
    let network = k3s();
    let host = Host::as_nobody(&network.host, &network.config(Family::V4));
    let finding = host.finds("capabilities");
    for name in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_NET_RAW"] {
        assert!(finding.meaning.contains(name), "{name}: {finding:?}");
    }
    host.mended("capabilities", "fail");
}

fn unwritable_folder() {
    let network = k3s();
    let host = Host::as_nobody(&network.host, &network.config(Family::V4));
    let finding = host.finds("folder");
    assert!(
        finding.meaning.contains("user 65534 may not write"),
        "{finding:?}"
    );
    host.mended("folder", "fail");

    let host = Host::new(&network.host, &network.config(Family::V4));
    let config = host.folder.path("config.ini");
    let text = fs::read_to_string(&config).expect("config");
    let text = text.replace("/fanout.prom", "/missing/fanout.prom");
    fs::write(config, text).expect("config");
    host.mended("folder", "fail");
}

/// 120.
const MANY_SOCKETS: &str = "[listener sockets]
mode = userspace
workers = 60
bind = 127.0.0.1:7
downstream.a = 127.0.0.1:9
";

/// The key that it prints is followed too.
fn mtu_of_a_way() {
    let network = k3s();
    network.host.ip("link set cni0 mtu 1400");
    let config = network.config(Family::V4);
    let finding = Host::new(&network.host, &config).finds("path-mtu");
    assert_eq!(finding.level, "warn", "{finding:?}");
    let key = finding.set.expect("a key");
    assert_eq!(key, "max_packet_size = 1400");
    let report = Host::new(&network.host, &format!("{config}{key}\n")).report();
    assert_eq!(report.broken("path-mtu"), None, "{}", report.text);
}

/// A start is refused with the same words.
fn open_files() {
    let network = k3s();
    let config = network.config(Family::V4);
    let config = config.replace("[listener", &format!("{MANY_SOCKETS}[listener"));
    let mut host = Host::new(&network.host, &config);
    let program = host.command.clone();
    let limited_by = |command: &str| {
        let script = format!("{command} && exec \"$0\" \"$@\"");
        let shell = ["sh", "-c", &script].map(ToOwned::to_owned);
        shell.into_iter().chain(program.clone()).collect()
    };
    host.command = limited_by("ulimit -n 219");
    let finding = host.finds("open-files");
    assert_eq!(finding.level, "fail", "{finding:?}");
    let mut start = network.host.command(&host.command[0]);
    start.args(&host.command[1..]).arg("-c");
    let start = start.arg(host.folder.path("config.ini")).output();
    let start = start.expect("fanout");
    assert_eq!(start.status.code(), Some(1), "{start:?}");
    let said = String::from_utf8_lossy(&start.stderr);
    assert!(said.contains(&finding.meaning), "{said}: {finding:?}");
    host.command = limited_by(&finding.command.expect("a command"));
    assert_eq!(host.finds("open-files").level, "ok");
}

/// A process of that name, with that option as often as it likes, is all that there is to see.
fn node_exporter() {
    let network = k3s();
    let host = Host::new(&network.host, &network.config(Family::V4));
    let ours = host.folder.path("").display().to_string();
    let ours = ours.trim_end_matches('/');
    let siblings = format!("{}*", &ours[..ours.len() - 1]);
    for (folders, level) in [
        (&[ours][..], "ok"),
        (&["/nowhere", ours], "ok"),
        (&[&siblings], "ok"),
        (&["/nowhere"], "warn"),
        (&[], "warn"),
    ] {
        let exporter = Impostor::node_exporter(&host.folder, folders);
        let finding = host.finds("node_exporter");
        assert_eq!(finding.level, level, "{finding:?}");
        assert!(
            finding.meaning.contains("node_exporter (process "),
            "{finding:?}"
        );
        drop(exporter);
    }
}
