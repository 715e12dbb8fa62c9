//! What the supervisor tells a worker, and what the worker shows: nothing that the worker lets go of is
//! freed on its thread.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{forward::Table, mailbox::Mailbox, xsk::socket::Transmit};

/// One worker's, shared with the supervisor. Aligned, for the worker writes into it with every batch: see
/// [`ListenerCounters`](crate::metrics::ListenerCounters).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Inbox {
    /// What the worker is told.
    pub mailbox: Mailbox<Mail>,
    /// Frames that are neither with the kernel nor in hand, after the last batch.
    free_frames: AtomicU64,
}

/// What changed.
#[derive(Debug, Default)]
pub struct Mail {
    /// The table to forward by; `None` once it is taken.
    pub table: Option<Arc<Table>>,
    /// Sockets for further ports, in the order of their numbers.
    pub ports: Vec<Transmit>,
    /// What the worker no longer needs, for the supervisor to free.
    pub retired: Vec<Arc<Table>>,
}

impl Inbox {
    /// Changes what the worker works by, from its next batch on.
    pub fn post(&self, change: impl FnOnce(&mut Mail)) {
        self.mailbox.post(|mail| {
            mail.retired.clear();
            // Room for what the worker will retire, so that it need not allocate.
            mail.retired.reserve(1);
            change(mail);
        });
    }

    /// The worker's free frames.
    #[must_use]
    pub fn free_frames(&self) -> u64 {
        self.free_frames.load(Relaxed)
    }

    pub(super) fn show_free_frames(&self, frames: usize) {
        self.free_frames.store(frames as u64, Relaxed);
    }
}
