//! Payloads that tell which datagram they are and can be checked byte by byte.

use std::ops::RangeInclusive;

/// Mark, flow, sequence number and length, big-endian.
const HEADER: usize = 16;
/// Shortest payload: a header, and enough of the pattern to vouch for it.
pub const SHORTEST: usize = HEADER + 8;
const MARK: u32 = 0xfa0_07fa;

/// Which datagram a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// Number of the flow.
    pub flow: u32,
    /// Place in the flow, from 0.
    pub sequence: u32,
}

/// Writes the payload of `label` over `buffer`, which it replaces; lengths walk through `sizes`.
pub fn write(label: Label, sizes: &RangeInclusive<usize>, buffer: &mut Vec<u8>) {
    let (low, high) = (*sizes.start().max(&SHORTEST), *sizes.end().max(&SHORTEST));
    let length = low + label.sequence as usize % (high - low + 1);
    buffer.clear();
    buffer.extend(MARK.to_be_bytes());
    buffer.extend(label.flow.to_be_bytes());
    buffer.extend(label.sequence.to_be_bytes());
    buffer.extend(u32::try_from(length).expect("a datagram").to_be_bytes());
    fill(label, length, buffer);
}

/// Which datagram this is, if it is one of ours and every byte is right.
pub fn read(payload: &[u8]) -> Option<Label> {
    if payload.len() < SHORTEST {
        return None;
    }
    let (header, body) = payload.split_at(HEADER);
    let field =
        |i: usize| u32::from_be_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    let label = Label {
        flow: field(4),
        sequence: field(8),
    };
    let whole = field(0) == MARK && field(12) as usize == payload.len();
    let mut words = body.chunks(8).zip(0u64..);
    let same = words.all(|(bytes, i)| pattern(label, i)[..bytes.len()] == *bytes);
    (whole && same).then_some(label)
}

fn fill(label: Label, length: usize, buffer: &mut Vec<u8>) {
    for i in 0.. {
        let missing = length - buffer.len();
        if missing == 0 {
            break;
        }
        buffer.extend(&pattern(label, i)[..missing.min(8)]);
    }
}

/// Eight bytes that differ from datagram to datagram and from place to place (`SplitMix64`).
fn pattern(label: Label, place: u64) -> [u8; 8] {
    let seed = u64::from(label.flow) << 32 | u64::from(label.sequence);
    let mut z = seed.wrapping_add((place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_be_bytes()
}
