//! Which downstream gets a datagram, in each mode: by weight, by its sender, or all of them.

use std::fmt::Write as _;

use crate::{
    common::{
        delivery::{self, Delivery},
        fanout::{Fanout, Reloaded, wait_for},
        metrics::Metrics,
        mode::{self, AF_XDP, TC, XDP},
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
    for (name, mode) in [
        ("policies::drain_af_xdp", &mode::AF_XDP),
        ("policies::drain_tc_ebpf", &mode::TC),
        ("policies::drain_xdp", &mode::XDP),
        ("policies::drain_userspace", &mode::USERSPACE),
    ] {
        suite.test_when(name, &["ethtool"], || Ok(()), move || drain(mode.keys));
    }
    suite.test("policies::replicate_a_burst", replicate_a_burst);
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

/// While datagrams have a turn of each weight that a reload gives; one of 0 leaves its downstream up and counted.
fn drain(keys: &str) {
    let family = Family::V4;
    let network = topology::other_interface(Shape::default()).with_gro();
    let traffic = Traffic::new(network.target(family), 10_000);
    let fanout = Fanout::start(&network.host, &config(&network, family, [1, 2, 7], keys));
    let mut totals = [0; 3];
    let mut received = 0;
    for weights in [[3, 0, 1], [1, 1, 3]] {
        let config = config(&network, family, weights, keys);
        assert_eq!(fanout.reload(&config), Reloaded::Done);
        let delivery = delivery::of(&network, family, &traffic);
        delivery.assert_complete();
        received += delivery.sent.count();
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let counts = counts(&delivery);
        for ((total, count), weight) in totals.iter_mut().zip(counts).zip(weights) {
            let share = u64::from(weight) * delivery.sent.count() / sum;
            // From one config to the next a cycle may be cut short.
            let cut = if weight > 0 { 2 } else { 0 };
            assert!(count.abs_diff(share) <= cut, "{weights:?}: {delivery}");
            *total += count;
        }
        assert_counted(&fanout.metrics_at_rest("syslog", received), totals);
    }
    let config = config(&network, family, [0, 0, 0], keys);
    assert_eq!(fanout.reload(&config), Reloaded::Done);
    let dropped = traffic.send(&network.sender.namespace).count();
    let metrics = fanout.metrics_at_rest("syslog", received + dropped);
    assert_counted(&metrics, totals);
    let labels = [("reason", "no_downstream")];
    let counted = metrics.sum("fanout_dropped_packets_total", &labels);
    assert_eq!(counted, dropped, "{}", metrics.text);
    fanout.wait_for_log("have weight 0");
    fanout.wait_for_log("no downstream left");
    fanout.stop();
}

/// Each downstream is up and was sent its part of `totals`.
fn assert_counted(metrics: &Metrics, totals: [u64; 3]) {
    for (total, i) in totals.into_iter().zip(0..) {
        let name = format!("{i}");
        let labels = [("downstream", name.as_str())];
        let forwarded = metrics.sum("fanout_forwarded_packets_total", &labels);
        let up = metrics.sum("fanout_downstream_up", &labels);
        assert_eq!((forwarded, up), (total, 1), "{}", metrics.text);
    }
}

/// More copies of what waits for the worker than there are frames and places in the TX ring.
fn replicate_a_burst() {
    let family = Family::V4;
    let network = topology::k3s(Shape {
        receivers: 10,
        ..Shape::default()
    });
    let config = network.config(family) + "policy = replicate\n";
    let fanout = Fanout::start(&network.host, &config);
    let traffic = Traffic::new(network.target(family), 1000);
    let receivers = network.downstreams(family);
    let delivery = delivery::with(&receivers, |_| {
        fanout.signal(libc::SIGSTOP);
        let sent = traffic.send(&network.sender.namespace);
        fanout.signal(libc::SIGCONT);
        sent
    });
    let whole = vec![delivery.sent.count(); receivers.len()];
    assert_eq!(counts(&delivery), whole, "{}", fanout.metrics().text);
    assert_eq!(delivery.bad_checksums, 0, "{delivery}");
    fanout.stop();
}
