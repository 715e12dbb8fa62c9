//! The four rings: single producer, single consumer, a power of two of entries, indices that run
//! free and wrap at 2³² (`net/xdp/xsk_queue.h`; `Documentation/networking/af_xdp.rst`).
//!
//! User space produces into fill and TX ([`Producer`]) and consumes from completion and RX
//! ([`Consumer`]). Both work on a cached copy of the other side's index and read the shared one
//! only when the cache says that they can't go on. What the kernel writes is not trusted: an index
//! that makes no sense counts as "nothing there", never as more entries than the ring has.
#![expect(
    unsafe_code,
    reason = "entries and indices in memory that the kernel shares"
)]

use std::{
    io,
    os::fd::BorrowedFd,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{
            AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use super::mmap::Mmap;
use crate::sys::xdp::{self, Ring, xdp_desc};

/// A type that may lie in a ring.
///
/// # Safety
/// Implementors have no invalid bit pattern: the kernel writes them.
pub(super) unsafe trait Entry: Copy {}
// SAFETY: an integer.
unsafe impl Entry for u64 {}
// SAFETY: integers.
unsafe impl Entry for xdp_desc {}

/// A ring's memory: two indices, flags, and the entries.
#[derive(Debug)]
struct Shared<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
    /// Last: the pointers above point into it.
    #[allow(dead_code, reason = "kept mapped, not read")]
    memory: Arc<Mmap>,
}

// SAFETY: the pointers point into `memory`, which is `Send`; nothing here is tied to a thread.
unsafe impl<T> Send for Shared<T> {}

impl<T: Entry> Shared<T> {
    fn new(memory: Mmap, offsets: libc::xdp_ring_offset, size: u32) -> io::Result<Self> {
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        debug_assert!(size.is_power_of_two());
        Ok(Self {
            producer: memory.array(at(offsets.producer), 1)?,
            consumer: memory.array(at(offsets.consumer), 1)?,
            flags: memory.array(at(offsets.flags), 1)?,
            entries: memory.array(at(offsets.desc), size as usize)?,
            size,
            memory: Arc::new(memory),
        })
    }

    fn map(fd: BorrowedFd<'_>, ring: Ring, size: u32) -> io::Result<Self> {
        xdp::create_ring(fd, ring, size)?;
        let offsets = xdp::mmap_offsets(fd)?;
        let offsets = match ring {
            Ring::Fill => offsets.fr,
            Ring::Completion => offsets.cr,
            Ring::Rx => offsets.rx,
            Ring::Tx => offsets.tx,
        };
        let len = offsets
            .desc
            .saturating_add(u64::from(size) * size_of::<T>() as u64);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Self::new(Mmap::shared(fd, len, ring.page_offset())?, offsets, size)
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: `new` checked that it lies in `memory`, which lives as long as `self`.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    fn needs_wakeup(&self) -> bool {
        // SAFETY: as above.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// Where the entry with this index lies.
    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: masked below `size`, and `new` checked that `size` entries lie in `memory`.
        unsafe { self.entries.add((index & (self.size - 1)) as usize) }
    }

    fn read(&self, index: u32) -> T {
        // SAFETY: `entry` is in bounds and aligned, any bit pattern is a T (`Entry`); the callers
        // read only entries that the other side has released.
        unsafe { self.entry(index).read() }
    }

    fn write(&mut self, index: u32, entry: T) {
        // SAFETY: `entry` is in bounds and aligned; the caller writes only entries that the other
        // side has released.
        unsafe { self.entry(index).write(entry) }
    }
}

/// The fill ring or the TX ring.
#[derive(Debug)]
pub(super) struct Producer<T> {
    shared: Shared<T>,
    /// Where the next entry goes; up to here entries are written, if not yet submitted.
    cached_prod: u32,
    /// Where the kernel was when we last looked.
    cached_cons: u32,
}

impl<T: Entry> Producer<T> {
    /// Creates the ring and maps it.
    pub(super) fn map(fd: BorrowedFd<'_>, ring: Ring, size: u32) -> io::Result<Self> {
        Shared::map(fd, ring, size).map(Self::from)
    }

    /// How many entries can be written now, at least `wanted` if there are as many.
    pub(super) fn reserve(&mut self, wanted: u32) -> u32 {
        let free = self.free();
        if free >= wanted {
            return free;
        }
        self.cached_cons = self.shared.consumer().load(Acquire);
        self.free()
    }

    fn free(&self) -> u32 {
        self.shared
            .size
            .saturating_sub(self.cached_prod.wrapping_sub(self.cached_cons))
    }

    /// Writes an entry for the next `submit`. False if there is no room for it.
    #[must_use]
    pub(super) fn write(&mut self, entry: T) -> bool {
        if self.reserve(1) == 0 {
            return false;
        }
        self.shared.write(self.cached_prod, entry);
        self.cached_prod = self.cached_prod.wrapping_add(1);
        true
    }

    /// Shows the kernel what was written.
    pub(super) fn submit(&mut self) {
        self.shared.producer().store(self.cached_prod, Release);
    }

    /// How many submitted entries the kernel has not consumed yet.
    pub(super) fn pending(&mut self) -> u32 {
        self.cached_cons = self.shared.consumer().load(Acquire);
        self.cached_prod
            .wrapping_sub(self.cached_cons)
            .min(self.shared.size)
    }

    /// Whether the kernel wants to be told of new entries.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.shared.needs_wakeup()
    }
}

impl<T: Entry> From<Shared<T>> for Producer<T> {
    fn from(shared: Shared<T>) -> Self {
        let cached_prod = shared.producer().load(Relaxed);
        let cached_cons = shared.consumer().load(Acquire);
        Self {
            shared,
            cached_prod,
            cached_cons,
        }
    }
}

/// The completion ring or the RX ring.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    shared: Shared<T>,
    /// Where the kernel was when we last looked.
    cached_prod: u32,
    /// Where the next entry is read; up to here entries are read, if not yet released.
    cached_cons: u32,
}

impl<T: Entry> Consumer<T> {
    /// Creates the ring and maps it.
    pub(super) fn map(fd: BorrowedFd<'_>, ring: Ring, size: u32) -> io::Result<Self> {
        Shared::map(fd, ring, size).map(Self::from)
    }

    /// How many entries can be read now, looking at the shared index only if none is known.
    pub(super) fn peek(&mut self) -> u32 {
        if self.available() == 0 {
            self.cached_prod = self.shared.producer().load(Acquire);
        }
        self.available()
    }

    fn available(&self) -> u32 {
        let available = self.cached_prod.wrapping_sub(self.cached_cons);
        if available > self.shared.size {
            0
        } else {
            available
        }
    }

    /// The entry `distance` behind the next one, which stays where it is. `None` if none is known there.
    pub(super) fn look_ahead(&self, distance: u32) -> Option<T> {
        let index = self.cached_cons.wrapping_add(distance);
        (self.available() > distance).then(|| self.shared.read(index))
    }

    /// The next entry, `None` if there is none.
    pub(super) fn read(&mut self) -> Option<T> {
        if self.peek() == 0 {
            return None;
        }
        let entry = self.shared.read(self.cached_cons);
        self.cached_cons = self.cached_cons.wrapping_add(1);
        Some(entry)
    }

    /// Lets the kernel reuse what was read.
    pub(super) fn release(&mut self) {
        self.shared.consumer().store(self.cached_cons, Release);
    }
}

impl<T: Entry> From<Shared<T>> for Consumer<T> {
    fn from(shared: Shared<T>) -> Self {
        let cached_prod = shared.producer().load(Acquire);
        let cached_cons = shared.consumer().load(Relaxed);
        Self {
            shared,
            cached_prod,
            cached_cons,
        }
    }
}

#[cfg(test)]
mod tests;
