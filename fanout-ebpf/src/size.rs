//! What a packet amounts to that the kernel may have merged from several datagrams (GSO).

use crate::parse::{Flow, IPV4_LEN, IPV6_LEN, UDP_LEN};

/// Datagrams and bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Datagrams: 1, or how many the packet is to be cut into.
    pub datagrams: u64,
    /// The sum of their IP packets' lengths.
    pub bytes: u64,
    /// Length of the largest one's IP packet.
    pub largest: usize,
}

impl Size {
    /// Of an IP packet of `ip_len` bytes with one datagram.
    #[must_use]
    #[inline]
    pub const fn one(ip_len: usize) -> Self {
        Self {
            datagrams: 1,
            bytes: ip_len as u64,
            largest: ip_len,
        }
    }

    /// Of a packet in which each datagram but the last has `gso_size` bytes of payload; 0: it is one datagram.
    #[must_use]
    #[inline]
    pub const fn new(flow: &Flow, gso_size: usize) -> Self {
        let headers = UDP_LEN
            + if flow.key.is_ipv4() {
                IPV4_LEN
            } else {
                IPV6_LEN
            };
        let payload = flow.ip_len.saturating_sub(headers);
        if gso_size == 0 || payload <= gso_size {
            return Self::one(flow.ip_len);
        }
        let datagrams = payload.div_ceil(gso_size);
        Self {
            datagrams: datagrams as u64,
            bytes: (payload + datagrams * headers) as u64,
            largest: gso_size + headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;

    use super::*;
    use crate::abi::BindKey;

    fn flow(to: &str, ip_len: usize) -> Flow {
        Flow {
            mac: 0,
            ip: 14,
            key: BindKey::new(to.parse::<SocketAddr>().unwrap(), None),
            ip_len,
            irregular: None,
        }
    }

    /// As the receivers will count them.
    #[test]
    fn a_merged_packet_counts_as_its_datagrams() {
        for (to, headers) in [("10.0.0.9:514", 28), ("[2001:db8::9]:514", 48)] {
            for last in [1, 37, 100] {
                let flow = flow(to, headers + 7 * 100 + last);
                let size = Size::new(&flow, 100);
                assert_eq!(size.datagrams, 8);
                let bytes = 7 * (headers + 100) + headers + last;
                assert_eq!(size.bytes, bytes as u64);
                assert_eq!(size.largest, headers + 100);
            }
        }
    }

    #[test]
    fn a_packet_that_is_not_merged_counts_as_it_is() {
        for (ip_len, gso_size) in [(128, 0), (128, 100), (128, 1000), (28, 0), (28, 100)] {
            let flow = flow("10.0.0.9:514", ip_len);
            assert_eq!(Size::new(&flow, gso_size), Size::one(ip_len));
        }
    }
}
