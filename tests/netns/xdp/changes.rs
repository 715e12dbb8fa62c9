//! Egresses, neighbours and routes that change while the program forwards.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{COUNT, all};
use crate::{
    common::{
        delivery,
        fanout::Fanout,
        harness::Suite,
        metrics::Metrics,
        mode::XDP,
        sender::Traffic,
        topology::{self, ETH0, Family, INTERFACE, RECEIVER_PORT, Shape},
    },
    golden,
};

pub fn register(suite: &mut Suite) {
    suite.test_with(
        "xdp::egress_stops_taking_frames",
        &["ethtool"],
        egress_stops_taking_frames,
    );
    suite.test_with("xdp::failed_redirects", &["ethtool"], failed_redirects);
    suite.test_with(
        "xdp::neighbour_gets_another_mac",
        &["ethtool"],
        neighbour_gets_another_mac,
    );
    suite.test_with("xdp::route_moves", &["ethtool"], route_moves);
}

/// Later it is no reason to end, but to leave the downstream out until it is mended.
fn egress_stops_taking_frames() {
    let network = topology::other_interface(Shape::default()).with_gro();
    let fanout = Fanout::start(&network.host, &network.config_in(&XDP, Family::V4));
    let probe = || {
        let traffic = Traffic::new(network.target(Family::V4), 30);
        delivery::of(&network, Family::V4, &traffic)
    };
    probe().assert_perfect_on_each_cpu();
    network.gro("off");
    fanout.wait_for_log("WARN downstream is out of turn listener=syslog name=receiver-3");
    assert_eq!(probe().arrived(), 0);
    let metrics = fanout.metrics_balanced("syslog");
    let labels = [("listener", "syslog"), ("reason", "no_downstream")];
    assert_eq!(
        metrics.sum("fanout_dropped_packets_total", &labels),
        30,
        "{}",
        metrics.text
    );
    assert_eq!(
        metrics.sum("fanout_downstream_up", &[]),
        0,
        "{}",
        metrics.text
    );
    network.gro("on");
    fanout.wait_for_log("INFO downstream is no longer refused listener=syslog name=receiver-3");
    probe().assert_perfect_on_each_cpu();
    fanout.stop();
}

/// Until the kernel's news are heard, what an egress does not take is lost: the numbers say how much.
fn failed_redirects() {
    let network = topology::other_interface(Shape::default()).with_gro();
    let fanout = Fanout::start(&network.host, &network.config_in(&XDP, Family::V4));
    let labels = [("interface", INTERFACE), ("egress", "ens6")];
    let failed = |metrics: &Metrics| metrics.sum("fanout_redirect_failed_packets_total", &labels);
    assert_eq!(failed(&fanout.metrics()), 0);
    network.gro("off");
    let traffic = Traffic::new(network.target(Family::V4), COUNT);
    let delivery = delivery::of(&network, Family::V4, &traffic);
    assert_eq!(delivery.arrived(), 0);
    let metrics = fanout.metrics_at_rest("syslog", COUNT.into());
    assert!(failed(&metrics) > 0, "{}", metrics.text);
    assert_eq!(
        failed(&metrics),
        metrics.forwarded("syslog"),
        "{}",
        metrics.text
    );
    fanout.stop();
}

/// From one datagram to the next: none is lost, none comes to the old address once the kernel knows the new.
fn neighbour_gets_another_mac() {
    let network = topology::other_interface(golden::one()).with_gro();
    let fanout = Fanout::start(&network.host, &network.config_in(&XDP, Family::V4));
    let (receiver, new_mac) = (&network.receivers[0], "02:fa:00:00:00:e1");
    // Both addresses are the receiver's while the kernel changes from one to the other.
    receiver.namespace.ip(&format!(
        "link add link {ETH0} address {new_mac} name both type macvlan mode bridge\nlink set both up"
    ));
    for interface in ["all", "both", ETH0] {
        receiver
            .namespace
            .sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0");
    }
    let traffic = Traffic {
        rate: 20_000,
        ..Traffic::new(network.target(Family::V4), 20_000)
    };
    let address = receiver.addresses.v4;
    let to = all(&network, Family::V4);
    let delivery = delivery::with(&to, |flight| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                network.host.ip(&format!(
                    "neigh replace {address} lladdr {new_mac} dev ens6 nud permanent"
                ));
            });
            traffic.send_watching(&network.sender.namespace, flight)
        })
    });
    delivery.assert_complete();
    let line = fanout.wait_for_log(new_mac);
    assert!(
        line.contains("INFO downstream listener=syslog name=receiver-1"),
        "{line}"
    );
    let came = receiver
        .namespace
        .interface("both", "statistics/rx_packets");
    assert!(
        came.parse::<u64>().expect("a count") > 0,
        "nothing came to the new address"
    );
    fanout.metrics_at_rest("syslog", delivery.sent.count());
    fanout.stop();
}

/// One address that moves from receiver to receiver and back, under traffic.
fn route_moves() {
    let network = topology::other_interface(Shape::default()).with_gro();
    let address = SocketAddr::from(([10, 99, 0, 1], RECEIVER_PORT));
    let [first, second, _] = &network.receivers[..] else {
        panic!("three receivers")
    };
    for receiver in [first, second] {
        receiver.namespace.ip("addr add 10.99.0.1/32 dev lo");
    }
    let route = |via: Ipv4Addr| {
        network
            .host
            .ip(&format!("route replace 10.99.0.1 via {via}"));
    };
    // Nobody has to be asked first for the second one's MAC address.
    let (ip, mac) = (
        second.addresses.v4,
        second.namespace.interface(ETH0, "address"),
    );
    network.host.ip(&format!(
        "neigh replace {ip} lladdr {mac} dev ens6 nud permanent"
    ));
    route(first.addresses.v4);
    let config = format!(
        "[listener syslog]\ninterface = {INTERFACE}\nbind = {}\ndownstream.moves = {address}\n{}",
        network.target(Family::V4),
        XDP.keys
    );
    let fanout = Fanout::start(&network.host, &config);
    let traffic = Traffic {
        rate: 20_000,
        ..Traffic::new(network.target(Family::V4), 20_000)
    };
    let to = [(&first.namespace, address), (&second.namespace, address)];
    let delivery = delivery::with(&to, |flight| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for to in [second, first, second] {
                    std::thread::sleep(Duration::from_millis(200));
                    route(to.addresses.v4);
                }
            });
            traffic.send_watching(&network.sender.namespace, flight)
        })
    });
    delivery.assert_complete();
    assert!(
        delivery
            .received
            .iter()
            .all(|receiver| receiver.count > 1_000),
        "{delivery}"
    );
    fanout.metrics_at_rest("syslog", delivery.sent.count());
    fanout.stop();
}
