//! Next hops that the kernel's sockets find by themselves: whether the kernel says that one has failed.
//!
//! Nobody sends to one that has failed, so the kernel would never ask for it again. An empty datagram makes it ask,
//! and needs no privilege.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use netlink_packet_route::neighbour::NeighbourState;

use super::entry::{Entry, NextHop};

/// From one attempt to have it asked for to the next.
const RETRY: Duration = Duration::from_secs(1);
/// The port that throws away what it gets (RFC 863).
const DISCARD: u16 = 9;

/// The next hops in use.
#[derive(Debug, Default)]
pub(super) struct Unmanaged {
    used: HashSet<NextHop>,
    failed: HashSet<NextHop>,
    /// When those that have failed were asked for last.
    asked: Option<Instant>,
}

impl Unmanaged {
    /// From now on `used` are in use. `entries` are all that the kernel has.
    pub(super) fn replace(&mut self, used: HashSet<NextHop>, entries: &HashMap<NextHop, Entry>) {
        self.used = used;
        self.failed.retain(|next_hop| self.used.contains(next_hop));
        for (&next_hop, &entry) in entries {
            self.note(next_hop, Some(entry));
        }
    }

    /// The kernel's news of one entry; `None`: it is gone. Whether it failed or returned.
    pub(super) fn note(&mut self, next_hop: NextHop, entry: Option<Entry>) -> bool {
        match entry {
            Some(entry) if entry.mac.is_some() => self.failed.remove(&next_hop),
            Some(Entry {
                state: NeighbourState::Failed,
                ..
            }) => self.used.contains(&next_hop) && self.failed.insert(next_hop),
            // Nobody has answered yet.
            _ => false,
        }
    }

    /// Whether nobody answers there.
    pub(super) fn has_failed(&self, next_hop: NextHop) -> bool {
        self.failed.contains(&next_hop)
    }

    /// Has the kernel ask for those that have failed, if it is time. Returns how long nothing more is to be done.
    pub(super) fn refresh(&mut self) -> Option<Duration> {
        if self.failed.is_empty() {
            return None;
        }
        let since = self.asked.map_or(RETRY, |asked| asked.elapsed());
        if since < RETRY {
            return Some(RETRY.saturating_sub(since));
        }
        self.asked = Some(Instant::now());
        for &(_, address) in &self.failed {
            // The next time may be another story.
            let _ = ask(address);
        }
        Some(RETRY)
    }
}

fn ask(address: IpAddr) -> std::io::Result<usize> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.send_to(&[], SocketAddr::new(address, DISCARD))
}
