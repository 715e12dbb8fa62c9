//! Counters of each worker, and the file that shows them. A counter has one writer, so adding is a
//! load and a store, no locked instruction; any thread may read.
//!
//! The way out: counters → [`Snapshot`], plain numbers that the supervisor collects → [`render`] →
//! [`MetricsFile`]. A snapshot is not one instant: a worker counts on while it is taken.

mod file;
mod page;
mod past;
mod render;
mod snapshot;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use fanout_ebpf::abi::DropReason;
pub use file::{MetricsFile, now};
pub use past::Past;
pub use render::render;
pub use snapshot::{
    DownstreamSample, InterfaceSample, ListenerSample, MemberSample, QueueSample, RedirectSample,
    Reload, Snapshot, Totals, XskStatistics,
};

/// A counter that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the counter's one writer may call this; a second one would lose counts.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count now.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Packets and the sum of their IP lengths.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Datagrams.
    pub packets: Counter,
    /// Bytes of IP packets.
    pub bytes: Counter,
}

impl Traffic {
    /// Counts one IP packet of `bytes`.
    pub fn count(&self, bytes: usize) {
        self.count_all(1, bytes);
    }

    /// Counts IP packets of `bytes` altogether.
    pub fn count_all(&self, packets: usize, bytes: usize) {
        self.packets.add(packets as u64);
        self.bytes.add(bytes as u64);
    }
}

/// What one worker counts of one listener. Aligned so that no two workers write one cache line
/// (two lines: the adjacent-line prefetcher pairs them).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ListenerCounters {
    /// Taken from the wire.
    pub received: Traffic,
    /// By [`DropReason`].
    pub dropped: [Counter; DropReason::COUNT],
}

impl ListenerCounters {
    /// Counts one datagram that went nowhere.
    pub fn count_drop(&self, reason: DropReason) {
        self.count_drops(reason, 1);
    }

    /// Counts datagrams that went nowhere.
    pub fn count_drops(&self, reason: DropReason, count: usize) {
        self.dropped[reason as usize].add(count as u64);
    }

    /// How many went nowhere for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].read()
    }
}

/// What one worker counts of one downstream of one listener. Aligned as [`ListenerCounters`] are.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct DownstreamCounters {
    /// Handed to the kernel's transmit path.
    pub forwarded: Traffic,
}
