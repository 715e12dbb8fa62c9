//! The main job: every datagram reaches one downstream, in turn, with its payload and source as they
//! were, and the counters say so.

use std::{net::SocketAddr, time::Instant};

use crate::{
    common::{
        delivery::{self, Delivery},
        fanout::Fanout,
        frame::{Frame, mac},
        mode::{AF_XDP, Mode},
        payload::{self, Label},
        sender::{Sent, Traffic},
        topology::{self, ETH0, Family, HOST_MAC, Shape, Topology},
        wire::Wire,
    },
    harness::{self, Suite},
};

const VLAN: u16 = 214;

pub fn register(suite: &mut Suite) {
    suite.test_with("forwarding::same_interface", &["ethtool"], || {
        every_kind(&topology::same_interface(Shape::default()), &AF_XDP);
    });
    suite.test("forwarding::other_interface", || {
        every_kind(&topology::other_interface(Shape::default()), &AF_XDP);
    });
    suite.test("forwarding::k3s", || {
        every_kind(&topology::k3s(Shape::default()), &AF_XDP);
    });
}

/// IPv4 and IPv6, untagged and tagged.
pub fn every_kind(network: &Topology, mode: &Mode) {
    let keys = format!("{}{}", mode.keys, mode.sections);
    untagged(network, &keys, |delivery| delivery.assert_perfect_in(mode));
    tagged(network, mode);
}

/// Both families, with `keys` added to the listener's.
pub fn untagged(network: &Topology, keys: &str, check: impl Fn(&Delivery)) {
    for (family, count) in [
        (Family::V4, harness::count(50_000, 1_000_000)),
        (Family::V6, 10_000),
    ] {
        let fanout = Fanout::start(&network.host, &(network.config(family) + keys));
        let traffic = Traffic::new(network.target(family), count);
        let delivery = delivery::of(network, family, &traffic);
        check(&delivery);
        assert_counted(&fanout, &delivery);
        fanout.stop();
    }
}

/// A sender whose frames carry a VLAN tag and whose device sums for it. There need not be a VLAN device
/// in the kernel for that: a packet socket does the same.
fn tagged(network: &Topology, mode: &Mode) {
    let fanout = Fanout::start(
        &network.host,
        &(network.config(Family::V4) + &format!("vlan = {VLAN}\n{}{}", mode.keys, mode.sections)),
    );
    let sender = &network.sender;
    let from = SocketAddr::new(sender.addresses.v4.into(), 40_000);
    let from_mac = mac(&sender.namespace.interface(ETH0, "address"));
    let mut frame = Frame::new(from_mac, mac(HOST_MAC), from, network.target(Family::V4));
    frame.vlan = Some(VLAN);
    let wire = Wire::open_with_offload(&sender.namespace, ETH0);
    let frames = (0..10_000).map(|sequence| {
        let mut payload = Vec::new();
        payload::write(
            Label { flow: 0, sequence },
            &(payload::SHORTEST..=151),
            &mut payload,
        );
        frame.partial(&payload)
    });
    let all = network.downstreams(Family::V4);
    let delivery = delivery::with(&all, |flight| {
        let start = Instant::now();
        let taken = wire.send_paced(60_000, flight, frames);
        Sent {
            flows: vec![taken],
            sources: vec![from],
            elapsed: start.elapsed(),
        }
    });
    assert_eq!(delivery.sent.count(), 10_000);
    delivery.assert_perfect_in(mode);
    assert_counted(&fanout, &delivery);
    fanout.stop();
}

/// The metrics agree with the books of sender and receivers.
pub fn assert_counted(fanout: &Fanout, delivery: &Delivery) {
    let metrics = fanout.metrics_at_rest("syslog", delivery.sent.count());
    assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
    for (i, receiver) in delivery.received.iter().enumerate() {
        let name = format!("receiver-{}", i + 1);
        let labels = [("listener", "syslog"), ("downstream", name.as_str())];
        let forwarded = metrics.sum("fanout_forwarded_packets_total", &labels);
        assert_eq!(forwarded, receiver.count, "{name}: {}", metrics.text);
    }
}
