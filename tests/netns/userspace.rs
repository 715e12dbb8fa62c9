//! The same job by UDP sockets.

use crate::{
    common::{
        delivery::Delivery,
        topology::{self, Family, Shape, Topology},
    },
    forwarding,
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test_with("userspace::same_interface", &["ethtool"], || {
        every_source(&topology::same_interface(Shape::default()));
    });
    suite.test("userspace::other_interface", || {
        every_source(&topology::other_interface(Shape::default()));
    });
    suite.test("userspace::k3s", || every_source(&k3s()));
}

/// One worker, so that there is one turn.
const ONE_WORKER: &str = "mode = userspace\nworkers = 1\n";

/// The node has the VIP: sockets get what is the kernel's.
fn k3s() -> Topology {
    let network = topology::k3s(Shape::default());
    for family in [Family::V4, Family::V6] {
        network
            .host
            .ip(&format!("addr add {} dev lo", network.vip.of(family)));
    }
    network
}

fn every_source(network: &Topology) {
    forwarding::untagged(network, ONE_WORKER, assert_perfect_but_source);
    let keep = ONE_WORKER.to_owned() + "source = keep\n";
    forwarding::untagged(network, &keep, Delivery::assert_perfect);
}

/// The receivers see one of fanout's sockets.
fn assert_perfect_but_source(delivery: &Delivery) {
    delivery.assert_whole();
    delivery.assert_in_turn();
    for receiver in &delivery.received {
        let mut sources = receiver.sources.keys();
        let source = sources.next().expect("a source");
        assert_eq!(sources.next(), None, "{:?}", receiver.sources);
        assert!(!delivery.sent.sources.contains(source), "{source}");
    }
}
