//! What goes wrong around a listener, and what it may not do.

use std::{
    net::{SocketAddr, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use super::{ONE_WORKER, assert_perfect_but_source, network};
use crate::{
    common::{
        delivery::{self, Delivery},
        fanout::{self, Fanout, PATIENCE, wait_for},
        sender::Traffic,
        topology::{self, ETH0, Family, INTERFACE, PORT, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test_with("userspace::unprivileged", &["setpriv"], unprivileged);
    suite.test_with("userspace::not_allowed", &["setpriv"], not_allowed);
    suite.test("userspace::receive_buffer_full", receive_buffer_full);
    suite.test("userspace::port_unreachable", port_unreachable);
    suite.test("userspace::no_route", no_route);
    suite.test("userspace::neighbour_dies", neighbour_dies);
    suite.test("userspace::loops", loops);
    suite.test("userspace::killed", killed);
    suite.test("userspace::second_instance", second_instance);
    suite.test("userspace::not_to_be_bound", not_to_be_bound);
}

/// With no capability at all, and nothing that would be one's own. The host lets everybody have the port.
fn unprivileged() {
    let network = network();
    network
        .host
        .sysctl("net/ipv4/ip_unprivileged_port_start", "500");
    for family in [Family::V4, Family::V6] {
        let config = network.config(family) + ONE_WORKER + "receive_buffer = 1000000000\n";
        let fanout = Fanout::start_as(&config, |folder| as_nobody(&network, folder));
        let [warning] = &fanout.logged("WARN")[..] else {
            panic!("one warning:\n{}", fanout.log())
        };
        assert!(warning.contains("net.core.rmem_max"), "{warning}");
        let traffic = Traffic::new(network.target(family), 10_000);
        let delivery = delivery::of(&network, family, &traffic);
        assert_perfect_but_source(&delivery);
        let metrics = fanout.metrics_at_rest("syslog", delivery.sent.count());
        assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
        fanout.stop();
    }
}

/// Starts it without any privilege.
pub fn as_nobody(network: &Topology, folder: &Path) -> Command {
    let all = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder, all).expect("a folder for all");
    let mut command = network.host.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]);
    command.arg(fanout::binary());
    command
}

/// What needs a privilege says which, and what else would do.
fn not_allowed() {
    let network = network();
    let config = network.config(Family::V4) + ONE_WORKER;
    for (config, open, words) in [
        (config.clone(), "1024", "CAP_NET_BIND_SERVICE"),
        (config + "source = keep\n", "500", "CAP_NET_RAW"),
    ] {
        network
            .host
            .sysctl("net/ipv4/ip_unprivileged_port_start", open);
        let mut fanout = Fanout::spawn_as(&config, |folder| as_nobody(&network, folder));
        assert_eq!(fanout.wait().code(), Some(1), "{}", fanout.log());
        let [error] = &fanout.logged("ERROR")[..] else {
            panic!("one error:\n{}", fanout.log())
        };
        assert!(error.contains(words), "{error}");
    }
}

/// A worker that does not run for a while: what the buffer could not take is counted, to the datagram.
fn receive_buffer_full() {
    const COUNT: u32 = 3_000;
    let network = network();
    let config = network.config(Family::V4) + ONE_WORKER + "receive_buffer = 65536\n";
    let fanout = Fanout::start(&network.host, &config);
    let all = network.downstreams(Family::V4);
    let traffic = Traffic::new(network.target(Family::V4), COUNT);
    let delivery = delivery::with(&all, |_| {
        fanout.signal(libc::SIGSTOP);
        let sent = traffic.send(&network.sender.namespace);
        fanout.signal(libc::SIGCONT);
        sent
    });
    let metrics = fanout.metrics_at_rest("syslog", COUNT.into());
    let full = [("listener", "syslog"), ("reason", "receive_buffer_full")];
    let dropped = metrics.sum("fanout_dropped_packets_total", &full);
    println!("{delivery}, {dropped} dropped");
    assert!(dropped > 0 && delivery.arrived() > 0, "{delivery}");
    assert_eq!(dropped, delivery.lost(), "{}", metrics.text);
    assert_eq!(dropped, metrics.dropped("syslog"), "{}", metrics.text);
    fanout.stop();
}

/// A receiver that is not there answers so, is left out but for trials, and gets its share again.
fn port_unreachable() {
    let network = network();
    for family in [Family::V4, Family::V6] {
        let fanout = Fanout::start(&network.host, &(network.config(family) + ONE_WORKER));
        let (all, to) = (network.downstreams(family), network.target(family));
        let (few, many) = (Traffic::new(to, 50), Traffic::new(to, 4_000));
        // Its host first asks for the way back, which may take its time.
        let refused = wait_for(|| {
            delivery::between(&network.sender.namespace, &all[..2], &few);
            let is_out = |line: &&String| line.contains("downstream is out of turn ");
            fanout.logged("WARN").iter().find(is_out).cloned()
        });
        let line = refused.unwrap_or_else(|| panic!("no warning:\n{}", fanout.log()));
        assert!(line.contains("name=receiver-3"), "{line}");
        assert!(line.ends_with("reason=\"port unreachable\""), "{line}");

        let many = Traffic {
            rate: 1_000,
            ..many
        };
        let two = delivery::between(&network.sender.namespace, &all[..2], &many);
        println!("{two}, {} lost", two.lost());
        assert!(two.lost() < 400, "as many as a third: {two}");
        fanout.wait_for_log("downstream is back ");
        let up = fanout.metrics().sum("fanout_downstream_up", &[]);
        assert_eq!(up, 3, "{}", fanout.log());

        let few = Traffic::new(to, 300);
        assert_perfect_but_source(&delivery::of(&network, family, &few));
        fanout.metrics_balanced("syslog");
        fanout.stop();
    }
}

/// Without a way to a downstream the others get all; with none to any, all is dropped and counted.
fn no_route() {
    for (source, check) in [
        ("rewrite", assert_perfect_but_source as fn(&Delivery)),
        ("keep", Delivery::assert_perfect),
    ] {
        lose_routes(source, check);
    }
}

fn lose_routes(source: &str, check: fn(&Delivery)) {
    let network = network();
    let config = network.config(Family::V4) + &format!("{ONE_WORKER}source = {source}\n");
    let fanout = Fanout::start(&network.host, &config);
    let all = network.downstreams(Family::V4);
    let traffic = Traffic::new(network.target(Family::V4), 300);
    network
        .host
        .ip(&format!("route add unreachable {}/32", all[2].1.ip()));
    fanout.wait_for_log("downstream is out of turn listener=syslog name=receiver-3");
    let two = delivery::between(&network.sender.namespace, &all[..2], &traffic);
    check(&two);
    network.host.ip("link set ens6 down");
    fanout.wait_for_log("no downstream left");
    traffic.send(&network.sender.namespace);
    let metrics = fanout.metrics_at_rest("syslog", 600);
    let reason = [("listener", "syslog"), ("reason", "no_downstream")];
    assert_eq!(metrics.sum("fanout_dropped_packets_total", &reason), 300);
    network.host.ip(&format!(
        "link set ens6 up\nroute del unreachable {}/32",
        all[2].1.ip()
    ));
    fanout.wait_for_log("downstreams are back");
    wait_for(|| (fanout.metrics().sum("fanout_downstream_up", &[]) == 3).then_some(()))
        .expect("all are up again");
    check(&delivery::of(&network, Family::V4, &traffic));
    fanout.stop();
}

/// The kernel finds that nobody answers: the others get all, until somebody does again. Nobody with a privilege has
/// to ask.
fn neighbour_dies() {
    let network = network();
    for (family, ip) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
        for (name, value) in [
            ("base_reachable_time_ms", "500"),
            ("delay_first_probe_time", "1"),
            ("retrans_time_ms", "100"),
        ] {
            let name = format!("net/{ip}/neigh/ens6/{name}");
            network.host.sysctl(&name, value);
        }
        network
            .host
            .sysctl("net/ipv4/ip_unprivileged_port_start", "500");
        let config = network.config(family) + ONE_WORKER;
        let fanout = Fanout::start_as(&config, |folder| as_nobody(&network, folder));
        let all = network.downstreams(family);
        let few = Traffic::new(network.target(family), 60);
        let receiver = &network.receivers[2];
        receiver.namespace.ip(&format!("link set {ETH0} down"));
        let is_out = || {
            delivery::between(&network.sender.namespace, &all[..2], &few);
            let warnings = fanout.logged("WARN");
            let out = |line: &String| line.contains("downstream is out of turn ");
            warnings.into_iter().find(out)
        };
        let line = wait_for(is_out).unwrap_or_else(|| panic!("no warning:\n{}", fanout.log()));
        let reason = format!("{} does not answer on ens6", all[2].1.ip());
        assert!(line.contains("name=receiver-3"), "{line}");
        assert!(line.ends_with(&format!("reason=\"{reason}\"")), "{line}");
        let traffic = Traffic::new(network.target(family), 1_000);
        let two = delivery::between(&network.sender.namespace, &all[..2], &traffic);
        assert_perfect_but_source(&two);
        receiver.namespace.ip(&format!(
            "link set {ETH0} up\naddr replace {}/64 dev {ETH0} nodad",
            receiver.addresses.v6
        ));
        let up = || (fanout.metrics().sum("fanout_downstream_up", &[]) == 3).then_some(());
        wait_for(up).unwrap_or_else(|| panic!("never back:\n{}", fanout.log()));
        assert_perfect_but_source(&delivery::of(&network, family, &traffic));
        fanout.stop();
    }
}

/// A downstream that is the host itself, on a port that a listener has on all addresses, gets nothing.
fn loops() {
    let network = network();
    let own = topology::host_address();
    for (family, any, local) in [
        (Family::V4, "0.0.0.0:514", "127.0.0.1:514"),
        (Family::V6, "[::]:514", "[::1]:514"),
    ] {
        let own = SocketAddr::new(own.of(family), PORT);
        let config = network.listener("syslog", any, family)
            + ONE_WORKER
            + &format!("downstream.own = {own}\ndownstream.local = {local}\n");
        let fanout = Fanout::start(&network.host, &config);
        let loops = fanout.logged("WARN");
        assert_eq!(loops.len(), 2, "{}", fanout.log());
        assert!(
            loops.iter().all(|line| line.ends_with("a loop\"")),
            "{loops:?}"
        );
        let traffic = Traffic::new(network.target(family), 300);
        assert_perfect_but_source(&delivery::of(&network, family, &traffic));
        let metrics = fanout.metrics_at_rest("syslog", 300);
        assert_eq!(metrics.sum("fanout_downstream_up", &[]), 3);
        fanout.stop();
    }
}

/// The port is free at once.
fn killed() {
    let network = network();
    let target = network.target(Family::V4);
    let config = network.config(Family::V4) + "mode = userspace\n";
    let mut fanout = Fanout::start(&network.host, &config);
    fanout.signal(libc::SIGKILL);
    fanout.wait();
    let kernel = network
        .host
        .enter(|| UdpSocket::bind(target))
        .expect("bind");
    kernel.set_read_timeout(Some(PATIENCE)).expect("timeout");
    Traffic::new(target, 1).send(&network.sender.namespace);
    kernel.recv(&mut [0; 2048]).expect("nobody else has it");
    drop(kernel);
    let again = Fanout::start(&network.host, &(config + "workers = 1\n"));
    let traffic = Traffic::new(target, 300);
    assert_perfect_but_source(&delivery::of(&network, Family::V4, &traffic));
    again.stop();
}

/// Two of the same user could share the port, and each would get a part.
fn second_instance() {
    let network = network();
    let config = network.config(Family::V4) + ONE_WORKER;
    let first = Fanout::start(&network.host, &config);
    let mut second = Fanout::spawn(&network.host, &config);
    assert_eq!(second.wait().code(), Some(1), "{}", second.log());
    let errors = second.logged("ERROR").join("\n");
    assert!(errors.contains("another fanout"), "{errors}");
    let traffic = Traffic::new(network.target(Family::V4), 300);
    assert_perfect_but_source(&delivery::of(&network, Family::V4, &traffic));
    first.stop();
}

fn not_to_be_bound() {
    let network = network();
    let config = network.config(Family::V4) + ONE_WORKER;
    let vip = network.target(Family::V4).to_string();
    for (config, words) in [
        (config.replace(&vip, "172.31.25.99:514"), "not this host's"),
        (config.replace(INTERFACE, "ens77"), "ens77 does not exist"),
    ] {
        let mut fanout = Fanout::spawn(&network.host, &config);
        assert_eq!(fanout.wait().code(), Some(1), "{}", fanout.log());
        let errors = fanout.logged("ERROR").join("\n");
        assert!(errors.contains(words), "{errors}");
    }
}
