//! DNS names as downstreams, asked of a real server whose answers change.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use crate::{
    common::{
        delivery,
        dns::Dns,
        fanout::{Fanout, wait_for},
        mode::{AF_XDP, Mode, TC, USERSPACE, XDP},
        namespace::Namespace,
        sender::Traffic,
        topology::{self, Family, INTERFACE, RECEIVER_PORT, Shape, Topology},
    },
    harness::{self, Suite},
};

pub fn register(suite: &mut Suite) {
    let programs = &["dnsmasq", "ethtool"];
    suite.test_with("names::af_xdp", programs, || answers_change(&AF_XDP));
    suite.test_with("names::xdp", programs, || answers_change(&XDP));
    suite.test_with("names::tc_ebpf", programs, || answers_change(&TC));
    suite.test_with("names::userspace", programs, || answers_change(&USERSPACE));
    suite.test_with("names::ipv6", programs, ipv6);
    suite.test_with("names::server_dies", programs, server_dies);
    suite.test_with("names::not_at_the_start", programs, not_at_the_start);
    suite.test_with("names::left_out", programs, left_out);
}

/// What the config has for it.
const INTERVAL: Duration = Duration::from_secs(1);
/// Sets of receivers that the name stands for, one after the other.
const ANSWERS: [&[usize]; 6] = [&[1, 2], &[0], &[0, 1, 2], &[2], &[0, 1], &[1]];

/// Its receivers are the addresses of one name.
fn config(network: &Topology, mode: &Mode, family: Family) -> String {
    let mut text = format!("\n[listener syslog]\ninterface = {INTERFACE}\n");
    let bind = network.target(family);
    writeln!(
        text,
        "bind = {bind}\ndownstream.vector = vector:{RECEIVER_PORT}"
    )
    .expect("grows");
    text + "resolve_interval = 1s\n" + mode.keys + mode.sections
}

fn addresses(network: &Topology, family: Family, which: &[usize]) -> Vec<IpAddr> {
    let address = |&i: &usize| network.receivers[i].addresses.of(family);
    which.iter().map(address).collect()
}

fn answer(dns: &Dns, network: &Topology, family: Family, which: &[usize]) {
    dns.set(&[("vector", &addresses(network, family, which))]);
}

/// Waits until these and no others are in turn.
fn follows(fanout: &Fanout, network: &Topology, family: Family, which: &[usize]) {
    let start = Instant::now();
    let mut expected: Vec<_> = addresses(network, family, which)
        .into_iter()
        .map(|ip| SocketAddr::new(ip, RECEIVER_PORT).to_string())
        .collect();
    expected.sort_unstable();
    let followed = wait_for(|| {
        let metrics = fanout.metrics();
        let up = metrics.samples("fanout_downstream_up", &[]);
        let mut up: Vec<_> = up
            .map(|up| (up.labels["address"].clone(), up.value > 0.0))
            .collect();
        up.sort_unstable();
        up.into_iter()
            .eq(expected.iter().map(|address| (address.clone(), true)))
            .then_some(())
    });
    followed.unwrap_or_else(|| panic!("never {which:?}:\n{}", fanout.log()));
    println!("{which:?}: followed after {:?}", start.elapsed());
}

/// Those of the network that are in `which` get all, the others nothing.
fn forwards_to(network: &Topology, mode: &Mode, family: Family, which: &[usize]) {
    let all = network.downstreams(family);
    let to: Vec<(&Namespace, SocketAddr)> = which.iter().map(|&i| all[i]).collect();
    let traffic = Traffic::new(network.target(family), 300);
    let delivery = delivery::between(&network.sender.namespace, &to, &traffic);
    delivery.assert_complete();
    let least = delivery.received.iter().map(|r| r.count).min();
    assert!(
        least.is_some_and(|least| least > 300 / 4),
        "{mode:?}: {delivery}"
    );
}

fn answers_change(mode: &Mode) {
    let network = topology::other_interface(Shape::default()).with_gro();
    let family = Family::V4;
    let dns = Dns::start(&network.host);
    answer(&dns, &network, family, &[0]);
    let fanout = Fanout::start(&network.host, &config(&network, mode, family));
    forwards_to(&network, mode, family, &[0]);
    let seconds = harness::count(7, 60);
    let traffic = Traffic {
        rate: 5_000,
        ..Traffic::new(network.target(family), 5_000 * seconds)
    };
    let all = network.downstreams(family);
    let delivery = delivery::with(&all, |flight| {
        thread::scope(|scope| {
            let sending = scope.spawn(|| traffic.send_watching(&network.sender.namespace, flight));
            for which in ANSWERS.iter().cycle() {
                if sending.is_finished() {
                    break;
                }
                answer(&dns, &network, family, which);
                thread::sleep(INTERVAL);
            }
            sending.join().expect("the sender")
        })
    });
    delivery.assert_complete();
    let least = delivery.received.iter().map(|r| r.count).min();
    assert!(least > Some(1_000), "who never had a share? {delivery}");
    for which in ANSWERS {
        answer(&dns, &network, family, which);
        follows(&fanout, &network, family, which);
        forwards_to(&network, mode, family, which);
    }
    let count = delivery.sent.count() + 300 * (1 + ANSWERS.len() as u64);
    let metrics = fanout.metrics_at_rest("syslog", count);
    assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
    let labels = [("listener", "syslog"), ("downstream", "vector")];
    assert_eq!(
        metrics.sum("fanout_forwarded_packets_total", &labels),
        count
    );
    assert_eq!(fanout.logged("WARN"), Vec::<String>::new());
    fanout.stop();
}

/// Addresses of the other family don't matter.
fn ipv6() {
    let network = topology::other_interface(Shape::default());
    let dns = Dns::start(&network.host);
    let both = |which: &[usize]| {
        let mut both = addresses(&network, Family::V6, which);
        both.extend(addresses(&network, Family::V4, &[0, 1, 2]));
        dns.set(&[("vector", &both)]);
    };
    both(&[0, 1]);
    let fanout = Fanout::start(&network.host, &config(&network, &AF_XDP, Family::V6));
    forwards_to(&network, &AF_XDP, Family::V6, &[0, 1]);
    both(&[1, 2]);
    follows(&fanout, &network, Family::V6, &[1, 2]);
    forwards_to(&network, &AF_XDP, Family::V6, &[1, 2]);
    fanout.stop();
}

/// Without an answer the last one holds; that there is none is an answer too.
fn server_dies() {
    let network = topology::other_interface(Shape::default());
    let (family, mode) = (Family::V4, &AF_XDP);
    let dns = Dns::start(&network.host);
    answer(&dns, &network, family, &[0, 1]);
    let fanout = Fanout::start(&network.host, &config(&network, mode, family));
    dns.pause(true);
    let line = fanout.wait_for_log("WARN name can't be resolved, its addresses stay ");
    assert!(
        line.contains("host=vector family=IPv4 addresses=2"),
        "{line}"
    );
    // Some more that fail.
    thread::sleep(Duration::from_secs(4));
    forwards_to(&network, mode, family, &[0, 1]);
    assert_eq!(fanout.logged("WARN").len(), 1, "{}", fanout.log());
    answer(&dns, &network, family, &[2]);
    dns.pause(false);
    fanout.wait_for_log("INFO name resolves again host=vector family=IPv4 addresses=1");
    follows(&fanout, &network, family, &[2]);
    forwards_to(&network, mode, family, &[2]);

    dns.set(&[]);
    fanout.wait_for_log("WARN name has no address host=vector family=IPv4 before=1");
    fanout.wait_for_log("WARN no downstream left, dropping what comes listener=syslog");
    let before = fanout.metrics().received("syslog");
    Traffic::new(network.target(family), 300).send(&network.sender.namespace);
    let metrics = fanout.metrics_at_rest("syslog", before + 300);
    let labels = [("listener", "syslog"), ("reason", "no_downstream")];
    assert_eq!(metrics.sum("fanout_dropped_packets_total", &labels), 300);
    answer(&dns, &network, family, &[0]);
    fanout.wait_for_log("INFO downstreams are back, forwarding listener=syslog");
    forwards_to(&network, mode, family, &[0]);
    fanout.stop();
}

/// It starts without an answer, and stops while it waits for one.
fn not_at_the_start() {
    let network = topology::other_interface(Shape::default());
    let (family, mode) = (Family::V4, &AF_XDP);
    let dns = Dns::start(&network.host);
    answer(&dns, &network, family, &[0, 1, 2]);
    dns.pause(true);
    let fanout = Fanout::start(&network.host, &config(&network, mode, family));
    fanout.wait_for_log("WARN no downstream left, dropping what comes listener=syslog");
    assert!(
        fanout.log().contains("host=vector family=IPv4"),
        "{}",
        fanout.log()
    );
    fanout.stop();
    let fanout = Fanout::start(&network.host, &config(&network, mode, family));
    dns.pause(false);
    fanout.wait_for_log("INFO downstreams are back, forwarding listener=syslog");
    follows(&fanout, &network, family, &[0, 1, 2]);
    forwards_to(&network, mode, family, &[0, 1, 2]);
    fanout.stop();
}

/// What the config's rules forbid, a name can't bring in.
fn left_out() {
    let network = topology::other_interface(Shape::default());
    let family = Family::V4;
    let dns = Dns::start(&network.host);
    let mut all = addresses(&network, family, &[0, 1]);
    all.push(network.target(family).ip());
    all.push([239, 1, 1, 1].into());
    dns.set(&[("vector", &all)]);
    let port = network.target(family).port();
    let config = config(&network, &AF_XDP, family);
    let config = config.replace(
        &format!("vector:{RECEIVER_PORT}"),
        &format!("vector:{port}"),
    );
    let fanout = Fanout::start(&network.host, &config);
    let own = format!(
        "address={} reason=\"a listener's own bind: a loop\"",
        network.target(family)
    );
    let line = fanout.wait_for_log("WARN address is left out listener=syslog name=vector");
    assert!(
        line.contains(&own) || fanout.log().contains(&own),
        "{}",
        fanout.log()
    );
    fanout.wait_for_log("reason=\"a multicast address, not one receiver's\"");
    // Said once, however often it is looked up.
    thread::sleep(INTERVAL * 3);
    assert_eq!(fanout.logged("WARN").len(), 2, "{}", fanout.log());
    assert_eq!(fanout.metrics().sum("fanout_downstream_up", &[]), 2);
    fanout.stop();
}
