//! Packets made from scratch, with checksums computed word by word, and seeded random numbers: what
//! the code under test is measured against.

use std::net::{IpAddr, SocketAddr};

/// xorshift64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap() % end
    }

    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        // Every other time of 0x00 and 0xff only: the corner cases of ones' complement.
        let extreme = self.one_in(2);
        [(); N].map(|()| match self.next().to_be_bytes()[0] {
            byte if extreme => 0u8.wrapping_sub(byte & 1),
            byte => byte,
        })
    }
}

/// What the UDP checksum field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    None,
    /// Only the sum of the pseudo-header.
    Partial,
    Right,
    Wrong,
}

#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) macs: [[u8; 6]; 2],
    pub(super) vlan: Option<u16>,
    /// Type of service, identification and fragment field of IPv4; traffic class and flow label of IPv6.
    pub(super) rest_of_header: [u8; 4],
    pub(super) ttl: u8,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) checksum: Checksum,
    pub(super) data: Vec<u8>,
}

impl Packet {
    /// The whole frame.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut udp = [self.source.port(), self.destination.port()]
            .map(u16::to_be_bytes)
            .concat();
        let len = u16::try_from(8 + self.data.len()).unwrap();
        udp.extend(len.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.data);
        let (source, destination) = (octets(self.source), octets(self.destination));
        let checksum = udp_checksum(self.checksum, &source, &destination, &udp);
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());

        let [a, b, c, d] = self.rest_of_header;
        let mut ip = if self.source.is_ipv4() {
            let [len_high, len_low] = (20 + len).to_be_bytes();
            vec![
                0x45,
                a,
                len_high,
                len_low,
                b,
                c,
                d & 0x40,
                0,
                self.ttl,
                17,
                0,
                0,
            ]
        } else {
            let [len_high, len_low] = len.to_be_bytes();
            vec![0x60 | a & 0xf, b, c, d, len_high, len_low, 17, self.ttl]
        };
        ip.extend([source, destination].concat());
        if self.source.is_ipv4() {
            let checksum = (!sum(&ip)).to_be_bytes();
            ip[10..12].copy_from_slice(&checksum);
        }

        let mut frame = self.macs.concat();
        if let Some(vlan) = self.vlan {
            frame.extend([0x81, 0x00]);
            frame.extend(vlan.to_be_bytes());
        }
        frame.extend(if self.source.is_ipv4() {
            [0x08, 0x00]
        } else {
            [0x86, 0xdd]
        });
        [frame, ip, udp].concat()
    }
}

/// What is right and wrong with the checksums of an IP packet: the header's, and the datagram's.
pub(super) fn inspect(ip: &[u8]) -> (bool, Checksum) {
    let (header, udp, addresses) = match ip[0] >> 4 {
        4 => (&ip[..20], &ip[20..], &ip[12..20]),
        _ => (&ip[..0], &ip[40..], &ip[8..40]),
    };
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    let len = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    let mut udp = udp[..len].to_vec();
    let field = u16::from_be_bytes([udp[6], udp[7]]);
    udp[6..8].fill(0);
    let held = [Checksum::None, Checksum::Right, Checksum::Partial]
        .into_iter()
        .find(|checksum| field == udp_checksum(*checksum, source, destination, &udp));
    let header_is_right = header.is_empty() || sum(header) == 0xffff;
    (header_is_right, held.unwrap_or(Checksum::Wrong))
}

/// The checksum of a datagram whose checksum field is 0 (RFC 768).
fn udp_checksum(kind: Checksum, source: &[u8], destination: &[u8], udp: &[u8]) -> u16 {
    let pseudo_header = [source, destination, &[0, 17], &udp[4..6]].concat();
    let right = match !sum(&[&pseudo_header, udp].concat()) {
        0 => 0xffff,
        checksum => checksum,
    };
    match kind {
        Checksum::None => 0,
        Checksum::Partial => sum(&pseudo_header),
        Checksum::Right => right,
        Checksum::Wrong => right ^ 0x0101,
    }
}

/// RFC 1071 section 4.1.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

fn octets(address: SocketAddr) -> Vec<u8> {
    match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
