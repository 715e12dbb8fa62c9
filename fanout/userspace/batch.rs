//! The datagrams of one batch: cut out of what the kernel merged, each with the downstream whose turn it
//! was, and then in order, downstream by downstream.

use super::table::NextHop;
use crate::{config::MAX_DOWNSTREAMS, sys::datagram::Received};

/// Most datagrams that are put in order at a time: as many as one has copies at most.
pub(super) const DATAGRAMS: usize = 1024;
const _: () = assert!(DATAGRAMS >= MAX_DOWNSTREAMS);

/// One datagram.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Datagram<'b> {
    pub(super) payload: &'b [u8],
    /// Which of the messages received it was in.
    pub(super) message: u16,
    /// Index of the next hop that it goes to.
    pub(super) next_hop: u16,
}

/// The payloads of the datagrams in a message.
#[inline]
pub(super) fn cut<'b>(message: &Received<'b>) -> impl Iterator<Item = &'b [u8]> + use<'b> {
    let segment = message.segment.unwrap_or(usize::MAX);
    let mut rest = Some(message.bytes);
    std::iter::from_fn(move || {
        let bytes = rest.take()?;
        // One without payload is a datagram too; but behind the last nothing is left.
        match bytes.split_at_checked(segment) {
            Some((payload, others)) if !others.is_empty() => {
                rest = Some(others);
                Some(payload)
            }
            _ => Some(bytes),
        }
    })
}

/// Datagrams in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Batch<'b>(heapless::Vec<Datagram<'b>, DATAGRAMS>);

impl<'b> Batch<'b> {
    /// Adds one; whether there is room says [`room`](Self::room).
    #[inline]
    pub(super) fn push(&mut self, datagram: Datagram<'b>) {
        let _ = self.0.push(datagram);
    }

    /// How many more it takes.
    #[inline]
    pub(super) fn room(&self) -> usize {
        DATAGRAMS - self.0.len()
    }

    /// Takes all out, downstream by downstream, those of one in the order in which they came.
    /// `next_hops` count how many are for each.
    pub(super) fn in_order(
        &mut self,
        next_hops: &mut [NextHop],
    ) -> heapless::Vec<Datagram<'b>, DATAGRAMS> {
        let mut sorted = heapless::Vec::new();
        // It has the same room.
        let _ = sorted.resize_default(self.0.len());
        let mut next = 0;
        for next_hop in &mut *next_hops {
            next_hop.place = next;
            next += next_hop.count;
        }
        for datagram in &self.0 {
            if let Some(next_hop) = next_hops.get_mut(usize::from(datagram.next_hop))
                && let Some(slot) = sorted.get_mut(next_hop.place)
            {
                *slot = *datagram;
                next_hop.place += 1;
            }
        }
        self.0.clear();
        sorted
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
mod tests;
