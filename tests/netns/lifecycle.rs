//! Start, stop, being killed, and not being able to start.

use std::{net::UdpSocket, time::Duration};

use crate::{
    common::{
        delivery,
        fanout::{self, Fanout, PATIENCE, event, wait_for},
        mode::{AF_XDP, Mode},
        namespace::{Namespace, expect_success},
        sender::Traffic,
        topology::{self, Family, INTERFACE, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test("lifecycle::killed", killed);
    suite.test("lifecycle::second_instance", second_instance);
    suite.test(
        "lifecycle::stopped_and_started_again",
        stopped_and_started_again,
    );
    suite.test("lifecycle::interrupted", interrupted);
    suite.test("lifecycle::one_line_an_event", one_line_an_event);
    suite.test("lifecycle::wrong_config", wrong_config);
    suite.test("lifecycle::wrong_usage", wrong_usage);
    suite.test("lifecycle::no_such_interface", no_such_interface);
    suite.test("lifecycle::no_zero_copy", no_zero_copy);
    suite.test_with("lifecycle::metrics_file", &["promtool"], metrics_file);
}

/// SIGKILL in the middle of traffic: the program goes with the process, and the kernel's own socket
/// on the same address and port has the traffic.
fn killed() {
    killed_in(&topology::other_interface(Shape::default()), &AF_XDP);
}

/// The same, in a mode.
pub fn killed_in(network: &Topology, mode: &Mode) {
    let target = network.target(Family::V4);
    let kernel = network
        .host
        .enter(|| UdpSocket::bind(target))
        .expect("bind");
    let mut fanout = Fanout::start(&network.host, &network.config_in(mode, Family::V4));
    assert!(has_program(&network.host));
    forwards_in(network, mode);
    kernel.set_nonblocking(true).expect("nonblocking");
    assert!(
        kernel.recv(&mut [0]).is_err(),
        "the kernel got what was fanout's"
    );

    let traffic = Traffic {
        rate: 10_000,
        ..Traffic::new(target, 10_000)
    };
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| traffic.send(&network.sender.namespace));
        std::thread::sleep(Duration::from_millis(100));
        fanout.signal(libc::SIGKILL);
        fanout.wait();
        sender.join().expect("the sender");
    });
    assert!(!has_program(&network.host), "left its program behind");
    kernel.set_nonblocking(false).expect("blocking");
    kernel.set_read_timeout(Some(PATIENCE)).expect("timeout");
    Traffic::new(target, 1).send(&network.sender.namespace);
    kernel
        .recv(&mut [0; 2048])
        .expect("the kernel has its traffic back");

    let again = Fanout::start(&network.host, &network.config_in(mode, Family::V4));
    forwards_in(network, mode);
    again.stop();
}

fn second_instance() {
    second_instance_in(&topology::other_interface(Shape::default()), &AF_XDP);
}

/// The same, in a mode.
pub fn second_instance_in(network: &Topology, mode: &Mode) {
    let config = network.config_in(mode, Family::V4);
    let first = Fanout::start(&network.host, &config);
    let mut second = Fanout::spawn(&network.host, &config);
    assert_eq!(second.wait().code(), Some(1), "{}", second.log());
    let clear = |line: &String| line.contains(INTERFACE) && line.contains("XDP");
    assert!(
        second.logged("ERROR").iter().any(clear),
        "no clear error:\n{}",
        second.log()
    );
    forwards_in(network, mode);
    first.stop();
    assert!(!has_program(&network.host));
}

/// Rings and queues are free again at once.
fn stopped_and_started_again() {
    let network = topology::k3s(Shape::default());
    for _ in 0..5 {
        let fanout = Fanout::start(&network.host, &network.config(Family::V4));
        forwards(&network);
        fanout.stop();
        assert!(!has_program(&network.host));
    }
}

/// Ctrl-C is a clean stop too.
fn interrupted() {
    let network = topology::k3s(Shape::default());
    let mut fanout = Fanout::start(&network.host, &network.config(Family::V4));
    fanout.signal(libc::SIGINT);
    assert_eq!(fanout.wait().code(), Some(0), "{}", fanout.log());
    assert!(!fanout.metrics_file().exists(), "left its metrics file");
    assert!(!has_program(&network.host));
}

/// Each line of the log begins with its time and level, and all that an operator looks for are there.
fn one_line_an_event() {
    let network = topology::k3s(Shape::default());
    let config = "log_level = debug\n".to_owned() + &network.config(Family::V4);
    let fanout = Fanout::start(&network.host, &config);
    forwards(&network);
    let log = fanout.log();
    let levels = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
    let stray = log.lines().find(|line| {
        let is_of = |level: &&str| event(line).starts_with(&format!("{level} "));
        event(line) == *line || !levels.iter().any(is_of)
    });
    assert_eq!(stray, None, "no event of its own:\n{log}");
    for part in [
        "INFO starting fanout version=",
        "INFO configured listeners af_xdp=1 tc_ebpf=0 xdp=0 userspace=0",
        "INFO attached XDP program interface=ens5 mode=native",
        "INFO receive queues interface=ens5 queues=1",
        "INFO downstream listener=syslog name=receiver-3 address=10.42.0.23:5514 egress=cni0 mac=",
        "INFO ready listeners=1 workers=1",
    ] {
        assert!(
            log.lines().any(|line| event(line).starts_with(part)),
            "no {part:?} in\n{log}"
        );
    }
    fanout.stop();
}

/// All errors at once, each with its line, and the host is not touched.
fn wrong_config() {
    let network = topology::k3s(Shape::default());
    let config = format!(
        "[listener syslog]\ninterface = {INTERFACE}\nbind = 172.31.25.200\ndownstream.a = 10.42.0.300:5514\nspeed = 11\n[else]\n"
    );
    let mut fanout = Fanout::spawn(&network.host, &config);
    assert_eq!(fanout.wait().code(), Some(2), "{}", fanout.log());
    let (log, text) = (
        fanout.log(),
        std::fs::read_to_string(fanout.config()).expect("config"),
    );
    for wrong in ["bind =", "downstream.a", "speed", "[else]"] {
        let line = 1 + text
            .lines()
            .position(|line| line.starts_with(wrong))
            .expect("a line of it");
        let place = format!("config.ini:{line}: ");
        assert!(log.contains(&place), "no error at {place}\n{log}");
    }
    assert!(!has_program(&network.host));
}

fn wrong_usage() {
    let namespace = Namespace::new("host");
    for arguments in [
        &["--what"][..],
        &["-c"],
        &["-c", "/nonexistent/config.ini"],
        &[],
    ] {
        let output = namespace
            .command(fanout::binary())
            .args(arguments)
            .output()
            .expect("fanout");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}: says nothing");
    }
    for argument in ["--help", "--version"] {
        let text = expect_success(namespace.command(fanout::binary()).arg(argument));
        let text = String::from_utf8_lossy(&text.stdout);
        assert!(text.contains("fanout"), "{argument}: {text}");
    }
}

fn no_such_interface() {
    let network = topology::k3s(Shape::default());
    let config = network.config(Family::V4).replace(INTERFACE, "ens77");
    let mut fanout = Fanout::spawn(&network.host, &config);
    assert_eq!(fanout.wait().code(), Some(1), "{}", fanout.log());
    assert!(fanout.log().contains("ens77"), "{}", fanout.log());
}

/// Written by itself and on SIGUSR1, readable by all, of right syntax, and gone after a stop.
/// A veth has none, and skb mode never.
fn no_zero_copy() {
    let network = topology::k3s(Shape::default());
    for xdp in ["native", "skb"] {
        let insist = format!("[interface {INTERFACE}]\nxdp = {xdp}\nzero_copy = on\n");
        let config = insist + &network.config(Family::V4);
        let mut fanout = Fanout::spawn(&network.host, &config);
        assert_eq!(fanout.wait().code(), Some(1), "{}", fanout.log());
        let errors = fanout.logged("ERROR").join("\n");
        assert!(errors.contains("zero_copy = on can't be had"), "{errors}");
        assert!(!has_program(&network.host));
    }
}

fn metrics_file() {
    use std::os::unix::fs::PermissionsExt;
    let network = topology::k3s(Shape::default());
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    let path = fanout.metrics_file();
    assert!(
        wait_for(|| path.exists().then_some(())).is_some(),
        "never written by itself"
    );
    let mode = path.metadata().expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "{mode:o}");
    forwards(&network);
    let metrics = fanout.metrics_at_rest("syslog", u64::from(FEW));
    let script = format!("promtool check metrics < {}", path.display());
    let verdict = network.host.run("sh", &["-c", &script]);
    assert_eq!(verdict, "", "{}", metrics.text);
    fanout.stop();
}

const FEW: u32 = 300;

fn forwards(network: &Topology) {
    forwards_in(network, &AF_XDP);
}

fn forwards_in(network: &Topology, mode: &Mode) {
    let traffic = Traffic::new(network.target(Family::V4), FEW);
    delivery::of(network, Family::V4, &traffic).assert_perfect_in(mode);
}

fn has_program(host: &Namespace) -> bool {
    host.run("ip", &["-d", "link", "show", INTERFACE])
        .contains("prog/xdp")
}
