//! As many new tables as a million reloads bring: memory does not grow.

use std::{fmt::Write as _, fs, net::SocketAddr, thread, time::Duration};

use fanout::{
    bpf::Loader,
    config::{self, Config},
    health::Prober,
    interface::Interface,
    names::Names,
    neighbor::{Paths, Resolver},
    roster::Roster,
    userspace,
};

use super::USERSPACE;
use crate::{
    common::{
        fanout::wait_for,
        mode::{AF_XDP, TC},
        topology::{self, Family, INTERFACE, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test("reload::swaps_af_xdp", || {
        on_interface(AF_XDP.keys, 1_000_000);
    });
    // The kernel waits for its readers with each (synchronize_rcu): a million would take hours.
    suite.test("reload::swaps_tc_ebpf", || {
        on_interface(TC.keys, 500);
    });
    suite.test("reload::swaps_userspace", by_sockets);
}

/// What may come and go: an allocator's own.
const SLACK: u64 = 256 << 10;

/// Two configs that differ in who the downstreams are and in their weights.
fn configs(network: &Topology, keys: &str) -> [Config; 2] {
    [[1, 2, 3], [3, 2, 0]].map(|weights| {
        let bind = network.target(Family::V4);
        let mut text = format!("[listener syslog]\ninterface = {INTERFACE}\nbind = {bind}\n{keys}");
        for (i, weight) in weights
            .into_iter()
            .enumerate()
            .filter(|&(_, weight)| weight > 0)
        {
            let address: SocketAddr = network.downstream(i, Family::V4);
            writeln!(text, "downstream.{i} = {address}\nweight.{i} = {weight}")
                .expect("a string grows");
        }
        config::parse("test.ini", &text).expect("a config")
    })
}

fn rosters(configs: &[Config; 2]) -> [Roster; 2] {
    let (names, prober) = (Names::new().expect("a pipe"), Prober::default());
    let first = Roster::new(&configs[0], &names, &prober, &Roster::default());
    let second = Roster::new(&configs[1], &names, &prober, &first);
    [first, second]
}

fn paths(resolver: &mut Resolver, roster: &Roster) -> Paths {
    let destinations = roster.destinations(roster);
    let all = || {
        let answers = resolver.resolve(&destinations).expect("routes");
        resolver.refresh();
        let paths: Paths = destinations.iter().copied().zip(answers).collect();
        paths.values().all(Result::is_ok).then_some(paths)
    };
    wait_for(all).expect("next hops")
}

fn on_interface(keys: &str, swaps: usize) {
    let network = topology::k3s(Shape::default());
    let configs = configs(&network, keys);
    let rosters = rosters(&configs);
    network.host.enter(|| {
        let mut resolver = Resolver::new().expect("netlink");
        let paths = paths(&mut resolver, &rosters[0]);
        let link = resolver.links().by_name(INTERFACE).expect("the interface");
        let served = rosters[0].on(INTERFACE);
        let settings = &configs[0].interfaces[0];
        let mut interface =
            Interface::open(&mut Loader::new(), settings, link, &served).expect("programs");
        interface.prepare(&served).expect("attached");
        interface.start(|_, _| None).expect("workers");
        let mut swap = |round: usize| {
            interface.serve(rosters[round % 2].on(INTERFACE));
            interface.route(&paths, resolver.links()).expect("routed");
        };
        no_growth(swaps, &mut swap);
        wait_for(|| interface.has_taken_over().then_some(())).expect("taken over");
        interface.stop();
    });
}

fn by_sockets() {
    let network = topology::other_interface(Shape::default());
    let configs = configs(&network, USERSPACE);
    let rosters = rosters(&configs);
    network.host.enter(|| {
        let mut resolver = Resolver::new().expect("netlink");
        let paths = paths(&mut resolver, &rosters[0]);
        let served = rosters[0].iter().cloned().collect();
        let mut listeners = userspace::open(served, &[]).expect("sockets");
        let [listener] = &mut listeners[..] else {
            panic!("one listener");
        };
        listener.start(|_| None).expect("workers");
        no_growth(1_000_000, &mut |round| {
            for served in rosters[round % 2].iter() {
                listener.serve(served.clone(), &[]);
            }
            listener.route(&paths);
        });
        listener.stop();
    });
}

fn no_growth(swaps: usize, swap: &mut impl FnMut(usize)) {
    let mut round = 0;
    let mut some = |count: usize| {
        for _ in 0..count {
            swap(round);
            round += 1;
        }
        // The workers take over, and what they give back is freed with the next one.
        thread::sleep(Duration::from_millis(300));
        swap(round);
        resident()
    };
    let before = some(swaps / 10);
    let after = some(swaps);
    println!("{swaps} swaps: {before} bytes before, {after} after");
    assert!(after < before + SLACK, "{before} → {after}");
}

/// Bytes of this process that are no file's.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    number.expect("kB") * 1024
}
