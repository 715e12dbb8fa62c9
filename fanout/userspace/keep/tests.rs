//! The headers, read back by the parsers of the other modes.

use fanout_ebpf::checksum::{Sum, pseudo_header};

use super::*;
use crate::wire::{ipv4::Ipv4, ipv6::Ipv6};

fn packet(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let [source, destination] = [source, destination].map(|text| text.parse().unwrap());
    let mut packet = headers(source, destination, payload).to_vec();
    packet.extend(payload);
    packet
}

/// Ports, length and checksum of a UDP datagram between addresses of this sum.
fn assert_udp(udp: &[u8], addresses: Sum, payload: &[u8]) {
    let len = length(udp.len());
    assert_eq!(udp[..4], [0x9c, 0x40, 0x15, 0x8a], "40000 to 5514");
    assert_eq!(udp[4..6], len);
    assert_ne!(udp[6..8], [0, 0], "0 says that there is no checksum");
    let sum = pseudo_header(addresses, len).bytes(udp);
    assert_eq!(sum.fold(), [0xff, 0xff], "of {payload:?}");
    assert_eq!(udp[udp::HEADER..], *payload);
}

/// Of even and odd lengths; and the one whose checksum would come out as 0.
fn payloads() -> Vec<Vec<u8>> {
    let mut payloads: Vec<Vec<u8>> = (0..20).map(|len| (1..=len).collect()).collect();
    payloads.extend((0..=u16::MAX).map(|word| word.to_be_bytes().to_vec()));
    payloads
}

#[test]
fn ipv4() {
    for payload in payloads() {
        let mut packet = packet("192.0.2.7:40000", "10.42.0.21:5514", &payload);
        assert_eq!(packet.len(), 28 + payload.len());
        let (ip, udp) = Ipv4::new_checked(&mut packet).expect("a whole UDP datagram");
        let addresses = ip.addresses();
        assert_eq!(addresses.source, [192, 0, 2, 7]);
        assert_eq!(addresses.destination, [10, 42, 0, 21]);
        assert_eq!(ip.ttl(), HOPS);
        assert_udp(udp, addresses.sum(), &payload);
    }
}

#[test]
fn ipv6() {
    for payload in payloads() {
        let mut packet = packet("[fd00::7]:40000", "[fd00::21]:5514", &payload);
        assert_eq!(packet.len(), 48 + payload.len());
        let (ip, udp) = Ipv6::new_checked(&mut packet).expect("a whole UDP datagram");
        let addresses = ip.addresses();
        assert_eq!(addresses.source[15], 0x07);
        assert_eq!(addresses.destination[15], 0x21);
        assert_eq!(ip.hop_limit(), HOPS);
        assert_udp(udp, addresses.sum(), &payload);
    }
}

#[test]
fn of_two_families_there_are_none() {
    let [four, six] = ["192.0.2.7:1", "[fd00::1]:1"].map(|text| text.parse().unwrap());
    assert!(headers(four, six, b"x").is_empty());
    assert!(headers(six, four, b"x").is_empty());
}
