//! A frame → the UDP flow that it belongs to, and what (if anything) is irregular about it.
//!
//! The same code runs in the kernel and on the host. Checksums are not looked at.
//!
//! RFC 791 (IPv4), RFC 8200 (IPv6), RFC 4302 (AH), RFC 768 (UDP), IEEE 802.1Q (tags).

use crate::{
    abi::{BindKey, IPV4_MAPPED, PassReason},
    frame::Frame,
    words::number,
};

/// Bytes of an Ethernet header without a tag.
pub const ETHERNET_LEN: usize = 14;
const VLAN_TAG_LEN: usize = 4;
/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6_LEN: usize = 40;
/// Bytes of a UDP header.
pub const UDP_LEN: usize = 8;

pub(crate) const ETH_P_IP: u16 = 0x0800;
/// The type of what a VLAN tag begins.
pub const ETH_P_8021Q: u16 = 0x8100;
/// The type of IPv6.
pub const ETH_P_IPV6: u16 = 0x86dd;

/// The VLAN id within a tag's control information; id 0 is a priority tag, that is: untagged.
pub const VLAN_VID_MASK: u16 = 0x0fff;

pub(crate) const IP_MORE_FRAGMENTS: u16 = 0x2000;
pub(crate) const IP_FRAGMENT_OFFSET: u16 = 0x1fff;
const IPV6_FRAGMENT_OFFSET: u16 = 0xfff8;

const IPPROTO_HOPOPTS: u8 = 0;
pub(crate) const IPPROTO_UDP: u8 = 17;
const IPPROTO_ROUTING: u8 = 43;
const IPPROTO_FRAGMENT: u8 = 44;
const IPPROTO_AH: u8 = 51;
const IPPROTO_DSTOPTS: u8 = 60;

/// As far as a chain is followed; each more doubles the verifier's work on the rest.
const MAX_EXTENSION_HEADERS: usize = 4;

/// A frame that carries UDP, as far as its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The frame's destination [MAC address](number).
    pub mac: u64,
    /// Where the IP packet begins.
    pub ip: usize,
    /// Where the datagram goes.
    pub key: BindKey,
    /// Length of the IP packet by its own header, in bytes; the frame may be longer (padding).
    pub ip_len: usize,
    /// Why it is not a datagram to forward, whoever it is for.
    pub irregular: Option<PassReason>,
}

/// The flow of a frame. `None`: it is not UDP over IP behind at most one tag, or its port can't be read.
///
/// One thing can be wrong with a frame in several ways; `irregular` is the first in the order in which a
/// receiver would notice: IP header, fragment, options, UDP length, TTL.
#[must_use]
#[inline]
pub fn parse(frame: Frame<'_>) -> Option<Flow> {
    let mut ethertype = frame.u16(ETHERNET_LEN - 2)?;
    let mut ip = frame.skip(ETHERNET_LEN);
    let mut ip_at = ETHERNET_LEN;
    let mut vlan = 0;
    if ethertype == ETH_P_8021Q {
        vlan = ip.u16(0)? & VLAN_VID_MASK;
        ethertype = ip.u16(2)?;
        ip = ip.skip(VLAN_TAG_LEN);
        ip_at += VLAN_TAG_LEN;
    }
    let Datagram {
        address,
        port_be,
        ip_len,
        irregular,
    } = match ethertype {
        ETH_P_IP => ipv4(ip)?,
        ETH_P_IPV6 => ipv6(ip)?,
        _ => return None,
    };
    Some(Flow {
        mac: number(frame.words(0)?),
        ip: ip_at,
        key: BindKey {
            address,
            port_be,
            vlan,
        },
        ip_len,
        irregular,
    })
}

/// A [`Flow`] but for its Ethernet part.
struct Datagram {
    address: [u8; 16],
    port_be: u16,
    ip_len: usize,
    irregular: Option<PassReason>,
}

#[inline]
fn ipv4(ip: Frame<'_>) -> Option<Datagram> {
    let [first, len, _, fragment, ttl, _, _, _, high, low] = ip.words(0)?;
    let [ttl, protocol] = ttl.to_ne_bytes();
    if protocol != IPPROTO_UDP {
        return None;
    }
    let fragment = u16::from_be(fragment);
    // Only the first fragment carries the ports.
    if fragment & IP_FRAGMENT_OFFSET != 0 {
        return None;
    }
    let [version_and_len, _] = first.to_ne_bytes();
    let header_len = usize::from(version_and_len & 0x0f) * 4;
    let len = u16::from_be(len);
    // After a header that claims to be shorter than it can be: what would be the port, had it told the truth.
    let udp = if header_len > IPV4_LEN {
        ip.skip_variable::<64>(header_len)
    } else {
        ip.skip(IPV4_LEN)
    };
    let [port_be] = udp.words(2)?;

    let irregular = if version_and_len >> 4 != 4
        || header_len < IPV4_LEN
        || usize::from(len) < header_len + UDP_LEN
        || !ip.has_variable(len.into())
    {
        Some(PassReason::Malformed)
    } else if fragment & IP_MORE_FRAGMENTS != 0 {
        Some(PassReason::Fragment)
    } else if header_len > IPV4_LEN {
        Some(PassReason::IpOptions)
    } else {
        irregular_udp(udp, usize::from(len) - header_len, ttl)
    };
    Some(Datagram {
        address: mapped_be(high, low),
        port_be,
        ip_len: len.into(),
        irregular,
    })
}

/// The 16-byte form of an IPv4 address.
#[inline]
fn mapped_be(high: u16, low: u16) -> [u8; 16] {
    let address = u32::from(u16::from_be(high)) << 16 | u32::from(u16::from_be(low));
    (IPV4_MAPPED << 32 | u128::from(address)).to_be_bytes()
}

#[inline]
fn ipv6(ip: Frame<'_>) -> Option<Datagram> {
    let [first, _, payload_len, next] = ip.words(0)?;
    let [next_header, hop_limit] = next.to_ne_bytes();
    let address: [u16; 8] = ip.words(IPV6_LEN - 16)?;
    let address = address.iter().fold(0, |number, word| {
        number << 16 | u128::from(u16::from_be(*word))
    });
    let Extensions {
        len: extensions_len,
        fragment,
        udp,
    } = extensions(ip.skip(IPV6_LEN), next_header)?;
    // No such address is on any wire, and to the maps it would be an IPv4 one.
    if address >> 32 == IPV4_MAPPED {
        return None;
    }
    let payload_len = u16::from_be(payload_len);
    let [port_be] = udp.words(2)?;

    let irregular = if first.to_ne_bytes()[0] >> 4 != 6
        || usize::from(payload_len) < extensions_len + UDP_LEN
        || !ip.skip(IPV6_LEN).has_variable(payload_len.into())
    {
        Some(PassReason::Malformed)
    } else if fragment {
        Some(PassReason::Fragment)
    } else if next_header != IPPROTO_UDP {
        // Not by their length: Linux 6.18.15 has a plain datagram pass such a comparison as well.
        Some(PassReason::ExtensionHeaders)
    } else {
        irregular_udp(udp, payload_len.into(), hop_limit)
    };
    Some(Datagram {
        address: address.to_be_bytes(),
        port_be,
        ip_len: IPV6_LEN + usize::from(payload_len),
        irregular,
    })
}

/// What stands between an IPv6 header and the UDP header.
struct Extensions<'a> {
    len: usize,
    /// Whether a fragment header is among them.
    fragment: bool,
    /// What follows.
    udp: Frame<'a>,
}

/// Walks the extension headers at the start of `header`. `None`: they don't lead to a UDP header.
#[inline]
fn extensions(mut header: Frame<'_>, mut next_header: u8) -> Option<Extensions<'_>> {
    let mut total = 0;
    let mut fragment = false;
    for _ in 0..MAX_EXTENSION_HEADERS {
        if next_header == IPPROTO_UDP {
            break;
        }
        let [first, offset] = header.words(0)?;
        let [following, len] = first.to_ne_bytes();
        let len = match next_header {
            IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS => (usize::from(len) + 1) * 8,
            IPPROTO_AH => (usize::from(len) + 2) * 4,
            // Only the first fragment carries the ports.
            IPPROTO_FRAGMENT if u16::from_be(offset) & IPV6_FRAGMENT_OFFSET == 0 => {
                fragment = true;
                8
            }
            _ => return None,
        };
        next_header = following;
        total += len;
        header = header.skip_variable::<4096>(len);
    }
    (next_header == IPPROTO_UDP).then_some(Extensions {
        len: total,
        fragment,
        udp: header,
    })
}

/// What is wrong with a datagram whose IP header is in order and leaves it `room` bytes.
#[inline]
fn irregular_udp(udp: Frame<'_>, room: usize, ttl: u8) -> Option<PassReason> {
    match udp.u16(4).map(usize::from) {
        Some(len) if (UDP_LEN..=room).contains(&len) => {
            (ttl <= 1).then_some(PassReason::TtlExceeded)
        }
        _ => Some(PassReason::Malformed),
    }
}

#[cfg(test)]
mod tests;
