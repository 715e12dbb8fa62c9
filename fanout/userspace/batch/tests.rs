//! Cutting and ordering, checked against the plain way to do it.

use std::{fs::File, sync::Arc};

use fanout_ebpf::{abi::Policy, sender};

use super::*;
use crate::{
    balance::Cursors,
    userspace::table::{NextHop, Table, Way},
};

fn payloads(bytes: &[u8], segment: Option<usize>) -> Vec<&[u8]> {
    cut(&Received { bytes, segment }).collect()
}

#[test]
fn cuts_what_was_merged() {
    let bytes = b"aabbcc";
    assert_eq!(payloads(bytes, None), [b"aabbcc"]);
    assert_eq!(payloads(bytes, Some(2)), [b"aa", b"bb", b"cc"]);
    assert_eq!(payloads(bytes, Some(4)), [&b"aabb"[..], b"cc"]);
    assert_eq!(payloads(bytes, Some(6)), [b"aabbcc"]);
    assert_eq!(payloads(bytes, Some(7)), [b"aabbcc"]);
}

/// Nothing in it, and yet a datagram.
#[test]
fn an_empty_datagram_is_one() {
    assert_eq!(payloads(b"", None), [b""]);
    assert_eq!(payloads(b"", Some(2)), [b""]);
}

fn table(weights: &[u8]) -> Table {
    table_by(Policy::RoundRobin, weights)
}

fn table_by(policy: Policy, weights: &[u8]) -> Table {
    let next_hop = || NextHop {
        socket: Arc::new(File::open("/dev/null").unwrap().into()),
        way: Way::Raw(([127, 0, 0, 1], 1).into()),
        counters: Arc::default(),
        news: Arc::default(),
        count: 0,
        place: 0,
    };
    let next_hops = (1..).zip(weights).map(|(port, weight)| {
        let address = ([127, 0, 0, 1], port).into();
        ((*weight, address), next_hop())
    });
    Table::new(policy, next_hops.collect())
}

/// Downstream by downstream, and within one as they came; whatever the weights.
#[test]
fn orders_by_downstream() {
    let bytes: Vec<u8> = (0..=255).collect();
    for weights in [&[1][..], &[1, 1, 1], &[1, 2, 7], &[255, 1]] {
        let mut table = table(weights);
        let (mut batch, mut cursors) = (Batch::default(), Cursors::default());
        let mut expected = Vec::new();
        for (message, payload) in (0..).zip(bytes.chunks(1)) {
            let next_hop = table.choose(&mut cursors, || None).unwrap();
            table.count(next_hop);
            expected.push((next_hop, message));
            batch.push(Datagram {
                payload,
                message,
                next_hop,
            });
        }
        // A stable sort is the plain way.
        expected.sort_by_key(|&(next_hop, _)| next_hop);
        let counts: Vec<_> = table.next_hops.iter().map(|hop| hop.count).collect();
        assert_eq!(counts.iter().sum::<usize>(), bytes.len());
        let sorted = batch.in_order(&mut table.next_hops);
        let sorted: Vec<_> = (sorted.iter())
            .map(|datagram| (datagram.next_hop, datagram.message))
            .collect();
        assert_eq!(sorted, expected);
        assert!(batch.in_order(&mut []).is_empty(), "all were taken");
    }
}

#[test]
fn who_refused_has_no_turn() {
    let mut table = table(&[1, 1, 1]);
    let refused = &table.next_hops[1].news.refused;
    refused.store(true, std::sync::atomic::Ordering::Relaxed);
    table.retire_refused();
    let mut cursors = Cursors::default();
    let turns: Vec<_> = (0..4)
        .filter_map(|_| table.choose(&mut cursors, || None))
        .collect();
    assert_eq!(turns, [0, 2, 0, 2]);
}

/// The others keep their senders, and who refused leaves none without a downstream.
#[test]
fn who_refused_leaves_only_its_own_senders_to_others() {
    let mut table = table_by(Policy::SourceHash, &[1, 1, 1]);
    let choices = |table: &Table| {
        let mut cursors = Cursors::default();
        let at = |place| table.choose(&mut cursors, || Some(place));
        (0..sender::PLACES).map(at).collect::<Vec<_>>()
    };
    let before = choices(&table);
    let refused = &table.next_hops[1].news.refused;
    refused.store(true, std::sync::atomic::Ordering::Relaxed);
    table.retire_refused();
    let mut taken_over = [0; 3];
    for (was, is) in before.into_iter().zip(choices(&table)) {
        let is = is.unwrap();
        if was == Some(1) {
            taken_over[usize::from(is)] += 1;
        } else {
            assert_eq!(was, Some(is));
        }
    }
    let [first, none, third] = taken_over;
    assert_eq!(none, 0);
    assert!(first > 400 && third > 400, "not shared: {taken_over:?}");
    for next_hop in &table.next_hops {
        let refused = &next_hop.news.refused;
        refused.store(true, std::sync::atomic::Ordering::Relaxed);
    }
    table.retire_refused();
    assert!(choices(&table).iter().all(Option::is_none));
}
