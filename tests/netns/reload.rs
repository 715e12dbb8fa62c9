//! Another config while traffic runs: nothing is lost, and nothing goes where it no longer should.

use std::{fmt::Write as _, net::SocketAddr, thread, time::Duration};

use crate::{
    common::{
        delivery,
        fanout::{Fanout, Reloaded, wait_for},
        metrics::Metrics,
        mode::{AF_XDP, TC, XDP},
        sender::Traffic,
        topology::{self, Family, INTERFACE, Shape, Topology},
    },
    harness::{self, Suite},
};

mod refused;
mod swaps;

pub fn register(suite: &mut Suite) {
    suite.test("reload::af_xdp", || {
        under_load(&topology::k3s(Shape::default()), AF_XDP.keys);
    });
    suite.test("reload::tc_ebpf", || {
        under_load(&topology::k3s(Shape::default()), TC.keys);
    });
    suite.test_with("reload::xdp", &["ethtool"], || {
        let network = topology::other_interface(Shape::default()).with_gro();
        under_load(&network, XDP.keys);
    });
    suite.test("reload::userspace", || {
        let network = topology::other_interface(Shape::default());
        under_load(&network, USERSPACE);
    });
    suite.test("reload::listeners_come_and_go", listeners_come_and_go);
    suite.test("reload::modes_come_and_go", modes_come_and_go);
    suite.test("reload::settings", settings);
    refused::register(suite);
    swaps::register(suite);
}

pub const USERSPACE: &str = "mode = userspace\nworkers = 2\nsource = keep\n";

/// Between two reloads.
fn pause() -> Duration {
    Duration::from_millis(harness::count(200, 1000).into())
}

/// 10,000 datagrams a second.
pub(super) fn traffic(to: SocketAddr) -> Traffic {
    Traffic {
        rate: 10_000,
        ..Traffic::new(to, harness::count(40_000, 600_000))
    }
}

/// The downstreams of these receivers, by their weights.
fn config(network: &Topology, keys: &str, weights: &[(usize, u8)]) -> String {
    let bind = network.target(Family::V4);
    let mut text = format!("[listener syslog]\ninterface = {INTERFACE}\nbind = {bind}\n{keys}");
    for &(i, weight) in weights {
        let address = network.downstream(i, Family::V4);
        write!(
            text,
            "downstream.receiver-{i} = {address}\nweight.receiver-{i} = {weight}\n"
        )
        .expect("a string grows");
    }
    text
}

/// Downstreams are added, removed and weighted anew, again and again.
fn under_load(network: &Topology, keys: &str) {
    let configs: [&[(usize, u8)]; 5] = [
        &[(0, 1), (1, 1), (2, 1)],
        &[(0, 1), (2, 1)],
        &[(0, 3), (1, 1), (2, 2)],
        &[(1, 5)],
        &[(2, 1), (0, 1)],
    ];
    let fanout = Fanout::start(&network.host, &config(network, keys, configs[0]));
    let traffic = traffic(network.target(Family::V4));
    let mut metrics = fanout.metrics();
    let delivery = while_sending(network, &traffic, |round| {
        let weights = configs[(round + 1) % configs.len()];
        assert_eq!(
            fanout.reload(&config(network, keys, weights)),
            Reloaded::Done
        );
        let done = fanout.metrics();
        thread::sleep(pause());
        let now = fanout.metrics();
        for i in (0..3).filter(|i| !weights.iter().any(|(to, _)| to == i)) {
            let [then, later] = [&done, &now].map(|metrics| forwarded(metrics, i));
            assert_eq!(then, later, "receiver-{i} got something: {}", now.text);
        }
        never_backwards(&metrics, &done);
        never_backwards(&done, &now);
        metrics = now;
    });
    delivery.assert_whole();
    let at_rest = fanout.metrics_at_rest("syslog", delivery.sent.count());
    assert_eq!(at_rest.dropped("syslog"), 0, "{}", at_rest.text);
    for (received, i) in delivery.received.iter().zip(0..) {
        assert_eq!(received.count, forwarded(&at_rest, i), "{}", at_rest.text);
    }
    assert_eq!(at_rest.sum("fanout_config_last_reload_successful", &[]), 1);
    fanout.stop();
}

/// What went to a receiver.
fn forwarded(metrics: &Metrics, i: usize) -> u64 {
    let name = format!("receiver-{i}");
    metrics.sum("fanout_forwarded_packets_total", &[("downstream", &name)])
}

/// Sends `traffic` to all receivers, and meanwhile does `again` and again.
pub fn while_sending(
    network: &Topology,
    traffic: &Traffic,
    mut again: impl FnMut(usize),
) -> delivery::Delivery {
    thread::scope(|scope| {
        let sending = scope.spawn(|| delivery::of(network, Family::V4, traffic));
        for round in 0.. {
            if sending.is_finished() {
                break;
            }
            again(round);
        }
        sending.join().expect("the sender")
    })
}

/// No counter is less than before, and none has gone.
pub fn never_backwards(before: &Metrics, now: &Metrics) {
    for line in before.text.lines() {
        let Some((series, value)) = line.rsplit_once(' ').filter(|(s, _)| s.contains("_total{"))
        else {
            continue;
        };
        let later = now.text.lines().find_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (name == series).then_some(value)
        });
        let numbers = [Some(value), later].map(|text| text?.parse::<u64>().ok());
        assert!(
            numbers[0].is_some() && numbers[0] <= numbers[1],
            "{series} was {value}, is {later:?}"
        );
    }
}

/// A second listener, in each mode, beside one that goes on and loses nothing; and a bind that moves from one
/// listener to another.
fn listeners_come_and_go() {
    let network = topology::k3s(Shape::default());
    let main = network.config(Family::V4);
    let bind = SocketAddr::new(network.vip.of(Family::V4), 1514);
    // To where nobody listens: the receivers are for what goes to the first.
    let downstream = SocketAddr::new(network.downstream(0, Family::V4).ip(), 9);
    let other = |name: &str, keys: &str| {
        format!(
            "[listener {name}]\ninterface = {INTERFACE}\nbind = {bind}\ndownstream.a = {downstream}\n{keys}"
        )
    };
    let fanout = Fanout::start(&network.host, &main);
    let mut metrics = fanout.metrics();
    let traffic = traffic(network.target(Family::V4));
    let delivery = while_sending(&network, &traffic, |round| {
        let (name, keys) = [("b", AF_XDP.keys), ("c", TC.keys)][round % 2];
        let second = other(name, keys);
        assert_eq!(fanout.reload(&(main.clone() + &second)), Reloaded::Done);
        let burst = Traffic {
            rate: 10_000,
            ..Traffic::new(bind, 300)
        };
        let sent = burst.send(&network.sender.namespace);
        let is_known = metrics
            .text
            .contains(&format!("received_packets_total{{listener=\"{name}\""));
        let so_far = if is_known { metrics.received(name) } else { 0 };
        let taken = fanout.metrics_when(name, |m| m.received(name) == so_far + sent.count());
        assert_eq!(taken.dropped(name), 0, "{}", taken.text);
        never_backwards(&metrics, &taken);
        metrics = taken;
        if round % 3 == 0 {
            assert_eq!(fanout.reload(&main), Reloaded::Done);
        }
    });
    delivery.assert_perfect();
    let at_rest = fanout.metrics_at_rest("syslog", delivery.sent.count());
    assert_eq!(at_rest.dropped("syslog"), 0, "{}", at_rest.text);
    fanout.stop();
}

/// An interface gets its first listener of a mode and loses its last, down to none at all but one on another
/// interface.
fn modes_come_and_go() {
    let network = topology::k3s(Shape::default());
    for family in [Family::V4, Family::V6] {
        let vip = network.vip.of(family);
        network.host.ip(&format!("addr add {vip} dev lo"));
    }
    let config = network.config(Family::V4);
    let keys = [
        AF_XDP.keys,
        TC.keys,
        USERSPACE,
        "mode = tc_ebpf\n",
        AF_XDP.keys,
    ];
    let fanout = Fanout::start(&network.host, &(config.clone() + keys[0]));
    let mut sent = 0;
    for (round, keys) in keys.iter().chain(&keys).enumerate() {
        if round > 0 {
            assert_eq!(fanout.reload(&(config.clone() + keys)), Reloaded::Done);
        }
        let attached = |link: &str| network.host.run("ip", &["-d", "link", "show", link]);
        let has_xdp = attached(INTERFACE).contains("prog/xdp");
        assert_eq!(has_xdp, *keys == AF_XDP.keys, "{}", fanout.log());
        let traffic = Traffic::new(network.target(Family::V4), 3000);
        let delivery = delivery::of(&network, Family::V4, &traffic);
        delivery.assert_complete();
        sent += delivery.sent.count();
        let metrics = fanout.metrics_at_rest("syslog", sent);
        assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
        let info = metrics.sum("fanout_listener_info", &[]);
        assert_eq!(info, 1, "{}", metrics.text);
    }
    fanout.stop();
}

/// What the log and the files show of other settings.
fn settings() {
    let network = topology::k3s(Shape::default());
    let config = network.config(Family::V4);
    let fanout = Fanout::start(&network.host, &config);
    let section =
        format!("log_level = debug\n{config}\n[interface {INTERFACE}]\nbusy_poll = always\n");
    assert_eq!(fanout.reload(&section), Reloaded::Done);
    let line = format!("takes a restart to change interface={INTERFACE} key=busy_poll");
    fanout.wait_for_log(&line);
    let other = fanout.config().with_file_name("other.prom");
    let moved = fanout.reload_whole(&format!(
        "[fanout]\nmetrics_file = {}\nmetrics_interval = 1s\n{config}",
        other.display()
    ));
    assert_eq!(moved, Reloaded::Done);
    wait_for(|| other.exists().then_some(())).expect("the new metrics file");
    assert!(!fanout.metrics_file().exists());
    assert_eq!(fanout.reload(&config), Reloaded::Done);
    assert!(!other.exists());
    fanout.stop();
}
