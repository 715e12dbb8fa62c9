//! What a listener may bind and where its downstreams may be.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use crate::{
    common::{
        delivery::{self, Delivery},
        fanout::Fanout,
        namespace::Namespace,
        sender::Traffic,
        topology::{self, Family, INTERFACE, PORT, RECEIVER_PORT, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test("listeners::downstream_on_the_host", downstream_on_the_host);
    suite.test("listeners::wildcard_after_exact", wildcard_after_exact);
    suite.test("listeners::several_binds", several_binds);
    suite.test("listeners::two_on_one_interface", two_on_one_interface);
    suite.test("listeners::weights", weights);
    suite.test("listeners::source_rewritten", source_rewritten);
    suite.test("listeners::skb_mode", skb_mode);
    suite.test("listeners::egress_too_small", egress_too_small);
}

const COUNT: u32 = 3_000;

/// Exact over a cycle.
fn weights() {
    let network = topology::k3s(Shape::default());
    let config = network.config(Family::V4)
        + "weight.receiver-1 = 1\nweight.receiver-2 = 2\nweight.receiver-3 = 7\n";
    let fanout = Fanout::start(&network.host, &config);
    let traffic = Traffic::new(network.target(Family::V4), 10_000);
    let delivery = delivery::of(&network, Family::V4, &traffic);
    delivery.assert_whole();
    let counts: Vec<_> = delivery.received.iter().map(|r| r.count).collect();
    assert_eq!(counts, [1_000, 2_000, 7_000]);
    assert_no_drops(&fanout, "syslog", &delivery);
    fanout.stop();
}

/// No frame leads to an address of the host itself.
fn downstream_on_the_host() {
    let network = topology::k3s(Shape::default());
    for family in [Family::V4, Family::V6] {
        let own = SocketAddr::new(topology::host_address().of(family), RECEIVER_PORT);
        let vip = network.target(family).to_string();
        let config =
            network.listener("syslog", &vip, family) + &format!("downstream.own = {own}\n");
        let fanout = Fanout::start(&network.host, &config);
        let mut to = pods(&network, family, &[0, 1, 2]);
        to.push((&network.host, own));
        let traffic = Traffic::new(network.target(family), COUNT);
        let delivery = delivery::between(&network.sender.namespace, &to, &traffic);
        delivery.assert_perfect();
        assert_no_drops(&fanout, "syslog", &delivery);
        fanout.stop();
    }
}

fn wildcard_after_exact() {
    let network = topology::k3s(Shape::default());
    for (family, any) in [(Family::V4, "0.0.0.0:514"), (Family::V6, "[::]:514")] {
        let exact = network.target(family).to_string();
        let config = listener(&network, "exact", &exact, family, &[0])
            + &listener(&network, "any", any, family, &[1, 2]);
        let fanout = Fanout::start(&network.host, &config);
        let to_vip = send(&network, family, network.vip.of(family), PORT, &[0]);
        let to_host = send(
            &network,
            family,
            topology::host_address().of(family),
            PORT,
            &[1, 2],
        );
        assert_no_drops(&fanout, "exact", &to_vip);
        assert_no_drops(&fanout, "any", &to_host);
        fanout.stop();
    }
}

fn several_binds() {
    let network = topology::k3s(Shape::default());
    let family = Family::V4;
    let (vip, own) = (network.vip.v4, topology::host_address().v4);
    let binds = format!("{vip}:514, {own}:514, {vip}:1514");
    let fanout = Fanout::start(&network.host, &network.listener("syslog", &binds, family));
    for (ip, port) in [(vip, 514), (own, 514), (vip, 1514)] {
        send(&network, family, ip.into(), port, &[0, 1, 2]);
    }
    let metrics = fanout.metrics_at_rest("syslog", 3 * u64::from(COUNT));
    assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
    fanout.stop();
}

fn two_on_one_interface() {
    let network = topology::k3s(Shape::default());
    let (v4, v6) = (Family::V4, Family::V6);
    let bind = |family| network.target(family).to_string();
    let config = listener(&network, "four", &bind(v4), v4, &[0, 1])
        + &listener(&network, "six", &bind(v6), v6, &[1, 2]);
    let fanout = Fanout::start(&network.host, &config);
    let four = send(&network, v4, network.vip.of(v4), PORT, &[0, 1]);
    let six = send(&network, v6, network.vip.of(v6), PORT, &[1, 2]);
    assert_no_drops(&fanout, "four", &four);
    assert_no_drops(&fanout, "six", &six);
    fanout.stop();
}

/// Receivers see the address that the host has on their side; the port stays the sender's.
fn source_rewritten() {
    let network = topology::k3s(Shape::default());
    for (family, gateway) in [(Family::V4, "10.42.0.1"), (Family::V6, "fd00:2a::1")] {
        let config = network.config(family) + "source = rewrite\n";
        let fanout = Fanout::start(&network.host, &config);
        let traffic = Traffic::new(network.target(family), COUNT);
        let delivery = delivery::of(&network, family, &traffic);
        delivery.assert_whole();
        delivery.assert_in_turn();
        let seen = SocketAddr::new(
            gateway.parse().expect("an address"),
            delivery.sent.sources[0].port(),
        );
        for receiver in &delivery.received {
            let sources: Vec<_> = receiver.sources.keys().collect();
            assert_eq!(sources, [&seen]);
        }
        fanout.stop();
    }
}

/// The kernel's generic XDP, for drivers without their own.
fn skb_mode() {
    let network = topology::k3s(Shape::default());
    let config = network.config(Family::V4) + &format!("[interface {INTERFACE}]\nxdp = skb\n");
    let fanout = Fanout::start(&network.host, &config);
    let traffic = Traffic::new(network.target(Family::V4), COUNT);
    let delivery = delivery::of(&network, Family::V4, &traffic);
    delivery.assert_perfect();
    assert_no_drops(&fanout, "syslog", &delivery);
    let skb = [("listener", "syslog"), ("xdp", "skb")];
    assert_eq!(fanout.metrics().sum("fanout_listener_info", &skb), 1);
    fanout.stop();
}

/// fanout does not fragment: what the egress can't carry is dropped and counted, the rest goes on.
fn egress_too_small() {
    let network = topology::k3s(Shape::default());
    network.host.ip("link set cni0 mtu 1280");
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
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

fn pods<'n>(
    network: &'n Topology,
    family: Family,
    which: &[usize],
) -> Vec<(&'n Namespace, SocketAddr)> {
    let pod = |&i: &usize| {
        (
            &network.receivers[i].namespace,
            network.downstream(i, family),
        )
    };
    which.iter().map(pod).collect()
}

fn listener(network: &Topology, name: &str, bind: &str, family: Family, which: &[usize]) -> String {
    let mut text = format!("[listener {name}]\ninterface = {INTERFACE}\nbind = {bind}\n");
    for i in which {
        let address = network.downstream(*i, family);
        writeln!(text, "downstream.receiver-{} = {address}", i + 1).expect("a string grows");
    }
    text
}

/// Sends to an address; all of it must reach the receivers `which`, in turn.
fn send(network: &Topology, family: Family, ip: IpAddr, port: u16, which: &[usize]) -> Delivery {
    let traffic = Traffic::new(SocketAddr::new(ip, port), COUNT);
    let to = pods(network, family, which);
    let delivery = delivery::between(&network.sender.namespace, &to, &traffic);
    delivery.assert_perfect();
    delivery
}

fn assert_no_drops(fanout: &Fanout, listener: &str, delivery: &Delivery) {
    let metrics = fanout.metrics_at_rest(listener, delivery.sent.count());
    assert_eq!(metrics.dropped(listener), 0, "{}", metrics.text);
}
