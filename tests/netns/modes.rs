//! One instance with a listener of each mode, all on one interface and all forwarding at once.

use std::{fmt::Write, net::SocketAddr, thread};

use crate::{
    common::{
        delivery::{self, Delivery},
        fanout::Fanout,
        namespace::Namespace,
        sender::Traffic,
        topology::{self, Family, INTERFACE, Shape, Topology},
    },
    harness::{self, Suite},
};

pub fn register(suite: &mut Suite) {
    suite.test_with("modes::all_at_once", &["ethtool"], all_at_once);
}

/// Each with the port that it listens on, and that its receivers have.
const MODES: [(&str, u16, u16); 4] = [
    ("af_xdp", 514, 5514),
    ("tc_ebpf", 515, 5515),
    ("xdp", 516, 5516),
    ("userspace", 517, 5517),
];
/// Of each sender.
const RATE: u32 = 15_000;

fn all_at_once() {
    let network = topology::other_interface(Shape::default()).with_gro();
    for family in [Family::V4, Family::V6] {
        let config: String = MODES
            .map(|(mode, from, to)| listener(&network, family, mode, from, to))
            .concat();
        let fanout = Fanout::start(&network.host, &config);
        let configured = fanout.wait_for_log(" configured ");
        assert!(
            configured.ends_with("af_xdp=1 tc_ebpf=1 xdp=1 userspace=1"),
            "{configured}"
        );
        let deliveries = thread::scope(|scope| {
            let network = &network;
            MODES
                .map(|(_, from, to)| scope.spawn(move || deliver(network, family, from, to)))
                .map(|delivering| delivering.join().expect("a delivery"))
        });
        for ((mode, ..), delivery) in MODES.into_iter().zip(&deliveries) {
            println!("{mode}:");
            // By sockets the sender's address goes, and the kernel's own takes its place; and each worker
            // has its own share of the flows.
            if mode == "userspace" {
                delivery.assert_complete();
            } else {
                delivery.assert_perfect_on_each_cpu();
            }
            let metrics = fanout.metrics_at_rest(mode, delivery.sent.count());
            assert_eq!(metrics.dropped(mode), 0, "{mode}: {}", metrics.text);
            for (i, receiver) in (1..).zip(&delivery.received) {
                let name = format!("receiver-{i}");
                let labels = [("listener", mode), ("downstream", name.as_str())];
                let forwarded = metrics.sum("fanout_forwarded_packets_total", &labels);
                assert_eq!(forwarded, receiver.count, "{mode}: {}", metrics.text);
            }
        }
        fanout.stop();
    }
}

fn listener(network: &Topology, family: Family, mode: &str, from: u16, to: u16) -> String {
    let bind = SocketAddr::new(network.vip.of(family), from);
    let mut text =
        format!("\n[listener {mode}]\nmode = {mode}\ninterface = {INTERFACE}\nbind = {bind}\n");
    for (i, (_, address)) in (1..).zip(receivers(network, family, to)) {
        writeln!(text, "downstream.receiver-{i} = {address}").expect("a string grows");
    }
    text
}

fn receivers(network: &Topology, family: Family, port: u16) -> Vec<(&Namespace, SocketAddr)> {
    let mut receivers = network.downstreams(family);
    for (_, address) in &mut receivers {
        address.set_port(port);
    }
    receivers
}

fn deliver(network: &Topology, family: Family, from: u16, to: u16) -> Delivery {
    let traffic = Traffic {
        rate: RATE,
        ..Traffic::new(
            SocketAddr::new(network.vip.of(family), from),
            harness::count(10_000, 250_000),
        )
    };
    let receivers = receivers(network, family, to);
    delivery::between(&network.sender.namespace, &receivers, &traffic)
}
