//! Datagrams between sender and receivers. The sender waits while too many are on their way: a machine
//! that has other things to do makes a test slower, and does not make it fail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use super::{receiver::Receiver, sys::BATCH};

/// Most datagrams on their way before another batch: both are what the shortest ring holds, e1000e's of 256
/// descriptors, two for each. In skb mode a program's datagrams have no other queue.
const WINDOW: u64 = 128 - BATCH as u64;
/// When nothing arrives for this long, what is missing is lost.
const LOST: Duration = Duration::from_millis(250);
const POLL: Duration = Duration::from_micros(50);

/// How many were sent, and how many came.
#[derive(Debug, Default)]
pub struct Flight {
    sent: AtomicU64,
    lost: AtomicU64,
    arrived: Vec<Arc<AtomicU64>>,
}

impl Flight {
    /// To these receivers.
    pub fn new(receivers: &[Receiver]) -> Self {
        Self {
            arrived: receivers.iter().map(Receiver::counter).collect(),
            ..Self::default()
        }
    }

    /// Datagrams sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Datagrams that came so far.
    pub fn arrived(&self) -> u64 {
        self.arrived.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Counts what was sent.
    pub fn send(&self, count: u32) {
        self.sent.fetch_add(count.into(), Relaxed);
    }

    /// Waits until more may go. Without receivers to look at, they always may.
    pub fn wait(&self) {
        let (mut since, mut arrived) = (Instant::now(), self.arrived());
        while !self.arrived.is_empty() && self.under_way(arrived) > WINDOW {
            thread::sleep(POLL);
            let now = self.arrived();
            if now != arrived {
                (since, arrived) = (Instant::now(), now);
            } else if since.elapsed() > LOST {
                self.lost.fetch_add(self.under_way(now), Relaxed);
            }
        }
    }

    /// Waits until all that was sent has come, or nothing came for `patience`.
    pub fn land(&self, patience: Duration) {
        let (mut since, mut arrived) = (Instant::now(), self.arrived());
        while arrived < self.sent() && since.elapsed() < patience {
            thread::sleep(POLL);
            let now = self.arrived();
            if now != arrived {
                (since, arrived) = (Instant::now(), now);
            }
        }
    }

    fn under_way(&self, arrived: u64) -> u64 {
        self.sent()
            .saturating_sub(arrived + self.lost.load(Relaxed))
    }
}
