//! What the programs that forward count. Each CPU has entries of its own, and is their only writer.

use core::mem::offset_of;

use super::{DropReason, MAX_QUEUES};
use crate::size::Size;

/// Datagrams, and the bytes of their IP packets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams.
    pub packets: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
}
const _: () = assert!(size_of::<Traffic>() == 16);

impl Traffic {
    /// Counts what a packet holds.
    #[inline]
    pub fn count(&mut self, size: Size) {
        self.packets += size.datagrams;
        self.bytes += size.bytes;
    }

    /// Adds another CPU's.
    pub const fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }

    /// From how it lies in memory.
    #[must_use]
    pub const fn from_words([packets, bytes]: [u64; 2]) -> Self {
        Self { packets, bytes }
    }
}

/// One CPU's place in the turn of a listener, and what it received for the listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerCounts {
    /// Whose turn is next: index into the listener's turns; past the last one it is the first one's.
    pub cursor: u32,
    /// Zero.
    pub reserved: u32,
    /// By [`DropReason`].
    pub dropped: [u64; DropReason::COUNT],
    /// By RX queue; the last one's are also those of all queues beyond.
    pub received: [Traffic; QUEUES],
}
const _: () = assert!(size_of::<ListenerCounts>() == 8 * ListenerCounts::WORDS);
const _: () = assert!(offset_of!(ListenerCounts, dropped) == 8);
const _: () = assert!(offset_of!(ListenerCounts, received) == 8 * (1 + DropReason::COUNT));

const QUEUES: usize = MAX_QUEUES as usize;

impl ListenerCounts {
    /// Words that it has in memory.
    pub const WORDS: usize = 1 + DropReason::COUNT + 2 * QUEUES;

    /// Counts what a packet holds that came by RX queue `queue`.
    #[inline]
    pub fn count_received(&mut self, queue: u32, size: Size) {
        let queue = queue.min(MAX_QUEUES - 1) as usize;
        if let Some(traffic) = self.received.get_mut(queue) {
            traffic.count(size);
        }
    }

    /// Counts what a packet holds that went nowhere.
    #[inline]
    pub fn count_drop(&mut self, reason: DropReason, size: Size) {
        self.dropped[reason as usize] += size.datagrams;
    }
}
