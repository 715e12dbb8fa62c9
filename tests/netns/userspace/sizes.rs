//! Datagrams of every size, merged and cut on the way.

use std::{
    net::{SocketAddr, UdpSocket},
    ops::RangeInclusive,
};

use super::{ONE_WORKER, assert_perfect_but_source, network};
use crate::{
    common::{
        delivery,
        fanout::{Fanout, PATIENCE},
        sender::Traffic,
        topology::{ETH0, Family, INTERFACE, Topology},
    },
    forwarding,
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test(
        "userspace::segmented_by_the_sender",
        segmented_by_the_sender,
    );
    suite.test_with(
        "userspace::merged_by_the_host",
        &["ethtool"],
        merged_by_the_host,
    );
    suite.test(
        "userspace::too_large_to_be_segmented",
        too_large_to_be_segmented,
    );
    suite.test("userspace::mixed_sizes", mixed_sizes);
    suite.test("userspace::empty_and_largest", empty_and_largest);
    suite.test("userspace::larger_than_taken", larger_than_taken);
    suite.test(
        "userspace::too_large_to_keep_the_source",
        too_large_to_keep_the_source,
    );
}

/// 32 datagrams arrive as one; each has its own turn.
fn segmented_by_the_sender() {
    forward_segmented(&network());
}

/// What the kernel can't cut for so small an egress goes one by one, in fragments.
fn too_large_to_be_segmented() {
    let network = network();
    network.host.ip("link set ens6 mtu 1280");
    for family in [Family::V4, Family::V6] {
        forward_one_size(&network, family, "rewrite", 1400);
    }
}

/// The host's interface merges what comes, and its egress cuts again.
fn merged_by_the_host() {
    let network = network();
    network.host.run("ethtool", &["-K", INTERFACE, "gro", "on"]);
    let sender = &network.sender.namespace;
    sender.run("ethtool", &["-K", ETH0, "tx-udp-segmentation", "off"]);
    network
        .host
        .run("ethtool", &["-K", "ens6", "tx-udp-segmentation", "off"]);
    forward_segmented(&network);
}

fn forward_segmented(network: &Topology) {
    for family in [Family::V4, Family::V6] {
        for (source, size) in [("rewrite", 77), ("keep", 77), ("rewrite", 1400)] {
            forward_one_size(network, family, source, size);
        }
    }
}

fn forward_one_size(network: &Topology, family: Family, source: &str, size: usize) {
    let keys = format!("{ONE_WORKER}source = {source}\n");
    let fanout = Fanout::start(&network.host, &(network.config(family) + &keys));
    let traffic = Traffic {
        segmented: true,
        sizes: size..=size,
        ..Traffic::new(network.target(family), 10_000)
    };
    let delivery = delivery::of(network, family, &traffic);
    delivery.assert_whole();
    delivery.assert_in_turn();
    if source == "keep" {
        delivery.assert_source_kept();
    }
    forwarding::assert_counted(&fanout, &delivery);
    fanout.stop();
}

/// Sizes that differ from datagram to datagram, and sizes in front of and behind the egress' limit.
fn mixed_sizes() {
    let network = network();
    for sizes in [24..=1472, 1460..=1480] {
        forward_sizes(&network, sizes);
    }
    network.host.ip("link set ens6 mtu 1280");
    forward_sizes(&network, 1240..=1260);
}

fn forward_sizes(network: &Topology, sizes: RangeInclusive<usize>) {
    for family in [Family::V4, Family::V6] {
        let fanout = Fanout::start(&network.host, &(network.config(family) + ONE_WORKER));
        let traffic = Traffic {
            sizes: sizes.clone(),
            ..Traffic::new(network.target(family), 3_000)
        };
        let delivery = delivery::of(network, family, &traffic);
        assert_perfect_but_source(&delivery);
        forwarding::assert_counted(&fanout, &delivery);
        fanout.stop();
    }
}

/// One after the other: they come in fragments, and leave in fragments.
fn empty_and_largest() {
    let network = network();
    for (family, largest) in [(Family::V4, 65_507), (Family::V6, 65_527)] {
        let fanout = Fanout::start(&network.host, &(network.config(family) + ONE_WORKER));
        let receivers = listen(&network, family);
        let sender = connected(&network, network.target(family));
        let sizes = [0, largest, 1, 0, 9_000, largest - 1];
        let mut buffer = vec![0; largest + 1];
        for (size, receiver) in sizes.into_iter().zip(receivers.iter().cycle()) {
            let payload: Vec<_> = (0..size).map(|i| (i % 251) as u8).collect();
            sender.send(&payload).expect("sent");
            let len = receiver.recv(&mut buffer).expect("it arrives");
            assert_eq!(&buffer[..len], payload, "of {size} bytes");
        }
        let metrics = fanout.metrics_at_rest("syslog", sizes.len() as u64);
        assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
        let headers = if family == Family::V4 { 28 } else { 48 };
        let bytes: usize = sizes.iter().map(|size| size + headers).sum();
        for way in ["received", "forwarded"] {
            let name = format!("fanout_{way}_bytes_total");
            assert_eq!(metrics.sum(&name, &[]), bytes as u64, "{}", metrics.text);
        }
        fanout.stop();
    }
}

/// Nobody else could have what a socket took: it is dropped, and counted.
fn larger_than_taken() {
    let network = network();
    let config = network.config(Family::V4) + ONE_WORKER + "max_packet_size = 128\n";
    let fanout = Fanout::start(&network.host, &config);
    let sender = connected(&network, network.target(Family::V4));
    for size in [100, 101] {
        sender.send(&vec![0; size]).expect("sent");
    }
    let metrics = fanout.metrics_at_rest("syslog", 2);
    assert_eq!(metrics.forwarded("syslog"), 1, "{}", metrics.text);
    let too_big = [("listener", "syslog"), ("reason", "too_big")];
    assert_eq!(metrics.sum("fanout_dropped_packets_total", &too_big), 1);
    fanout.stop();
}

/// A raw socket's packets are not cut into fragments.
fn too_large_to_keep_the_source() {
    let network = network();
    for family in [Family::V4, Family::V6] {
        let config = network.config(family) + ONE_WORKER + "source = keep\n";
        let fanout = Fanout::start(&network.host, &config);
        let sender = connected(&network, network.target(family));
        for size in [2_000, 1_000, 2_000] {
            sender.send(&vec![0; size]).expect("sent");
        }
        let metrics = fanout.metrics_at_rest("syslog", 3);
        assert_eq!(metrics.forwarded("syslog"), 1, "{}", metrics.text);
        let too_big = [("listener", "syslog"), ("reason", "too_big")];
        assert_eq!(metrics.sum("fanout_dropped_packets_total", &too_big), 2);
        fanout.stop();
    }
}

fn listen(network: &Topology, family: Family) -> Vec<UdpSocket> {
    let socket = |(namespace, address): (&crate::common::namespace::Namespace, SocketAddr)| {
        let socket = namespace.enter(|| UdpSocket::bind(address)).expect("bind");
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        socket
    };
    network
        .downstreams(family)
        .into_iter()
        .map(socket)
        .collect()
}

fn connected(network: &Topology, to: SocketAddr) -> UdpSocket {
    let from = network.sender.addresses;
    let from = if to.is_ipv4() {
        from.v4.into()
    } else {
        from.v6.into()
    };
    network.sender.namespace.enter(|| {
        let socket = UdpSocket::bind(SocketAddr::new(from, 0)).expect("bind");
        socket.connect(to).expect("connect");
        socket
    })
}
