//! Which downstream gets a datagram, in each mode: by weight, by its sender, or all of them.

use std::fmt::Write as _;

use crate::{
    common::{
        delivery::{self, Delivery},
        fanout::{Fanout, wait_for},
        mode::{AF_XDP, TC, XDP},
        sender::Traffic,
        topology::{self, Family, INTERFACE, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test("policies::af_xdp", || {
        every_policy(&topology::k3s(Shape::default()), AF_XDP.keys);
    });
    suite.test("policies::tc_ebpf", || {
        every_policy(&topology::k3s(Shape::default()), TC.keys);
    });
    suite.test_with("policies::xdp", &["ethtool"], || {
        let network = topology::other_interface(Shape::default()).with_gro();
        every_policy(&network, XDP.keys);
    });
    suite.test("policies::userspace", || {
        let network = topology::other_interface(Shape::default());
        every_policy(&network, USERSPACE);
        replicate(&network, USERSPACE);
    });
    suite.test("policies::replicate_to_rings_and_raw_sockets", || {
        replicate(&topology::k3s(Shape::default()), AF_XDP.keys);
        replicate(&topology::other_interface(Shape::default()), AF_XDP.keys);
        replicate(&topology::same_interface(Shape::default()), AF_XDP.keys);
    });
}

/// One worker, so that there is one turn; the sender's address stays, so that a receiver knows it.
const USERSPACE: &str = "mode = userspace\nworkers = 1\nsource = keep\n";

fn config(network: &Topology, family: Family, weights: [u8; 3], keys: &str) -> String {
    let bind = network.target(family);
    let mut text = format!("[listener syslog]\ninterface = {INTERFACE}\nbind = {bind}\n{keys}");
    for (weight, i) in weights.into_iter().zip(0..) {
        let address = network.downstream(i, family);
        writeln!(text, "downstream.{i} = {address}\nweight.{i} = {weight}").expect("a string");
    }
    text
}

fn counts(delivery: &Delivery) -> Vec<u64> {
    delivery
        .received
        .iter()
        .map(|received| received.count)
        .collect()
}

fn every_policy(network: &Topology, keys: &str) {
    for family in [Family::V4, Family::V6] {
        weights(network, family, keys);
        source_hash(network, family, keys);
    }
}

/// Exactly as the weights say, over whole cycles; one of weight 0 gets nothing, and is up all the same.
fn weights(network: &Topology, family: Family, keys: &str) {
    for (weights, expected) in [
        ([1, 2, 7], [1000, 2000, 7000]),
        ([0, 1, 3], [0, 2500, 7500]),
    ] {
        let fanout = Fanout::start(&network.host, &config(network, family, weights, keys));
        let traffic = Traffic::new(network.target(family), 10_000);
        let delivery = delivery::of(network, family, &traffic);
        delivery.assert_complete();
        assert_eq!(counts(&delivery), expected, "{weights:?}");
        let metrics = fanout.metrics_at_rest("syslog", delivery.sent.count());
        assert_eq!(
            metrics.sum("fanout_downstream_up", &[]),
            3,
            "{}",
            metrics.text
        );
        fanout.stop();
    }
}

/// All that one host sends goes to one receiver, whatever the port, and to another one if that goes.
fn source_hash(network: &Topology, family: Family, keys: &str) {
    let keys = format!("{keys}policy = source_hash\n");
    let traffic = Traffic {
        flows: 8,
        ..Traffic::new(network.target(family), 2000)
    };
    let mut chosen = Vec::new();
    let mut all = [1, 1, 1];
    for left in [3, 2, 1] {
        let fanout = Fanout::start(&network.host, &config(network, family, all, &keys));
        let delivery = delivery::of(network, family, &traffic);
        delivery.assert_complete();
        let counts = counts(&delivery);
        let by = counts
            .iter()
            .position(|&count| count == delivery.sent.count());
        let by = by.unwrap_or_else(|| panic!("{left} left: {counts:?}"));
        assert!(!chosen.contains(&by), "{chosen:?} {by}");
        chosen.push(by);
        all[by] = 0;
        fanout.stop();
    }
}

/// Three streams that are the same, in order and untouched.
fn replicate(network: &Topology, keys: &str) {
    let keys = format!("{keys}policy = replicate\n");
    for family in [Family::V4, Family::V6] {
        let fanout = Fanout::start(&network.host, &config(network, family, [1, 1, 1], &keys));
        let traffic = Traffic {
            rate: 20_000,
            ..Traffic::new(network.target(family), 10_000)
        };
        // Each receiver alone would hold the sender back by the datagrams that it waits for.
        let delivery = delivery::of(network, family, &traffic);
        let sent = delivery.sent.count();
        for received in &delivery.received {
            assert_eq!(
                (received.count, received.duplicates),
                (sent, 0),
                "{delivery}"
            );
            assert_eq!(received.reordered, 0, "{delivery}");
        }
        assert_eq!(delivery.bad_checksums, 0, "{delivery}");
        let copies = || {
            let metrics = fanout.metrics();
            let [received, forwarded] = [metrics.received("syslog"), metrics.forwarded("syslog")];
            ((received, forwarded) == (sent, 3 * sent)).then_some(metrics)
        };
        let metrics = wait_for(copies).unwrap_or_else(|| panic!("{}", fanout.metrics().text));
        assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
        fanout.stop();
    }
}
