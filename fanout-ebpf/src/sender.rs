//! Which of a listener's places a sender has with policy `source_hash`: the same in the kernel and on the host.

/// Places of a listener, a power of two. A downstream's share is off by about √(n / PLACES) of it with n of
/// them: 3 % with three, 5 % with ten. In the kernel each place takes the 88 bytes of a next hop.
pub const PLACES: u32 = 4096;

/// The place of the sender with this address, in two halves: IPv4 as `::ffff:a.b.c.d`. Its port does not matter: all
/// that one host sends stays together.
#[must_use]
#[inline]
pub const fn place(high: u64, low: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the lower bits")]
    let bits = mix(mix(high) ^ low) as u32;
    bits & (PLACES - 1)
}

/// The same of an IPv4 address.
#[must_use]
#[inline]
pub const fn place_v4(address: [u8; 4]) -> u32 {
    let [a, b, c, d] = address;
    place(0, u64::from_be_bytes([0, 0, 0xff, 0xff, a, b, c, d]))
}

/// The same of an IPv6 address.
#[must_use]
#[inline]
pub const fn place_v6(address: [u8; 16]) -> u32 {
    let number = u128::from_be_bytes(address);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    let low = number as u64;
    place((number >> 64) as u64, low)
}

/// Spreads what differs in any bit over all bits: the finalizer of `MurmurHash3` (Appleby, 2011).
#[must_use]
#[inline]
pub const fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}
