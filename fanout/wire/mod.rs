//! Checked views over the headers of a packet. A view is made by `new_checked`, which looks at every
//! length there is; from then on its accessors are constant indices into an array and can't fail.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use fanout_ebpf::checksum::Sum;

pub mod ethernet;
pub mod ipv4;
pub mod ipv6;
pub mod udp;

/// UDP's number in the protocol field of IPv4 and in the next header field of IPv6.
pub const PROTOCOL_UDP: u8 = 17;

/// Source and destination of an IP packet: addresses of 4 or 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses<const N: usize> {
    /// Where it comes from.
    pub source: [u8; N],
    /// Where it goes.
    pub destination: [u8; N],
}

impl<const N: usize> Addresses<N> {
    /// What they add to a checksum.
    #[must_use]
    #[inline]
    pub fn sum(&self) -> Sum {
        Sum::default().field(self.source).field(self.destination)
    }
}
