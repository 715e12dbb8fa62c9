//! Packets whose whole sum the kernel knows (`CHECKSUM_COMPLETE`), as some NICs give it: here it comes from the
//! checksum of the tunnel that they came through. What is rewritten has to be taken out of that sum and
//! put in again, or the receivers' kernel takes the packet for damaged and reports the device.

use super::{COUNT, keys, local, receivers};
use crate::{
    common::{
        delivery,
        fanout::Fanout,
        mode::TC,
        sender::Traffic,
        topology::{self, ETH0, Family, INTERFACE, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test_with("tc::tunnelled", &["ethtool", "dmesg"], tunnelled);
}

/// The tunnel's interface, on both sides.
const TUNNEL: &str = "vx0";

fn tunnelled() {
    let network = topology::k3s(Shape::default());
    let (host, sender) = (&network.host, &network.sender.namespace);
    // So that the tunnel's own checksum is there to be verified.
    sender.run("ethtool", &["-K", ETH0, "tx", "off"]);
    let mac = "02:fa:00:00:00:06";
    for (namespace, interface, remote) in [
        (host, INTERFACE, network.sender.addresses.v4.to_string()),
        (sender, ETH0, topology::host_address().v4.to_string()),
    ] {
        namespace.ip(&format!(
            "link add {TUNNEL} type vxlan id 7 dstport 4789 udpcsum remote {remote} dev {interface}"
        ));
    }
    host.ip(&format!("link set {TUNNEL} address {mac} up"));
    sender.ip(&format!("link set {TUNNEL} up"));
    sender.run("ethtool", &["-K", TUNNEL, "tx", "off"]);
    for family in [Family::V4, Family::V6] {
        let (vip, own) = (network.vip.of(family), network.sender.addresses.of(family));
        let length = if family == Family::V4 { 32 } else { 128 };
        sender.ip(&format!(
            "neigh add {vip} lladdr {mac} dev {TUNNEL} nud permanent\n\
             route add {vip}/{length} dev {TUNNEL} src {own}"
        ));
        let faults = hardware_faults(&network);
        let (local, mut to) = (local(family), receivers(&network, family));
        to.extend(local.map(|address| (host, address)));
        let config = network.config_in(&TC, family).replace(INTERFACE, TUNNEL) + &keys(local);
        let fanout = Fanout::start(host, &config);
        let traffic = Traffic::new(network.target(family), COUNT);
        let delivery = delivery::between(sender, &to, &traffic);
        delivery.assert_perfect_in(&TC);
        fanout.stop();
        assert_eq!(hardware_faults(&network), faults, "reported by the kernel");
    }
}

/// How often the kernel found that a device summed wrongly.
fn hardware_faults(network: &Topology) -> usize {
    let log = network.host.run("dmesg", &[]);
    log.matches("hw csum failure").count()
}
