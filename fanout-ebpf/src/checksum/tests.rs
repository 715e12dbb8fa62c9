use super::*;
use std::vec::Vec;

/// RFC 1071 section 4.1, word by word.
fn naive(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap().to_be_bytes()
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Every other time of 0x00 and 0xff only, so that the corner cases of the arithmetic come up.
fn random_bytes(seed: &mut u64, len: usize) -> Vec<u8> {
    let extreme = random(seed) & 1 == 0;
    (0..len)
        .map(|_| match random(seed).to_le_bytes()[3] {
            byte if extreme => 0u8.wrapping_sub(byte & 1),
            byte => byte,
        })
        .collect()
}

#[test]
fn the_example_of_rfc_1071_holds() {
    let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(Sum::default().bytes(&example).fold(), [0xdd, 0xf2]);
    assert_eq!(Sum::default().field(example).fold(), [0xdd, 0xf2]);
    assert_eq!(Sum::default().bytes(&example).checksum(), [0x22, 0x0d]);
}

#[test]
fn the_example_of_rfc_1624_holds() {
    let old = Sum::default().field([0x55, 0x55]);
    let new = Sum::default().field([0x32, 0x85]);
    assert_eq!(increment([0xdd, 0x2f], old, new), [0x00, 0x00]);
}

#[test]
fn a_pseudo_header_has_addresses_protocol_and_length() {
    let addresses = Sum::default().field([192, 0, 2, 1]).field([192, 0, 2, 2]);
    let written_out = naive(&[192, 0, 2, 1, 192, 0, 2, 2, 0, 17, 0x12, 0x34]);
    assert_eq!(pseudo_header(addresses, [0x12, 0x34]).fold(), written_out);
}

#[test]
fn sums_of_any_length_equal_the_naive_one() {
    let mut seed = 1;
    for len in (0..200).chain([1499, 9000, 65_535]) {
        let bytes = random_bytes(&mut seed, len);
        let sum = Sum::default().bytes(&bytes);
        assert_eq!(sum.fold(), naive(&bytes), "{len} bytes");
    }
    let ones = std::vec![0xff; 65_535];
    assert_eq!(Sum::default().bytes(&ones).fold(), naive(&ones));
}

#[test]
fn fields_add_up_to_the_same_as_bytes() {
    let mut seed = 2;
    for _ in 0..1_000 {
        let bytes: [u8; 28] = random_bytes(&mut seed, 28).try_into().unwrap();
        let (head, tail) = bytes.split_at(6);
        let fields = Sum::default()
            .field::<6>(head.try_into().unwrap())
            .plus(Sum::default().field::<22>(tail.try_into().unwrap()));
        assert_eq!(fields.fold(), naive(&bytes));
    }
}

#[test]
fn an_increment_equals_the_full_computation() {
    let mut seed = 3;
    for _ in 0..200_000 {
        let mut header: [u8; 20] = random_bytes(&mut seed, 20).try_into().unwrap();
        // No IPv4 header is all zero: its first byte is the version.
        header[0] = 0x45;
        let old: [u8; 4] = header[16..].try_into().unwrap();
        let new: [u8; 4] = random_bytes(&mut seed, 4).try_into().unwrap();
        let before = Sum::default().bytes(&header).checksum();
        header[16..].copy_from_slice(&new);
        let after = Sum::default().bytes(&header).checksum();
        let incremented = increment(before, Sum::default().field(old), Sum::default().field(new));
        assert_eq!(incremented, after, "{header:02x?} before: {old:02x?}");
    }
}
