//! The same job by UDP sockets.

use crate::{
    common::{
        delivery::{self, Delivery},
        fanout::Fanout,
        metrics::Metrics,
        sender::Traffic,
        topology::{self, Family, INTERFACE, PORT, Shape, Topology},
    },
    footprint, forwarding,
    harness::{self, Suite},
};

mod faults;
mod sizes;

pub use faults::as_nobody;

pub fn register(suite: &mut Suite) {
    suite.test_with("userspace::same_interface", &["ethtool"], || {
        every_source(&topology::same_interface(Shape::default()));
    });
    suite.test("userspace::other_interface", || {
        every_source(&topology::other_interface(Shape::default()));
    });
    suite.test("userspace::k3s", || every_source(&k3s()));
    suite.test("userspace::several_workers", several_workers);
    suite.test("userspace::several_binds", several_binds);
    suite.test("userspace::exact_before_wildcard", exact_before_wildcard);
    suite.test("userspace::one_interface_or_any", one_interface_or_any);
    suite.test("userspace::beside_af_xdp", beside_af_xdp);
    suite.test("userspace::idle", idle);
    sizes::register(suite);
    faults::register(suite);
}

/// One worker, so that there is one turn.
const ONE_WORKER: &str = "mode = userspace\nworkers = 1\n";

/// The usual network; the receivers are behind another interface.
fn network() -> Topology {
    topology::other_interface(Shape::default())
}

/// The node has the VIP: sockets get what is the kernel's.
fn k3s() -> Topology {
    let network = topology::k3s(Shape::default());
    for family in [Family::V4, Family::V6] {
        let vip = network.vip.of(family);
        network.host.ip(&format!("addr add {vip} dev lo"));
    }
    network
}

fn every_source(network: &Topology) {
    forwarding::untagged(network, ONE_WORKER, assert_perfect_but_source);
    let keep = ONE_WORKER.to_owned() + "source = keep\n";
    forwarding::untagged(network, &keep, Delivery::assert_perfect);
}

/// Each receiver sees one of fanout's sockets.
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

/// Each flow is one worker's, and each worker takes turns by itself.
fn several_workers() {
    let network = network();
    for (family, source) in [(Family::V4, "rewrite"), (Family::V6, "keep")] {
        let keys = format!("mode = userspace\nworkers = 3\nsource = {source}\n");
        let fanout = Fanout::start(&network.host, &(network.config(family) + &keys));
        let ready = fanout.wait_for_log(" ready ");
        assert!(ready.ends_with("listeners=1 workers=3"), "{ready}");
        let traffic = Traffic {
            flows: 64,
            ..Traffic::new(network.target(family), harness::count(50_000, 1_000_000))
        };
        let delivery = delivery::of(&network, family, &traffic);
        delivery.assert_whole();
        forwarding::assert_counted(&fanout, &delivery);
        let metrics = fanout.metrics();
        for queue in ["0", "1", "2"] {
            let labels = [("listener", "syslog"), ("queue", queue)];
            let received = metrics.sum("fanout_received_packets_total", &labels);
            assert!(received > 0, "worker {queue} got nothing: {}", metrics.text);
        }
        let counts = delivery.received.iter().map(|r| r.count);
        let (least, most) = (counts.clone().min(), counts.max());
        assert!(
            most.zip(least).is_some_and(|(m, l)| m - l <= 3),
            "not even: {delivery}"
        );
        fanout.stop();
    }
}

/// One worker waits for all of its sockets.
fn several_binds() {
    let network = network();
    let target = network.target(Family::V4);
    let binds = format!("{target}, {}:1514, {}:1515", target.ip(), target.ip());
    let config = network.listener("syslog", &binds, Family::V4) + ONE_WORKER;
    let fanout = Fanout::start(&network.host, &config);
    for port in [PORT, 1514, 1515] {
        let traffic = Traffic::new((target.ip(), port).into(), 1_000);
        assert_perfect_but_source(&delivery::of(&network, Family::V4, &traffic));
    }
    let metrics = fanout.metrics_at_rest("syslog", 3_000);
    assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
    fanout.stop();
}

/// As the kernel looks sockets up: the exact address first, whoever of the two binds first.
fn exact_before_wildcard() {
    let network = k3s();
    let own = topology::host_address();
    for (family, any) in [(Family::V4, "0.0.0.0:514"), (Family::V6, "[::]:514")] {
        let vip = network.target(family).to_string();
        let listener = |(name, bind)| network.listener(name, bind, family) + ONE_WORKER;
        let exact = listener(("exact", &vip));
        let wildcard = listener(("any", any));
        for config in [exact.clone() + &wildcard, wildcard + &exact] {
            let fanout = Fanout::start(&network.host, &config);
            for (to, name, other) in [
                (network.target(family), "exact", "any"),
                ((own.of(family), PORT).into(), "any", "exact"),
            ] {
                let before = fanout.metrics();
                let delivery = delivery::of(&network, family, &Traffic::new(to, 300));
                assert_perfect_but_source(&delivery);
                let got = |metrics: &Metrics, name| metrics.received(name);
                let after = fanout.metrics_at_rest(name, got(&before, name) + 300);
                assert_eq!(got(&after, other), got(&before, other), "{to}");
            }
            fanout.stop();
        }
    }
}

/// With an interface, what comes by it; without one, all the rest.
fn one_interface_or_any() {
    let network = network();
    for family in [Family::V4, Family::V6] {
        let target = network.target(family);
        let on_it = network.listener("on-it", &target.to_string(), family) + ONE_WORKER;
        let on_any = on_it
            .replace("on-it", "on-any")
            .replace(&format!("interface = {INTERFACE}\n"), "");
        for config in [on_it.clone() + &on_any, on_any + &on_it] {
            let fanout = Fanout::start(&network.host, &config);
            assert_info(&fanout.metrics());
            let traffic = Traffic::new(target, 300);
            assert_perfect_but_source(&delivery::of(&network, family, &traffic));
            fanout.metrics_at_rest("on-it", 300);
            let to = network.downstreams(family);
            // From a receiver's side; the host itself would reach its address by the same interface.
            let other_way = delivery::between(to[0].0, &to, &traffic);
            assert_perfect_but_source(&other_way);
            let metrics = fanout.metrics_at_rest("on-any", 300);
            assert_eq!(metrics.received("on-it"), 300, "{}", metrics.text);
            fanout.stop();
        }
    }
}

fn assert_info(metrics: &Metrics) {
    for (listener, interface) in [("on-it", INTERFACE), ("on-any", "")] {
        let labels = [
            ("listener", listener),
            ("mode", "userspace"),
            ("interface", interface),
            ("xdp", "none"),
            ("zero_copy", "false"),
        ];
        assert_eq!(metrics.sum("fanout_listener_info", &labels), 1);
    }
}

/// On one interface: what no program takes comes to the sockets, also for the same address and port.
fn beside_af_xdp() {
    let network = network();
    let (target, family) = (network.target(Family::V4), Family::V4);
    let bind = target.to_string();
    let config = network.listener("rings", &bind, family)
        + &network.listener("sockets", &bind.replace(":514", ":1514"), family)
        + ONE_WORKER
        + &network
            .listener("rest", &bind, family)
            .replace(&format!("interface = {INTERFACE}\n"), "")
        + ONE_WORKER;
    let fanout = Fanout::start(&network.host, &config);
    fanout.wait_for_log("configured listeners af_xdp=1 tc_ebpf=0 xdp=0 userspace=2");
    let to = network.downstreams(family);
    let sender = &network.sender.namespace;
    for (from, port, listener) in [
        (sender, PORT, "rings"),
        (sender, 1514, "sockets"),
        (to[0].0, PORT, "rest"),
    ] {
        let traffic = Traffic::new((target.ip(), port).into(), 300);
        let delivery = delivery::between(from, &to, &traffic);
        delivery.assert_whole();
        delivery.assert_in_turn();
        let metrics = fanout.metrics_at_rest(listener, 300);
        assert_eq!(metrics.dropped(listener), 0, "{}", metrics.text);
    }
    fanout.stop();
}

/// Before and after traffic, on all workers.
fn idle() {
    let network = network();
    let config = network.config(Family::V4) + "mode = userspace\n";
    let fanout = Fanout::start(&network.host, &config);
    footprint::rests(&fanout, "before traffic");
    let traffic = Traffic::new(network.target(Family::V4), 20_000);
    delivery::of(&network, Family::V4, &traffic).assert_whole();
    footprint::rests(&fanout, "after traffic");
    fanout.stop();
}
