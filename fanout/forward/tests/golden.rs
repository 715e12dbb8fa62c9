//! Packets written out by hand, before and after. Hexadecimal, headers in their order.

use super::{Chunk, NextHop, from, next_hop, tagged};

const RECEIVED: &str = "0200 0000 0001 0200 0000 0002";
const SENT: &str = "0200 0000 0101 0200 0000 0001";
const HELLO: &str = "6865 6c6c 6f";

/// 192.0.2.7 → 172.31.25.200, TTL 64, 33 bytes; then → 10.42.0.21, TTL 63.
const RECEIVED_IPV4: &str = "0800 45b8 0021 1234 4000 4011 9ff1 c000 0207 ac1f 19c8";
const SENT_IPV4: &str = "0800 45b8 0021 1234 4000 3f11 5c9a c000 0207 0a2a 0015";

/// `2001:db8::7` → `2001:db8::25`, hop limit 64, payload of 13 bytes; then → `2001:db8:42::21`, hop limit 63.
const RECEIVED_IPV6: &str = "86dd 6b81 2345 000d 1140
    2001 0db8 0000 0000 0000 0000 0000 0007 2001 0db8 0000 0000 0000 0000 0000 0025";
const SENT_IPV6: &str = "86dd 6b81 2345 000d 113f
    2001 0db8 0000 0000 0000 0000 0000 0007 2001 0db8 0042 0000 0000 0000 0000 0021";

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: String = hexadecimal.split_whitespace().collect();
    digits
        .as_bytes()
        .chunks(2)
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 16).unwrap())
        .collect()
}

#[track_caller]
fn check(next_hop: NextHop, received: &str, sent: &str) {
    let mut chunk = Chunk::new(&bytes(received));
    let forwarded = chunk.forward_to(next_hop).unwrap();
    assert_eq!(format!("{forwarded:02x?}"), format!("{:02x?}", bytes(sent)));
}

fn ipv4() -> NextHop {
    next_hop("10.42.0.21:5514")
}

fn ipv6() -> NextHop {
    next_hop("[2001:db8:42::21]:5514")
}

#[test]
fn ipv4_datagram() {
    check(
        ipv4(),
        &format!("{RECEIVED} {RECEIVED_IPV4} 9c40 0202 000d 95d0 {HELLO}"),
        &format!("{SENT} {SENT_IPV4} 9c40 158a 000d 3df1 {HELLO}"),
    );
}

#[test]
fn ipv6_datagram() {
    check(
        ipv6(),
        &format!("{RECEIVED} {RECEIVED_IPV6} 9c40 0202 000d c221 {HELLO}"),
        &format!("{SENT} {SENT_IPV6} 9c40 158a 000d ae5b {HELLO}"),
    );
}

/// The tag's priority goes with it.
#[test]
fn tag_is_taken_off() {
    check(
        ipv4(),
        &format!("{RECEIVED} 8100 6007 {RECEIVED_IPV4} 9c40 0202 000d 95d0 {HELLO}"),
        &format!("{SENT} {SENT_IPV4} 9c40 158a 000d 3df1 {HELLO}"),
    );
}

#[test]
fn tag_is_put_on() {
    check(
        tagged(ipv4(), 9),
        &format!("{RECEIVED} {RECEIVED_IPV4} 9c40 0202 000d 95d0 {HELLO}"),
        &format!("{SENT} 8100 0009 {SENT_IPV4} 9c40 158a 000d 3df1 {HELLO}"),
    );
}

#[test]
fn tag_is_replaced() {
    check(
        tagged(ipv6(), 9),
        &format!("{RECEIVED} 8100 0007 {RECEIVED_IPV6} 9c40 0202 000d c221 {HELLO}"),
        &format!("{SENT} 8100 0009 {SENT_IPV6} 9c40 158a 000d ae5b {HELLO}"),
    );
}

/// A tag with VLAN id 0 is a priority only: the datagram is an untagged one.
#[test]
fn priority_tag_is_no_vlan() {
    check(
        ipv4(),
        &format!("{RECEIVED} 8100 e000 {RECEIVED_IPV4} 9c40 0202 000d 95d0 {HELLO}"),
        &format!("{SENT} {SENT_IPV4} 9c40 158a 000d 3df1 {HELLO}"),
    );
}

#[test]
fn ipv4_source_is_rewritten() {
    let sent_ipv4 = "0800 45b8 0021 1234 4000 3f11 1477 0a2a 0001 0a2a 0015";
    check(
        from(ipv4(), "10.42.0.1"),
        &format!("{RECEIVED} {RECEIVED_IPV4} 9c40 0202 000d 95d0 {HELLO}"),
        &format!("{SENT} {sent_ipv4} 9c40 158a 000d f5cd {HELLO}"),
    );
}

#[test]
fn ipv6_source_is_rewritten() {
    let sent_ipv6 = "86dd 6b81 2345 000d 113f
        2001 0db8 0042 0000 0000 0000 0000 0001 2001 0db8 0042 0000 0000 0000 0000 0021";
    check(
        from(ipv6(), "2001:db8:42::1"),
        &format!("{RECEIVED} {RECEIVED_IPV6} 9c40 0202 000d c221 {HELLO}"),
        &format!("{SENT} {sent_ipv6} 9c40 158a 000d ae1f {HELLO}"),
    );
}

/// Over IPv6 it is an error, and the receiver's to notice.
#[test]
fn no_checksum_stays_none() {
    check(
        ipv4(),
        &format!("{RECEIVED} {RECEIVED_IPV4} 9c40 0202 000d 0000 {HELLO}"),
        &format!("{SENT} {SENT_IPV4} 9c40 158a 000d 0000 {HELLO}"),
    );
    check(
        ipv6(),
        &format!("{RECEIVED} {RECEIVED_IPV6} 9c40 0202 000d 0000 {HELLO}"),
        &format!("{SENT} {SENT_IPV6} 9c40 158a 000d 0000 {HELLO}"),
    );
}

/// 880d and 5bbc are the sums of the pseudo-headers.
#[test]
fn partial_checksum_is_completed() {
    check(
        ipv4(),
        &format!("{RECEIVED} {RECEIVED_IPV4} 9c40 0202 000d 880d {HELLO}"),
        &format!("{SENT} {SENT_IPV4} 9c40 158a 000d 3df1 {HELLO}"),
    );
    check(
        ipv6(),
        &format!("{RECEIVED} {RECEIVED_IPV6} 9c40 0202 000d 5bbc {HELLO}"),
        &format!("{SENT} {SENT_IPV6} 9c40 158a 000d ae5b {HELLO}"),
    );
}

/// What is behind the datagram in the IP packet is carried along, but no part of the checksum.
#[test]
fn checksum_covers_what_udp_claims() {
    for complete_or_partial in ["0541", "880b"] {
        check(
            ipv4(),
            &format!("{RECEIVED} {RECEIVED_IPV4} 9c40 0202 000b {complete_or_partial} {HELLO}"),
            &format!("{SENT} {SENT_IPV4} 9c40 158a 000b ad61 {HELLO}"),
        );
    }
}

#[test]
fn padding_is_cut_off() {
    let padding = "00 0000 0000 0000 0000 0000 0000";
    check(
        ipv4(),
        &format!("{RECEIVED} {RECEIVED_IPV4} 9c40 0202 000d 95d0 {HELLO} {padding}"),
        &format!("{SENT} {SENT_IPV4} 9c40 158a 000d 3df1 {HELLO}"),
    );
}

#[test]
fn udp_checksum_of_zero_is_sent_as_ffff() {
    let received_ipv4 = "0800 45b8 001e 1234 4000 4011 9ff4 c000 0207 ac1f 19c8";
    let sent_ipv4 = "0800 45b8 001e 1234 4000 3f11 5c9d c000 0207 0a2a 0015";
    // Incremented from a complete one, computed from a partial one.
    for complete_or_partial in ["57df", "880a"] {
        check(
            ipv4(),
            &format!("{RECEIVED} {received_ipv4} 9c40 0202 000a {complete_or_partial} 81c9"),
            &format!("{SENT} {sent_ipv4} 9c40 158a 000a ffff 81c9"),
        );
    }
}

#[test]
fn header_checksum_of_zero_is_sent_as_zero() {
    let received_ipv4 = "0800 45b8 0021 6ece 4000 4011 4357 c000 0207 ac1f 19c8";
    let sent_ipv4 = "0800 45b8 0021 6ece 4000 3f11 0000 c000 0207 0a2a 0015";
    check(
        ipv4(),
        &format!("{RECEIVED} {received_ipv4} 9c40 0202 000d 95d0 {HELLO}"),
        &format!("{SENT} {sent_ipv4} 9c40 158a 000d 3df1 {HELLO}"),
    );
}

/// One too many in each checksum stays one too many.
#[test]
fn wrong_checksums_stay_wrong() {
    let received_ipv4 = "0800 45b8 0021 1234 4000 4011 9ff2 c000 0207 ac1f 19c8";
    let sent_ipv4 = "0800 45b8 0021 1234 4000 3f11 5c9b c000 0207 0a2a 0015";
    check(
        ipv4(),
        &format!("{RECEIVED} {received_ipv4} 9c40 0202 000d 95d1 {HELLO}"),
        &format!("{SENT} {sent_ipv4} 9c40 158a 000d 3df2 {HELLO}"),
    );
}
