//! What the supervisor tells a worker. The worker takes no lock unless something changed, and never
//! waits for one.

use std::sync::{
    Mutex, MutexGuard, PoisonError, TryLockError,
    atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Release},
    },
};

/// One worker's, shared with the supervisor.
#[derive(Debug, Default)]
pub struct Mailbox<M> {
    /// How many times `mail` was changed.
    generation: AtomicU64,
    mail: Mutex<M>,
    stopped: AtomicBool,
}

impl<M> Mailbox<M> {
    /// Changes what the worker works by, from its next batch on.
    pub fn post(&self, change: impl FnOnce(&mut M)) {
        change(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner));
        self.generation.fetch_add(1, Release);
    }

    /// The mail, if it changed since `seen`. Never waits: what is being written is read next time.
    pub fn collect(&self, seen: &mut u64) -> Option<MutexGuard<'_, M>> {
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

    /// Tells the worker to end after its current batch.
    pub fn stop(&self) {
        self.stopped.store(true, Release);
    }

    /// Whether the worker is to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Acquire)
    }
}
