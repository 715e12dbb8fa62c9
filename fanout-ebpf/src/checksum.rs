//! The Internet checksum: sum and fold (RFC 1071), increment (RFC 1624).
//!
//! Fields and results are bytes as they lie in the packet, so no byte order is ever swapped: words are
//! added as this machine reads them, and the sum comes out as this machine would write it (RFC 1071,
//! section 2 (B)).

/// A ones' complement sum that is not folded yet. It stays below 2⁴⁸: of any one packet and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds a field whose size is known, an even number of bytes.
    #[must_use]
    #[inline]
    pub const fn field<const N: usize>(mut self, field: [u8; N]) -> Self {
        const { assert!(N.is_multiple_of(2)) };
        // Words may be added in pairs: the upper half is folded down later.
        let (pairs, rest) = field.as_chunks::<4>();
        let mut i = 0;
        while i < pairs.len() {
            self.0 += u32::from_ne_bytes(pairs[i]) as u64;
            i += 1;
        }
        if let [word] = *rest.as_chunks().0 {
            self.0 += u16::from_ne_bytes(word) as u64;
        }
        self
    }

    /// Adds words as they lie in memory.
    #[must_use]
    #[inline]
    pub const fn words<const N: usize>(mut self, words: [u16; N]) -> Self {
        let mut i = 0;
        while i < N {
            self.0 += words[i] as u64;
            i += 1;
        }
        self
    }

    /// Adds any number of bytes; an odd last one counts as the first half of a word. Only the last
    /// bytes of a sum may be odd.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        // Both halves of each word go into the one accumulator, so that no carry is lost and the
        // compiler can use vector registers.
        let sum = words.iter().chain([&last]).fold(self.0, |sum, word| {
            let word = u64::from_ne_bytes(*word);
            sum + (word >> 32) + (word & 0xffff_ffff)
        });
        Self(sum)
    }

    /// Adds another sum.
    #[must_use]
    #[inline]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// This sum without another that is part of it.
    #[must_use]
    #[inline]
    pub const fn minus(self, other: Self) -> Self {
        self.plus(other.complement())
    }

    /// What takes this sum away again. 2⁴⁸ - 1 is a multiple of 2¹⁶ - 1, that is, nothing in ones' complement.
    #[must_use]
    #[inline]
    const fn complement(self) -> Self {
        Self(0xffff_ffff_ffff - self.0)
    }

    /// The sum in 16 bits, carries added back (RFC 1071). 0 only if all words were 0.
    #[must_use]
    #[inline]
    pub const fn fold(self) -> [u8; 2] {
        self.folded().to_ne_bytes()
    }

    /// What a header's checksum field holds for this sum.
    #[must_use]
    #[inline]
    pub const fn checksum(self) -> [u8; 2] {
        (!self.folded()).to_ne_bytes()
    }

    /// Adds the halves twice over: with the halves swapped, the carry out of the lower half goes into the
    /// upper one, which is the result.
    #[inline]
    const fn folded(self) -> u16 {
        let sum = (self.0.wrapping_add(self.0.rotate_left(32)) >> 32) as u32;
        (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
    }
}

/// The sum of a UDP pseudo-header (RFC 768; RFC 8200 section 8.1), given that of its two addresses.
#[must_use]
#[inline]
pub const fn pseudo_header(addresses: Sum, udp_len: [u8; 2]) -> Sum {
    const PROTOCOL: [u8; 2] = [0, 17];
    addresses.field(PROTOCOL).field(udp_len)
}

/// The checksum after fields with the sum `old` became fields with the sum `new`: RFC 1624, equation 3,
/// `HC' = ~(~HC + ~m + m')`.
///
/// As long as anything that the checksum covers is not 0 (the IP version, a pseudo-header's protocol),
/// this is what the full computation gives, 0x0000 and 0xFFFF included.
#[must_use]
#[inline]
pub const fn increment(checksum: [u8; 2], old: Sum, new: Sum) -> [u8; 2] {
    let [high, low] = checksum;
    new.minus(old).field([!high, !low]).checksum()
}

#[cfg(test)]
mod tests;
