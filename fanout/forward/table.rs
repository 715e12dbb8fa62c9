//! What a worker forwards by: binds, listeners, next hops.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use fanout_ebpf::abi::{BindKey, Policy};

use super::EthernetHeader;
use crate::{
    balance::{self, Cursors},
    metrics::{DownstreamCounters, ListenerCounters},
};

/// What one worker forwards by: read-only, replaced as a whole.
#[derive(Debug, Default)]
pub struct Table {
    binds: HashMap<BindKey, usize, BuildHasherDefault<KeyHasher>>,
    listeners: Vec<Listener>,
}

/// One listener, as a worker sees it.
#[derive(Debug)]
pub struct Listener {
    /// What its cursor is known by.
    slot: usize,
    /// The downstreams that are usable now.
    next_hops: Vec<NextHop>,
    policy: Policy,
    /// Indices of `next_hops`, as the policy takes them.
    turns: Vec<u16>,
    /// The worker's own.
    pub counters: Arc<ListenerCounters>,
}

impl Listener {
    /// A listener whose datagrams go to `next_hops`, to each by its weight, as `policy` says.
    #[must_use]
    pub fn new(
        slot: u32,
        policy: Policy,
        next_hops: Vec<(u8, NextHop)>,
        counters: Arc<ListenerCounters>,
    ) -> Self {
        let members = next_hops
            .iter()
            .map(|(weight, hop)| (*weight, hop.destination));
        let members: Vec<_> = members.collect();
        Self {
            slot: slot as usize,
            policy,
            turns: balance::schedule(policy, &members),
            next_hops: next_hops.into_iter().map(|(_, hop)| hop).collect(),
            counters,
        }
    }

    /// The downstream whose turn it is, or who is at the sender's place.
    #[inline]
    pub(super) fn next(
        &self,
        cursors: &mut Cursors,
        place: impl FnOnce() -> u32,
    ) -> Option<&NextHop> {
        let turn = if self.policy == Policy::SourceHash {
            balance::at(place(), &self.turns)
        } else {
            cursors.next(self.slot, &self.turns)
        };
        self.next_hops.get(usize::from(*turn?))
    }

    /// All that get a copy of each datagram. `None`: it goes to one.
    #[inline]
    pub(super) fn copies(&self) -> Option<Copies<'_>> {
        (self.policy == Policy::Replicate).then(|| Copies {
            turns: self.turns.iter(),
            next_hops: &self.next_hops,
        })
    }
}

/// Who gets a copy of a datagram, one after the other.
#[derive(Clone, Debug)]
pub struct Copies<'t> {
    turns: std::slice::Iter<'t, u16>,
    next_hops: &'t [NextHop],
}

impl<'t> Iterator for Copies<'t> {
    type Item = &'t NextHop;

    fn next(&mut self) -> Option<&'t NextHop> {
        self.next_hops.get(usize::from(*self.turns.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.turns.size_hint()
    }
}

impl ExactSizeIterator for Copies<'_> {}

/// A usable downstream, with all that a rewrite needs.
#[derive(Clone, Debug)]
pub struct NextHop {
    /// Where the datagram goes: the new destination address and port.
    pub destination: SocketAddr,
    /// The new source address with `source = rewrite`; of the destination's family.
    pub source: Option<IpAddr>,
    /// How it leaves.
    pub egress: Egress,
    /// Largest IP packet that the egress takes.
    pub mtu: usize,
    /// The Ethernet header in front of the IP packet.
    pub ethernet: EthernetHeader,
    /// The worker's own.
    pub counters: Arc<DownstreamCounters>,
}

/// By which way a worker hands a frame to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// TX ring of the worker's port with this number; port 0 is the ingress interface itself.
    Port(u8),
    /// Raw IP socket: the kernel routes it.
    Raw,
}

impl Table {
    /// A table of these listeners; `binds` says which index among them each bind stands for, the last one if
    /// it stands there twice.
    #[must_use]
    pub fn new(binds: Vec<(BindKey, usize)>, listeners: Vec<Listener>) -> Self {
        let binds = binds.into_iter().collect();
        Self { binds, listeners }
    }

    /// Whether any listener replicates.
    #[must_use]
    pub fn copies(&self) -> bool {
        let mut policies = self.listeners.iter().map(|listener| listener.policy);
        policies.any(|policy| policy == Policy::Replicate)
    }

    /// The listener of a destination: that of the exact address, else that of the wildcard.
    #[inline]
    pub(super) fn listener(&self, key: &BindKey) -> Option<&Listener> {
        let index = self
            .binds
            .get(key)
            .or_else(|| self.binds.get(&key.wildcard()))?;
        self.listeners.get(*index)
    }
}

/// A hash of a [`BindKey`] in a handful of instructions. It need not withstand keys chosen to collide:
/// the config chooses them, not the traffic.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl KeyHasher {
    /// Rotated so, the low bytes of an address, the port and the VLAN id don't overlap.
    #[inline]
    fn mix(&mut self, word: u64) {
        self.0 = self.0.rotate_left(32) ^ word;
    }
}

impl Hasher for KeyHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.mix(u64::from_ne_bytes(*word));
        }
        for byte in rest {
            self.mix(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.mix(number.into());
    }

    /// The length of the address, which is always the same.
    #[inline]
    fn write_usize(&mut self, _: usize) {}

    /// Both halves of the product: the map uses the upper and the lower bits.
    #[inline]
    fn finish(&self) -> u64 {
        /// 2⁶⁴ divided by the golden ratio.
        const MULTIPLIER: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0) * MULTIPLIER;
        #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
        let folded = (product ^ product >> 64) as u64;
        folded
    }
}
