//! IPv6 (RFC 8200): the fixed header in front of a UDP datagram.

use super::{Addresses, PROTOCOL_UDP};

/// Bytes of the fixed header.
pub const HEADER: usize = 40;

const VERSION: usize = 0;
const PAYLOAD_LEN: usize = 4;
const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;

/// A header.
#[derive(Debug)]
pub struct Ipv6<'a> {
    /// All in front of the addresses.
    fixed: &'a mut [u8; 8],
    source: &'a mut [u8; 16],
    destination: &'a mut [u8; 16],
}

impl<'a> Ipv6<'a> {
    /// The header of the packet that begins `bytes`, and the payload. What lies behind the packet is
    /// not part of it. `None` if anything but UDP follows the header, or if `bytes` hold less than the
    /// packet claims.
    #[must_use]
    #[inline]
    pub fn new_checked(bytes: &'a mut [u8]) -> Option<(Self, &'a mut [u8])> {
        let (fixed, rest) = bytes.split_first_chunk_mut::<8>()?;
        let (source, rest) = rest.split_first_chunk_mut()?;
        let (destination, rest) = rest.split_first_chunk_mut()?;
        let payload_len = u16::from_be_bytes([fixed[PAYLOAD_LEN], fixed[PAYLOAD_LEN + 1]]);
        if fixed[VERSION] >> 4 != 6 || fixed[NEXT_HEADER] != PROTOCOL_UDP {
            return None;
        }
        let payload = rest.get_mut(..payload_len.into())?;
        let header = Self {
            fixed,
            source,
            destination,
        };
        Some((header, payload))
    }

    /// Hop limit.
    #[must_use]
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.fixed[HOP_LIMIT]
    }

    /// Source and destination.
    #[must_use]
    #[inline]
    pub fn addresses(&self) -> Addresses<16> {
        Addresses {
            source: *self.source,
            destination: *self.destination,
        }
    }

    /// Writes new addresses and takes one off the hop limit. The header has no checksum.
    #[inline]
    pub fn redirect(&mut self, addresses: &Addresses<16>) {
        self.fixed[HOP_LIMIT] = self.fixed[HOP_LIMIT].saturating_sub(1);
        *self.source = addresses.source;
        *self.destination = addresses.destination;
    }
}
