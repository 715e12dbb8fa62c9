//! `mtu` and `channels` of an `[interface NAME]`: set while fanout runs, and put back however it ends.

use crate::{
    common::{
        delivery,
        fanout::{Fanout, Reloaded, event},
        mode::TC,
        namespace::Namespace,
        sender::Traffic,
        topology::{self, ETH0, Family, INTERFACE, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    let mut test = |name, test| suite.test_with(name, &["ethtool"], test);
    test("tuned::set_and_put_back", set_and_put_back);
    test("tuned::put_back_after_a_failed_start", failed_start);
    test("tuned::put_back_after_a_fault", fault);
    test("tuned::put_back_by_a_reload", reload);
    test("tuned::for_userspace_too", userspace);
    test("tuned::refused", refused);
}

const SECTION: &str = "[interface ens5]\nmtu = 1400\nchannels = 1\n";

/// Two queues, 2000 bytes; its peer sends by one queue, so that one is enough for native XDP.
fn network() -> Topology {
    let network = topology::other_interface(Shape {
        queues: 2,
        ..Shape::default()
    });
    network
        .host
        .ip(&format!("link set dev {INTERFACE} mtu 2000"));
    let sender = &network.sender.namespace;
    sender.run("ethtool", &["-L", ETH0, "tx", "1"]);
    assert_eq!(settings(&network.host), BEFORE);
    network
}

/// The MTU and the number of RX queues.
type Settings = (u32, u32);
const BEFORE: Settings = (2000, 2);
const SET: Settings = (1400, 1);

fn settings(host: &Namespace) -> Settings {
    let mtu = host.interface(INTERFACE, "mtu").parse().expect("a number");
    let channels = host.run("ethtool", &["-l", INTERFACE]);
    let (_, now) = channels
        .split_once("Current hardware settings:")
        .expect("the current ones");
    let queues = now
        .lines()
        .find_map(|line| line.strip_prefix("RX:"))
        .and_then(|queues| queues.trim().parse().ok());
    (mtu, queues.expect("RX queues"))
}

fn set_and_put_back() {
    let network = network();
    let config = SECTION.to_owned() + &network.config(Family::V4);
    let fanout = Fanout::start(&network.host, &config);
    assert_eq!(settings(&network.host), SET, "{}", fanout.log());
    let log = fanout.log();
    for line in [
        "INFO set interface=ens5 channels=1 was=2",
        "INFO set interface=ens5 mtu=1400 was=2000",
        "INFO attached XDP program interface=ens5 mode=native",
        "INFO receive queues interface=ens5 queues=1",
    ] {
        assert!(
            log.lines().any(|l| event(l) == line),
            "no {line:?} in\n{log}"
        );
    }
    let traffic = Traffic::new(network.target(Family::V4), 300);
    delivery::of(&network, Family::V4, &traffic).assert_whole();
    fanout.stop();
    assert_eq!(settings(&network.host), BEFORE);
}

/// Zero copy can't be had on a veth, which shows only when all else is set up.
fn failed_start() {
    let network = network();
    let config = SECTION.to_owned() + "zero_copy = on\n" + &network.config(Family::V4);
    let mut fanout = Fanout::spawn(&network.host, &config);
    assert_eq!(fanout.wait().code(), Some(1), "{}", fanout.log());
    let log = fanout.log();
    assert!(log.contains("INFO attached XDP program"), "{log}");
    assert!(
        log.contains("INFO put back interface=ens5 mtu=2000"),
        "{log}"
    );
    assert_eq!(settings(&network.host), BEFORE);
}

fn fault() {
    let network = network();
    let other = network
        .listener("other", "10.60.0.1:514", Family::V4)
        .replace(INTERFACE, "ens6");
    let config = SECTION.to_owned() + &network.config(Family::V4) + &other;
    let mut fanout = Fanout::start(&network.host, &config);
    assert_eq!(settings(&network.host), SET);
    network.host.ip("link del ens6");
    assert_eq!(fanout.wait().code(), Some(1), "{}", fanout.log());
    assert_eq!(settings(&network.host), BEFORE);
}

/// An interface that leaves the config is as it was, and so is one that came back and was set to something else.
fn reload() {
    let network = network();
    let config = network.config(Family::V4);
    let other = network
        .listener("other", "10.60.0.1:514", Family::V4)
        .replace(INTERFACE, "ens6")
        + TC.keys;
    let fanout = Fanout::start(&network.host, &(SECTION.to_owned() + &config));
    assert_eq!(settings(&network.host), SET, "{}", fanout.log());
    assert_eq!(fanout.reload(&other), Reloaded::Done);
    assert_eq!(settings(&network.host), BEFORE, "{}", fanout.log());
    let smaller = SECTION.replace("1400", "1300");
    assert_eq!(fanout.reload(&(smaller + &config)), Reloaded::Done);
    assert_eq!(settings(&network.host), (1300, 1), "{}", fanout.log());
    fanout.stop();
    assert_eq!(settings(&network.host), BEFORE);
}

fn userspace() {
    let network = network();
    let config = SECTION.to_owned() + &network.config(Family::V4) + "mode = userspace\n";
    let fanout = Fanout::start(&network.host, &config);
    assert_eq!(settings(&network.host), SET, "{}", fanout.log());
    fanout.stop();
    assert_eq!(settings(&network.host), BEFORE);
}

/// The kernel's reason, and nothing is left changed: the MTU was set before the channels were refused.
fn refused() {
    let network = network();
    let config = SECTION.replace("channels = 1", "channels = 3") + &network.config(Family::V4);
    let mut fanout = Fanout::spawn(&network.host, &config);
    assert_eq!(fanout.wait().code(), Some(1), "{}", fanout.log());
    let said = "ERROR interface ens5: can't set channels = 3: Invalid argument";
    assert!(fanout.log().contains(said), "{}", fanout.log());
    assert_eq!(settings(&network.host), BEFORE);
}
