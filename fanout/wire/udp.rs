//! UDP (RFC 768; over IPv6: RFC 8200 section 8.1).

use fanout_ebpf::checksum::{self, Sum, pseudo_header};

/// Bytes of the header.
pub const HEADER: usize = 8;

const DESTINATION_PORT: usize = 2;
const LEN: usize = 4;
const CHECKSUM: usize = 6;

/// In the checksum field: the sender made none.
const NO_CHECKSUM: [u8; 2] = [0, 0];

/// A header and the data behind it.
#[derive(Debug)]
pub struct Udp<'a> {
    header: &'a mut [u8; HEADER],
    data: &'a [u8],
}

impl<'a> Udp<'a> {
    /// The datagram that begins the payload of an IP packet. The payload may be longer than the
    /// datagram claims to be; `None` if it is shorter, or if the datagram claims less than a header.
    #[must_use]
    #[inline]
    pub fn new_checked(payload: &'a mut [u8]) -> Option<Self> {
        let (header, rest) = payload.split_first_chunk_mut::<HEADER>()?;
        let len = u16::from_be_bytes([header[LEN], header[LEN + 1]]);
        let data = rest.get(..usize::from(len).checked_sub(HEADER)?)?;
        Some(Self { header, data })
    }

    /// Destination port.
    #[must_use]
    #[inline]
    pub fn destination_port(&self) -> [u8; 2] {
        [
            self.header[DESTINATION_PORT],
            self.header[DESTINATION_PORT + 1],
        ]
    }

    /// Writes a new destination port, and carries it over into the checksum together with the IP
    /// addresses, whose sum was `received` and is now `sent`.
    ///
    /// - No checksum stays none. Over IPv6 that is an error of the sender, which is not ours to mend.
    /// - The folded sum of the pseudo-header, not complemented, is what a local sender leaves there for
    ///   its network device to complete (the kernel's `CHECKSUM_PARTIAL`). An increment on it would be
    ///   garbage: the checksum is computed in full.
    /// - Any other is incremented, so a wrong one stays wrong.
    #[inline]
    pub fn redirect(&mut self, port: [u8; 2], received: Sum, sent: Sum) {
        let old_port = self.destination_port();
        let len = [self.header[LEN], self.header[LEN + 1]];
        [
            self.header[DESTINATION_PORT],
            self.header[DESTINATION_PORT + 1],
        ] = port;
        let checksum = match [self.header[CHECKSUM], self.header[CHECKSUM + 1]] {
            NO_CHECKSUM => return,
            partial if partial == pseudo_header(received, len).fold() => self.complete(sent),
            complete => checksum::increment(complete, received.field(old_port), sent.field(port)),
        };
        self.write_checksum(checksum);
    }

    /// The checksum of the whole datagram, given the sum of its IP addresses.
    fn complete(&mut self, addresses: Sum) -> [u8; 2] {
        let len = [self.header[LEN], self.header[LEN + 1]];
        [self.header[CHECKSUM], self.header[CHECKSUM + 1]] = [0, 0];
        pseudo_header(addresses, len)
            .field(*self.header)
            .bytes(self.data)
            .checksum()
    }

    #[inline]
    fn write_checksum(&mut self, checksum: [u8; 2]) {
        [self.header[CHECKSUM], self.header[CHECKSUM + 1]] = present(checksum);
    }
}

/// A computed checksum as a header holds it: 0 would say that there is none, 0xFFFF is the same number.
#[must_use]
#[inline]
pub fn present(checksum: [u8; 2]) -> [u8; 2] {
    match checksum {
        [0, 0] => [0xff, 0xff],
        other => other,
    }
}
