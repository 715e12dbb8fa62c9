//! The network changes while fanout runs: forwarding follows, with nobody's help.

use std::{
    fmt::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    common::{
        delivery::{self, Delivery},
        fanout::{Fanout, PATIENCE, wait_for},
        namespace::Namespace,
        sender::Traffic,
        topology::{self, ETH0, Family, INTERFACE, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test(
        "changes::neighbour_gets_another_mac",
        neighbour_gets_another_mac,
    );
    suite.test("changes::route_moves", route_moves);
    suite.test("changes::ingress_down_and_up", ingress_down_and_up);
    suite.test("changes::egress_down_and_up", egress_down_and_up);
    suite.test("changes::downstream_comes_late", downstream_comes_late);
}

/// fanout promises two seconds; the rest is for a machine that has other things to do.
const FOLLOWS: Duration = Duration::from_secs(5);

fn neighbour_gets_another_mac() {
    let network = topology::k3s(Shape::default());
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    let to = targets(&network, Family::V4);
    assert!(perfect(&probe(&network, &to)));

    let (pod, mac) = (&network.receivers[1], "02:fa:00:00:00:e1");
    pod.namespace
        .sysctl(&format!("net/ipv4/conf/{ETH0}/arp_notify"), "1");
    pod.namespace.ip(&format!(
        "link set {ETH0} down\nlink set {ETH0} address {mac}\nlink set {ETH0} up\nroute add default via 10.42.0.1"
    ));
    let address = pod.addresses.v4.to_string();
    let learnt = wait_for(|| {
        network
            .host
            .run("ip", &["neigh", "show", &address])
            .contains(mac)
            .then_some(())
    });
    learnt.expect("the kernel learns the new address");
    follows(&network, &to, "another MAC");
    fanout.stop();
}

/// One address that moves from pod to pod, and then to the sender's side: to another egress.
fn route_moves() {
    let network = topology::k3s(Shape::default());
    let address = SocketAddr::from(([10, 99, 0, 1], topology::RECEIVER_PORT));
    let (first, second, sender) = (
        &network.receivers[0],
        &network.receivers[1],
        &network.sender,
    );
    for namespace in [&first.namespace, &second.namespace, &sender.namespace] {
        namespace.ip("addr add 10.99.0.1/32 dev lo");
    }
    let route = |via| {
        network
            .host
            .ip(&format!("route replace 10.99.0.1 via {via}"));
    };
    route(first.addresses.v4);
    let config = format!(
        "[listener syslog]\ninterface = {INTERFACE}\nbind = {}\ndownstream.moves = {address}\n",
        network.target(Family::V4)
    );
    let fanout = Fanout::start(&network.host, &config);
    assert!(perfect(&probe(&network, &[(&first.namespace, address)])));

    route(second.addresses.v4);
    follows(
        &network,
        &[(&second.namespace, address)],
        "another next hop",
    );
    // The sender's datagrams come back to it, with its own address as their source.
    sender
        .namespace
        .sysctl(&format!("net/ipv4/conf/{ETH0}/accept_local"), "1");
    for interface in ["all", ETH0] {
        sender
            .namespace
            .sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0");
    }
    route(sender.addresses.v4);
    follows(&network, &[(&sender.namespace, address)], "another egress");

    route(first.addresses.v4);
    follows(&network, &[(&first.namespace, address)], "back");
    fanout.stop();
}

fn ingress_down_and_up() {
    let network = topology::k3s(Shape::default());
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    let to = targets(&network, Family::V4);
    assert!(perfect(&probe(&network, &to)));
    for _ in 0..2 {
        network.host.ip(&format!("link set {INTERFACE} down"));
        assert_eq!(
            probe(&network, &to).arrived(),
            0,
            "arrived by an interface that is down"
        );
        network.host.ip(&format!("link set {INTERFACE} up"));
        follows(&network, &to, "ingress up");
    }
    fanout.stop();
}

/// While the bridge is down nobody can be reached: dropped and counted. Then as before.
fn egress_down_and_up() {
    let network = topology::k3s(Shape::default());
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    let to = targets(&network, Family::V4);
    assert!(perfect(&probe(&network, &to)));
    network.host.ip("link set cni0 down");
    let counted = wait_for(|| {
        assert_eq!(
            probe(&network, &to).arrived(),
            0,
            "arrived by a bridge that is down"
        );
        let metrics = fanout.metrics_balanced("syslog");
        let labels = [("listener", "syslog"), ("reason", "no_downstream")];
        (metrics.sum("fanout_dropped_packets_total", &labels) > 0).then_some(())
    });
    assert!(
        counted.is_some(),
        "never noticed: {}",
        fanout.metrics().text
    );
    network.host.ip("link set cni0 up");
    follows(&network, &to, "egress up");
    fanout.metrics_balanced("syslog");
    fanout.stop();
}

/// Two of three are there: they take all, until the third comes.
fn downstream_comes_late() {
    let network = topology::k3s(Shape::default());
    let late = &network.receivers[2].namespace;
    late.ip(&format!("link set {ETH0} down"));
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    let warned = fanout
        .logged("WARN")
        .iter()
        .any(|line| line.contains("receiver-3"));
    assert!(warned, "nothing said:\n{}", fanout.log());
    let to = targets(&network, Family::V4);
    let two = probe(&network, &to[..2]);
    assert!(perfect(&two), "{two}");
    late.ip(&format!(
        "link set {ETH0} up\nroute add default via 10.42.0.1"
    ));
    follows(&network, &to, "the third");
    fanout.stop();
}

fn targets(network: &Topology, family: Family) -> Vec<(&Namespace, SocketAddr)> {
    let receivers = network.receivers.iter().enumerate();
    receivers
        .map(|(i, r)| (&r.namespace, network.downstream(i, family)))
        .collect()
}

fn probe(network: &Topology, to: &[(&Namespace, SocketAddr)]) -> Delivery {
    let traffic = Traffic::new(network.target(Family::V4), 30);
    delivery::between(&network.sender.namespace, to, &traffic)
}

fn perfect(delivery: &Delivery) -> bool {
    let shares = delivery.received.iter().map(|r| r.count);
    delivery.lost() == 0 && shares.clone().max() == shares.min()
}

/// Waits until all of `to` get all of a probe in turn, then sends more for which that must hold.
fn follows(network: &Topology, to: &[(&Namespace, SocketAddr)], what: &str) {
    let start = Instant::now();
    let mut tries = String::new();
    let followed = wait_for(|| {
        let delivery = probe(network, to);
        let _ = writeln!(tries, "{:?}: {delivery}", start.elapsed());
        perfect(&delivery).then(|| start.elapsed())
    });
    let after = followed.unwrap_or_else(|| panic!("{what}: not in {PATIENCE:?}:\n{tries}"));
    println!("{what}: followed within {after:?}");
    assert!(
        after < FOLLOWS,
        "{what}: followed only after {after:?}:\n{tries}"
    );
    let traffic = Traffic::new(network.target(Family::V4), 5_000);
    delivery::between(&network.sender.namespace, to, &traffic).assert_perfect();
}
