//! When a worker that finds nothing to do spins, and when it sleeps.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use crate::{config::BusyPoll, sys, xsk::socket::Receive};

/// How long an adaptive worker spins for the next packet.
const SPELL: Duration = Duration::from_micros(500);
/// The longest sleep: after it a worker sees what its inbox holds.
const NAP: Duration = Duration::from_millis(100);
/// Empty rounds between two looks at the clock.
const ROUNDS: u32 = 64;

/// The idle spell of one worker.
#[derive(Debug)]
pub(super) struct Idle {
    busy_poll: BusyPoll,
    rounds: u32,
    since: Option<Instant>,
}

impl Idle {
    pub(super) fn new(busy_poll: BusyPoll) -> Self {
        Self {
            busy_poll,
            rounds: 0,
            since: None,
        }
    }

    /// There was something to do.
    pub(super) fn end(&mut self) {
        self.rounds = 0;
        self.since = None;
    }

    /// There was nothing to do: waits a moment, or until a packet comes.
    pub(super) fn wait(&mut self, receive: &Receive) -> io::Result<()> {
        std::hint::spin_loop();
        self.rounds = self.rounds.wrapping_add(1);
        if self.busy_poll == BusyPoll::Always || !self.rounds.is_multiple_of(ROUNDS) {
            return Ok(());
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() < SPELL {
            // Whoever else has work for this core goes first: there is none here.
            std::thread::yield_now();
            return Ok(());
        }
        // Stays in the spell: woken without a packet, it looks once and sleeps again.
        sys::socket::wait_readable([receive.as_fd()], NAP).map(drop)
    }
}
