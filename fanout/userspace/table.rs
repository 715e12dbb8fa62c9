//! What one worker forwards by: its own alone, so that it may write into it.

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use fanout_ebpf::abi::Policy;

use crate::{
    balance::{self, Cursors},
    metrics::DownstreamCounters,
};

/// The downstreams that are usable, and whose turn it is after whose.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) next_hops: Vec<NextHop>,
    policy: Policy,
    /// Indices of `next_hops`, as the policy takes them.
    turns: Vec<u16>,
}

/// A usable downstream.
#[derive(Debug)]
pub(super) struct NextHop {
    /// Connected to it.
    pub(super) socket: Arc<OwnedFd>,
    /// How datagrams go out by `socket`.
    pub(super) way: Way,
    /// The worker's own.
    pub(super) counters: Arc<DownstreamCounters>,
    pub(super) news: Arc<News>,
    /// In the batch at hand: how many datagrams are for it, and where the next one is put.
    pub(super) count: usize,
    pub(super) place: usize,
}

/// How datagrams go out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// By a UDP socket, whose address and port become their source.
    Udp {
        /// Bytes of the IP and UDP header that the kernel puts before each.
        overhead: usize,
        /// The largest that the kernel cuts others of one size off; 0 if it can't.
        largest_segment: usize,
    },
    /// By a raw socket, to this address, with their sender's address as the source.
    Raw(SocketAddr),
}

/// What the worker tells the supervisor of a downstream.
#[derive(Debug, Default)]
pub(super) struct News {
    /// It answered that nobody listens there.
    pub(super) refused: AtomicBool,
    /// The way to it can't do segmentation.
    pub(super) unsegmented: AtomicBool,
}

impl Table {
    pub(super) fn new(policy: Policy, next_hops: Vec<((u8, SocketAddr), NextHop)>) -> Self {
        let (members, next_hops): (Vec<_>, Vec<_>) = next_hops.into_iter().unzip();
        Self {
            policy,
            turns: balance::schedule(policy, &members),
            next_hops,
        }
    }

    /// Whose turn it is, or who is at the place of a sender: which of `next_hops`.
    #[inline]
    pub(super) fn choose(
        &self,
        cursors: &mut Cursors,
        place: impl FnOnce() -> Option<u32>,
    ) -> Option<u16> {
        let choice = if self.policy == Policy::SourceHash {
            balance::at(place()?, &self.turns)
        } else {
            cursors.next(0, &self.turns)
        };
        choice.copied()
    }

    /// How many get a copy of each datagram, at most as many as a batch has room for; 0: it goes to one.
    #[inline]
    pub(super) fn copies(&self) -> usize {
        if self.policy == Policy::Replicate {
            self.turns.len()
        } else {
            0
        }
    }

    /// Who gets the copy with this number.
    #[inline]
    pub(super) fn copy(&self, number: usize) -> Option<u16> {
        self.turns.get(number).copied()
    }

    /// Has a downstream get one datagram more in this batch.
    #[inline]
    pub(super) fn count(&mut self, next_hop: u16) {
        if let Some(next_hop) = self.next_hops.get_mut(usize::from(next_hop)) {
            next_hop.count += 1;
        }
    }

    /// Takes those that refused out of turn; the next table brings them back. Their senders go to whoever is
    /// next in the row: the others keep their places, and theirs.
    pub(super) fn retire_refused(&mut self) {
        let Self {
            next_hops,
            policy,
            turns,
        } = self;
        let is_usable = |&turn: &u16| {
            let next_hop = next_hops.get(usize::from(turn));
            next_hop.is_some_and(|hop| !hop.news.refused.load(Relaxed))
        };
        match turns.iter().copied().find(is_usable) {
            Some(mut next) if *policy == Policy::SourceHash => {
                for turn in turns.iter_mut().rev() {
                    if is_usable(turn) {
                        next = *turn;
                    } else {
                        *turn = next;
                    }
                }
            }
            _ => turns.retain(is_usable),
        }
    }
}
