//! Downstreams that die and return: out of turn, and back, in the promised time, and the others get everything.

use std::time::{Duration, Instant};

use crate::{
    common::{
        delivery,
        fanout::{Fanout, wait_for},
        mode::{AF_XDP, Mode, TC, USERSPACE, XDP},
        sender::Traffic,
        topology::{self, ETH0, Family, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    for (name, mode) in [
        ("af_xdp", AF_XDP),
        ("xdp", XDP),
        ("tc_ebpf", TC),
        ("userspace", USERSPACE),
    ] {
        let mut add = |what: &str, test: fn(&Mode)| {
            let name = format!("health::{what}_{name}");
            suite.test_when(&name, &["ethtool"], || Ok(()), move || test(&mode));
        };
        add("icmp", icmp);
        add("udp", udp);
        add("link_down", link_down);
        add("all_out", all_out);
    }
    suite.test_with("health::not_allowed", &["setpriv"], not_allowed);
}

/// What the config has for it.
const INTERVAL: Duration = Duration::from_secs(1);
const FAILURES: u32 = 3;
/// Beyond what is promised, for a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(2);
const FAMILY: Family = Family::V4;

/// Datagrams come in by one interface and leave by another.
fn network() -> Topology {
    topology::other_interface(Shape::default()).with_gro()
}

fn config(network: &Topology, mode: &Mode, health: &str) -> String {
    let keys = format!("health = {health}\nhealth_interval = 1s\nhealth_failures = {FAILURES}\n");
    network.config(FAMILY) + mode.keys + &keys + mode.sections
}

/// Sends to those receivers, who get everything.
fn all_get_to(network: &Topology, count: usize) {
    let to = &network.downstreams(FAMILY)[..count];
    let traffic = Traffic::new(network.target(FAMILY), 300);
    let delivery = delivery::between(&network.sender.namespace, to, &traffic);
    delivery.assert_complete();
    let least = delivery.received.iter().map(|r| r.count).min();
    assert!(
        least.is_some_and(|least| least >= 300 / count as u64 - 2),
        "{delivery}"
    );
}

/// Waits until so many are in turn, which must not take longer than promised.
fn up(fanout: &Fanout, count: u64, promised: Duration) {
    let start = Instant::now();
    let up = || (fanout.metrics().sum("fanout_downstream_up", &[]) == count).then_some(());
    wait_for(up).unwrap_or_else(|| panic!("never {count}:\n{}", fanout.log()));
    let after = start.elapsed();
    println!("{count} in turn after {after:?}");
    assert!(after < promised + SLACK, "{count} after {after:?}");
}

fn out_line(fanout: &Fanout, network: &Topology, reason: &str) {
    let address = network.downstream(2, FAMILY);
    let line = format!(
        "WARN downstream is out of turn listener=syslog name=receiver-3 address={address} reason=\"{reason}\""
    );
    assert_eq!(fanout.logged("WARN"), [line], "{}", fanout.log());
}

/// A receiver whose machine is there and does not answer.
fn icmp(mode: &Mode) {
    let network = network();
    let fanout = Fanout::start(&network.host, &config(&network, mode, "icmp"));
    up(&fanout, 3, Duration::ZERO);
    all_get_to(&network, 3);
    let answers = |answers: bool| {
        let ignore = if answers { "0" } else { "1" };
        let receiver = &network.receivers[2].namespace;
        receiver.sysctl("net/ipv4/icmp_echo_ignore_all", ignore);
    };
    answers(false);
    up(&fanout, 2, INTERVAL * FAILURES);
    all_get_to(&network, 2);
    out_line(&fanout, &network, "no echo reply");
    answers(true);
    up(&fanout, 3, INTERVAL);
    all_get_to(&network, 3);
    let back = "INFO downstream is back listener=syslog name=receiver-3 ";
    assert!(fanout.log().contains(back), "{}", fanout.log());
    fanout.stop();
}

/// A receiver whose machine is there, with nobody who listens.
fn udp(mode: &Mode) {
    let network = network();
    let [first, second, third] = [0, 1, 2].map(|i| {
        let address = network.downstream(i, FAMILY);
        let bind = || std::net::UdpSocket::bind(address).expect("bind");
        network.receivers[i].namespace.enter(bind)
    });
    let fanout = Fanout::start(&network.host, &config(&network, mode, "udp"));
    up(&fanout, 3, Duration::ZERO);
    drop(third);
    up(&fanout, 2, INTERVAL * FAILURES);
    out_line(&fanout, &network, "port unreachable");
    let traffic = Traffic::new(network.target(FAMILY), 300);
    let before = fanout.metrics();
    traffic.send(&network.sender.namespace);
    let metrics = fanout.metrics_at_rest("syslog", before.received("syslog") + 300);
    let labels = [("listener", "syslog"), ("downstream", "receiver-3")];
    let to_third = |metrics: &crate::common::metrics::Metrics| {
        metrics.sum("fanout_forwarded_packets_total", &labels)
    };
    assert_eq!(to_third(&metrics), to_third(&before), "{}", metrics.text);
    assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
    let address = network.downstream(2, FAMILY);
    let bind = || std::net::UdpSocket::bind(address).expect("bind");
    let third = network.receivers[2].namespace.enter(bind);
    up(&fanout, 3, INTERVAL);
    let back = "INFO downstream is back listener=syslog name=receiver-3 ";
    assert!(fanout.log().contains(back), "{}", fanout.log());
    drop([first, second, third]);
    fanout.stop();
}

/// Nobody answers there at all, not even for a MAC address.
fn link_down(mode: &Mode) {
    let network = network();
    let fanout = Fanout::start(&network.host, &config(&network, mode, "icmp"));
    up(&fanout, 3, Duration::ZERO);
    let receiver = &network.receivers[2].namespace;
    receiver.ip(&format!("link set {ETH0} down"));
    up(&fanout, 2, INTERVAL * FAILURES);
    all_get_to(&network, 2);
    assert_eq!(fanout.logged("WARN").len(), 1, "{}", fanout.log());
    receiver.ip(&format!("link set {ETH0} up"));
    up(&fanout, 3, INTERVAL);
    all_get_to(&network, 3);
    fanout.stop();
}

/// Dropped and counted meanwhile; the log says when it began and when it ended.
fn all_out(mode: &Mode) {
    let network = network();
    let fanout = Fanout::start(&network.host, &config(&network, mode, "icmp"));
    up(&fanout, 3, Duration::ZERO);
    let answer = |answers: bool| {
        let ignore = if answers { "0" } else { "1" };
        for receiver in &network.receivers {
            receiver
                .namespace
                .sysctl("net/ipv4/icmp_echo_ignore_all", ignore);
        }
    };
    for round in 1..3 {
        answer(false);
        up(&fanout, 0, INTERVAL * FAILURES);
        let before = fanout.metrics();
        Traffic::new(network.target(FAMILY), 300).send(&network.sender.namespace);
        let metrics = fanout.metrics_at_rest("syslog", before.received("syslog") + 300);
        let labels = [("listener", "syslog"), ("reason", "no_downstream")];
        let dropped = metrics.sum("fanout_dropped_packets_total", &labels);
        assert_eq!(dropped, 300 * round, "{}", metrics.text);
        answer(true);
        up(&fanout, 3, INTERVAL);
        all_get_to(&network, 3);
        let lines = |part: &str| fanout.log().matches(part).count() as u64;
        let began = lines("WARN no downstream left, dropping what comes listener=syslog");
        let ended = lines("INFO downstreams are back, forwarding listener=syslog");
        assert_eq!((began, ended), (round, round), "{}", fanout.log());
    }
    fanout.stop();
}

/// What `health = icmp` takes is said at the start.
fn not_allowed() {
    let network = network();
    network
        .host
        .sysctl("net/ipv4/ip_unprivileged_port_start", "500");
    let as_nobody = |folder: &std::path::Path| crate::userspace::as_nobody(&network, folder);
    let config = config(&network, &USERSPACE, "icmp");
    let mut fanout = Fanout::spawn_as(&config, as_nobody);
    assert_eq!(fanout.wait().code(), Some(1), "{}", fanout.log());
    let errors = fanout.logged("ERROR").join("\n");
    assert!(errors.contains("net.ipv4.ping_group_range"), "{errors}");
    network
        .host
        .sysctl("net/ipv4/ping_group_range", "65534 65534");
    let fanout = Fanout::start_as(&config, as_nobody);
    up(&fanout, 3, Duration::ZERO);
    fanout.stop();
}
