//! Paths → the table that one worker forwards by.

use super::{Listener, queue::Queue};
use crate::{
    config::Source,
    forward::{self, Egress, EthernetHeader, NextHop, Table},
    interface,
    link::Link,
    neighbor::{Path, Paths},
    roster::Member,
};

/// What the worker of `queue` forwards by: each listener with the downstreams that have a path.
/// Opens the queue's ports as paths need them.
pub(super) fn build<'l>(
    listeners: impl Iterator<Item = &'l Listener>,
    ingress: &Link,
    paths: &Paths,
    queue: &mut Queue,
) -> Table {
    let worker = queue.id().0 as usize;
    let mut binds = Vec::new();
    let mut routes = Vec::new();
    for listener in listeners {
        let served = &listener.served;
        let keys = interface::keys(&served.config);
        binds.extend(keys.map(|key| (key, routes.len())));
        let next_hops = served.members.iter().filter_map(|member| {
            let path = member.path(paths)?;
            let (egress, vlan) = egress(path, ingress, queue);
            let next_hop = next_hop(listener, member, path, egress, vlan, worker)?;
            Some((member.weight, next_hop))
        });
        let counters = listener.counters[worker].clone();
        let next_hops = next_hops.collect();
        let policy = served.config.policy;
        let listener = forward::Listener::new(served.slot, policy, next_hops, counters);
        routes.push(listener);
    }
    Table::new(binds, routes)
}

/// How packets of this path leave, and with which tag.
fn egress(path: &Path, ingress: &Link, queue: &mut Queue) -> (Egress, Option<u16>) {
    match path.link.vlan {
        _ if path.mac.is_none() => (Egress::Raw, None),
        // A VLAN of the ingress interface is reached by the interface itself, tagged.
        Some(vlan) if vlan.parent == ingress.index => (queue.egress(ingress), Some(vlan.id)),
        _ => (queue.egress(&path.link), None),
    }
}

fn next_hop(
    listener: &Listener,
    member: &Member,
    path: &Path,
    egress: Egress,
    vlan: Option<u16>,
    worker: usize,
) -> Option<NextHop> {
    let destination = member.address;
    let mac = path.mac.unwrap_or_default();
    Some(NextHop {
        destination,
        source: path
            .source
            .filter(|_| listener.served.config.source == Source::Rewrite),
        egress,
        mtu: path.mtu as usize,
        ethernet: EthernetHeader::new(path.link.mac, mac, vlan, destination.is_ipv6()),
        counters: listener.forwarded.get(&member.name)?.get(worker)?.clone(),
    })
}
