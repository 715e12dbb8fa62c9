//! Turns built from paths.

use std::{net::IpAddr, time::Duration};

use super::*;
use crate::{
    config::{Config, Mode, Target},
    health::Prober,
    link::Link,
    names::Names,
    neighbor::Unreachable,
};

const EGRESS: IfIndex = IfIndex(7);

fn link(index: u32) -> Link {
    Link {
        index: IfIndex(index),
        name: format!("eth{index}"),
        mac: [2, 0, 0, 0, 0, 1],
        neighbors: true,
        mtu: 1500,
        up: true,
        vlan: None,
        veth: false,
        allocated_rx_queues: 1,
    }
}

fn path(to: IpAddr) -> Path {
    Path {
        link: link(EGRESS.0),
        mac: Some([2, 0, 0, 0, 1, 1]),
        next_hop: to,
        local: false,
        encapsulated: false,
        mtu: 1400,
        source: Some("10.0.0.9".parse().unwrap()),
    }
}

/// A listener in the place `index` whose downstreams have these last bytes of their address, and weights.
fn listener(index: u32, downstreams: &[(u8, u8)]) -> (u32, config::Listener) {
    let downstreams = downstreams
        .iter()
        .map(|&(host, weight)| config::Downstream {
            name: format!("to-{host}"),
            target: Target::Address(SocketAddr::from(([10, 0, 0, host], 514))),
            weight,
        });
    let listener = config::Listener {
        name: format!("listener-{index}"),
        mode: Mode::Xdp,
        interface: None,
        binds: Vec::new(),
        vlan: None,
        downstreams: downstreams.collect(),
        source: Source::Keep,
        max_packet_size: None,
        workers: None,
        receive_buffer: 0,
        health: config::Health::default(),
        resolve_interval: Duration::ZERO,
    };
    (index, listener)
}

/// Their members.
fn roster(listeners: &InKernel) -> Roster {
    let listeners = listeners.listeners.iter();
    let config = Config {
        listeners: listeners.map(|listener| listener.config.clone()).collect(),
        ..Config::default()
    };
    Roster::new(&config, &Names::new().unwrap(), &Prober::default())
}

fn paths(hosts: &[u8]) -> Paths {
    let ip = |&host: &u8| IpAddr::from([10, 0, 0, host]);
    hosts.iter().map(ip).map(|to| (to, Ok(path(to)))).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that is called for")]
fn direct(_: &Path, _: Source) -> Result<Way, String> {
    Ok(Way {
        egress: Egress::OtherInterface,
        interface: EGRESS,
        vlan: None,
    })
}

/// The last byte of each turn's destination.
fn turns(listeners: &InKernel, which: usize) -> Vec<u8> {
    let turns = listeners.listeners[which].turns.iter();
    turns.map(|hop| hop.destination[15]).collect()
}

#[test]
fn turns_are_those_of_the_weights() {
    let mut listeners = InKernel::new(
        vec![listener(0, &[(1, 1), (2, 2)]), listener(1, &[(3, 1)])],
        0,
    );
    listeners.route(&roster(&listeners), &paths(&[1, 2, 3]), direct);
    assert_eq!(turns(&listeners, 0), [2, 1, 2]);
    assert_eq!(turns(&listeners, 1), [3]);
}

#[test]
fn each_downstream_is_counted_under_a_number_of_its_own() {
    let mut listeners = InKernel::new(
        vec![listener(0, &[(1, 1), (2, 1)]), listener(1, &[(1, 1)])],
        4,
    );
    listeners.route(&roster(&listeners), &paths(&[1, 2]), direct);
    let hops = listeners
        .listeners
        .iter()
        .flat_map(|listener| &listener.turns);
    let numbers: Vec<_> = hops.map(|hop| hop.downstream).collect();
    assert_eq!(numbers, [4, 5, 6]);
    assert_eq!(listeners.end(), 7);
}

#[test]
fn only_what_can_be_reached_has_a_turn() {
    let mut listeners = InKernel::new(vec![listener(0, &[(1, 1), (2, 1), (3, 1)])], 0);
    let mut paths = paths(&[1, 2]);
    let down = Err(Unreachable::LinkDown("eth7".to_owned()));
    paths.insert(IpAddr::from([10, 0, 0, 3]), down);
    listeners.route(&roster(&listeners), &paths, |path, source| {
        if path.next_hop == IpAddr::from([10, 0, 0, 1]) {
            return Err("it can't".to_owned());
        }
        direct(path, source)
    });
    assert_eq!(turns(&listeners, 0), [2]);
    let refused: Vec<_> = listeners.refused().collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].reason, "it can't");
    assert_eq!(
        refused[0].to_string(),
        "listener=listener-0 name=to-1 address=10.0.0.1:514"
    );

    listeners.route(&roster(&listeners), &Paths::new(), direct);
    assert_eq!(turns(&listeners, 0), [0; 0]);
    assert_eq!(listeners.refused().count(), 0);
}

#[test]
fn a_next_hop_has_all_that_a_rewrite_needs() {
    let mut all = listener(0, &[(1, 1)]);
    all.1.source = Source::Rewrite;
    let mut listeners = InKernel::new(vec![all], 0);
    listeners.route(&roster(&listeners), &paths(&[1]), |_, _| {
        Ok(Way {
            egress: Egress::OtherInterface,
            interface: IfIndex(3),
            vlan: Some(100),
        })
    });
    let hop = listeners.listeners[0].turns[0];
    let expected = NextHop {
        source: mapped("10.0.0.9".parse().unwrap()),
        rewrites_source: 1,
        header: [2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 100, 8, 0],
        header_len: 18,
        egress: Egress::OtherInterface,
        ifindex: 3,
        mtu: 1400,
        ..NextHop::to("10.0.0.1:514".parse().unwrap()).via("10.0.0.1".parse().unwrap())
    };
    assert_eq!(hop, expected);
}
