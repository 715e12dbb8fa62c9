//! The datagrams that nearly all are: read and rewritten with one look at the frame's limits.
//!
//! What becomes of one is what [`parse`](crate::parse) and [`rewrite`](crate::rewrite) would make of it.

use core::num::NonZero;

use crate::{
    abi::NextHop,
    checksum::{self, pseudo_header},
    frame::{FrameMut, Head},
    parse::{
        ETH_P_IP, ETHERNET_LEN, IP_FRAGMENT_OFFSET, IP_MORE_FRAGMENTS, IPPROTO_UDP, IPV4_LEN,
        UDP_LEN,
    },
    rewrite::{NO_CHECKSUM, ipv4, not_none},
    words::number,
};

/// Bytes of the headers.
const HEADERS: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN;

/// A frame that is an untagged datagram in IPv4 without options and nothing else, and with which nothing is wrong.
#[derive(Debug)]
pub struct Plain<'a> {
    head: Head<'a, HEADERS>,
    /// Length of the IP packet, in bytes.
    pub ip_len: usize,
}

impl<'a> Plain<'a> {
    /// `None`: it is not such a frame.
    #[must_use]
    #[inline]
    pub fn of(frame: FrameMut<'a>) -> Option<Self> {
        let frame_len = frame.len();
        let head = frame.into_head()?;
        let [ethertype, first, ip_len, _, fragment, ttl] = head.words::<12, 6>();
        let [udp_len] = head.words::<38, 1>();
        let [version_and_len, _] = first.to_ne_bytes();
        let [ttl, protocol] = ttl.to_ne_bytes();
        let ip_len = usize::from(u16::from_be(ip_len));
        let udp_len = usize::from(u16::from_be(udp_len));
        let is_plain = ethertype == ETH_P_IP.to_be()
            && version_and_len == 0x45
            && fragment & (IP_MORE_FRAGMENTS | IP_FRAGMENT_OFFSET).to_be() == 0
            && protocol == IPPROTO_UDP
            && ttl > 1
            && ETHERNET_LEN + ip_len == frame_len
            && udp_len >= UDP_LEN
            && IPV4_LEN + udp_len <= ip_len;
        is_plain.then_some(Self { head, ip_len })
    }

    /// The frame's destination [MAC address](number).
    #[must_use]
    #[inline]
    pub fn mac(&self) -> u64 {
        number(self.head.words::<0, 3>())
    }

    /// Where it goes, as [`BindKey::plain`](crate::abi::BindKey::plain) has it.
    #[must_use]
    #[inline]
    pub fn destination(&self) -> Option<NonZero<u64>> {
        let [high, low] = self.head.words::<30, 2>();
        let [port] = self.head.words::<36, 1>();
        NonZero::new(number([high, low, port]))
    }

    /// Rewrites it for a hop of IPv4 whose header has no tag. `None`, and nothing changes: its checksum is none, or
    /// the pseudo-header's sum only.
    #[must_use]
    #[inline]
    pub fn redirect(mut self, hop: &NextHop) -> Option<()> {
        let (ip, received, sent) = ipv4(self.head.words::<22, 6>(), hop);
        let [old_port, len, field] = self.head.words::<36, 3>();
        let pseudo = pseudo_header(received, len.to_ne_bytes());
        let field = field.to_ne_bytes();
        if field == NO_CHECKSUM || field == pseudo.fold() {
            return None;
        }
        let port = hop.port_be;
        let checksum = checksum::increment(field, received.words([old_port]), sent.words([port]));
        let [header @ .., _, _] = hop.header;
        self.head.write::<0, 7>(header);
        self.head.write::<22, 6>(ip);
        let checksum = u16::from_ne_bytes(not_none(checksum));
        self.head.write::<36, 3>([port, len, checksum]);
        Some(())
    }
}
