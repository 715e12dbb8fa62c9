//! The kernel's own stateless DNAT in fanout's place.

use super::topology::{Family, RECEIVER_PORT, Topology};

/// Spreads what comes to the topology's target over its receivers, datagram by datagram and without
/// connection tracking; `also` is a statement that each of them meets first. Needs `nft`. Goes with
/// the host's namespace.
pub fn spread(network: &Topology, family: Family, also: Option<&str>) {
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
