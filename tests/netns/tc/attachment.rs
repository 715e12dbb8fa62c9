//! How the program is attached, and that it alters nothing once its process is gone, however it went.

use std::net::UdpSocket;

use super::{COUNT, start};
use crate::{
    common::{
        delivery,
        fanout::{self, Fanout, PATIENCE, event},
        mode::TC,
        namespace::Namespace,
        sender::Traffic,
        sys,
        topology::{self, Family, INTERFACE, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test("tc::killed_with_tcx", || killed(Attach::Tcx));
    suite.test_with("tc::killed_with_clsact", &["tc"], || killed(Attach::Clsact));
    suite.test_with("tc::stale_filter", &["tc"], stale_filter);
    suite.test_with("tc::others_filters_stay", &["tc"], others_filters_stay);
    suite.test_with("tc::two_instances", &["tc"], two_instances);
    suite.test("tc::one_bind_twice", one_bind_twice);
    suite.test("tc::beside_af_xdp", beside_af_xdp);
}

/// By what a test has the program attached.
#[derive(Clone, Copy, Debug)]
enum Attach {
    Tcx,
    Clsact,
}

impl Attach {
    fn start(self, network: &Topology, config: &str) -> Fanout {
        let (fanout, mode) = match self {
            Self::Tcx => (Fanout::start(&network.host, config), "tcx"),
            Self::Clsact => (without_tcx(network, config), "clsact"),
        };
        let line = format!("INFO attached TC program interface={INTERFACE} mode={mode}");
        assert!(
            fanout.log().lines().any(|l| event(l) == line),
            "{}",
            fanout.log()
        );
        fanout
    }
}

/// As on a kernel before Linux 6.6.
fn without_tcx(network: &Topology, config: &str) -> Fanout {
    Fanout::start_as(config, |_| {
        let mut command = network.host.command(fanout::binary());
        sys::without_tcx(&mut command);
        command
    })
}

fn config(network: &Topology) -> String {
    network.config_in(&TC, Family::V4)
}

fn forwards(network: &Topology) {
    let traffic = Traffic::new(network.target(Family::V4), COUNT);
    delivery::of(network, Family::V4, &traffic).assert_perfect_in(&TC);
}

/// What `tc` shows of our filters; only of those that are not attached by a `bpf_link`.
fn filters(host: &Namespace) -> Vec<String> {
    let text = host.run("tc", &["filter", "show", "dev", INTERFACE, "ingress"]);
    let ours = text.lines().filter(|line| line.contains("fanout_tc"));
    ours.map(ToOwned::to_owned).collect()
}

fn has_qdisc(host: &Namespace) -> bool {
    let text = host.run("tc", &["qdisc", "show", "dev", INTERFACE]);
    text.contains("clsact")
}

/// SIGKILL: from then on the kernel's own socket on the same address and port has the traffic.
fn killed(attach: Attach) {
    let network = topology::other_interface(Shape::default());
    let target = network.target(Family::V4);
    let kernel = network
        .host
        .enter(|| UdpSocket::bind(target))
        .expect("bind");
    kernel.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut fanout = attach.start(&network, &config(&network));
    forwards(&network);
    fanout.signal(libc::SIGKILL);
    fanout.wait();
    let sent = Traffic::new(target, COUNT).send(&network.sender.namespace);
    for _ in 0..sent.count().min(100) {
        kernel
            .recv(&mut [0; 2048])
            .expect("the kernel has its traffic back");
    }
    let again = attach.start(&network, &config(&network));
    forwards(&network);
    again.stop();
    assert!(filters(&network.host).is_empty());
}

/// A killed instance's filter goes at the next start, whatever that attaches by, and its qdisc with it.
fn stale_filter() {
    let network = topology::other_interface(Shape::default());
    for next in [Attach::Tcx, Attach::Clsact] {
        let mut fanout = Attach::Clsact.start(&network, &config(&network));
        assert_eq!(filters(&network.host).len(), 1);
        fanout.signal(libc::SIGKILL);
        fanout.wait();
        let stale = filters(&network.host);
        assert_eq!(stale.len(), 1, "the kernel keeps it");

        let fanout = next.start(&network, &config(&network));
        fanout.wait_for_log("INFO removed TC filter of an instance that was killed");
        let left = filters(&network.host);
        assert!(!left.contains(&stale[0]), "{left:?}");
        forwards(&network);
        fanout.stop();
        assert!(!has_qdisc(&network.host));
    }
}

/// A qdisc that was there, or that somebody else has come to use, is not taken away.
fn others_filters_stay() {
    let network = topology::other_interface(Shape::default());
    let host = &network.host;
    let tc = |arguments: &str| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        host.run("tc", &arguments);
    };
    tc(&format!("qdisc add dev {INTERFACE} clsact"));
    let fanout = Attach::Clsact.start(&network, &config(&network));
    forwards(&network);
    fanout.stop();
    assert!(has_qdisc(host));
    tc(&format!("qdisc del dev {INTERFACE} clsact"));

    let fanout = Attach::Clsact.start(&network, &config(&network));
    tc(&format!(
        "filter add dev {INTERFACE} egress protocol ip prio 7 u32 match u32 0 0 flowid 1:1"
    ));
    fanout.stop();
    assert!(has_qdisc(host));
    // And one that takes every packet does not keep ours from being the first.
    tc(&format!(
        "filter add dev {INTERFACE} ingress protocol ip prio 2 u32 match u32 0 0 flowid 1:1"
    ));
    let fanout = Attach::Clsact.start(&network, &config(&network));
    forwards(&network);
    fanout.stop();
}

/// With different binds they don't disturb each other, and one that stops or starts leaves the other's filter.
fn two_instances() {
    let network = topology::other_interface(Shape::default());
    let v6 = network.config_in(&TC, Family::V6);
    for attach in [Attach::Tcx, Attach::Clsact] {
        let first = attach.start(&network, &config(&network));
        let second = attach.start(&network, &v6);
        forwards(&network);
        let traffic = Traffic::new(network.target(Family::V6), COUNT);
        delivery::of(&network, Family::V6, &traffic).assert_perfect_in(&TC);
        second.stop();
        forwards(&network);
        first.stop();
        assert!(!has_qdisc(&network.host));
    }
}

/// Only one of two programs would ever see the datagrams: the second instance says so and ends.
fn one_bind_twice() {
    let network = topology::other_interface(Shape::default());
    let first = start(&network, Family::V4, "");
    let mut second = Fanout::spawn(&network.host, &config(&network));
    assert_eq!(second.wait().code(), Some(1), "{}", second.log());
    let bind = network.target(Family::V4).to_string();
    let error = second.logged("ERROR").join("\n");
    assert!(
        error.contains(INTERFACE) && error.contains(&bind),
        "{error}"
    );
    forwards(&network);
    first.stop();
}

/// On one interface in one process: XDP lets pass what is the TC program's, and counts none of it.
fn beside_af_xdp() {
    let network = topology::k3s(Shape::default());
    let v6 = network.listener("six", &network.target(Family::V6).to_string(), Family::V6);
    let fanout = Fanout::start(&network.host, &(config(&network) + &v6));
    forwards(&network);
    let traffic = Traffic::new(network.target(Family::V6), COUNT);
    delivery::of(&network, Family::V6, &traffic).assert_perfect();
    for listener in ["syslog", "six"] {
        let metrics = fanout.metrics_at_rest(listener, COUNT.into());
        assert_eq!(metrics.dropped(listener), 0, "{}", metrics.text);
    }
    let metrics = fanout.metrics();
    assert_eq!(metrics.sum("fanout_passed_packets_total", &[]), 0);
    let info = |listener, mode, xdp| {
        let labels = [("listener", listener), ("mode", mode), ("xdp", xdp)];
        metrics.sum("fanout_listener_info", &labels)
    };
    assert_eq!(info("syslog", "tc_ebpf", "none"), 1);
    assert_eq!(info("six", "af_xdp", "native"), 1);
    fanout.stop();
}
