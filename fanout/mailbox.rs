//! What the supervisor tells a worker. The worker takes no lock unless something changed, and never
//! waits for one.

use std::sync::{
    Mutex, MutexGuard, PoisonError, TryLockError,
    atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// One worker's, shared with the supervisor.
#[derive(Debug, Default)]
pub struct Mailbox<M> {
    /// How many times `mail` was changed.
    generation: AtomicU64,
    mail: Mutex<M>,
    /// The generation that the worker works by.
    collected: AtomicU64,
    stopped: AtomicBool,
}

impl<M> Mailbox<M> {
    /// Changes what the worker works by, from its next batch on.
    pub fn post(&self, change: impl FnOnce(&mut M)) {
        change(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner));
        self.generation.fetch_add(1, Release);
    }

    /// The mail, if it changed since the worker last took it. Never waits: what is being written is read
    /// next time. For the worker alone, between two batches.
    pub fn collect(&self) -> Option<MutexGuard<'_, M>> {
        let generation = self.generation.load(Acquire);
        if generation == self.collected.load(Relaxed) {
            return None;
        }
        let mail = match self.mail.try_lock() {
            Ok(mail) => mail,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        self.collected.store(generation, Release);
        Some(mail)
    }

    /// Whether the worker took all mail. What it did by what it had before is done then, and counted.
    #[must_use]
    pub fn is_collected(&self) -> bool {
        self.collected.load(Acquire) == self.generation.load(Relaxed)
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
