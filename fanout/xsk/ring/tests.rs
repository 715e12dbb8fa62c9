//! Both ends of a ring in one process: the tested end against a fake kernel on the same memory,
//! with a FIFO as the oracle, from start indices at and around the wrap.

use std::collections::VecDeque;

use super::*;

const SIZE: u32 = 8;
const OFFSETS: libc::xdp_ring_offset = libc::xdp_ring_offset {
    producer: 0,
    consumer: 64,
    flags: 128,
    desc: 192,
};
const STARTS: [u32; 5] = [0, 1, u32::MAX - 9, u32::MAX - 1, u32::MAX];

/// Two views of one ring's memory, both indices at `start`.
fn both_ends(start: u32) -> (Shared<u64>, Shared<u64>) {
    let ours = Shared::new(Mmap::anonymous(4096).unwrap(), OFFSETS, SIZE).unwrap();
    ours.producer().store(start, Release);
    ours.consumer().store(start, Release);
    let theirs = Shared {
        memory: ours.memory.clone(),
        ..ours
    };
    (ours, theirs)
}

/// xorshift64*, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        u32::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % limit
    }
}

/// Produces and consumes in bursts of random length and checks each entry against a FIFO.
fn run(producer: &mut Producer<u64>, consumer: &mut Consumer<u64>, random: &mut Random) {
    let mut in_ring = VecDeque::new();
    let mut next = 0;
    for _ in 0..2_000 {
        for _ in 0..random.below(SIZE + 3) {
            let had_room = producer.write(next);
            assert_eq!(had_room, in_ring.len() < SIZE as usize);
            if had_room {
                in_ring.push_back(next);
                next += 1;
            }
        }
        assert_eq!(
            producer.reserve(SIZE) as usize,
            SIZE as usize - in_ring.len()
        );
        producer.submit();
        assert_eq!(producer.pending() as usize, in_ring.len());
        for _ in 0..random.below(SIZE + 3) {
            consumer.peek();
            let distance = random.below(SIZE + 3);
            if let Some(entry) = consumer.look_ahead(distance) {
                assert_eq!(Some(&entry), in_ring.get(distance as usize));
            }
            assert_eq!(consumer.read(), in_ring.pop_front());
        }
        consumer.release();
        assert_eq!(producer.pending() as usize, in_ring.len());
    }
    assert!(next > 1_000);
}

#[test]
fn entries_come_out_in_order_and_none_is_lost() {
    for (seed, start) in (1..).zip(STARTS) {
        let (ours, theirs) = both_ends(start);
        run(&mut ours.into(), &mut theirs.into(), &mut Random(seed));
    }
}

#[test]
fn nothing_is_seen_before_submit_and_no_room_before_release() {
    let (ours, theirs) = both_ends(u32::MAX);
    let (mut producer, mut consumer) = (Producer::from(ours), Consumer::from(theirs));
    for entry in 0..u64::from(SIZE) {
        assert!(producer.write(entry));
    }
    assert!(!producer.write(99));
    assert_eq!(consumer.peek(), 0);
    producer.submit();
    assert_eq!(consumer.peek(), SIZE);
    let last = SIZE - 1;
    assert_eq!(consumer.look_ahead(last), Some(last.into()));
    assert_eq!(consumer.look_ahead(SIZE), None);
    assert_eq!(consumer.read(), Some(0));
    assert_eq!(producer.reserve(1), 0);
    consumer.release();
    assert_eq!(producer.reserve(1), 1);
}

#[test]
fn an_index_that_makes_no_sense_is_not_believed() {
    let (ours, theirs) = both_ends(7);
    let mut consumer = Consumer::from(ours);
    theirs.producer().store(7 + SIZE + 1, Release);
    assert_eq!((consumer.peek(), consumer.read()), (0, None));
    theirs.producer().store(6, Release);
    assert_eq!((consumer.peek(), consumer.read()), (0, None));

    let (ours, theirs) = both_ends(7);
    theirs.consumer().store(9, Release);
    let mut producer = Producer::from(ours);
    assert_eq!(producer.reserve(SIZE), 0);
    assert!(!producer.write(1));
    assert!(producer.pending() <= SIZE);
}

#[test]
fn the_kernel_can_ask_for_a_wakeup() {
    let (ours, theirs) = both_ends(0);
    let producer = Producer::from(ours);
    assert!(!producer.needs_wakeup());
    // SAFETY: `flags` lies in the memory that both ends hold.
    let flags = unsafe { theirs.flags.as_ref() };
    flags.store(libc::XDP_RING_NEED_WAKEUP, Relaxed);
    assert!(producer.needs_wakeup());
}

#[test]
fn offsets_beyond_the_mapping_are_refused() {
    let beyond = libc::xdp_ring_offset {
        desc: 4096 - 8,
        ..OFFSETS
    };
    assert!(Shared::<u64>::new(Mmap::anonymous(4096).unwrap(), beyond, SIZE).is_err());
    let unaligned = libc::xdp_ring_offset {
        desc: 193,
        ..OFFSETS
    };
    assert!(Shared::<u64>::new(Mmap::anonymous(4096).unwrap(), unaligned, SIZE).is_err());
}
