//! What the programs forward by themselves with: next hops, counts.

use aya::{
    Ebpf, Pod,
    maps::{Array, ArrayOfMaps, MapData, MapError, PerCpuArray},
};
use fanout_ebpf::abi::{
    self, DropReason, ListenerCounts, MAX_QUEUES, NextHop, PassReason, Traffic,
};

use super::{Error, Programs, map, nothing};

/// `linux/bpf.h`: inner maps may differ in their number of entries.
const BPF_F_INNER_MAP: u32 = 1 << 12;

type Turns = Array<MapData, [u8; NextHop::SIZE]>;

/// The maps.
pub(super) struct Forwarding {
    turns: ArrayOfMaps<MapData, Turns>,
    counts: PerCpuArray<MapData, [u64; ListenerCounts::WORDS]>,
    forwarded: PerCpuArray<MapData, [u64; 2]>,
}

/// What a listener received, and what of it went nowhere.
#[derive(Clone, Debug)]
pub struct Received {
    /// By RX queue.
    pub queues: Vec<Traffic>,
    /// By [`DropReason`].
    pub dropped: [u64; DropReason::COUNT],
}

impl Forwarding {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            turns: map(ebpf, abi::TURNS)?,
            counts: map(ebpf, abi::COUNTS)?,
            forwarded: map(ebpf, abi::FORWARDED)?,
        })
    }

    fn set_turns(&mut self, listener: u32, turns: &[NextHop]) -> Result<(), MapError> {
        let turns = if turns.is_empty() {
            &[NextHop::NOWHERE]
        } else {
            turns
        };
        let size = u32::try_from(turns.len()).unwrap_or(u32::MAX);
        let mut cycle = Turns::create(size, BPF_F_INNER_MAP)?;
        for (place, hop) in (0..).zip(turns) {
            cycle.set(place, hop.to_bytes(), 0)?;
        }
        self.turns.set(listener, &cycle, 0)
    }
}

impl Programs {
    /// Has `listener`'s datagrams take these turns, one after the other, from the next one on: a program that
    /// runs meanwhile sees either the old turns or the new ones, and none sees the old ones when this returns
    /// (`maybe_wait_bpf_programs`, `kernel/bpf/syscall.c`). None: they are dropped.
    ///
    /// # Errors
    /// [`Error::Map`]
    pub fn set_turns(&mut self, listener: u32, turns: &[NextHop]) -> Result<(), Error> {
        self.forwarding
            .set_turns(listener, turns)
            .map_err(|cause| self.failed("set the next hops of a listener", cause))
    }

    /// What a listener received that a program forwards by itself.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::NoSys`]
    pub fn received(&self, listener: u32) -> Result<Received, Error> {
        let of_each_cpu = self
            .forwarding
            .counts
            .get(&listener, 0)
            .map_err(|cause| self.not_read("read what was received", cause))?;
        let mut received = Received {
            queues: vec![Traffic::default(); MAX_QUEUES as usize],
            dropped: [0; DropReason::COUNT],
        };
        for counts in of_each_cpu.iter() {
            let (dropped, queues) = counts[1..].split_at(DropReason::COUNT);
            for (total, count) in received.dropped.iter_mut().zip(dropped) {
                *total += count;
            }
            for (total, &words) in received.queues.iter_mut().zip(queues.as_chunks().0) {
                total.add(Traffic::from_words(words));
            }
        }
        Ok(received)
    }

    /// What went to a downstream, by its [`NextHop::downstream`].
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::NoSys`]
    pub fn forwarded(&self, downstream: u32) -> Result<Traffic, Error> {
        let of_each_cpu = self
            .forwarding
            .forwarded
            .get(&downstream, 0)
            .map_err(|cause| self.not_read("read what was forwarded", cause))?;
        let mut total = Traffic::default();
        for &words in of_each_cpu.iter() {
            total.add(Traffic::from_words(words));
        }
        Ok(total)
    }

    /// Has a listener's counts and turns begin anew.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::NoSys`]
    pub fn forget_listener(&mut self, listener: u32) -> Result<(), Error> {
        let counts = &mut self.forwarding.counts;
        clear(counts, listener, [0; ListenerCounts::WORDS])
            .and_then(|()| {
                let mut reasons = PassReason::ALL.into_iter();
                reasons.try_for_each(|reason| {
                    clear(&mut self.passed, abi::passed_index(listener, reason), 0)
                })
            })
            .map_err(|cause| self.not_read("forget a listener", cause))
    }

    /// Has the count of what went to a downstream begin anew.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::NoSys`]
    pub fn forget_downstream(&mut self, downstream: u32) -> Result<(), Error> {
        clear(&mut self.forwarding.forwarded, downstream, [0; 2])
            .map_err(|cause| self.not_read("forget a downstream", cause))
    }
}

fn clear<V: Pod>(map: &mut PerCpuArray<MapData, V>, index: u32, zero: V) -> Result<(), MapError> {
    map.set(index, nothing(zero)?, 0)
}
