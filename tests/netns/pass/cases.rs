//! Frames that look like a listener's but are not for fanout, and how each is counted.

use std::net::SocketAddr;

use crate::common::{
    frame::{ETHERNET, Frame, IPV4, IPV6, Mac, mac, sum_ipv4},
    topology::{Family, HOST_MAC, PORT, Topology},
};

/// No machine's: it marks the frames of these cases.
pub const FROM: Mac = [0x02, 0xfa, 0, 0, 0, 0x99];
const PAYLOAD: &[u8] = b"<13>1 - host app - - - message";

/// How a frame is to be counted.
#[derive(Clone, Copy, Debug)]
pub enum Counted {
    /// As passed, of this listener and for this reason.
    As(&'static str, &'static str),
    /// It carries no listener's address and port.
    Not,
    /// One can't tell where its port would be.
    Either,
}
use Counted::{As, Either, Not};

/// A frame that fanout must leave alone.
pub struct Case {
    /// What is special.
    pub name: &'static str,
    /// The frame.
    pub frame: Vec<u8>,
    /// How it is to be counted.
    pub counted: Counted,
}

/// For the listeners `four`, of packets of at most 1000 bytes, and `six`.
pub fn all(network: &Topology) -> Vec<Case> {
    let four = Good::new(network, Family::V4);
    let six = Good::new(network, Family::V6);
    let cases = [headers(&four), lengths(&four), others(&four), ipv6(&six)];
    cases.into_iter().flatten().collect()
}

fn headers(good: &Good) -> Vec<Case> {
    let ip = ETHERNET;
    let four = |reason| As("four", reason);
    vec![
        case(
            "another MAC",
            good.with(|f| f.to_mac = [2, 0xfa, 0, 0, 0, 0x77]),
            four("other_mac"),
        ),
        case(
            "broadcast",
            good.with(|f| f.to_mac = [0xff; 6]),
            four("other_mac"),
        ),
        case(
            "multicast MAC",
            good.with(|f| f.to_mac = [1, 0, 0x5e, 1, 1, 1]),
            four("other_mac"),
        ),
        case(
            "a VLAN nobody names",
            good.with(|f| f.vlan = Some(7)),
            four("other_vlan"),
        ),
        case(
            "first fragment",
            good.spoilt(|b| b[ip + 6] = 0x20),
            four("fragment"),
        ),
        case("later fragment", good.spoilt(|b| b[ip + 7] = 8), Not),
        case(
            "IPv4 options",
            good.with(|f| f.options = vec![7, 4, 4, 0]),
            four("ip_options"),
        ),
        case(
            "most IPv4 options",
            good.with(|f| f.options = vec![1; 40]),
            four("ip_options"),
        ),
        case("TTL 1", good.with(|f| f.ttl = 1), four("ttl_exceeded")),
        case("TTL 0", good.with(|f| f.ttl = 0), four("ttl_exceeded")),
        case(
            "larger than max_packet_size",
            good.frame.bytes(&[b'x'; 973]),
            four("too_big"),
        ),
    ]
}

fn lengths(good: &Good) -> Vec<Case> {
    let (ip, udp) = (ETHERNET, ETHERNET + IPV4);
    let malformed = As("four", "malformed");
    let long_header = good.with(|f| f.options = vec![1; 4]);
    vec![
        case(
            "cut within the payload",
            good.cut(good.bytes.len() - 1),
            malformed,
        ),
        case("cut within the UDP header", good.cut(udp + 6), malformed),
        case("cut behind the ports", good.cut(udp + 4), malformed),
        case("cut within the ports", good.cut(udp + 3), Either),
        case("cut within the IP header", good.cut(ip + 19), Not),
        case("cut behind the Ethernet header", good.cut(ip), Not),
        case(
            "IP length beyond the frame",
            good.spoilt(|b| b[ip + 2] = 4),
            malformed,
        ),
        case(
            "IP length too short for UDP",
            good.spoilt(|b| b[ip + 3] = 27),
            malformed,
        ),
        case(
            "IP length shorter than its header",
            good.spoilt(|b| b[ip + 3] = 19),
            Either,
        ),
        case(
            "UDP length beyond the packet",
            good.spoilt(|b| b[udp + 5] += 1),
            malformed,
        ),
        case("UDP length 7", good.spoilt(|b| b[udp + 5] = 7), malformed),
        case("UDP length 0", good.spoilt(|b| b[udp + 5] = 0), malformed),
        case("header length 4", good.spoilt(|b| b[ip] = 0x44), Either),
        case(
            "header beyond the packet",
            long_header[..udp + 2].to_vec(),
            Either,
        ),
    ]
}

fn others(good: &Good) -> Vec<Case> {
    let ip = ETHERNET;
    let tags = [0x81, 0x00, 0, 7, 0x81, 0x00, 0, 8];
    let two_tags = [&good.bytes[..12], &tags, &good.bytes[12..]].concat();
    let stub = good.with(|f| f.vlan = Some(7))[..20].to_vec();
    vec![
        case(
            "version 6 in an IPv4 frame",
            good.spoilt(|b| b[ip] = 0x65),
            Either,
        ),
        case("another port", good.with(|f| f.to.set_port(PORT + 1)), Not),
        case(
            "another address",
            good.with(|f| f.to.set_ip([172, 31, 25, 11].into())),
            Not,
        ),
        case("TCP", good.spoilt(|b| b[ip + 9] = 6), Not),
        case("ICMP", good.spoilt(|b| b[ip + 9] = 1), Not),
        case(
            "not IP",
            good.spoilt(|b| b[12..14].copy_from_slice(&[0x88, 0xb5])),
            Not,
        ),
        case("two tags", two_tags, Either),
        case("a tag and nothing else", stub, Not),
    ]
}

fn ipv6(good: &Good) -> Vec<Case> {
    let (ip, udp) = (ETHERNET, ETHERNET + IPV6);
    let six = |reason| As("six", reason);
    let extension = |header: u8, body: [u8; 8]| {
        good.with(|f| {
            f.next_header = header;
            f.options = body.to_vec();
        })
    };
    vec![
        case(
            "v6: another MAC",
            good.with(|f| f.to_mac = [2, 0xfa, 0, 0, 0, 0x77]),
            six("other_mac"),
        ),
        case(
            "v6: a VLAN nobody names",
            good.with(|f| f.vlan = Some(7)),
            six("other_vlan"),
        ),
        case(
            "v6: hop limit 1",
            good.with(|f| f.ttl = 1),
            six("ttl_exceeded"),
        ),
        case(
            "v6: hop by hop",
            extension(0, [17, 0, 1, 4, 0, 0, 0, 0]),
            six("extension_headers"),
        ),
        case(
            "v6: destination options",
            extension(60, [17, 0, 1, 4, 0, 0, 0, 0]),
            six("extension_headers"),
        ),
        case(
            "v6: fragment",
            extension(44, [17, 0, 0, 1, 0, 0, 0, 9]),
            six("fragment"),
        ),
        case("v6: cut", good.cut(good.bytes.len() - 1), six("malformed")),
        case("v6: cut within the IP header", good.cut(ip + 39), Not),
        case(
            "v6: payload length 7",
            good.spoilt(|b| b[ip + 5] = 7),
            six("malformed"),
        ),
        case(
            "v6: payload length 0",
            good.spoilt(|b| b[ip + 5] = 0),
            Either,
        ),
        case(
            "v6: UDP length beyond it",
            good.spoilt(|b| b[udp + 5] += 1),
            six("malformed"),
        ),
        case(
            "v6: another port",
            good.with(|f| f.to.set_port(PORT + 1)),
            Not,
        ),
        case("v6: TCP", good.spoilt(|b| b[ip + 6] = 6), Not),
    ]
}

fn case(name: &'static str, frame: Vec<u8>, counted: Counted) -> Case {
    Case {
        name,
        frame,
        counted,
    }
}

/// A frame that fanout would take, to spoil.
struct Good {
    frame: Frame,
    bytes: Vec<u8>,
}

impl Good {
    fn new(network: &Topology, family: Family) -> Self {
        let from = SocketAddr::new(network.sender.addresses.of(family), 40_000);
        let frame = Frame::new(FROM, mac(HOST_MAC), from, network.target(family));
        let bytes = frame.bytes(PAYLOAD);
        Self { frame, bytes }
    }

    /// Built differently, all lengths and checksums right.
    fn with(&self, change: impl FnOnce(&mut Frame)) -> Vec<u8> {
        let mut frame = self.frame.clone();
        change(&mut frame);
        frame.bytes(PAYLOAD)
    }

    /// With other bytes; the IPv4 header's checksum is made right, so that only the change is wrong.
    fn spoilt(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        change(&mut bytes);
        if self.frame.to.is_ipv4() {
            sum_ipv4(&mut bytes[ETHERNET..]);
        }
        bytes
    }

    fn cut(&self, length: usize) -> Vec<u8> {
        self.bytes[..length].to_vec()
    }
}
