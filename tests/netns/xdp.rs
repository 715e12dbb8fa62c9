//! The xdp mode: the program forwards by itself.

use std::net::{SocketAddr, UdpSocket};

use crate::{
    common::{
        delivery,
        fanout::{Fanout, PATIENCE},
        frame::{Frame, mac},
        harness::Suite,
        mode::{XDP, XDP_SKB},
        namespace::Namespace,
        sender::Traffic,
        topology::{self, ETH0, Family, HOST_MAC, INTERFACE, RECEIVER_PORT, Shape, Topology},
        wire::Wire,
    },
    forwarding, golden, lifecycle, pass,
};

mod changes;

pub fn register(suite: &mut Suite) {
    changes::register(suite);
    suite.test_with("xdp::same_interface", &["ethtool"], || {
        let network = topology::same_interface(Shape::default()).with_gro();
        forwarding::every_kind(&network, &XDP);
    });
    suite.test_with("xdp::other_interface", &["ethtool"], || {
        let network = topology::other_interface(Shape::default()).with_gro();
        forwarding::every_kind(&network, &XDP);
    });
    suite.test("xdp::skb_mode", || {
        forwarding::every_kind(&topology::other_interface(Shape::default()), &XDP_SKB);
    });
    suite.test_with("xdp::skb_mode_same_interface", &["ethtool"], || {
        forwarding::every_kind(&topology::same_interface(Shape::default()), &XDP_SKB);
    });
    suite.test("xdp::skb_mode_into_a_bridge", || {
        forwarding::every_kind(&topology::k3s(Shape::default()), &XDP_SKB);
    });
    suite.test_with("xdp::golden_same_interface", &["ethtool"], || {
        let network = topology::same_interface(golden::one()).with_gro();
        golden::every_kind(&network, INTERFACE, "keep", &XDP);
    });
    suite.test_with("xdp::golden_other_interface", &["ethtool"], || {
        let network = topology::other_interface(golden::one()).with_gro();
        golden::every_kind(&network, "ens6", "keep", &XDP);
        golden::every_kind(&network, "ens6", "rewrite", &XDP);
    });
    suite.test("xdp::golden_skb_mode", || {
        let network = topology::other_interface(golden::one());
        golden::every_kind(&network, "ens6", "keep", &XDP_SKB);
    });
    suite.test_with("xdp::passes_frames", &["ethtool"], || {
        let network = topology::other_interface(Shape::default()).with_gro();
        pass::frames_reach_the_kernel(&network, &XDP);
    });
    suite.test_with(
        "xdp::downstream_on_the_host",
        &["ethtool"],
        downstream_on_the_host,
    );
    suite.test(
        "xdp::downstream_on_the_host_only",
        downstream_on_the_host_only,
    );
    suite.test("xdp::bridge_is_refused", bridge_is_refused);
    suite.test(
        "xdp::veth_without_gro_is_refused",
        veth_without_gro_is_refused,
    );
    suite.test_with("xdp::beside_af_xdp", &["ethtool"], beside_af_xdp);
    suite.test_with("xdp::weights", &["ethtool"], weights);
    suite.test_with("xdp::egress_too_small", &["ethtool"], egress_too_small);
    suite.test_with("xdp::two_queues", &["ethtool"], two_queues);
    suite.test_with("xdp::killed", &["ethtool"], killed);
    suite.test_with("xdp::second_instance", &["ethtool"], second_instance);
}

const COUNT: u32 = 3_000;

/// The kernel gets what is for an address of the host, in turn with what is for others, also where a tag or a
/// partial checksum has to go.
fn downstream_on_the_host() {
    let network = topology::other_interface(Shape::default()).with_gro();
    for family in [Family::V4, Family::V6] {
        let own = SocketAddr::new(topology::host_address().of(family), RECEIVER_PORT);
        let config = network.config(family) + &format!("downstream.own = {own}\n{}", XDP.keys);
        let fanout = Fanout::start(&network.host, &config);
        let mut to = all(&network, family);
        to.push((&network.host, own));
        let traffic = Traffic::new(network.target(family), COUNT);
        let delivery = delivery::between(&network.sender.namespace, &to, &traffic);
        delivery.assert_perfect_on_each_cpu();
        let metrics = fanout.metrics_at_rest("syslog", delivery.sent.count());
        assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
        fanout.stop();
    }
}

/// Tagged or not, with a whole or a partial checksum, in both modes of XDP.
fn downstream_on_the_host_only() {
    let network = topology::k3s(Shape::default());
    let own = SocketAddr::new(topology::host_address().v4.into(), RECEIVER_PORT);
    for mode in [&XDP, &XDP_SKB] {
        let bind = network.target(Family::V4);
        let listener = |name: &str, more: &str| {
            let keys = mode.keys;
            format!(
                "[listener {name}]\ninterface = {INTERFACE}\nbind = {bind}\ndownstream.own = {own}\n{keys}{more}"
            )
        };
        let config = listener("untagged", "") + &listener("tagged", "vlan = 214\n") + mode.sections;
        let fanout = Fanout::start(&network.host, &config);
        let receiver = network.host.enter(|| UdpSocket::bind(own)).expect("bind");
        receiver.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let sender = &network.sender;
        let from = SocketAddr::new(sender.addresses.v4.into(), 40_000);
        let from_mac = mac(&sender.namespace.interface(ETH0, "address"));
        let mut frame = Frame::new(from_mac, mac(HOST_MAC), from, bind);
        let [whole, half] =
            [Wire::open, Wire::open_with_offload].map(|open| open(&sender.namespace, ETH0));
        for vlan in [None, Some(214)] {
            frame.vlan = vlan;
            assert!(whole.send(&frame.bytes(b"whole")));
            assert!(half.send(&frame.partial(b"half")));
            for payload in [b"whole".as_slice(), b"half"] {
                let mut buffer = [0; 64];
                let (len, source) = receiver.recv_from(&mut buffer).expect("a datagram");
                assert_eq!(
                    (&buffer[..len], source),
                    (payload, from),
                    "{mode:?}, {vlan:?}"
                );
            }
        }
        assert_eq!(network.host.counter("Udp", "InCsumErrors"), 0);
        for name in ["untagged", "tagged"] {
            fanout.metrics_at_rest(name, 2);
        }
        fanout.stop();
    }
}

/// What would be dropped without a word is an error at the start, with the mend.
fn bridge_is_refused() {
    let network = topology::k3s(Shape::default());
    refused(&network, &["cni0", "af_xdp", "tc_ebpf"]);
}

fn veth_without_gro_is_refused() {
    let network = topology::other_interface(Shape::default());
    refused(&network, &["veth ens6", "GRO", "ethtool -K"]);
}

fn refused(network: &Topology, words: &[&str]) {
    let mut fanout = Fanout::spawn(&network.host, &network.config_in(&XDP, Family::V4));
    assert_eq!(fanout.wait().code(), Some(1), "{}", fanout.log());
    let clear = |line: &String| words.iter().all(|word| line.contains(word));
    assert!(
        fanout.logged("ERROR").iter().any(clear),
        "no clear error:\n{}",
        fanout.log()
    );
}

/// One program serves listeners of both modes.
fn beside_af_xdp() {
    let network = topology::other_interface(Shape::default()).with_gro();
    let listener =
        |name: &str, family| network.listener(name, &network.target(family).to_string(), family);
    let config = listener("kernel", Family::V4) + XDP.keys + &listener("worker", Family::V6);
    let fanout = Fanout::start(&network.host, &config);
    fanout.wait_for_log("INFO configured listeners af_xdp=1 tc_ebpf=0 xdp=1 userspace=0");
    fanout.wait_for_log("INFO ready listeners=2 workers=1");
    std::thread::scope(|scope| {
        for (name, family) in [("kernel", Family::V4), ("worker", Family::V6)] {
            let (network, fanout) = (&network, &fanout);
            scope.spawn(move || {
                let traffic = Traffic {
                    rate: 20_000,
                    ..Traffic::new(network.target(family), 10_000)
                };
                let delivery = delivery::of(network, family, &traffic);
                delivery.assert_perfect_on_each_cpu();
                let metrics = fanout.metrics_at_rest(name, delivery.sent.count());
                assert_eq!(metrics.dropped(name), 0, "{}", metrics.text);
            });
        }
    });
    fanout.stop();
}

fn weights() {
    let network = topology::other_interface(Shape::default()).with_gro();
    let config =
        network.config_in(&XDP, Family::V4) + "weight.receiver-2 = 2\nweight.receiver-3 = 7\n";
    let fanout = Fanout::start(&network.host, &config);
    let traffic = Traffic::new(network.target(Family::V4), 10_000);
    let delivery = delivery::of(&network, Family::V4, &traffic);
    delivery.assert_complete();
    for (receiver, share) in delivery.received.iter().zip([1_000, 2_000, 7_000]) {
        // On each CPU a cycle may have been cut short.
        assert!(
            receiver.count.abs_diff(share) <= 8,
            "not by weight: {delivery}"
        );
    }
    fanout.stop();
}

fn egress_too_small() {
    let network = topology::other_interface(Shape::default()).with_gro();
    network.host.ip("link set ens6 mtu 1280");
    let fanout = Fanout::start(&network.host, &network.config_in(&XDP, Family::V4));
    for (size, arrive) in [(1281 - 28, 0), (1280 - 28, COUNT)] {
        let traffic = Traffic {
            sizes: size..=size,
            ..Traffic::new(network.target(Family::V4), COUNT)
        };
        let delivery = delivery::of(&network, Family::V4, &traffic);
        assert_eq!(
            delivery.arrived(),
            u64::from(arrive),
            "of {size} bytes: {delivery}"
        );
    }
    let metrics = fanout.metrics_at_rest("syslog", 2 * u64::from(COUNT));
    let too_big = [("listener", "syslog"), ("reason", "too_big")];
    assert_eq!(
        metrics.sum("fanout_dropped_packets_total", &too_big),
        COUNT.into(),
        "{}",
        metrics.text
    );
    fanout.stop();
}

/// Each queue's packets are counted as that queue's, and each CPU takes turns.
fn two_queues() {
    let network = topology::other_interface(Shape {
        queues: 2,
        ..Shape::default()
    })
    .with_gro();
    let fanout = Fanout::start(&network.host, &network.config_in(&XDP, Family::V4));
    let traffic = Traffic {
        flows: 64,
        ..Traffic::new(network.target(Family::V4), 50_000)
    };
    let delivery = delivery::of(&network, Family::V4, &traffic);
    delivery.assert_perfect_on_each_cpu();
    let metrics = fanout.metrics_at_rest("syslog", delivery.sent.count());
    for queue in ["0", "1"] {
        let labels = [("listener", "syslog"), ("queue", queue)];
        let received = metrics.sum("fanout_received_packets_total", &labels);
        assert!(received > 0, "queue {queue} got nothing: {}", metrics.text);
    }
    fanout.stop();
}

fn killed() {
    let network = topology::other_interface(Shape::default()).with_gro();
    lifecycle::killed_in(&network, &XDP);
}

fn second_instance() {
    let network = topology::other_interface(Shape::default()).with_gro();
    lifecycle::second_instance_in(&network, &XDP);
}

fn all(network: &Topology, family: Family) -> Vec<(&Namespace, SocketAddr)> {
    let receivers = network.receivers.iter().enumerate();
    receivers
        .map(|(i, receiver)| (&receiver.namespace, network.downstream(i, family)))
        .collect()
}
