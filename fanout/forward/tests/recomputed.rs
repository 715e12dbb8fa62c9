//! For random packets: the rewritten packet is the one that is made from scratch with the new fields.

use std::net::{IpAddr, SocketAddr};

use fanout_ebpf::{
    abi::{self, mapped},
    checksum::Sum,
    frame::{Frame, FrameMut},
    parse::ETHERNET_LEN,
    plain::Plain,
    rewrite::{Partial, Sums, redirect},
    words::words,
};

use super::{
    BindKey, Chunk, Egress, EthernetHeader, NEXT_HOP_MAC, NextHop, OUR_MAC, Table, Verdict,
    listener,
    packet::{Checksum, Packet, Random},
};

const PACKETS: usize = 100_000;
/// So that a checksum is made of chunks of each size.
const MOST_DATA: usize = 600;

fn address(random: &mut Random, ipv6: bool) -> SocketAddr {
    let ip = if ipv6 {
        let mut octets = random.bytes::<16>();
        // Not an IPv4-mapped one.
        octets[0] |= 1;
        IpAddr::from(octets)
    } else {
        IpAddr::from(random.bytes::<4>())
    };
    SocketAddr::new(ip, u16::from_be_bytes(random.bytes()))
}

fn packet(random: &mut Random, ipv6: bool) -> Packet {
    let checksums = [Checksum::None, Checksum::Partial, Checksum::Right];
    let len = random.below(40);
    let data = if random.one_in(20) {
        random.bytes::<MOST_DATA>()[len..].to_vec()
    } else {
        random.bytes::<40>()[..len].to_vec()
    };
    Packet {
        macs: [OUR_MAC, random.bytes()],
        vlan: random.one_in(2).then_some(7),
        rest_of_header: random.bytes(),
        ttl: random.bytes::<1>()[0].max(2),
        source: address(random, ipv6),
        destination: address(random, ipv6),
        checksum: checksums[random.below(3)],
        data,
    }
}

/// A packet, what it is to become, and the next hop that it becomes that for.
struct Case {
    received: Packet,
    expected: Packet,
    next_hop: NextHop,
}

fn cases() -> impl Iterator<Item = Case> {
    let mut random = Random(1);
    (0..PACKETS).map(move |round| {
        let ipv6 = round % 2 == 1;
        let received = packet(&mut random, ipv6);
        let new_source = random.one_in(2).then(|| address(&mut random, ipv6).ip());
        let egress_vlan = random.one_in(2).then_some(9);
        let destination = address(&mut random, ipv6);
        let expected = Packet {
            macs: [NEXT_HOP_MAC, OUR_MAC],
            vlan: egress_vlan,
            ttl: received.ttl - 1,
            source: match new_source {
                Some(ip) => SocketAddr::new(ip, received.source.port()),
                None => received.source,
            },
            destination,
            checksum: match received.checksum {
                Checksum::None => Checksum::None,
                _ => Checksum::Right,
            },
            ..received.clone()
        };
        let next_hop = NextHop {
            destination,
            source: new_source,
            egress: Egress::Port(0),
            mtu: 1500,
            ethernet: EthernetHeader::new(OUR_MAC, NEXT_HOP_MAC, egress_vlan, ipv6),
            counters: std::sync::Arc::default(),
        };
        Case {
            received,
            expected,
            next_hop,
        }
    })
}

#[test]
fn rewriting_equals_making_anew() {
    for Case {
        received,
        expected,
        next_hop,
    } in cases()
    {
        let bind = BindKey::new(received.destination, received.vlan);
        let table = Table::new(vec![(bind, 0)], vec![listener(vec![next_hop])]);
        let mut chunk = Chunk::new(&received.to_bytes());
        let Verdict::Forward { packet, .. } = chunk.verdict(&table) else {
            panic!("not forwarded: {received:?}");
        };
        let expected_bytes = expected.to_bytes();
        assert_eq!(
            chunk.bytes[packet], expected_bytes,
            "{received:?} became not {expected:?}"
        );
    }
}

/// What the eBPF programs do with the same packets, which the kernel has already given the right length.
#[test]
fn rewriting_in_the_kernel_equals_making_anew() {
    for Case {
        received,
        expected,
        next_hop,
    } in cases()
    {
        for partial in [Partial::Complete, Partial::Keep] {
            let mut expected = expected.clone();
            let bytes = received.to_bytes();
            if partial == Partial::Keep && received.checksum == Checksum::Partial {
                let right = Packet {
                    checksum: Checksum::Right,
                    ..received.clone()
                };
                // Nobody can tell which of both it is.
                if right.to_bytes() != bytes {
                    expected.checksum = Checksum::Partial;
                }
            }
            let ip = if received.vlan.is_some() { 18 } else { 14 };
            let hop = in_kernel(&next_hop);
            let mut frame = vec![0; hop.header_len.into()];
            frame.extend(&bytes[ip..]);
            let done = redirect::<Host>(FrameMut::from(&mut frame[..]), &hop, None, partial);
            assert!(done.is_some(), "not rewritten: {received:?}");
            assert_eq!(
                frame,
                expected.to_bytes(),
                "{partial:?}: {received:?} became not {expected:?}"
            );
        }
    }
}

/// What the XDP program does with those of them that are plain.
#[test]
fn rewriting_plain_datagrams_equals_making_anew() {
    let mut rewritten = 0;
    for Case {
        received,
        expected,
        next_hop,
    } in cases()
    {
        let hop = in_kernel(&next_hop);
        let mut frame = received.to_bytes();
        let Some(plain) = Plain::of(FrameMut::from(&mut frame[..])) else {
            let is_tagged = received.vlan.is_some();
            assert!(is_tagged || received.source.is_ipv6(), "{received:?}");
            continue;
        };
        if usize::from(hop.header_len) != ETHERNET_LEN {
            continue;
        }
        if plain.redirect(&hop).is_some() {
            rewritten += 1;
            assert_eq!(
                frame,
                expected.to_bytes(),
                "{received:?} became not {expected:?}"
            );
        } else {
            assert_ne!(received.checksum, Checksum::Right, "{received:?}");
            assert_eq!(frame, received.to_bytes());
        }
    }
    assert!(rewritten > PACKETS / 50);
}

/// The same next hop as the eBPF programs get it.
fn in_kernel(next_hop: &NextHop) -> abi::NextHop {
    let ethernet = next_hop.ethernet.as_bytes();
    let mut header = [0; 18];
    header[..ethernet.len()].copy_from_slice(ethernet);
    abi::NextHop {
        source: next_hop.source.map_or([0; 8], |ip| words(&mapped(ip))),
        rewrites_source: next_hop.source.is_some().into(),
        header: words(&header),
        header_len: ethernet.len().try_into().unwrap(),
        ..abi::NextHop::to(next_hop.destination)
    }
}

/// Stands for the kernel's helper.
struct Host;

impl Sums for Host {
    fn sum<const LEN: usize>(bytes: Frame<'_>) -> Option<Sum> {
        let mut field = [0; LEN];
        for (at, byte) in field.iter_mut().enumerate() {
            *byte = bytes.byte(at)?;
        }
        Some(Sum::default().field(field))
    }
}
