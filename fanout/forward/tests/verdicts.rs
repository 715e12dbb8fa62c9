//! Which frames are forwarded, to whom, and which are not.

use super::{
    Batch, BindKey, Chunk, Cursors, DropReason, Egress, HEADROOM, NextHop, Table, Verdict, key,
    listener, next_hop,
    packet::{Checksum, Packet},
    table, tagged,
};

fn to(destination: &str, vlan: Option<u16>) -> Packet {
    let ipv4 = destination.starts_with(|c: char| c.is_ascii_digit());
    let source = if ipv4 {
        "192.0.2.7:40000"
    } else {
        "[2001:db8::7]:40000"
    };
    Packet {
        macs: [super::OUR_MAC, [2, 0, 0, 0, 0, 2]],
        vlan,
        rest_of_header: [0; 4],
        ttl: 64,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        checksum: Checksum::Right,
        data: b"hello".to_vec(),
    }
}

fn ipv4() -> Vec<u8> {
    to("172.31.25.200:514", None).to_bytes()
}

fn ipv6() -> Vec<u8> {
    to("[2001:db8::25]:514", None).to_bytes()
}

fn both_next_hops() -> [NextHop; 2] {
    ["10.42.0.21:5514", "[2001:db8:42::21]:5514"].map(next_hop)
}

/// Whether a frame is forwarded by the common table.
fn is_forwarded(frame: &[u8]) -> bool {
    both_next_hops()
        .into_iter()
        .any(|next_hop| Chunk::new(frame).forward_to(next_hop).is_some())
}

#[test]
fn whole_datagrams_only() {
    // What is done to the frame of an IPv4 datagram, and that of an IPv6 one: offset and bytes.
    let ipv4_damage: &[(&str, usize, &[u8])] = &[
        ("EtherType ARP", 12, &[0x08, 0x06]),
        ("EtherType 802.1ad", 12, &[0x88, 0xa8]),
        ("version 6", 14, &[0x65]),
        ("options", 14, &[0x46]),
        ("a header of four words", 14, &[0x44]),
        ("longer than the frame", 16, &[0, 34]),
        ("shorter than its header", 16, &[0, 19]),
        ("shorter than a UDP header", 16, &[0, 27]),
        ("more fragments", 20, &[0x20, 0]),
        ("a later fragment", 20, &[0, 1]),
        ("TTL 1", 22, &[1]),
        ("TTL 0", 22, &[0]),
        ("TCP", 23, &[6]),
        ("UDP length 14 of 13", 38, &[0, 14]),
        ("UDP length 7", 38, &[0, 7]),
        ("UDP length 0", 38, &[0, 0]),
    ];
    let ipv6_damage: &[(&str, usize, &[u8])] = &[
        ("version 4", 14, &[0x45]),
        ("longer than the frame", 18, &[0, 14]),
        ("shorter than a UDP header", 18, &[0, 7]),
        ("a jumbogram", 18, &[0, 0]),
        ("an extension header", 20, &[0]),
        ("a fragment", 20, &[44]),
        ("hop limit 1", 21, &[1]),
        ("hop limit 0", 21, &[0]),
        ("UDP length 14 of 13", 58, &[0, 14]),
        ("UDP length 0", 58, &[0, 0]),
    ];
    for (whole, damage) in [(ipv4(), ipv4_damage), (ipv6(), ipv6_damage)] {
        assert!(is_forwarded(&whole));
        for (name, at, bytes) in damage {
            let mut frame = whole.clone();
            frame[*at..at + bytes.len()].copy_from_slice(bytes);
            assert!(!is_forwarded(&frame), "{name}");
        }
        for len in 0..whole.len() {
            assert!(!is_forwarded(&whole[..len]), "cut to {len} bytes");
        }
    }
}

/// "Don't fragment" and the reserved bit next to it make no fragment.
#[test]
fn flags_that_make_no_fragment_are_fine() {
    let mut frame = ipv4();
    frame[20] = 0xc0;
    assert!(is_forwarded(&frame));
}

#[test]
fn tags_must_match() {
    for bind in ["172.31.25.200:514", "[2001:db8::25]:514"] {
        assert!(is_forwarded(&to(bind, Some(7)).to_bytes()));
        assert!(!is_forwarded(&to(bind, Some(8)).to_bytes()));
        let mut tagged_twice = to(bind, Some(7)).to_bytes();
        tagged_twice.splice(12..12, [0x81, 0x00, 0, 7]);
        assert!(!is_forwarded(&tagged_twice));
    }
}

#[test]
fn other_destinations_are_not_ours() {
    for other in [
        "172.31.25.201:514",
        "172.31.25.200:515",
        "[2001:db8::26]:514",
    ] {
        assert!(!is_forwarded(&to(other, None).to_bytes()), "{other}");
    }
    // It would look like an IPv4 bind.
    assert!(!is_forwarded(
        &to("[::ffff:172.31.25.200]:514", None).to_bytes()
    ));
}

/// The next hop that a frame to `destination` gets, by its port.
fn port_of(table: &Table, destination: &str) -> Option<u16> {
    match Chunk::new(&to(destination, None).to_bytes()).verdict(table) {
        Verdict::Forward { next_hop, .. } => Some(next_hop.destination.port()),
        Verdict::Replicate { .. } | Verdict::Drop { .. } | Verdict::NotOurs => None,
    }
}

#[test]
fn exact_address_goes_before_the_wildcard() {
    let binds = ["0.0.0.0:514", "172.31.25.200:514", "[::]:514"].map(|bind| key(bind, None));
    let listeners = ["10.42.0.21:1", "10.42.0.21:2", "[2001:db8:42::21]:3"]
        .map(|hop| listener(vec![next_hop(hop)]));
    let table = Table::new(binds.into_iter().zip(0..).collect(), listeners.into());
    assert_eq!(port_of(&table, "172.31.25.201:514"), Some(1));
    assert_eq!(port_of(&table, "172.31.25.200:514"), Some(2));
    assert_eq!(port_of(&table, "[2001:db8::1]:514"), Some(3));
    assert_eq!(port_of(&table, "172.31.25.200:515"), None);
}

/// As many binds as there may be, alike as they can be.
#[test]
fn every_bind_is_found() {
    let destinations: Vec<String> = (0..32)
        .flat_map(|host| (0..32).map(move |port| format!("10.0.0.{host}:{}", 500 + port)))
        .collect();
    let binds: Vec<(BindKey, usize)> = destinations
        .iter()
        .zip(0..)
        .map(|(bind, index)| (key(bind, None), index % 64))
        .collect();
    let listeners = (0..64)
        .map(|index| listener(vec![next_hop(&format!("10.42.0.21:{}", 1000 + index))]))
        .collect();
    let table = Table::new(binds, listeners);
    for (destination, index) in destinations.iter().zip(0..) {
        assert_eq!(port_of(&table, destination), Some(1000 + index % 64));
    }
}

#[test]
fn next_hops_take_turns() {
    let table = table(
        (1..=3)
            .map(|i| next_hop(&format!("10.42.0.2{i}:5514")))
            .collect(),
    );
    let mut cursors = Cursors::default();
    let mut batch = Batch::new(&table, &mut cursors);
    let chosen: Vec<String> = (0..7)
        .map(|_| {
            let mut chunk = Chunk::new(&ipv4());
            let frame = chunk.frame.clone();
            match batch.forward(&mut chunk.bytes, frame) {
                Verdict::Forward { next_hop, .. } => next_hop.destination.ip().to_string(),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    let turns = ["10.42.0.21", "10.42.0.22", "10.42.0.23"];
    assert!(chosen.iter().eq(turns.iter().cycle().take(7)), "{chosen:?}");
}

/// Why a frame is dropped by a table with this next hop, or with none; the frame must be as it was.
#[track_caller]
fn dropped(mut chunk: Chunk, next_hop: Option<NextHop>) -> (DropReason, usize) {
    let before = chunk.bytes.clone();
    let table = table(next_hop.into_iter().collect());
    let Verdict::Drop { reason, ip_len, .. } = chunk.verdict(&table) else {
        panic!("not dropped");
    };
    assert_eq!(chunk.bytes, before);
    (reason, ip_len)
}

#[test]
fn dropped_where_there_is_no_next_hop() {
    let no_downstream = (DropReason::NoDownstream, 33);
    assert_eq!(dropped(Chunk::new(&ipv4()), None), no_downstream);
    let [ipv4_hop, ipv6_hop] = both_next_hops();
    assert_eq!(dropped(Chunk::new(&ipv4()), Some(ipv6_hop)), no_downstream);
    let no_downstream = (DropReason::NoDownstream, 53);
    assert_eq!(dropped(Chunk::new(&ipv6()), Some(ipv4_hop)), no_downstream);
}

#[test]
fn dropped_where_it_does_not_fit() {
    let [hop, _] = both_next_hops();
    let fits = NextHop {
        mtu: 33,
        ..hop.clone()
    };
    assert!(Chunk::new(&ipv4()).forward_to(fits).is_some());
    let too_small = NextHop {
        mtu: 32,
        ..hop.clone()
    };
    let too_big = (DropReason::TooBig, 33);
    assert_eq!(dropped(Chunk::new(&ipv4()), Some(too_small)), too_big);

    // No room in front of the frame for the tag.
    let three_bytes = || Chunk::with_headroom(&ipv4(), 3);
    assert!(three_bytes().forward_to(hop.clone()).is_some());
    assert_eq!(dropped(three_bytes(), Some(tagged(hop, 9))), too_big);
}

#[test]
fn the_verdict_says_where_the_packet_is() {
    let hop = NextHop {
        egress: Egress::Raw,
        ..next_hop("10.42.0.21:5514")
    };
    let table = table(vec![hop]);
    let frame = to("172.31.25.200:514", Some(7)).to_bytes();
    match Chunk::new(&frame).verdict(&table) {
        Verdict::Forward {
            next_hop,
            packet,
            ip,
            ..
        } => {
            assert_eq!(next_hop.egress, Egress::Raw);
            assert_eq!(ip, HEADROOM + 18..HEADROOM + 18 + 33);
            assert_eq!(packet, HEADROOM + 4..ip.end);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_range_beyond_the_chunk_is_not_ours() {
    let table = table(both_next_hops().into());
    for frame in [4000..4097, 4096..4200, 5000..6000, 0..usize::MAX] {
        let mut chunk = Chunk::new(&ipv4());
        chunk.frame = frame;
        assert!(matches!(chunk.verdict(&table), Verdict::NotOurs));
    }
}
