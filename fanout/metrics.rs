//! Counters of each worker, and the file that shows them. A counter has one writer, so adding is a
//! load and a store, no locked instruction; any thread may read.
//!
//! The way out: counters → [`Snapshot`], plain numbers that the supervisor collects → [`render`] →
//! [`MetricsFile`]. A snapshot is not one instant: a worker counts on while it is taken.

mod file;
mod render;
mod snapshot;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use file::MetricsFile;
pub use render::render;
pub use snapshot::{
    DownstreamSample, ListenerSample, QueueSample, Reload, Snapshot, Totals, XskStatistics,
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

/// Why a datagram that a listener received went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// No downstream is usable.
    NoDownstream,
    /// Larger than the egress takes.
    TooBig,
    /// The TX ring (or the socket's send buffer) is full.
    TxFull,
    /// The kernel refused to send it.
    SendFailed,
    /// A worker was too slow to empty its socket's receive buffer. The kernel drops these, and counts
    /// what it merged as one.
    ReceiveBufferFull,
}

impl DropReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::NoDownstream,
        Self::TooBig,
        Self::TxFull,
        Self::SendFailed,
        Self::ReceiveBufferFull,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The value of the metrics' `reason` label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoDownstream => "no_downstream",
            Self::TooBig => "too_big",
            Self::TxFull => "tx_full",
            Self::SendFailed => "send_failed",
            Self::ReceiveBufferFull => "receive_buffer_full",
        }
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
