//! Whose turn it is, for the programs that forward by themselves, and what they count.

use core::ptr;

use fanout_ebpf::{
    abi::{DropReason, Egress, ListenerCounts, NextHop, Policy, Traffic},
    frame::Frame,
    parse::Flow,
    sender,
    size::Size,
    words::bytes,
};

use crate::{COUNTS, FORWARDED, TURNS};

/// A listener's entry of this CPU.
pub(crate) struct Turn(*mut ListenerCounts);

impl Turn {
    /// Of a listener.
    #[inline]
    pub(crate) fn of(listener: u32) -> Option<Self> {
        COUNTS.get_ptr_mut(listener).map(Self)
    }

    /// Counts a packet as received by RX queue `queue`.
    #[inline]
    pub(crate) fn count_received(&self, queue: u32, size: Size) {
        // SAFETY: the entry of this CPU, on which no other program that counts interrupts this one.
        unsafe { (*self.0).count_received(queue, size) };
    }

    /// The next hop whose turn it is, for a packet; or that at `place`, if one is given.
    #[inline]
    pub(crate) fn next(
        &self,
        listener: u32,
        place: Option<u32>,
        size: Size,
    ) -> Result<&'static NextHop, DropReason> {
        let hop = match place {
            Some(place) => turn_at(listener, place),
            None => self.choose(listener),
        };
        match hop {
            Some(hop) if hop.egress == Egress::Nowhere => Err(DropReason::NoDownstream),
            Some(hop) if size.largest > hop.mtu as usize => Err(DropReason::TooBig),
            Some(hop) => Ok(hop),
            None => Err(DropReason::NoDownstream),
        }
    }

    #[inline]
    fn choose(&self, listener: u32) -> Option<&'static NextHop> {
        let (place, hop) = self.peek(listener)?;
        self.take(place);
        Some(hop)
    }

    /// Whose turn it is, and its place. Past the last turn, also where the cycle has become shorter, the first
    /// one follows.
    #[inline]
    pub(crate) fn peek(&self, listener: u32) -> Option<(u32, &'static NextHop)> {
        let turns = TURNS.get(listener)?;
        // SAFETY: as in `count_received`.
        let place = unsafe { (*self.0).cursor };
        let (place, hop) = match turns.get(place) {
            Some(hop) => (place, hop),
            None => (0, turns.get(0)?),
        };
        let hop: *const NextHop = ptr::from_ref(hop).cast();
        // SAFETY: user space puts whole next hops there, and replaces the array, not what is in it.
        Some((place, unsafe { &*hop }))
    }

    /// Goes on to the turn after that at `place`.
    #[inline]
    pub(crate) fn take(&self, place: u32) {
        // SAFETY: as in `count_received`.
        unsafe { (*self.0).cursor = place + 1 };
    }

    /// Counts the packet as one that went nowhere.
    #[inline]
    pub(crate) fn count_drop(&self, reason: DropReason, size: Size) {
        // SAFETY: as in `count_received`.
        unsafe { (*self.0).count_drop(reason, size) };
    }
}

/// The next hop at a place of a listener's turns; where there is but one, that stands for none.
#[inline]
fn turn_at(listener: u32, place: u32) -> Option<&'static NextHop> {
    let turns = TURNS.get(listener)?;
    let hop = match turns.get(place) {
        Some(hop) => hop,
        None => turns.get(0)?,
    };
    let hop: *const NextHop = ptr::from_ref(hop).cast();
    // SAFETY: user space puts whole next hops there, and replaces the array, not what is in it.
    Some(unsafe { &*hop })
}

/// The place of a packet's sender, if the listener's policy asks for it.
#[inline]
pub(crate) fn place(policy: Policy, flow: &Flow, frame: Frame<'_>) -> Option<u32> {
    if policy != Policy::SourceHash {
        return None;
    }
    let ip = frame.skip_variable::<32>(flow.ip);
    if flow.key.is_ipv4() {
        Some(sender::place_v4(bytes(&ip.words::<2>(12)?)))
    } else {
        Some(sender::place_v6(bytes(&ip.words::<8>(8)?)))
    }
}

/// Counts a packet as forwarded.
#[inline]
pub(crate) fn count_forwarded(hop: &NextHop, size: Size) {
    if let Some(traffic) = FORWARDED.get_ptr_mut(hop.downstream) {
        let traffic: *mut Traffic = traffic;
        // SAFETY: the entry of this CPU, on which no other program that counts interrupts this one.
        unsafe { (*traffic).count(size) };
    }
}
