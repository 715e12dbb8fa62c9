//! Cutting and ordering, checked against the plain way to do it.

use std::{fs::File, sync::Arc};

use fanout_ebpf::abi::Policy;

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
    let next_hop = |&weight: &u8| {
        let next_hop = NextHop {
            socket: Arc::new(File::open("/dev/null").unwrap().into()),
            way: Way::Raw(([127, 0, 0, 1], 1).into()),
            counters: Arc::default(),
            news: Arc::default(),
            count: 0,
            place: 0,
        };
        ((weight, ([127, 0, 0, 1], 1).into()), next_hop)
    };
    let next_hops = weights.iter().map(next_hop);
    Table::new(Policy::RoundRobin, next_hops.collect())
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
