//! The neighbour entries of the next hops in use: what the kernel knows of them, kept fresh.
//!
//! Packets sent past the kernel never refresh an entry, so the kernel is asked to manage it
//! (`NTF_EXT_MANAGED`, Linux 5.16; before that it ignores the flag and takes `NTF_USE` alone). A
//! managed entry stays, but the kernel is slow to notice change: it tries a failed one every five
//! seconds and believes a good one for up to a minute. So each entry is verified about once a
//! second: `NUD_PROBE` makes the kernel ask the neighbour itself, `NUD_NONE` ask everybody.
//!
//! What a message does to an entry is in `net/core/neighbour.c`, `neigh_add` and `__neigh_update`:
//! the entry is managed afterwards if and only if the message says so, and "managed" takes from a
//! permanent entry its permanence and its MAC address. Those are somebody's own and never touched.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use log::warn;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::{
    AddressFamily,
    neighbour::{
        NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::RouteProtocol,
};

use super::entry::{self, Entry, NextHop, OURS};
use crate::netlink::{Connection, Message, Refusal};

/// How long an answer is believed.
const VERIFY: Duration = Duration::from_secs(1);
/// With many next hops each waits longer: at most 200 questions a second.
const VERIFY_EACH: Duration = Duration::from_millis(5);
/// How long a neighbour that has answered before may take, before everybody is asked.
const ANSWER: Duration = Duration::from_millis(300);
/// Between attempts to have the kernel start over.
const RETRY: Duration = Duration::from_millis(250);

/// The next hops in use.
#[derive(Debug, Default)]
pub(super) struct Watch {
    next_hops: HashMap<NextHop, Watched>,
    /// No longer in use, and still to be given back.
    unused: Vec<NextHop>,
}

/// One next hop in use.
#[derive(Debug)]
struct Watched {
    entry: Option<Entry>,
    /// Where to send: the last that was valid, until the kernel says that nobody answers.
    mac: Option<[u8; 6]>,
    /// When the entry came into its state, or was last meddled with. `None`: not asked for yet.
    since: Option<Instant>,
    /// Whether it is to be an ordinary entry again when it is no longer in use.
    ours: bool,
    /// Whether the kernel refused the last request, which is said once.
    refused: bool,
}

/// What to make the kernel do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Resolve it, and manage it.
    Ask,
    /// Ask the neighbour whether it is still there; its MAC address stays valid meanwhile.
    Verify,
    /// Forget its MAC address and ask everybody.
    Renew,
}

impl Watch {
    /// From now on `used` are in use. `entries` are all that the kernel has.
    pub(super) fn replace(
        &mut self,
        used: impl Iterator<Item = NextHop>,
        entries: &HashMap<NextHop, Entry>,
    ) {
        let mut before = std::mem::take(&mut self.next_hops);
        for next_hop in used {
            let entry = entries.get(&next_hop).copied();
            let mut watched = before
                .remove(&next_hop)
                .unwrap_or_else(|| Watched::new(entry));
            watched.note(entry);
            self.next_hops.insert(next_hop, watched);
        }
        let given_up = before.into_iter().filter(|(_, watched)| watched.ours);
        self.unused.extend(given_up.map(|(next_hop, _)| next_hop));
        self.unused
            .retain(|next_hop| !self.next_hops.contains_key(next_hop));
    }

    /// The kernel's news of one entry; `None`: it is gone. Returns whether frames to that next hop
    /// must now be sent elsewhere, or can now be sent, or no longer.
    pub(super) fn note(&mut self, next_hop: NextHop, entry: Option<Entry>) -> bool {
        self.next_hops
            .get_mut(&next_hop)
            .is_some_and(|watched| watched.note(entry))
    }

    /// Where to send frames for `next_hop`, if it is in use and known.
    pub(super) fn mac(&self, next_hop: NextHop) -> Option<[u8; 6]> {
        self.next_hops.get(&next_hop)?.mac
    }

    /// Does what is due, and returns how long nothing more will be.
    pub(super) fn refresh(&mut self, connection: &mut Connection) -> Duration {
        self.give_back(connection);
        let hops = u32::try_from(self.next_hops.len()).unwrap_or(u32::MAX);
        let pace = VERIFY.max(VERIFY_EACH.saturating_mul(hops));
        let now = Instant::now();
        let mut wait = pace;
        for (&next_hop, watched) in &mut self.next_hops {
            let Some((delay, step)) = watched.next_step(pace) else {
                continue;
            };
            let left = watched.since.map_or(Duration::ZERO, |since| {
                delay.saturating_sub(now.saturating_duration_since(since))
            });
            if left > Duration::ZERO {
                wait = wait.min(left);
            } else {
                watched.take(connection, next_hop, step);
                watched.since = Some(now);
                wait = wait.min(ANSWER);
            }
        }
        wait
    }

    /// Gives all entries back.
    pub(super) fn release(&mut self, connection: &mut Connection) {
        self.replace(std::iter::empty(), &HashMap::new());
        self.give_back(connection);
    }

    /// Makes those that are no longer in use ordinary entries again: used, and not managed.
    fn give_back(&mut self, connection: &mut Connection) {
        if self.unused.is_empty() {
            return;
        }
        // What can't be read can't be given back either.
        let entries = entry::all(connection).unwrap_or_default();
        for next_hop in self.unused.drain(..) {
            let entry = entries.get(&next_hop);
            if entry.is_some_and(|entry| entry.managed && !entry.is_somebodys()) {
                let mut message = message(next_hop);
                message.header.flags = NeighbourFlags::Use;
                let _ = connection.change(Message::NewNeighbor(message), 0);
            }
        }
    }
}

impl Watched {
    fn new(entry: Option<Entry>) -> Self {
        Self {
            entry,
            mac: None,
            since: None,
            // One that an instance before us managed, and could not give back, is ours too.
            ours: entry.is_none_or(|entry| !entry.managed || entry.marked_ours),
            refused: false,
        }
    }

    fn note(&mut self, entry: Option<Entry>) -> bool {
        let state = |entry: Option<Entry>| entry.map(|entry| entry.state);
        if self.since.is_some() && state(entry) != state(self.entry) {
            self.since = Some(Instant::now());
        }
        self.ours |= entry.is_none();
        self.entry = entry;
        let before = self.mac;
        match entry {
            Some(entry) if entry.mac.is_some() => self.mac = entry.mac,
            // Being asked for: the one that answered last may well be the one that answers next.
            Some(Entry {
                state: NeighbourState::None | NeighbourState::Incomplete,
                ..
            }) => {}
            _ => self.mac = None,
        }
        self.mac != before
    }

    /// What to do next, and how long after `since`.
    fn next_step(&self, pace: Duration) -> Option<(Duration, Step)> {
        let Some(entry) = self.entry else {
            return Some((RETRY, Step::Ask));
        };
        if entry.is_somebodys() {
            return None;
        }
        match entry.state {
            _ if self.since.is_none() => Some((Duration::ZERO, Step::Ask)),
            // The kernel is asking, once a second for three seconds, and says how it ended.
            NeighbourState::Incomplete => None,
            NeighbourState::Probe => Some((ANSWER, Step::Renew)),
            NeighbourState::Failed | NeighbourState::None => Some((RETRY, Step::Ask)),
            _ => Some((pace, Step::Verify)),
        }
    }

    fn take(&mut self, connection: &mut Connection, next_hop: NextHop, step: Step) {
        let state = match step {
            Step::Ask => None,
            Step::Verify => Some(NeighbourState::Probe),
            Step::Renew => Some(NeighbourState::None),
        };
        if let Some(state) = state {
            let mut message = message(next_hop);
            message.header.state = state;
            // If the entry has gone meanwhile, asking makes another.
            let _ = connection.change(Message::NewNeighbor(message), 0);
        }
        match ask(connection, next_hop, self.ours) {
            Ok(()) => self.refused = false,
            Err(refusal) if !self.refused => {
                self.refused = true;
                let (interface, address) = next_hop;
                warn!(
                    "neighbour not managed ifindex={} address={address} reason=\"{refusal}\"",
                    interface.0
                );
            }
            Err(_) => {}
        }
    }
}

/// Has the kernel resolve the entry if it is not, and manage it.
fn ask(connection: &mut Connection, next_hop: NextHop, ours: bool) -> Result<(), Refusal> {
    let mut message = message(next_hop);
    message.header.flags = NeighbourFlags::Use;
    message
        .attributes
        .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    if ours {
        message
            .attributes
            .push(NeighbourAttribute::Protocol(RouteProtocol::Other(OURS)));
    }
    connection.change(Message::NewNeighbor(message), NLM_F_CREATE)
}

fn message((interface, address): NextHop) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = interface.0;
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message
        .attributes
        .push(NeighbourAttribute::Destination(address.into()));
    message
}

#[cfg(test)]
mod tests;
