//! Where a datagram goes that the kernel forwards by itself.

use core::{
    mem::offset_of,
    net::{IpAddr, SocketAddr},
};

use crate::words::{bytes, words};

/// A usable downstream, with all that a rewrite needs. Addresses are IPv6, or IPv4 as `::ffff:a.b.c.d`, of
/// the family of the listener. What a program writes to a frame is here in [words].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// New destination address.
    pub destination: [u16; 8],
    /// New source address.
    pub source: [u16; 8],
    /// Whose MAC address it goes to, the router's or the downstream's own: for programs that leave the Ethernet
    /// header to the kernel. Here an IPv4 address is the first four bytes, before zeros.
    pub gateway: [u8; 16],
    /// The Ethernet header that it leaves with, for programs that write one.
    pub header: [u16; 9],
    /// New destination port, big-endian.
    pub port_be: u16,
    /// Bytes of `header`: 18 with a VLAN tag, 14 without.
    pub header_len: u8,
    /// Bytes of the IP header: 20 or 40. Programs take the number from here, where it is one that the verifier
    /// does not know: so it verifies once what follows.
    pub ip_header_len: u8,
    /// 1 if the source address becomes `source`, 0 if the sender's stays.
    pub rewrites_source: u8,
    /// Whether `gateway` is `AF_INET` or `AF_INET6`: the router may be of the other family.
    pub gateway_family: u8,
    /// How it leaves.
    pub egress: Egress,
    /// By which interface.
    pub ifindex: u32,
    /// Largest IP packet that goes this way, in bytes.
    pub mtu: u32,
    /// Where what goes this way is counted: index into [`FORWARDED`](super::FORWARDED).
    pub downstream: u32,
}
const _: () = assert!(size_of::<NextHop>() == NextHop::SIZE);
const _: () = assert!(offset_of!(NextHop, source) == 16);
const _: () = assert!(offset_of!(NextHop, gateway) == 32);
const _: () = assert!(offset_of!(NextHop, header) == 48);
const _: () = assert!(offset_of!(NextHop, port_be) == 66);
const _: () = assert!(offset_of!(NextHop, header_len) == 68);
const _: () = assert!(offset_of!(NextHop, egress) == 72);
const _: () = assert!(offset_of!(NextHop, downstream) == 84);

/// How a datagram leaves.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// Not at all: no downstream is usable.
    Nowhere,
    /// By the interface that it came by.
    SameInterface,
    /// Redirected to [`NextHop::ifindex`].
    OtherInterface,
    /// It is for an address of this host, which the kernel delivers to.
    Local,
    /// It is for a loopback address: the kernel takes it only from the interface of such.
    Loopback,
}

// linux/socket.h
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

impl NextHop {
    /// Bytes that it has in memory.
    pub const SIZE: usize = 88;

    /// The only turn of a listener without usable downstreams.
    pub const NOWHERE: Self = Self {
        destination: [0; 8],
        source: [0; 8],
        gateway: [0; 16],
        header: [0; 9],
        port_be: 0,
        header_len: 14,
        ip_header_len: 20,
        rewrites_source: 0,
        gateway_family: AF_INET,
        egress: Egress::Nowhere,
        ifindex: 0,
        mtu: 0,
        downstream: 0,
    };

    /// The way to `destination`; nothing else is set.
    #[must_use]
    pub const fn to(destination: SocketAddr) -> Self {
        Self {
            destination: words(&mapped(destination.ip())),
            port_be: destination.port().to_be(),
            ip_header_len: if destination.is_ipv4() { 20 } else { 40 },
            ..Self::NOWHERE
        }
    }

    /// The same by way of `gateway`.
    #[must_use]
    pub fn via(self, gateway: IpAddr) -> Self {
        let mut bytes = [0; 16];
        let gateway_family = match gateway {
            IpAddr::V4(v4) => {
                bytes[..4].copy_from_slice(&v4.octets());
                AF_INET
            }
            IpAddr::V6(v6) => {
                bytes = v6.octets();
                AF_INET6
            }
        };
        Self {
            gateway: bytes,
            gateway_family,
            ..self
        }
    }

    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut all = [0; Self::SIZE];
        all[..16].copy_from_slice(&bytes::<16>(&self.destination));
        all[16..32].copy_from_slice(&bytes::<16>(&self.source));
        all[32..48].copy_from_slice(&self.gateway);
        all[48..66].copy_from_slice(&bytes::<18>(&self.header));
        all[66..68].copy_from_slice(&self.port_be.to_ne_bytes());
        all[68..72].copy_from_slice(&[
            self.header_len,
            self.ip_header_len,
            self.rewrites_source,
            self.gateway_family,
        ]);
        let words = [self.egress as u32, self.ifindex, self.mtu, self.downstream];
        for (to, word) in all[72..].chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        all
    }
}

/// The 16-byte form of an address.
#[must_use]
pub const fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
