//! The eBPF programs of the bench: what sends, what counts, and the least that redirects.

use super::{
    asm::{Alu, Code, Helper, If, Label, R0, R1, R2, R3, R4, R6, R7, R8, R9, Reg, Size},
    bpf::{Kind, Words},
};
use crate::common::frame::{ETHERNET, IPV4, UDP};

// linux/bpf.h: answers of XDP and TC programs.
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const TC_ACT_SHOT: i32 = 2;
const TCX_NEXT: i32 = -1;
// linux/bpf.h, struct __sk_buff.
const QUEUE_MAPPING: i16 = 12;
const GSO_SEGS: i16 = 164;

/// Where the headers of IPv4 without options and of UDP begin, and the payload.
const IP: i16 = ETHERNET as i16;
const UDP_HEADER: i16 = IP + IPV4 as i16;
const PAYLOAD: i16 = UDP_HEADER + UDP as i16;
/// In the payload: when it was sent (0: nobody asks), and the complement of that, so that the checksum
/// stays the same.
const SENT_AT: i16 = PAYLOAD;
const COMPLEMENT: i16 = SENT_AT + 8;
/// The shortest frame that the programs look at.
const SHORTEST: i32 = COMPLEMENT as i32 + 8;

/// Words of the generator: frames sent.
pub const SENT: usize = 0;
/// Frames dropped because it was too early to send one.
pub const SPUN: usize = 1;
/// When the next one is due, in 1/256 ns since boot.
pub const DUE: usize = 2;
/// From one to the next, in 1/256 ns; 0: as fast as it goes.
pub const INTERVAL: usize = 3;
/// How far behind it may be before it lets the time go, in 1/256 ns.
pub const LAG: usize = 4;
/// Frames spread over queues.
const SPREAD: usize = 5;
/// How many words that are.
pub const GENERATOR_WORDS: usize = 6;

/// Words of the sink: datagrams, by the last four bits of their destination address; then how many took
/// how long, in steps of 64 ns, up to four milliseconds.
pub const SINK_WORDS: usize = RECEIVERS + LATENCIES;
/// The first of these.
pub const RECEIVERS: usize = 16;
const LATENCIES: usize = 1 << 16;
const LATENCY_SHIFT: i32 = 6;
/// A step, in nanoseconds.
pub const LATENCY_STEP: u64 = 1 << LATENCY_SHIFT;

/// Sends `frame` by the interface `ifindex`, when it is due. All headers are written each time: frames come
/// back with whatever became of them.
pub fn generator(frame: &[u8], ifindex: u32, words: &Words) -> Vec<u64> {
    let mut code = Code::default();
    let [early, flood, in_time, send] = [(); 4].map(|()| code.label());
    code.map_value(R8, words.map());
    packet(&mut code, Kind::Xdp, early);
    code.load(Size::Double, R7, R8, word(INTERVAL));
    code.number(Alu::Mov, R0, 0);
    code.jump_if_number(R7, If::Less, 1, flood);

    code.call(Helper::KtimeGetNs);
    code.register(Alu::Mov, R4, R0);
    code.number(Alu::Lsh, R4, 8);
    code.load(Size::Double, R3, R8, word(DUE));
    code.jump_if(R3, If::Greater, R4, early);
    code.register(Alu::Add, R3, R7);
    code.load(Size::Double, R2, R8, word(LAG));
    code.register(Alu::Add, R2, R3);
    code.jump_if(R2, If::Greater, R4, in_time);
    code.register(Alu::Mov, R3, R4);
    code.place(in_time);
    code.store(Size::Double, R8, word(DUE), R3);
    code.store(Size::Double, R6, SENT_AT, R0);
    code.number(Alu::Xor, R0, -1);
    code.store(Size::Double, R6, COMPLEMENT, R0);
    code.jump(send);

    code.place(flood);
    code.store(Size::Double, R6, SENT_AT, R0);
    code.store(Size::Double, R6, COMPLEMENT, R0);
    code.place(send);
    count(&mut code, R8, SENT);
    headers(&mut code, frame);
    redirect(&mut code, ifindex);

    code.place(early);
    count(&mut code, R8, SPUN);
    code.answer(XDP_DROP);
    code.finish()
}

/// Gives datagrams to `port` the headers of `frame` and sends them by the interface `ifindex`; the rest is
/// the kernel's.
pub fn bare_redirect(port: u16, frame: &[u8], ifindex: u32) -> Vec<u64> {
    let mut code = Code::default();
    let pass = code.label();
    packet(&mut code, Kind::Xdp, pass);
    udp_to(&mut code, port, pass);
    headers(&mut code, frame);
    redirect(&mut code, ifindex);
    code.place(pass);
    code.answer(XDP_PASS);
    code.finish()
}

/// Sends what comes by the interface `ifindex`, to each of its `queues` (a power of two) in turn, which a veth
/// hands over to the same queue of its peer.
pub fn spread(queues: u8, ifindex: u32, words: &Words) -> Vec<u64> {
    let mut code = Code::default();
    code.map_value(R8, words.map());
    code.load(Size::Double, R2, R8, word(SPREAD));
    code.number(Alu::And, R2, i32::from(queues) - 1);
    // 0 stands for none.
    code.number(Alu::Add, R2, 1);
    code.store(Size::Word, R1, QUEUE_MAPPING, R2);
    count(&mut code, R8, SPREAD);
    redirect(&mut code, ifindex);
    code.finish()
}

/// Counts datagrams to `port` and drops them; the rest, neighbour discovery say, is the kernel's.
pub fn sink(kind: Kind, port: u16, words: &Words) -> Vec<u64> {
    let (drop_it, pass_it) = match kind {
        Kind::Xdp => (XDP_DROP, XDP_PASS),
        Kind::Tc => (TC_ACT_SHOT, TCX_NEXT),
    };
    let mut code = Code::default();
    let [pass, drop, told_apart] = [(); 3].map(|()| code.label());
    code.map_value(R8, words.map());
    packet(&mut code, kind, pass);
    udp_to(&mut code, port, pass);
    code.load(Size::Byte, R2, R6, UDP_HEADER - 1);
    code.number(Alu::And, R2, RECEIVERS as i32 - 1);
    code.number(Alu::Lsh, R2, 3);
    code.register(Alu::Add, R2, R8);
    code.number(Alu::Mov, R1, 1);
    if matches!(kind, Kind::Tc) {
        // A sender's UDP_SEGMENT: so many datagrams are one skb.
        let single = code.label();
        code.load(Size::Word, R3, R9, GSO_SEGS);
        code.jump_if_number(R3, If::Less, 1, single);
        code.register(Alu::Mov, R1, R3);
        code.place(single);
    }
    code.atomic_add(R2, 0, R1);

    code.load(Size::Double, R7, R6, SENT_AT);
    code.load(Size::Double, R2, R6, COMPLEMENT);
    code.number(Alu::Xor, R2, -1);
    code.jump_if(R2, If::NotEqual, R7, drop);
    code.call(Helper::KtimeGetNs);
    code.register(Alu::Sub, R0, R7);
    code.number(Alu::Rsh, R0, LATENCY_SHIFT);
    code.jump_if_number(R0, If::Less, LATENCIES as i32, told_apart);
    code.number(Alu::Mov, R0, LATENCIES as i32 - 1);
    code.place(told_apart);
    code.number(Alu::Lsh, R0, 3);
    code.register(Alu::Add, R8, R0);
    count(&mut code, R8, RECEIVERS);
    code.place(drop);
    code.answer(drop_it);

    code.place(pass);
    code.answer(pass_it);
    code.finish()
}

/// R6 = the frame, of which the programs may look at the first [`SHORTEST`] bytes; R9 = what R1 was. Spoils
/// R1, R2 and R7.
fn packet(code: &mut Code, kind: Kind, too_short: Label) {
    // `data` and `data_end` of struct xdp_md and of struct __sk_buff.
    let (start, end) = match kind {
        Kind::Xdp => (0, 4),
        Kind::Tc => (76, 80),
    };
    let bounds = |code: &mut Code, too_short| {
        code.load(Size::Word, R6, R9, start);
        code.load(Size::Word, R7, R9, end);
        code.register(Alu::Mov, R2, R6);
        code.number(Alu::Add, R2, SHORTEST);
        code.jump_if(R2, If::Greater, R7, too_short);
    };
    code.register(Alu::Mov, R9, R1);
    let [in_pages, whole] = [(); 2].map(|()| code.label());
    match kind {
        Kind::Xdp => bounds(code, too_short),
        Kind::Tc => {
            bounds(code, in_pages);
            code.jump(whole);
            code.place(in_pages);
            code.register(Alu::Mov, R1, R9);
            code.number(Alu::Mov, R2, SHORTEST);
            code.call(Helper::SkbPullData);
            bounds(code, too_short);
            code.place(whole);
        }
    }
}

/// Goes to `other` unless R6 is an IPv4 packet with a UDP datagram to `port`. Spoils R2.
fn udp_to(code: &mut Code, port: u16, other: Label) {
    let be = |number: u16| i32::from(number.to_be());
    for (size, at, wanted) in [
        (Size::Half, IP - 2, be(0x0800)),
        (Size::Byte, IP + 9, libc::IPPROTO_UDP),
        (Size::Half, UDP_HEADER + 2, be(port)),
    ] {
        code.load(size, R2, R6, at);
        code.jump_if_number(R2, If::NotEqual, wanted, other);
    }
}

/// Writes the headers of `frame` over those of R6.
fn headers(code: &mut Code, frame: &[u8]) {
    let (words, rest) = frame[..PAYLOAD as usize].as_chunks();
    for (number, at) in words.iter().zip((0..).step_by(4)) {
        code.store_number(Size::Word, R6, at, i32::from_ne_bytes(*number));
    }
    let last = i16::from_ne_bytes([rest[0], rest[1]]);
    code.store_number(Size::Half, R6, PAYLOAD - 2, last.into());
}

fn redirect(code: &mut Code, ifindex: u32) {
    code.number(Alu::Mov, R1, ifindex as i32);
    code.number(Alu::Mov, R2, 0);
    code.call(Helper::Redirect);
    code.exit();
}

/// Adds 1 to a word; several CPUs may do so at once. Spoils R1.
fn count(code: &mut Code, words: Reg, index: usize) {
    code.number(Alu::Mov, R1, 1);
    code.atomic_add(words, word(index), R1);
}

fn word(index: usize) -> i16 {
    (index * size_of::<u64>()) as i16
}
