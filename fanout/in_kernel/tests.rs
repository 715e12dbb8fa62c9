//! Turns built from paths.

use std::{fmt::Write as _, net::IpAddr};

use super::*;
use crate::{
    config,
    health::Prober,
    link::{Link, State},
    names::Names,
    neighbor::Unreachable,
    roster::Roster,
};

const EGRESS: IfIndex = IfIndex(7);

fn link(index: u32) -> Link {
    Link {
        index: IfIndex(index),
        name: format!("eth{index}"),
        mac: [2, 0, 0, 0, 0, 1],
        ethernet: true,
        neighbors: true,
        mtu: 1500,
        state: State::Up,
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

/// Listeners whose downstreams have these last bytes of their address, and weights.
fn roster(listeners: &[&[(u8, u8)]]) -> Vec<Served> {
    let mut text = String::new();
    for (downstreams, port) in listeners.iter().zip(1..) {
        let _ = write!(
            text,
            "[listener {port}]\nmode = xdp\ninterface = eth0\nbind = 10.1.0.1:{port}\n"
        );
        for (host, weight) in *downstreams {
            let _ = write!(
                text,
                "downstream.{host} = 10.0.0.{host}:514\nweight.{host} = {weight}\n"
            );
        }
    }
    let config = config::parse("test.ini", &text).unwrap();
    let names = Names::new().unwrap();
    let roster = Roster::new(&config, &names, &Prober::default(), &Roster::default());
    roster.iter().cloned().collect()
}

fn serving(listeners: Vec<Served>) -> InKernel {
    let mut in_kernel = InKernel::default();
    in_kernel.serve(listeners, &mut Numbers::new(0));
    in_kernel
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
    turns
        .map(|hop| hop.destination[7].to_ne_bytes()[1])
        .collect()
}

#[test]
fn turns_are_those_of_the_weights() {
    let mut listeners = serving(roster(&[&[(1, 1), (2, 2)], &[(3, 1)]]));
    listeners.route(&paths(&[1, 2, 3]), direct);
    assert_eq!(turns(&listeners, 0), [2, 1, 2]);
    assert_eq!(turns(&listeners, 1), [3]);
}

#[test]
fn each_downstream_is_counted_under_a_number_of_its_own() {
    let mut listeners = serving(roster(&[&[(1, 1), (2, 1)], &[(1, 1)]]));
    listeners.route(&paths(&[1, 2]), direct);
    let hops = listeners
        .listeners
        .iter()
        .flat_map(|listener| &listener.turns);
    let numbers: Vec<_> = hops.map(|hop| hop.downstream).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn only_what_can_be_reached_has_a_turn() {
    let mut listeners = serving(roster(&[&[(1, 1), (2, 1), (3, 1)]]));
    let mut paths = paths(&[1, 2]);
    let down = Err(Unreachable::LinkDown("eth7".to_owned()));
    paths.insert(IpAddr::from([10, 0, 0, 3]), down);
    listeners.route(&paths, |path, source| {
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
        "listener=1 name=1 address=10.0.0.1:514"
    );

    listeners.route(&Paths::new(), direct);
    assert_eq!(turns(&listeners, 0), [0; 0]);
    assert_eq!(listeners.refused().count(), 0);
}

#[test]
fn a_next_hop_has_all_that_a_rewrite_needs() {
    let mut all = roster(&[&[(1, 1)]]);
    all[0].config.source = Source::Rewrite;
    let mut listeners = serving(all);
    listeners.route(&paths(&[1]), |_, _| {
        Ok(Way {
            egress: Egress::OtherInterface,
            interface: IfIndex(3),
            vlan: Some(100),
        })
    });
    let hop = listeners.listeners[0].turns[0];
    let expected = NextHop {
        source: words(&mapped("10.0.0.9".parse().unwrap())),
        rewrites_source: 1,
        header: words(&[2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 100, 8, 0]),
        header_len: 18,
        egress: Egress::OtherInterface,
        ifindex: 3,
        mtu: 1400,
        ..NextHop::to("10.0.0.1:514".parse().unwrap()).via("10.0.0.1".parse().unwrap())
    };
    assert_eq!(hop, expected);
}
