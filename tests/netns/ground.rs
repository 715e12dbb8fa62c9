//! The ground that the other tests stand on: the same networks and traffic with the kernel's own
//! stateless DNAT in fanout's place. If these fail, the machine is at fault, not fanout.

use crate::{
    common::{
        delivery,
        sender::Traffic,
        topology::{self, Family, RECEIVER_PORT, Shape, Topology},
    },
    harness::{self, Suite},
};

pub fn register(suite: &mut Suite) {
    suite.test_with("ground::same_interface", &["nft", "ethtool"], || {
        loses_nothing(&topology::same_interface(Shape::default()));
    });
    suite.test_with("ground::other_interface", &["nft"], || {
        loses_nothing(&topology::other_interface(Shape::default()));
    });
    suite.test_with("ground::k3s", &["nft"], || {
        loses_nothing(&topology::k3s(Shape::default()));
    });
    suite.test_with("ground::notices_a_loss", &["nft"], notices_a_loss);
    suite.test_with("ground::notices_a_change", &["nft"], notices_a_change);
}

fn loses_nothing(network: &Topology) {
    for family in [Family::V4, Family::V6] {
        spread_by_kernel(network, family, None);
        let traffic = Traffic::new(network.target(family), harness::count(20_000, 1_000_000));
        let delivery = delivery::of(network, family, &traffic);
        delivery.assert_perfect();
    }
}

/// The bookkeeping must be able to fail.
fn notices_a_loss() {
    let network = topology::k3s(Shape::default());
    spread_by_kernel(&network, Family::V4, Some("numgen inc mod 1000 == 7 drop"));
    let traffic = Traffic::new(network.target(Family::V4), 5_000);
    let delivery = delivery::of(&network, Family::V4, &traffic);
    assert_eq!(delivery.lost(), 5);
}

fn notices_a_change() {
    let network = topology::k3s(Shape::default());
    spread_by_kernel(&network, Family::V4, Some("@th,128,8 set 0xff"));
    let traffic = Traffic::new(network.target(Family::V4), 300);
    let delivery = delivery::of(&network, Family::V4, &traffic);
    let corrupt: u64 = delivery.received.iter().map(|r| r.corrupt).sum();
    assert_eq!(corrupt, 300, "{delivery}");
}

fn spread_by_kernel(network: &Topology, family: Family, also: Option<&str>) {
    let (table, all) = match family {
        Family::V4 => ("ip", "net/ipv4/ip_forward"),
        Family::V6 => ("ip6", "net/ipv6/conf/all/forwarding"),
    };
    network.host.sysctl(all, "1");
    let choices: Vec<_> = (0..network.receivers.len())
        .map(|i| format!("{i} : {}", network.receivers[i].addresses.of(family)))
        .collect();
    let (vip, count, choices) = (network.vip.of(family), choices.len(), choices.join(", "));
    let matches = format!("{table} daddr {vip} udp dport 514");
    let also = also
        .map(|rule| format!("add rule {table} spread to {rule}"))
        .unwrap_or_default();
    let rules = format!(
        "add table {table} spread
        add chain {table} spread to
        {also}
        add rule {table} spread to {table} daddr set numgen inc mod {count} map {{ {choices} }} udp dport set {RECEIVER_PORT}
        add chain {table} spread in {{ type filter hook prerouting priority raw; }}
        add rule {table} spread in {matches} notrack goto to"
    );
    network.host.run("nft", &[&rules]);
}
