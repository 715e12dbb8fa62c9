//! For random packets: the rewritten packet is the one that is made from scratch with the new fields.

use std::net::{IpAddr, SocketAddr};

use super::{
    BindKey, Chunk, Egress, EthernetHeader, NEXT_HOP_MAC, NextHop, OUR_MAC, Table, Verdict,
    listener,
    packet::{Checksum, Packet, Random},
};

const PACKETS: usize = 100_000;

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
    Packet {
        macs: [OUR_MAC, random.bytes()],
        vlan: random.one_in(2).then_some(7),
        rest_of_header: random.bytes(),
        ttl: random.bytes::<1>()[0].max(2),
        source: address(random, ipv6),
        destination: address(random, ipv6),
        checksum: checksums[random.below(3)],
        data: random.bytes::<40>()[..len].to_vec(),
    }
}

#[test]
fn rewriting_equals_making_anew() {
    let mut random = Random(1);
    for round in 0..PACKETS {
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
