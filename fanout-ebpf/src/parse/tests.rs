//! Golden frames for every verdict, and mutated ones against a second parser.

extern crate std;

use core::net::SocketAddr;
use std::{vec, vec::Vec};

use super::*;
use crate::{frame::FrameMut, plain::Plain, words::words};

const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const PAYLOAD: &[u8] = b"<13>1 - host app - - - hello";

fn ethernet(tags: &[[u16; 2]], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = MAC.to_vec();
    frame.extend([0x02, 0, 0, 0, 0, 0x02]);
    for [protocol, control] in tags {
        frame.extend(protocol.to_be_bytes());
        frame.extend(control.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame
}

fn udp() -> Vec<u8> {
    let len = u16::try_from(UDP_LEN + PAYLOAD.len()).unwrap();
    let mut datagram = vec![0x9c, 0x40, 0x02, 0x02];
    datagram.extend(len.to_be_bytes());
    datagram.extend([0xbe, 0xef]);
    datagram.extend(PAYLOAD);
    datagram
}

/// `10.0.0.1:40000` → `10.0.0.9:514`, with these options.
fn ipv4_packet(options: &[u8]) -> Vec<u8> {
    let header_len = IPV4_LEN + options.len();
    let udp = udp();
    let mut packet = vec![0x40 | u8::try_from(header_len / 4).unwrap(), 0];
    packet.extend(u16::try_from(header_len + udp.len()).unwrap().to_be_bytes());
    packet.extend([0x12, 0x34, 0x40, 0, 64, IPPROTO_UDP, 0xab, 0xcd]);
    packet.extend([10, 0, 0, 1, 10, 0, 0, 9]);
    packet.extend(options);
    packet.extend(udp);
    packet
}

/// `[2001:db8::1]:40000` → `[2001:db8::9]:514`, with these extension headers, of which the first is `next`.
fn ipv6_packet(next: u8, extensions: &[u8]) -> Vec<u8> {
    let udp = udp();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(
        u16::try_from(extensions.len() + udp.len())
            .unwrap()
            .to_be_bytes(),
    );
    packet.extend([next, 64]);
    for host in [1, 9] {
        packet.extend([
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host,
        ]);
    }
    packet.extend(extensions);
    packet.extend(udp);
    packet
}

fn v4() -> Vec<u8> {
    ethernet(&[], ETH_P_IP, &ipv4_packet(&[]))
}

fn v6() -> Vec<u8> {
    ethernet(&[], ETH_P_IPV6, &ipv6_packet(IPPROTO_UDP, &[]))
}

fn parsed(frame: &[u8]) -> Option<Flow> {
    parse(Frame::from(frame))
}

/// `frame` with `bytes` written at `offset`.
fn with(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

#[track_caller]
fn assert_flow(frame: &[u8], bind: &str, vlan: Option<u16>, irregular: Option<PassReason>) {
    let flow = parsed(frame).expect("a flow");
    let bind: SocketAddr = bind.parse().unwrap();
    assert_eq!(flow.key, BindKey::new(bind, vlan));
    assert_eq!(flow.irregular, irregular);
    assert_eq!(flow.mac, number(words(&MAC)));
}

#[track_caller]
fn assert_v4(frame: &[u8], irregular: Option<PassReason>) {
    assert_flow(frame, "10.0.0.9:514", None, irregular);
}

#[track_caller]
fn assert_v6(frame: &[u8], irregular: Option<PassReason>) {
    assert_flow(frame, "[2001:db8::9]:514", None, irregular);
}

#[test]
fn clean_datagrams() {
    assert_v4(&v4(), None);
    assert_v6(&v6(), None);
    assert_eq!(parsed(&v4()).unwrap().ip_len, 28 + PAYLOAD.len());
    assert_eq!(parsed(&v6()).unwrap().ip_len, 48 + PAYLOAD.len());
}

#[test]
fn padding_is_no_part_of_the_packet() {
    let padded = [v4(), vec![0xff; 30]].concat();
    assert_v4(&padded, None);
    assert_eq!(parsed(&padded), parsed(&v4()));
}

#[test]
fn one_tag_names_the_vlan() {
    let tagged = |control| ethernet(&[[ETH_P_8021Q, control]], ETH_P_IP, &ipv4_packet(&[]));
    // Priority 5, drop eligible: no part of the id.
    assert_flow(&tagged(0xb064), "10.0.0.9:514", Some(100), None);
    assert_flow(&tagged(4094), "10.0.0.9:514", Some(4094), None);
    assert_flow(&tagged(0xe000), "10.0.0.9:514", None, None);
    let v6 = ethernet(
        &[[ETH_P_8021Q, 7]],
        ETH_P_IPV6,
        &ipv6_packet(IPPROTO_UDP, &[]),
    );
    assert_flow(&v6, "[2001:db8::9]:514", Some(7), None);
}

#[test]
fn other_protocols_are_nobodys() {
    let double = [[ETH_P_8021Q, 1], [ETH_P_8021Q, 2]];
    assert_eq!(
        parsed(&ethernet(&double, ETH_P_IP, &ipv4_packet(&[]))),
        None
    );
    assert_eq!(
        parsed(&ethernet(&[[0x88a8, 1]], ETH_P_IP, &ipv4_packet(&[]))),
        None
    );
    assert_eq!(parsed(&ethernet(&[], 0x0806, &[0; 28])), None);
    for protocol in [1, 6, 50, 132] {
        assert_eq!(parsed(&with(v4(), 14 + 9, &[protocol])), None);
        assert_eq!(parsed(&with(v6(), 14 + 6, &[protocol])), None);
    }
}

#[test]
fn ipv4_mapped_on_the_wire_is_not_ipv4() {
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 9];
    assert_eq!(parsed(&with(v6(), 14 + 24, &mapped)), None);
}

#[test]
fn only_a_first_fragment_has_ports() {
    assert_v4(&with(v4(), 14 + 6, &[0x20, 0]), Some(PassReason::Fragment));
    assert_eq!(parsed(&with(v4(), 14 + 6, &[0x20, 1])), None);
    assert_eq!(parsed(&with(v4(), 14 + 6, &[0x00, 1])), None);
    // The UDP header of a first fragment tells the length of the whole datagram.
    let first = with(v4(), 14 + 6, &[0x20, 0]);
    assert_v4(
        &with(first, 14 + 24, &[0xff, 0]),
        Some(PassReason::Fragment),
    );

    let v6 = |fragment: [u8; 2]| {
        let header = [IPPROTO_UDP, 0, fragment[0], fragment[1], 1, 2, 3, 4];
        ethernet(&[], ETH_P_IPV6, &ipv6_packet(IPPROTO_FRAGMENT, &header))
    };
    assert_v6(&v6([0, 1]), Some(PassReason::Fragment));
    assert_v6(&v6([0, 0]), Some(PassReason::Fragment));
    assert_eq!(parsed(&v6([0, 8])), None);
    assert_eq!(parsed(&v6([0x80, 1])), None);
}

#[test]
fn the_port_is_read_past_ipv4_options() {
    for words in 1..=10 {
        let frame = ethernet(&[], ETH_P_IP, &ipv4_packet(&vec![1; words * 4]));
        assert_v4(&frame, Some(PassReason::IpOptions));
    }
}

#[test]
fn the_port_is_read_past_extension_headers() {
    let frame = |first, headers: &[u8]| ethernet(&[], ETH_P_IPV6, &ipv6_packet(first, headers));
    for kind in [IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS] {
        let mut header = [0; 24];
        header[..2].copy_from_slice(&[IPPROTO_UDP, 2]);
        assert_v6(&frame(kind, &header), Some(PassReason::ExtensionHeaders));
    }
    let mut authentication = [0; 24];
    authentication[..2].copy_from_slice(&[IPPROTO_UDP, 4]);
    assert_v6(
        &frame(IPPROTO_AH, &authentication),
        Some(PassReason::ExtensionHeaders),
    );

    let chain = |len: usize| {
        let mut headers = Vec::new();
        for _ in 1..len {
            headers.extend([IPPROTO_DSTOPTS, 0, 0, 0, 0, 0, 0, 0]);
        }
        headers.extend([IPPROTO_UDP, 0, 0, 0, 0, 0, 0, 0]);
        frame(IPPROTO_DSTOPTS, &headers)
    };
    assert_v6(
        &chain(MAX_EXTENSION_HEADERS),
        Some(PassReason::ExtensionHeaders),
    );
    assert_eq!(parsed(&chain(MAX_EXTENSION_HEADERS + 1)), None);
}

#[test]
fn lengths_that_lie() {
    let malformed = Some(PassReason::Malformed);
    // Version, header length.
    assert_v4(&with(v4(), 14, &[0x55]), malformed);
    assert_v4(&with(v4(), 14, &[0x44]), malformed);
    assert_v6(&with(v6(), 14, &[0x50]), malformed);
    // IP length: no room for UDP, or more than there is.
    let end = u16::try_from(28 + PAYLOAD.len()).unwrap();
    assert_v4(&with(v4(), 14 + 2, &27u16.to_be_bytes()), malformed);
    assert_v4(&with(v4(), 14 + 2, &(end + 1).to_be_bytes()), malformed);
    assert_v6(&with(v6(), 14 + 4, &7u16.to_be_bytes()), malformed);
    assert_v6(
        &with(v6(), 14 + 4, &(end - 20 + 1).to_be_bytes()),
        malformed,
    );
    // UDP length: less than its own header, or more than the packet.
    for len in [0, 7, end - 20 + 1, u16::MAX] {
        assert_v4(&with(v4(), 14 + 24, &len.to_be_bytes()), malformed);
        assert_v6(&with(v6(), 14 + 44, &len.to_be_bytes()), malformed);
    }
    // Less than the packet is legal.
    for len in [8, end - 20 - 1] {
        assert_v4(&with(v4(), 14 + 24, &len.to_be_bytes()), None);
        assert_v6(&with(v6(), 14 + 44, &len.to_be_bytes()), None);
    }
}

#[test]
fn a_truncated_frame_is_malformed_as_soon_as_it_shows_its_port() {
    for (frame, port_end) in [(v4(), 14 + 24), (v6(), 14 + 44)] {
        for len in 0..frame.len() {
            let irregular = parsed(&frame[..len]).map(|flow| flow.irregular);
            let wanted = (len >= port_end).then_some(Some(PassReason::Malformed));
            assert_eq!(irregular, wanted, "{len} bytes");
        }
    }
}

/// As where the kernel keeps the data apart from the headers.
#[test]
fn bytes_out_of_reach_are_part_of_the_frame() {
    for frame in [v4(), v6()] {
        let whole = parsed(&frame).unwrap();
        let (readable, rest) = frame.split_at(frame.len() - PAYLOAD.len());
        let all = Frame::from(readable).with_beyond(rest.len());
        assert_eq!(parse(all), Some(whole));
        let short = Frame::from(readable).with_beyond(rest.len() - 1);
        let irregular = parse(short).unwrap().irregular;
        assert_eq!(irregular, Some(PassReason::Malformed));
    }
}

#[test]
fn the_kernel_answers_an_expired_ttl() {
    for ttl in [0, 1] {
        assert_v4(&with(v4(), 14 + 8, &[ttl]), Some(PassReason::TtlExceeded));
        assert_v6(&with(v6(), 14 + 7, &[ttl]), Some(PassReason::TtlExceeded));
    }
    assert_v4(&with(v4(), 14 + 8, &[2]), None);
    assert_v6(&with(v6(), 14 + 7, &[2]), None);
}

/// The same rules once more, over slices: every byte that [`parse`] may look at.
fn model(frame: &[u8]) -> Option<Flow> {
    let be = |at: &[u8]| usize::from(u16::from_be_bytes([at[0], at[1]]));
    let mac = number(words(frame.get(..6)?));
    let mut rest = frame.get(12..)?;
    let mut vlan = 0;
    if rest.starts_with(&[0x81, 0]) {
        vlan = u16::try_from(be(rest.get(2..4)?) % 4096).unwrap();
        rest = &rest[4..];
    }
    let ethertype = be(rest.get(..2)?);
    let ip = &rest[2..];
    let (header_len, ip_len, ttl, address, header_ok, mut reason);
    if ethertype == 0x0800 {
        let header = ip.get(..20)?;
        if header[9] != 17 || be(&header[6..]) % 0x2000 != 0 {
            return None;
        }
        let claimed = usize::from(header[0] % 16) * 4;
        header_len = claimed.max(20);
        header_ok = header[0] / 16 == 4 && claimed >= 20;
        ip_len = be(&header[2..]);
        ttl = header[8];
        address = [&[0; 10][..], &[0xff; 2], &header[16..20]].concat();
        reason = (claimed > 20).then_some(PassReason::IpOptions);
        if header[6] & 0x20 != 0 {
            reason = Some(PassReason::Fragment);
        }
    } else if ethertype == 0x86dd {
        let header = ip.get(..40)?;
        let (mut next, mut len) = (header[6], 40);
        reason = None;
        for _ in 0..MAX_EXTENSION_HEADERS {
            if next == 17 {
                break;
            }
            let extension = ip.get(len..len + 4)?;
            reason = reason.or(Some(PassReason::ExtensionHeaders));
            len += match next {
                0 | 43 | 60 => usize::from(extension[1]) * 8 + 8,
                51 => usize::from(extension[1]) * 4 + 8,
                44 if be(&extension[2..]) < 8 => {
                    reason = Some(PassReason::Fragment);
                    8
                }
                _ => return None,
            };
            next = extension[0];
        }
        address = header[24..].to_vec();
        if next != 17 || address.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]) {
            return None;
        }
        header_len = len;
        header_ok = header[0] / 16 == 6;
        ip_len = 40 + be(&header[4..]);
        ttl = header[7];
    } else {
        return None;
    }
    let udp = ip.get(header_len..).filter(|udp| udp.len() >= 4)?;
    let whole = header_ok && ip_len >= header_len + 8 && ip_len <= ip.len();
    let udp_ok = whole && (8..=ip_len - header_len).contains(&be(&udp[4..]));
    if !whole || (reason.is_none() && !udp_ok) {
        reason = Some(PassReason::Malformed);
    } else if reason.is_none() && ttl < 2 {
        reason = Some(PassReason::TtlExceeded);
    }
    Some(Flow {
        mac,
        ip: frame.len() - ip.len(),
        key: BindKey {
            address: address.try_into().unwrap(),
            port_be: u16::from_ne_bytes([udp[2], udp[3]]),
            vlan,
        },
        ip_len,
        irregular: reason,
    })
}

/// Marsaglia's xorshift64: enough to mutate frames, and the same ones in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % limit
    }

    fn byte(&mut self) -> u8 {
        // Half of them numbers that mean something somewhere.
        const TELLING: [u8; 12] = [0, 1, 4, 6, 8, 17, 0x20, 43, 44, 51, 60, 0xff];
        if self.below(2) == 0 {
            TELLING[self.below(TELLING.len())]
        } else {
            self.below(256).try_into().unwrap()
        }
    }
}

/// The short way takes what it should take, and finds the same in it.
fn assert_plain(frame: &mut [u8], flow: Option<Flow>) {
    let exact = frame.len();
    let expected = flow.and_then(|flow| {
        let destination = flow.key.plain()?;
        let is_plain = flow.irregular.is_none() && flow.ip + flow.ip_len == exact;
        // A priority tag is a tag too.
        (is_plain && flow.ip == ETHERNET_LEN).then_some((flow.mac, destination, flow.ip_len))
    });
    let found = Plain::of(FrameMut::from(&mut *frame))
        .and_then(|plain| Some((plain.mac(), plain.destination()?, plain.ip_len)));
    assert_eq!(found, expected, "{frame:02x?}");
}

/// Every frame is an allocation of its own size: under miri or the address sanitizer a read outside it is
/// an error, elsewhere one that matters is a difference from the model.
#[test]
fn mutated_frames_parse_as_the_model_says() {
    let extensions = [
        IPPROTO_DSTOPTS,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        IPPROTO_UDP,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
    ];
    let tagged = ethernet(&[[ETH_P_8021Q, 100]], ETH_P_IP, &ipv4_packet(&[]));
    let seeds = [
        v4(),
        v6(),
        tagged,
        ethernet(&[], ETH_P_IP, &ipv4_packet(&[1; 8])),
        ethernet(&[], ETH_P_IPV6, &ipv6_packet(IPPROTO_DSTOPTS, &extensions)),
    ];
    let mut random = Random(0x5eed_0000_fa07);
    let mut verdicts = [0; PassReason::COUNT + 2];
    let frames = if cfg!(miri) { 2_000 } else { 1_000_000 };
    for _ in 0..frames {
        let mut frame = seeds[random.below(seeds.len())].clone();
        for _ in 0..random.below(4) {
            let at = random.below(frame.len().min(14 + 4 + 40 + 24));
            frame[at] = random.byte();
        }
        if random.below(4) == 0 {
            frame.truncate(random.below(frame.len() + 1));
        }
        let mut frame = frame.into_boxed_slice();
        let flow = parsed(&frame);
        assert_eq!(flow, model(&frame), "{frame:02x?}");
        assert_plain(&mut frame, flow);
        verdicts[match flow.map(|flow| flow.irregular) {
            None => PassReason::COUNT,
            Some(None) => PassReason::COUNT + 1,
            Some(Some(reason)) => reason as usize,
        }] += 1;
    }
    // What depends on more than the frame is not the parser's.
    for reason in PassReason::ALL {
        let others = [
            PassReason::OtherMac,
            PassReason::OtherVlan,
            PassReason::TooBig,
            PassReason::NoSocket,
        ];
        assert_eq!(
            verdicts[reason as usize] == 0,
            others.contains(&reason),
            "{reason:?}"
        );
    }
    assert!(verdicts[PassReason::COUNT] > 0 && verdicts[PassReason::COUNT + 1] > 0);
}
