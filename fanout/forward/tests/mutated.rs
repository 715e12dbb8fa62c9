//! Damaged frames: whatever comes, nothing panics, and what is forwarded has changed only where it may.
//!
//! `FANOUT_FUZZ_ITERATIONS` sets how many; the long form is ten million, in a release build.

use std::ops::Range;

use super::{
    Batch, CHUNK, Chunk, Cursors, MTU, NextHop, Verdict, from, next_hop,
    packet::{Checksum, Packet, Random, inspect},
    table, tagged,
};

fn iterations() -> usize {
    match std::env::var("FANOUT_FUZZ_ITERATIONS") {
        Ok(number) => number.parse().unwrap(),
        Err(_) => 300_000,
    }
}

/// Well-formed frames of every kind, some with padding.
fn originals() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (source, destination) in [
        ("192.0.2.7:40000", "172.31.25.200:514"),
        ("[2001:db8::7]:40000", "[2001:db8::25]:514"),
    ] {
        for vlan in [None, Some(7)] {
            for checksum in [
                Checksum::None,
                Checksum::Partial,
                Checksum::Right,
                Checksum::Wrong,
            ] {
                for (len, padding) in [(0, 18), (5, 0), (64, 4), (1400, 0)] {
                    let packet = Packet {
                        macs: [super::OUR_MAC, [2, 0, 0, 0, 0, 2]],
                        vlan,
                        rest_of_header: [0xb8, 1, 2, 0x40],
                        ttl: 64,
                        source: source.parse().unwrap(),
                        destination: destination.parse().unwrap(),
                        checksum,
                        data: (0..=255).cycle().take(len).collect(),
                    };
                    frames.push([packet.to_bytes(), vec![0; padding]].concat());
                }
            }
        }
    }
    frames
}

/// Next hops of every kind; of both families, so that some don't fit.
fn next_hops() -> Vec<NextHop> {
    let [ipv4, ipv6] = ["10.42.0.21:5514", "[2001:db8:42::21]:5514"].map(next_hop);
    vec![
        from(ipv4.clone(), "10.42.0.1"),
        from(ipv6.clone(), "2001:db8:42::1"),
        tagged(ipv4.clone(), 9),
        tagged(ipv6.clone(), 9),
        NextHop { mtu: 90, ..ipv4 },
        NextHop { mtu: 90, ..ipv6 },
    ]
}

/// Damages a few bytes, most of them in the headers, or the length; now and then the frame's range
/// becomes one that a kernel would never give.
fn mutate(random: &mut Random, chunk: &mut Chunk) {
    for _ in 0..random.below(4) {
        let reach = if random.one_in(4) {
            chunk.frame.len()
        } else {
            66
        };
        let at = chunk.frame.start + random.below(reach);
        let byte = random.bytes::<1>()[0];
        let bit = 1 << random.below(8);
        if let Some(to) = chunk.bytes.get_mut(at) {
            *to = if random.one_in(2) { byte } else { *to ^ bit };
        }
    }
    if random.one_in(8) {
        chunk.frame.end = chunk.frame.start + random.below(chunk.frame.len());
    }
    if random.one_in(64) {
        chunk.frame = random.below(2 * CHUNK)..random.below(2 * CHUNK);
    }
}

#[derive(Debug, Default)]
struct Seen {
    forwarded: usize,
    dropped: usize,
    not_ours: usize,
    /// By what the checksum field held.
    checksums: [usize; 4],
}

/// One frame through the function, and all that must hold afterwards.
fn check(batch: &mut Batch<'_, '_>, chunk: &mut Chunk, before: &[u8], seen: &mut Seen) {
    let frame = chunk.frame.clone();
    let verdict = batch.forward(&mut chunk.bytes, frame.clone());
    let after = &chunk.bytes;
    let (next_hop, packet, ip) = match verdict {
        Verdict::NotOurs => {
            seen.not_ours += 1;
            assert_eq!(after, before);
            return;
        }
        Verdict::Drop { ip_len, .. } => {
            seen.dropped += 1;
            assert_eq!(after, before);
            assert!(ip_len <= frame.len());
            return;
        }
        Verdict::Forward {
            next_hop,
            packet,
            ip,
            ..
        } => (next_hop, packet, ip),
        Verdict::Replicate { .. } => panic!("no such listener"),
    };
    seen.forwarded += 1;

    assert!(frame.start < ip.start && ip.end <= frame.end && packet.end == ip.end);
    assert!(ip.len() <= next_hop.mtu.min(MTU));
    assert_eq!(&after[packet.start..ip.start], next_hop.ethernet.as_bytes());
    let untouched = packet.start.min(frame.start);
    assert_eq!(after[..untouched], before[..untouched]);
    assert_eq!(after[ip.end..], before[ip.end..]);

    let (before, after) = (&before[ip.clone()], &after[ip]);
    let may_change: &[Range<usize>] = if next_hop.destination.is_ipv4() {
        &[8..9, 10..20, 22..24, 26..28]
    } else {
        &[7..40, 42..44, 46..48]
    };
    for (at, (before, after)) in before.iter().zip(after).enumerate() {
        let may_change = may_change.iter().any(|range| range.contains(&at));
        assert!(may_change || before == after, "byte {at} of the IP packet");
    }

    let (header_was_right, checksum_was) = inspect(before);
    let (header_is_right, checksum_is) = inspect(after);
    assert_eq!(header_is_right, header_was_right);
    match checksum_was {
        Checksum::None => assert_eq!(checksum_is, Checksum::None),
        Checksum::Partial | Checksum::Right => assert_eq!(checksum_is, Checksum::Right),
        // By chance it can look like a partial one.
        Checksum::Wrong => assert!(![Checksum::None, Checksum::Right].contains(&checksum_is)),
    }
    seen.checksums[checksum_was as usize] += 1;
}

#[test]
fn damaged_frames_do_no_harm() {
    let (originals, table) = (originals(), table(next_hops()));
    let mut cursors = Cursors::default();
    let mut batch = Batch::new(&table, &mut cursors);
    let mut random = Random(2);
    let mut seen = Seen::default();
    let iterations = iterations();
    for _ in 0..iterations {
        let frame = &originals[random.below(originals.len())];
        let headroom = [0, 2, 256][random.below(3)];
        let mut chunk = Chunk::with_headroom(frame, headroom);
        mutate(&mut random, &mut chunk);
        let before = chunk.bytes.clone();
        check(&mut batch, &mut chunk, &before, &mut seen);
    }
    // The frames reach every part of the code: none of these is rare.
    let rare = iterations / 100;
    let verdicts = [seen.forwarded, seen.dropped, seen.not_ours];
    assert!(verdicts.iter().all(|&count| count > rare), "{seen:?}");
    assert!(seen.checksums.iter().all(|&count| count > rare), "{seen:?}");
}
