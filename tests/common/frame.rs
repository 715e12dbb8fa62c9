//! Ethernet frames with UDP datagrams, built byte by byte, so that tests can spoil them. Its checksums
//! are an oracle of their own: nothing of fanout is used.

use std::net::{IpAddr, SocketAddr};

/// Length of an Ethernet header without a tag.
pub const ETHERNET: usize = 14;
/// Length of an IPv4 header without options.
pub const IPV4: usize = 20;
/// Length of an IPv6 header.
pub const IPV6: usize = 40;
/// Length of a UDP header.
pub const UDP: usize = 8;
/// Length of a `virtio_net_hdr`, which `PACKET_VNET_HDR` puts in front of a frame.
pub const VNET: usize = 10;

/// A MAC address.
pub type Mac = [u8; 6];

/// A frame to build.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Destination MAC address.
    pub to_mac: Mac,
    /// Source MAC address.
    pub from_mac: Mac,
    /// VLAN id of the tag, if it has one.
    pub vlan: Option<u16>,
    /// Source; of the same family as `to`.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What goes between the IP header and the UDP header: IPv4 options, or IPv6 extension headers
    /// that end with next header 17. Whole 32-bit words, or 64-bit ones.
    pub options: Vec<u8>,
    /// Next header of the IPv6 header, where there are extension headers.
    pub next_header: u8,
}

impl Frame {
    /// A plain one.
    pub fn new(from_mac: Mac, to_mac: Mac, from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            to_mac,
            from_mac,
            vlan: None,
            from,
            to,
            ttl: 64,
            options: Vec::new(),
            next_header: libc::IPPROTO_UDP as u8,
        }
    }

    /// Where the IP header begins.
    pub fn ip(&self) -> usize {
        ETHERNET + if self.vlan.is_some() { 4 } else { 0 }
    }

    /// Where the UDP header begins.
    pub fn udp(&self) -> usize {
        let fixed = if self.to.is_ipv4() { IPV4 } else { IPV6 };
        self.ip() + fixed + self.options.len()
    }

    /// The frame with all its checksums.
    pub fn bytes(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = self.unsummed(payload);
        let udp = self.udp();
        let sum = fold(self.pseudo_sum(payload) + sum(&bytes[udp..]));
        let checksum = if sum == 0xffff { 0xffff } else { !sum };
        bytes[udp + 6..udp + 8].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// The frame as a local sender hands it to a device that sums for it: a `virtio_net_hdr`, then the
    /// frame with only the pseudo-header's sum.
    pub fn partial(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; VNET];
        bytes[0] = 1; // VIRTIO_NET_HDR_F_NEEDS_CSUM
        bytes[6..8].copy_from_slice(&(self.udp() as u16).to_ne_bytes());
        bytes[8..10].copy_from_slice(&6u16.to_ne_bytes());
        bytes.extend(self.half_summed(payload));
        bytes
    }

    /// The frame with only the pseudo-header's sum.
    pub fn half_summed(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = self.unsummed(payload);
        let sum = fold(self.pseudo_sum(payload));
        let udp = self.udp();
        frame[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    fn unsummed(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.udp() + UDP + payload.len());
        bytes.extend(self.to_mac);
        bytes.extend(self.from_mac);
        if let Some(id) = self.vlan {
            bytes.extend(0x8100u16.to_be_bytes());
            bytes.extend(id.to_be_bytes());
        }
        let length = (self.options.len() + UDP + payload.len()) as u16;
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                bytes.extend(0x0800u16.to_be_bytes());
                let version = 0x45 + (self.options.len() / 4) as u8;
                let [high, low] = (length + IPV4 as u16).to_be_bytes();
                bytes.extend([version, 0, high, low, 0, 0, 0x40, 0, self.ttl, 17, 0, 0]);
                bytes.extend(from.octets());
                bytes.extend(to.octets());
                bytes.extend(&self.options);
                sum_ipv4(&mut bytes[self.ip()..]);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                bytes.extend(0x86ddu16.to_be_bytes());
                let [high, low] = length.to_be_bytes();
                bytes.extend([0x60, 0, 0, 0, high, low, self.next_header, self.ttl]);
                bytes.extend(from.octets());
                bytes.extend(to.octets());
                bytes.extend(&self.options);
            }
            _ => panic!("two families in one frame"),
        }
        bytes.extend(self.from.port().to_be_bytes());
        bytes.extend(self.to.port().to_be_bytes());
        bytes.extend(((UDP + payload.len()) as u16).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(payload);
        bytes
    }

    fn pseudo_sum(&self, payload: &[u8]) -> u32 {
        let addresses = [self.from.ip(), self.to.ip()].map(|ip| match ip {
            IpAddr::V4(ip) => sum(&ip.octets()),
            IpAddr::V6(ip) => sum(&ip.octets()),
        });
        addresses[0] + addresses[1] + 17 + (UDP + payload.len()) as u32
    }
}

/// Puts the right checksum into the IPv4 header at the start of `packet`.
pub fn sum_ipv4(packet: &mut [u8]) {
    let length = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let checksum = !fold(sum(&packet[..length.min(packet.len())]));
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// `02:fa:…` → bytes.
pub fn mac(text: &str) -> Mac {
    let mut mac = [0; 6];
    for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(digits, 16).expect("a MAC address");
    }
    mac
}

/// RFC 1071, not folded.
fn sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
