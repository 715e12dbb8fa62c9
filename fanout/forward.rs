//! A frame → what becomes of it: parse, look up, choose, rewrite in place. No I/O, no socket, no
//! allocation; besides the frame it depends on the [`Table`] and on whose turn it is.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod datagram;
mod table;

use std::ops::Range;

use fanout_ebpf::abi::BindKey;

use self::datagram::Datagram;
pub use self::table::{Copies, Egress, Listener, NextHop, Table};
pub use crate::wire::ethernet::EthernetHeader;
use crate::{balance::Cursors, metrics::DropReason};

/// What became of a frame.
#[derive(Debug)]
pub enum Verdict<'t> {
    /// Rewritten, to be sent.
    Forward {
        /// Who received it.
        listener: &'t Listener,
        /// Where it goes.
        next_hop: &'t NextHop,
        /// The packet within the chunk, with its Ethernet header.
        packet: Range<usize>,
        /// The IP packet within the chunk.
        ip: Range<usize>,
    },
    /// A listener's, of which each of these downstreams gets a copy: see [`redirect`]. The frame is as it was.
    Replicate {
        /// Who received it.
        listener: &'t Listener,
        /// Who gets one: at least one.
        copies: Copies<'t>,
        /// Bytes of the IP packet.
        ip_len: usize,
    },
    /// A listener's, but it can't be forwarded. The frame is as it was.
    Drop {
        /// Who received it.
        listener: &'t Listener,
        /// Why it goes nowhere.
        reason: DropReason,
        /// Bytes of the IP packet.
        ip_len: usize,
    },
    /// No listener's (the table changed after the program had looked), or nothing that the program
    /// lets through. The frame is as it was.
    NotOurs,
}

/// Forwards frame after frame by one table.
#[derive(Debug)]
pub struct Batch<'t, 'c> {
    table: &'t Table,
    cursors: &'c mut Cursors,
    /// The last lookup: datagrams to one address come in a row.
    recent: Option<(BindKey, &'t Listener)>,
}

impl<'t, 'c> Batch<'t, 'c> {
    /// A batch by `table`, in which it is the turn of whom `cursors` say.
    pub fn new(table: &'t Table, cursors: &'c mut Cursors) -> Self {
        Self {
            table,
            cursors,
            recent: None,
        }
    }

    /// Decides on the frame at `frame` in `chunk`, and rewrites it if it is to be forwarded. The new
    /// Ethernet header ends where the received one ended, so a tag that is added takes four of the
    /// chunk's bytes in front of the frame.
    #[inline]
    pub fn forward(&mut self, chunk: &mut [u8], frame: Range<usize>) -> Verdict<'t> {
        let Some(mut datagram) = Datagram::new_checked(chunk, frame) else {
            return Verdict::NotOurs;
        };
        let Some(listener) = self.listener(datagram.key()) else {
            return Verdict::NotOurs;
        };
        let ip = datagram.ip();
        if let Some(copies) = listener.copies().filter(|copies| copies.len() > 0) {
            return Verdict::Replicate {
                listener,
                copies,
                ip_len: ip.len(),
            };
        }
        let redirected = match listener.next(self.cursors, || datagram.place()) {
            None => Err(DropReason::NoDownstream),
            Some(next_hop) => datagram.redirect(next_hop).map(|packet| (next_hop, packet)),
        };
        match redirected {
            Ok((next_hop, packet)) => Verdict::Forward {
                listener,
                next_hop,
                packet,
                ip,
            },
            Err(reason) => Verdict::Drop {
                listener,
                reason,
                ip_len: ip.len(),
            },
        }
    }

    #[inline]
    fn listener(&mut self, key: BindKey) -> Option<&'t Listener> {
        match self.recent {
            Some((recent, listener)) if recent == key => Some(listener),
            _ => {
                let listener = self.table.listener(&key)?;
                self.recent = Some((key, listener));
                Some(listener)
            }
        }
    }
}

/// Rewrites the frame at `frame` in `chunk`, one that was to be [replicated](Verdict::Replicate), for one of the
/// downstreams. Where it lies then, with its Ethernet header, and its IP packet.
///
/// # Errors
/// Why it can't go there; the frame is as it was.
#[inline]
pub fn redirect(
    chunk: &mut [u8],
    frame: Range<usize>,
    next_hop: &NextHop,
) -> Result<(Range<usize>, Range<usize>), DropReason> {
    // It was one when it was looked at first.
    let mut datagram = Datagram::new_checked(chunk, frame).ok_or(DropReason::SendFailed)?;
    let ip = datagram.ip();
    Ok((datagram.redirect(next_hop)?, ip))
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
mod tests;
