//! A datagram in a frame → the same for a [`NextHop`], in place, with only what changes rewritten.
//!
//! For programs that write to the packet itself. The frame already has the length and the room for the
//! Ethernet header with which it leaves.

use crate::{
    abi::NextHop,
    checksum::{self, Sum, pseudo_header},
    frame::{Frame, FrameMut},
};

/// What becomes of a checksum field that holds the pseudo-header's sum only (the kernel's
/// `CHECKSUM_PARTIAL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    /// It is completed: what leaves is bytes and nothing else.
    Complete,
    /// It becomes the new pseudo-header's sum: the kernel knows that it is to be completed, and does so when
    /// the packet leaves.
    Keep,
}

/// Rewrites a frame that carries a datagram of `hop`'s family, with a TTL above 0, and has the length of
/// [`NextHop::header`]. `macs`, where given, stand in the header instead of the hop's. `None`: the frame is shorter
/// than its headers say.
#[must_use]
#[inline]
pub fn redirect<S: Sums>(
    mut frame: FrameMut<'_>,
    hop: &NextHop,
    macs: Option<[u16; 6]>,
    partial: Partial,
) -> Option<()> {
    if hop.header_len == 14 {
        let [header @ .., _, _] = hop.header;
        frame.write(0, header)?;
    } else {
        frame.write(0, hop.header)?;
    }
    if let Some(macs) = macs {
        frame.write(0, macs)?;
    }
    let mut ip = frame.skip_variable::<32>(hop.header_len.into());
    let (received, sent) = redirect_ip(&mut ip, hop)?;
    let udp = ip.skip_variable::<64>(hop.ip_header_len.into());
    redirect_udp::<S>(udp, hop, received, sent, partial)
}

/// What a packet's checksums are yet to take up: ones' complement sums, to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Of the addresses: what the pseudo-header changed by.
    pub addresses: u16,
    /// Of the ports: what the UDP header changed by.
    pub port: u16,
    /// What the IP packet changed by, once the above are taken up and have changed it by as much as the kernel
    /// thinks: nothing, but for an IPv6 header, whose sum is not kept the same by a checksum in it.
    pub packet: Sum,
}

/// Rewrites an IP packet that carries a datagram of `hop`'s family, but for the UDP checksum: for programs
/// that have the kernel change that, which knows what is in it. `None`: it is shorter than its headers.
#[must_use]
#[inline]
pub fn redirect_unsummed(mut ip: FrameMut<'_>, hop: &NextHop) -> Option<Due> {
    let (received, sent) = redirect_ip(&mut ip, hop)?;
    let mut udp = ip.skip_variable::<64>(hop.ip_header_len.into());
    let old_port: [u16; 1] = udp.frame().words(2)?;
    let port = [hop.port_be];
    udp.write(2, port)?;
    let field = |words| Sum::default().words::<1>(words);
    let folded = |sum: Sum| u16::from_ne_bytes(sum.fold());
    let addresses = sent.minus(received);
    Some(Due {
        addresses: folded(addresses),
        port: folded(field(port).minus(field(old_port))),
        packet: if hop.ip_header_len == 20 {
            Sum::default()
        } else {
            // And the hop limit is one less.
            addresses.minus(field([u16::from_ne_bytes([0, 1])]))
        },
    })
}

/// Returns what the addresses add to a checksum, before and after.
#[inline]
fn redirect_ip(ip: &mut FrameMut<'_>, hop: &NextHop) -> Option<(Sum, Sum)> {
    if hop.ip_header_len == 20 {
        redirect_ipv4(ip, hop)
    } else {
        redirect_ipv6(ip, hop)
    }
}

/// Returns what the addresses add to a checksum, before and after.
#[inline]
fn redirect_ipv4(ip: &mut FrameMut<'_>, hop: &NextHop) -> Option<(Sum, Sum)> {
    let (after, received, sent) = ipv4(ip.frame().words(8)?, hop);
    ip.write(8, after)?;
    Some((received, sent))
}

/// An IPv4 header from the TTL on, which is above 0: what becomes of it, and what the addresses add to a checksum,
/// before and after.
#[inline]
pub(crate) fn ipv4(
    [ttl, checksum, s0, s1, d0, d1]: [u16; 6],
    hop: &NextHop,
) -> ([u16; 6], Sum, Sum) {
    let received = Sum::default().words([s0, s1, d0, d1]);
    let [s0, s1] = if hop.rewrites_source == 0 {
        [s0, s1]
    } else {
        last(hop.source)
    };
    let [d0, d1] = last(hop.destination);
    let sent = Sum::default().words([s0, s1, d0, d1]);
    let checksum = checksum::increment(checksum.to_ne_bytes(), received.words([ONE_HOP]), sent);
    let (ttl, checksum) = (ttl.wrapping_sub(ONE_HOP), u16::from_ne_bytes(checksum));
    ([ttl, checksum, s0, s1, d0, d1], received, sent)
}

/// Of a word that begins with a TTL, what a hop takes off.
const ONE_HOP: u16 = u16::from_ne_bytes([1, 0]);

/// Returns what the addresses add to a checksum, before and after.
#[inline]
fn redirect_ipv6(ip: &mut FrameMut<'_>, hop: &NextHop) -> Option<(Sum, Sum)> {
    let [next] = ip.frame().words(6)?;
    let source: [u16; 8] = ip.frame().words(8)?;
    let destination: [u16; 8] = ip.frame().words(24)?;
    let received = Sum::default().words(source).words(destination);
    let source = if hop.rewrites_source == 0 {
        source
    } else {
        ip.write(8, hop.source)?;
        hop.source
    };
    let sent = Sum::default().words(source).words(hop.destination);
    let [next_header, hop_limit] = next.to_ne_bytes();
    let next = u16::from_ne_bytes([next_header, hop_limit.saturating_sub(1)]);
    ip.write(6, [next])?;
    ip.write(24, hop.destination)?;
    Some((received, sent))
}

/// `received` and `sent` are the sums of the IP addresses before and after. No checksum stays none, a wrong
/// one stays wrong, and a computed 0, which would mean "none", becomes 0xFFFF.
#[inline]
fn redirect_udp<S: Sums>(
    mut udp: FrameMut<'_>,
    hop: &NextHop,
    received: Sum,
    sent: Sum,
    partial: Partial,
) -> Option<()> {
    let [_, old_port, len, field] = udp.frame().words(0)?;
    let port = hop.port_be;
    let (len_bytes, field) = (len.to_ne_bytes(), field.to_ne_bytes());
    if field == NO_CHECKSUM {
        return udp.write(2, [port]);
    }
    let pseudo = pseudo_header(received, len_bytes);
    let complete = if field == pseudo.fold() {
        let datagram = datagram::<S>(udp.frame(), u16::from_be(len).into())?;
        // All but the field itself, taken away by its complement.
        let [c0, c1] = field;
        not_none(pseudo.plus(datagram).field([!c0, !c1]).checksum())
    } else {
        field
    };
    let checksum = if complete != field && partial == Partial::Keep {
        pseudo_header(sent, len_bytes).fold()
    } else {
        // Also where a right checksum happens to equal the sum of its pseudo-header.
        checksum::increment(complete, received.words([old_port]), sent.words([port]))
    };
    let checksum = u16::from_ne_bytes(not_none(checksum));
    udp.write(2, [port, len, checksum])
}

/// In the checksum field: the sender made none.
pub(crate) const NO_CHECKSUM: [u8; 2] = [0, 0];

/// What stands for this checksum in a field.
#[inline]
pub(crate) const fn not_none(checksum: [u8; 2]) -> [u8; 2] {
    match checksum {
        NO_CHECKSUM => [0xff, 0xff],
        other => other,
    }
}

/// The sum of a datagram of `len` bytes, its header included. `None` if it is larger than [`LARGEST`].
///
/// From its end to its start: the offsets are numbers that the verifier does not know, so that all rounds
/// look alike to it, and what it learns of one says nothing of the frame.
#[inline]
fn datagram<S: Sums>(udp: Frame<'_>, len: usize) -> Option<Sum> {
    let mut left = len;
    let mut total = Sum::default();
    if left >= LARGEST {
        return None;
    }
    if left % 2 == 1 {
        left -= 1;
        let last = udp.skip_variable::<LARGEST>(left).byte(0)?;
        total = total.field([last, 0]);
    }
    for _ in 0..LARGEST / 512 {
        if left < 512 {
            break;
        }
        add::<S, 512>(udp, &mut left, &mut total)?;
    }
    add::<S, 256>(udp, &mut left, &mut total)?;
    add::<S, 128>(udp, &mut left, &mut total)?;
    add::<S, 64>(udp, &mut left, &mut total)?;
    add::<S, 32>(udp, &mut left, &mut total)?;
    add::<S, 16>(udp, &mut left, &mut total)?;
    add::<S, 8>(udp, &mut left, &mut total)?;
    add::<S, 4>(udp, &mut left, &mut total)?;
    if left >= 2 {
        total = total.words::<1>(udp.words(0)?);
    }
    Some(total)
}

/// Adds the last `LEN` of the bytes that are `left`, if there are as many.
#[inline]
fn add<S: Sums, const LEN: usize>(udp: Frame<'_>, left: &mut usize, total: &mut Sum) -> Option<()> {
    if *left >= LEN {
        *left -= LEN;
        let bytes = udp.skip_variable::<LARGEST>(*left);
        *total = total.plus(S::sum::<LEN>(bytes)?);
    }
    Some(())
}

/// What sums up bytes fast: the kernel has a function of its own for that.
pub trait Sums {
    /// The sum of the first `LEN` bytes, a multiple of four and 512 at most. `None` if there are less.
    fn sum<const LEN: usize>(bytes: Frame<'_>) -> Option<Sum>;
}

/// More than any datagram that a program without `xdp.frags` gets to see.
const LARGEST: usize = 4096;

/// The last four bytes: an IPv4 address in its 16-byte form.
#[inline]
const fn last([.., high, low]: [u16; 8]) -> [u16; 2] {
    [high, low]
}
