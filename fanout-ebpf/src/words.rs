//! Bytes as words of two, each as it lies in memory, and back.
//!
//! The programs read and write frames by such words, which begin at even addresses there. Single bytes would cost
//! them an instruction each, and more to put them together.

/// The first words of `bytes`, which must be as many.
#[must_use]
#[inline]
pub const fn words<const N: usize>(bytes: &[u8]) -> [u16; N] {
    let (pairs, _) = bytes.as_chunks();
    let mut words = [0; N];
    let mut i = 0;
    while i < N {
        words[i] = u16::from_ne_bytes(pairs[i]);
        i += 1;
    }
    words
}

/// The bytes of `words`, which must be half as many.
#[must_use]
#[inline]
pub const fn bytes<const N: usize>(words: &[u16]) -> [u8; N] {
    let mut bytes = [0; N];
    let mut i = 0;
    while i < N {
        bytes[i] = words[i / 2].to_ne_bytes()[i % 2];
        i += 1;
    }
    bytes
}

/// Three words as a number, a MAC address say: its bytes as they lie in memory, before two zeros.
#[must_use]
#[inline]
pub const fn number([a, b, c]: [u16; 3]) -> u64 {
    (a.to_le() as u64 | (b.to_le() as u64) << 16 | (c.to_le() as u64) << 32).to_le()
}
