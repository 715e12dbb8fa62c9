//! What the supervisor tells a worker, and what the worker shows: no lock is taken unless something
//! changed, and nothing that the worker lets go of is freed on its thread.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, TryLockError,
    atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use crate::{forward::Table, xsk::socket::Transmit};

/// One worker's, shared with the supervisor.
#[derive(Debug, Default)]
pub struct Inbox {
    /// How many times `mail` was changed.
    generation: AtomicU64,
    mail: Mutex<Mail>,
    stopped: AtomicBool,
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
        let mut mail = self.lock();
        mail.retired.clear();
        // Room for what the worker will retire, so that it need not allocate.
        mail.retired.reserve(1);
        change(&mut mail);
        self.generation.fetch_add(1, Release);
    }

    /// Tells the worker to end after its current batch.
    pub fn stop(&self) {
        self.stopped.store(true, Release);
    }

    /// Whether the worker is to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Acquire)
    }

    /// The worker's free frames.
    #[must_use]
    pub fn free_frames(&self) -> u64 {
        self.free_frames.load(Relaxed)
    }

    pub(super) fn show_free_frames(&self, frames: usize) {
        self.free_frames.store(frames as u64, Relaxed);
    }

    /// The mail, if it changed since `seen`. Never waits: what is being written is read next time.
    pub(super) fn collect(&self, seen: &mut u64) -> Option<MutexGuard<'_, Mail>> {
        let generation = self.generation.load(Acquire);
        if generation == *seen {
            return None;
        }
        let mail = match self.mail.try_lock() {
            Ok(mail) => mail,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        *seen = generation;
        Some(mail)
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
