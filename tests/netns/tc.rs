//! The `tc_ebpf` mode: the main job, and what is special about a program that sees packets as the kernel's
//! stack does.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    thread,
};

use crate::{
    common::{
        delivery::{self, Delivery},
        fanout::{Fanout, PATIENCE},
        frame::{ETHERNET, Frame, VNET, mac},
        metrics::Metrics,
        mode::TC,
        namespace::Namespace,
        sender::Traffic,
        topology::{self, ETH0, Family, HOST_MAC, INTERFACE, RECEIVER_PORT, Shape, Topology},
        wire::Wire,
    },
    forwarding, golden,
    harness::Suite,
    pass,
};

mod attachment;
mod merged;
mod tunnelled;

pub fn register(suite: &mut Suite) {
    suite.test_with("tc::same_interface", &["ethtool"], || {
        forwarding::every_kind(&topology::same_interface(Shape::default()), &TC);
    });
    suite.test("tc::other_interface", || {
        forwarding::every_kind(&topology::other_interface(Shape::default()), &TC);
    });
    suite.test("tc::k3s", || {
        forwarding::every_kind(&topology::k3s(Shape::default()), &TC);
    });
    suite.test_with("tc::golden_same_interface", &["ethtool"], || {
        let network = topology::same_interface(golden::one());
        golden::every_kind(&network, INTERFACE, "keep", &TC);
    });
    suite.test("tc::golden_other_interface", || {
        let network = topology::other_interface(golden::one());
        golden::every_kind(&network, "ens6", "keep", &TC);
    });
    suite.test("tc::golden_k3s", || {
        let network = topology::k3s(golden::one());
        golden::every_kind(&network, "cni0", "keep", &TC);
        golden::every_kind(&network, "cni0", "rewrite", &TC);
    });
    suite.test_with("tc::pass_frames", &["tc"], pass_frames);
    suite.test("tc::headers_in_fragments", headers_in_fragments);
    suite.test("tc::downstream_on_the_host", downstream_on_the_host);
    suite.test("tc::own_address_as_source", own_address_as_source);
    suite.test("tc::router", router);
    suite.test("tc::weights", weights);
    suite.test("tc::egress_too_small", egress_too_small);
    suite.test("tc::no_downstream", no_downstream);
    merged::register(suite);
    tunnelled::register(suite);

    attachment::register(suite);
}

const COUNT: u32 = 3_000;

fn start(network: &Topology, family: Family, keys: &str) -> Fanout {
    Fanout::start(&network.host, &(network.config_in(&TC, family) + keys))
}

/// The receivers, and where they listen.
fn receivers(network: &Topology, family: Family) -> Vec<(&Namespace, SocketAddr)> {
    let place = |i: usize| {
        let namespace = &network.receivers[i].namespace;
        (namespace, network.downstream(i, family))
    };
    (0..network.receivers.len()).map(place).collect()
}

fn send(network: &Topology, family: Family, count: u32) -> Delivery {
    delivery::of(
        network,
        family,
        &Traffic::new(network.target(family), count),
    )
}

fn dropped(metrics: &Metrics, reason: &str) -> u64 {
    let labels = [("listener", "syslog"), ("reason", reason)];
    metrics.sum("fanout_dropped_packets_total", &labels)
}

/// A packet socket sees packets before a TC program does. So what comes by behind it is sent on to another
/// interface, which has one.
fn pass_frames() {
    let network = topology::other_interface(Shape::default());
    let host = &network.host;
    host.ip("link add tap0 type veth peer name tap1\nlink set tap0 up\nlink set tap1 up");
    host.run("tc", &["qdisc", "add", "dev", INTERFACE, "clsact"]);
    let every = "protocol all prio 2 u32 match u8 0 0 at -14 action mirred egress mirror dev tap0";
    let mut arguments = vec!["filter", "add", "dev", INTERFACE, "ingress"];
    arguments.extend(every.split(' '));
    host.run("tc", &arguments);
    pass::frames_reach(&network, "tap1", &TC);
}

/// As some drivers receive: but for the Ethernet header, all of the packet is in pages. A packet socket does the
/// same with a large frame, if it is told so.
fn headers_in_fragments() {
    const SIZE: usize = 5000;
    let network = topology::k3s(golden::one());
    let (sender, receiver) = (&network.sender, &network.receivers[0]);
    for (namespace, interfaces) in [
        (&network.host, &[INTERFACE, "cni0", "veth21"][..]),
        (&sender.namespace, &[ETH0]),
        (&receiver.namespace, &[ETH0]),
    ] {
        for interface in interfaces {
            namespace.ip(&format!("link set {interface} mtu 9000"));
        }
    }
    let wire = Wire::open_with_offload(&sender.namespace, ETH0);
    let from_mac = mac(&sender.namespace.interface(ETH0, "address"));
    for family in [Family::V4, Family::V6] {
        let fanout = start(&network, family, "");
        let address = network.downstream(0, family);
        let socket = receiver.namespace.enter(|| UdpSocket::bind(address));
        let socket = socket.expect("bind");
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let from = SocketAddr::new(sender.addresses.of(family), 40_000);
        let frame = Frame::new(from_mac, mac(HOST_MAC), from, network.target(family));
        let payload = [b'f'; SIZE];
        let mut bytes = vec![0; VNET];
        bytes[2..4].copy_from_slice(&(ETHERNET as u16).to_ne_bytes());
        bytes.extend(frame.bytes(&payload));
        assert!(wire.send(&bytes));
        let mut buffer = [0; 2 * SIZE];
        let (length, seen) = socket.recv_from(&mut buffer).expect("a datagram");
        assert_eq!((&buffer[..length], seen), (&payload[..], from));
        fanout.stop();
    }
}

/// An address of the host's own, and one that the kernel takes from no wire.
fn downstream_on_the_host() {
    let network = topology::k3s(Shape::default());
    for family in [Family::V4, Family::V6] {
        let local = local(family);
        let fanout = start(&network, family, &keys(local));
        let mut to = receivers(&network, family);
        to.extend(local.map(|address| (&network.host, address)));
        let traffic = Traffic::new(network.target(family), COUNT);
        let delivery = delivery::between(&network.sender.namespace, &to, &traffic);
        delivery.assert_perfect_in(&TC);
        let metrics = fanout.metrics_at_rest("syslog", COUNT.into());
        assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
        fanout.stop();
    }
}

/// Two addresses on the host.
fn local(family: Family) -> [SocketAddr; 2] {
    let loopback = match family {
        Family::V4 => IpAddr::from(Ipv4Addr::LOCALHOST),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    [topology::host_address().of(family), loopback].map(|ip| SocketAddr::new(ip, RECEIVER_PORT))
}

/// To have them as downstreams.
fn keys([own, loopback]: [SocketAddr; 2]) -> String {
    format!("downstream.own = {own}\ndownstream.loopback = {loopback}\n")
}

/// The kernel takes nothing in that seems to come from itself: said at the start, not lost in silence.
fn own_address_as_source() {
    let network = topology::k3s(Shape::default());
    let own = SocketAddr::new(topology::host_address().of(Family::V4), RECEIVER_PORT);
    let keys = format!("downstream.own = {own}\nsource = rewrite\n");
    let config = network.config_in(&TC, Family::V4) + &keys;
    let mut fanout = Fanout::spawn(&network.host, &config);
    assert_eq!(fanout.wait().code(), Some(1), "{}", fanout.log());
    let error = fanout.logged("ERROR").join("\n");
    assert!(error.contains(&own.to_string()), "{error}");
    assert!(error.contains("source = keep"), "{error}");
}

/// Downstreams behind a router, by a route of IPv4 over IPv6 too.
fn router() {
    let network = topology::k3s(Shape::default());
    let router = &network.receivers[0];
    let address = SocketAddr::from(([10, 99, 0, 1], RECEIVER_PORT));
    router.namespace.ip("addr add 10.99.0.1/32 dev lo");
    for via in [
        format!("via {}", router.addresses.v4),
        format!("via inet6 {}", router.addresses.v6),
    ] {
        network.host.ip(&format!("route replace 10.99.0.1 {via}"));
        let config = format!(
            "[listener syslog]\ninterface = {INTERFACE}\nbind = {}\ndownstream.far = {address}\n{}",
            network.target(Family::V4),
            TC.keys
        );
        let fanout = Fanout::start(&network.host, &config);
        let traffic = Traffic::new(network.target(Family::V4), COUNT);
        let to = [(&router.namespace, address)];
        let delivery = delivery::between(&network.sender.namespace, &to, &traffic);
        delivery.assert_perfect_in(&TC);
        fanout.stop();
    }
}

/// Over a cycle on each CPU exact; CPUs may be within one.
fn weights() {
    let network = topology::k3s(Shape::default());
    let keys = "weight.receiver-1 = 1\nweight.receiver-2 = 2\nweight.receiver-3 = 7\n";
    let fanout = start(&network, Family::V4, keys);
    let delivery = send(&network, Family::V4, 10_000);
    delivery.assert_complete();
    let cpus = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    for (receiver, expected) in delivery.received.iter().zip([1_000, 2_000, 7_000]) {
        let off = receiver.count.abs_diff(expected);
        assert!(off <= 2 * cpus, "{delivery}");
    }
    fanout.stop();
}

fn egress_too_small() {
    let network = topology::k3s(Shape::default());
    network.host.ip("link set cni0 mtu 1280");
    let fanout = start(&network, Family::V4, "");
    for (size, arrive) in [(1281 - 28, 0), (1280 - 28, COUNT)] {
        let traffic = Traffic {
            sizes: size..=size,
            ..Traffic::new(network.target(Family::V4), COUNT)
        };
        let delivery = delivery::of(&network, Family::V4, &traffic);
        let arrived = delivery.arrived();
        assert_eq!(arrived, u64::from(arrive), "of {size} bytes: {delivery}");
    }
    let metrics = fanout.metrics_at_rest("syslog", 2 * u64::from(COUNT));
    let too_big = dropped(&metrics, "too_big");
    assert_eq!(too_big, COUNT.into(), "{}", metrics.text);
    fanout.stop();
}

fn no_downstream() {
    let network = topology::k3s(Shape::default());
    let fanout = start(&network, Family::V4, "");
    network.host.ip("link set cni0 down");
    fanout.wait_for_log("no downstream left");
    let traffic = Traffic::new(network.target(Family::V4), COUNT);
    traffic.send(&network.sender.namespace);
    let metrics = fanout.metrics_at_rest("syslog", COUNT.into());
    let no_downstream = dropped(&metrics, "no_downstream");
    assert_eq!(no_downstream, COUNT.into(), "{}", metrics.text);
    network.host.ip("link set cni0 up");
    fanout.wait_for_log("downstreams are back");
    fanout.stop();
}
