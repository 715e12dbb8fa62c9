//! The way out of one downstream's datagrams: in their order, in as few messages and calls as can be,
//! and not copied before the kernel does.
//!
//! The kernel cuts a message into datagrams of one size (`UDP_SEGMENT`), the last of which may be
//! shorter: so a message takes all that follow each other and fit.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::AsFd,
    sync::atomic::Ordering::Relaxed,
};

use super::{
    BATCH,
    batch::{DATAGRAMS, Datagram},
    keep::{self, Headers},
    table::{NextHop, Way},
};
use crate::{
    metrics::{DropReason, ListenerCounters},
    sys::{
        datagram::{self, Inbound, Message},
        udp,
    },
};

/// Most messages sent in one call.
const MESSAGES: usize = 64;
/// Most datagrams that the kernel cuts out of one message (`UDP_MAX_SEGMENTS`; 128 since Linux 6.9).
const SEGMENTS: usize = 64;
/// Most bytes of such a message: an IP packet without the longer one of the headers.
const SEGMENTED: usize = 65_535 - 48;

/// What was sent.
struct Sent {
    datagrams: usize,
    /// Of their IP packets.
    bytes: usize,
    /// Whether the call stopped at a message, without a word why.
    stopped: bool,
}

/// Why nothing was sent.
struct Failed {
    error: io::Error,
    /// In the message that failed, the first one.
    datagrams: usize,
}

impl NextHop {
    /// Sends `datagrams`, which are among those of `inbound`, and counts what became of each. True if
    /// the downstream answered that nobody listens there.
    pub(super) fn send(
        &mut self,
        datagrams: &[Datagram<'_>],
        inbound: &Inbound<BATCH>,
        listener: &ListenerCounters,
    ) -> bool {
        let mut rest = datagrams;
        // An error may be that of a datagram which went before: then trying again helps.
        let mut again = true;
        while !rest.is_empty() {
            let result = match self.way {
                Way::Udp {
                    overhead,
                    largest_segment,
                } => self.send_udp(rest, overhead, largest_segment),
                Way::Raw(to) => self.send_raw(rest, inbound, to),
            };
            let Failed { error, datagrams } = match result {
                Ok(sent) => {
                    let forwarded = &self.counters.forwarded;
                    forwarded.count_all(sent.datagrams, sent.bytes);
                    rest = rest.get(sent.datagrams..).unwrap_or_default();
                    if sent.stopped && self.was_refused() {
                        return self.give_up(rest, listener);
                    }
                    again = true;
                    continue;
                }
                Err(failed) => failed,
            };
            if self.was_refused() || error.raw_os_error() == Some(libc::ECONNREFUSED) {
                return self.give_up(rest, listener);
            }
            if datagrams > 1 && self.give_up_segmenting(rest, &error) {
                continue;
            }
            let (reason, count) = match error.raw_os_error() {
                // There was no room for as long as a call may take.
                Some(libc::EAGAIN) => (DropReason::TxFull, rest.len()),
                _ if again => {
                    again = false;
                    continue;
                }
                Some(libc::ENOBUFS) => (DropReason::TxFull, datagrams),
                Some(libc::EMSGSIZE) => (DropReason::TooBig, datagrams),
                _ => (DropReason::SendFailed, datagrams),
            };
            listener.count_drops(reason, count);
            rest = rest.get(count..).unwrap_or_default();
            again = true;
        }
        false
    }

    /// Whether an answer came that nobody listens there.
    fn was_refused(&self) -> bool {
        let refused =
            |(_, error): &(_, io::Error)| error.raw_os_error() == Some(libc::ECONNREFUSED);
        udp::answers(self.socket.as_fd()).filter(refused).count() > 0
    }

    /// Leaves the downstream alone for now; what else was for it in this batch would be lost there.
    fn give_up(&self, rest: &[Datagram<'_>], listener: &ListenerCounters) -> bool {
        listener.count_drops(DropReason::SendFailed, rest.len());
        self.news.refused.store(true, Relaxed);
        true
    }

    /// Whether the `error` of a segmented message says that there should be none, at least of this size.
    fn give_up_segmenting(&mut self, message: &[Datagram<'_>], error: &io::Error) -> bool {
        let size = message.first().map_or(0, |first| first.payload.len());
        let Way::Udp {
            largest_segment, ..
        } = &mut self.way
        else {
            return false;
        };
        *largest_segment = match error.raw_os_error() {
            // A larger one than the way takes in one packet; alone, it is sent in fragments.
            Some(libc::EMSGSIZE | libc::EINVAL) => size.saturating_sub(1),
            // The way can't do it at all: encryption, say, or no checksums in hardware on older kernels.
            Some(libc::EIO) => {
                self.news.unsegmented.store(true, Relaxed);
                0
            }
            _ => return false,
        };
        true
    }

    fn send_udp(
        &self,
        datagrams: &[Datagram<'_>],
        overhead: usize,
        largest_segment: usize,
    ) -> Result<Sent, Failed> {
        let mut groups: heapless::Vec<&[Datagram<'_>], MESSAGES> = heapless::Vec::new();
        let mut parts: heapless::Vec<IoSlice<'_>, DATAGRAMS> = heapless::Vec::new();
        let mut rest = datagrams;
        // What comes from one batch has room.
        while !rest.is_empty() && !groups.is_full() {
            let (group, others) = rest.split_at(first_group(rest, largest_segment));
            parts.extend(group.iter().map(|datagram| IoSlice::new(datagram.payload)));
            let _ = groups.push(group);
            rest = others;
        }
        let mut parts = parts.as_slice();
        let messages: heapless::Vec<Message<'_>, MESSAGES> = (groups.iter())
            .map(|group| {
                let (own, others) = parts.split_at(group.len());
                parts = others;
                let size = group.first().map_or(0, |first| first.payload.len());
                let segment = u16::try_from(size).ok().filter(|_| group.len() > 1);
                Message {
                    parts: own,
                    segment,
                }
            })
            .collect();
        match datagram::send(self.socket.as_fd(), &messages) {
            Ok(count) => {
                let sent = groups.iter().take(count);
                let datagrams = sent.clone().map(|group| group.len()).sum();
                let payload = sent.flat_map(|group| group.iter().map(|d| d.payload.len()));
                Ok(Sent {
                    bytes: payload.sum::<usize>() + datagrams * overhead,
                    datagrams,
                    stopped: count < messages.len(),
                })
            }
            Err(error) => Err(Failed {
                error,
                datagrams: groups.first().map_or(0, |group| group.len()),
            }),
        }
    }

    fn send_raw(
        &self,
        datagrams: &[Datagram<'_>],
        inbound: &Inbound<BATCH>,
        to: SocketAddr,
    ) -> Result<Sent, Failed> {
        let datagrams = datagrams.iter().take(MESSAGES);
        let headers: heapless::Vec<Headers, MESSAGES> = (datagrams.clone())
            .map(|datagram| {
                let from = inbound.source(datagram.message.into());
                from.map_or_else(Headers::new, |from| {
                    keep::headers(from, to, datagram.payload)
                })
            })
            .collect();
        let parts: heapless::Vec<[IoSlice<'_>; 2], MESSAGES> = (headers.iter())
            .zip(datagrams)
            .map(|(headers, datagram)| [headers, datagram.payload].map(IoSlice::new))
            .collect();
        let messages: heapless::Vec<Message<'_>, MESSAGES> = (parts.iter())
            .map(|parts| Message {
                parts,
                segment: None,
            })
            .collect();
        match datagram::send(self.socket.as_fd(), &messages) {
            Ok(datagrams) => Ok(Sent {
                datagrams,
                bytes: (parts.iter().take(datagrams).flatten())
                    .map(|part| part.len())
                    .sum(),
                stopped: datagrams < messages.len(),
            }),
            Err(error) => Err(Failed {
                error,
                datagrams: 1,
            }),
        }
    }
}

/// How many of `datagrams`, from the first one on, go in one message: at least one.
fn first_group(datagrams: &[Datagram<'_>], largest_segment: usize) -> usize {
    let size = datagrams.first().map_or(0, |first| first.payload.len());
    if size == 0 || size > largest_segment {
        return 1;
    }
    let most = SEGMENTS.min(SEGMENTED / size).max(1);
    let mut count = 0;
    for datagram in datagrams.iter().take(most) {
        match datagram.payload.len() {
            len if len == size => count += 1,
            len if (1..size).contains(&len) => return count + 1,
            _ => break,
        }
    }
    count
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests;
