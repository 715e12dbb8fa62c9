//! IPv4 (RFC 791): a header without options in front of a whole UDP datagram.

use fanout_ebpf::checksum;

use super::{Addresses, PROTOCOL_UDP};

/// Bytes of a header without options.
pub const HEADER: usize = 20;

const VERSION_AND_HEADER_LEN: usize = 0;
const TOTAL_LEN: usize = 2;
const FRAGMENT: usize = 6;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
const CHECKSUM: usize = 10;

/// Version 4, a header of 5 words.
const WITHOUT_OPTIONS: u8 = 0x45;
/// "More fragments" and the offset: all of the field but "don't fragment" and the reserved bit.
const IS_FRAGMENT: u16 = 0x3fff;

/// A header.
#[derive(Debug)]
pub struct Ipv4<'a> {
    /// All in front of the addresses.
    fixed: &'a mut [u8; 12],
    source: &'a mut [u8; 4],
    destination: &'a mut [u8; 4],
}

impl<'a> Ipv4<'a> {
    /// The header of the packet that begins `bytes`, and the payload. What lies behind the packet is
    /// not part of it. `None` if it is not a whole, unfragmented UDP datagram behind a header without
    /// options, or if `bytes` hold less than the packet claims.
    #[must_use]
    #[inline]
    pub fn new_checked(bytes: &'a mut [u8]) -> Option<(Self, &'a mut [u8])> {
        let (fixed, rest) = bytes.split_first_chunk_mut::<12>()?;
        let (source, rest) = rest.split_first_chunk_mut()?;
        let (destination, rest) = rest.split_first_chunk_mut()?;
        let total_len = u16::from_be_bytes([fixed[TOTAL_LEN], fixed[TOTAL_LEN + 1]]);
        let fragment = u16::from_be_bytes([fixed[FRAGMENT], fixed[FRAGMENT + 1]]);
        if fixed[VERSION_AND_HEADER_LEN] != WITHOUT_OPTIONS
            || fragment & IS_FRAGMENT != 0
            || fixed[PROTOCOL] != PROTOCOL_UDP
        {
            return None;
        }
        let payload = rest.get_mut(..usize::from(total_len).checked_sub(HEADER)?)?;
        let header = Self {
            fixed,
            source,
            destination,
        };
        Some((header, payload))
    }

    /// Time to live.
    #[must_use]
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.fixed[TTL]
    }

    /// Source and destination.
    #[must_use]
    #[inline]
    pub fn addresses(&self) -> Addresses<4> {
        Addresses {
            source: *self.source,
            destination: *self.destination,
        }
    }

    /// Writes new addresses, takes one off the TTL, and carries both over into the checksum.
    #[inline]
    pub fn redirect(&mut self, addresses: &Addresses<4>) {
        let (ttl, protocol) = (self.fixed[TTL], self.fixed[PROTOCOL]);
        let ttl_after = ttl.saturating_sub(1);
        let checksum = checksum::increment(
            [self.fixed[CHECKSUM], self.fixed[CHECKSUM + 1]],
            self.addresses().sum().field([ttl, protocol]),
            addresses.sum().field([ttl_after, protocol]),
        );
        self.fixed[TTL] = ttl_after;
        [self.fixed[CHECKSUM], self.fixed[CHECKSUM + 1]] = checksum;
        *self.source = addresses.source;
        *self.destination = addresses.destination;
    }
}
