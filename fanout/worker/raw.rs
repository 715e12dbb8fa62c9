//! The way out for what the TX rings can't reach: raw IP sockets, one `sendmmsg` for each batch.
//! The kernel routes these packets itself, so local addresses, tunnels and interfaces without an
//! Ethernet header work.

use std::{
    io,
    net::IpAddr,
    ops::Range,
    os::fd::{AsFd, OwnedFd},
};

use super::BATCH;
use crate::{
    forward::{Listener, NextHop},
    metrics::DropReason,
    sys,
    xsk::umem::{Frame, Umem},
};

/// A packet that waits for the end of the batch.
#[derive(Debug)]
pub(super) struct Packet<'t> {
    pub(super) frame: Frame,
    /// The IP packet within the frame.
    pub(super) ip: Range<usize>,
    pub(super) listener: &'t Listener,
    pub(super) next_hop: &'t NextHop,
}

impl Packet<'_> {
    fn destination(&self) -> IpAddr {
        self.next_hop.destination.ip()
    }

    fn count(&self, sent: io::Result<()>) {
        match sent {
            Ok(()) => self.next_hop.counters.forwarded.count(self.ip.len()),
            Err(error) => self
                .listener
                .counters
                .count_drop(match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::ENOBUFS) => DropReason::TxFull,
                    Some(libc::EMSGSIZE) => DropReason::TooBig,
                    _ => DropReason::SendFailed,
                }),
        }
    }
}

/// The packets of one batch.
pub(super) type Packets<'t> = heapless::Vec<Packet<'t>, BATCH>;

/// The two sockets.
#[derive(Debug)]
pub struct RawSockets {
    ipv4: OwnedFd,
    ipv6: OwnedFd,
}

impl RawSockets {
    /// Opens both. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            ipv4: sys::socket::raw_ip(false)?,
            ipv6: sys::socket::raw_ip(true)?,
        })
    }

    /// Sends all `packets` and counts what became of each.
    pub(super) fn send(&self, packets: &Packets<'_>, umem: &Umem) {
        let mut rest = packets.as_slice();
        while let Some(first) = rest.first() {
            let ipv4 = first.destination().is_ipv4();
            let messages: heapless::Vec<_, BATCH> = rest
                .iter()
                .map_while(|packet| {
                    let bytes = umem.bytes(&packet.frame).get(packet.ip.clone())?;
                    (packet.destination().is_ipv4() == ipv4)
                        .then_some((bytes, packet.destination()))
                })
                .collect();
            let socket = if ipv4 { &self.ipv4 } else { &self.ipv6 };
            let (done, mut error) = match sys::socket::send_packets(socket.as_fd(), &messages) {
                Ok(sent) => (sent.max(1), None),
                // It is the first packet's; those behind it are tried again.
                Err(error) => (1, Some(error)),
            };
            let (done, left) = rest.split_at_checked(done).unwrap_or((rest, &[]));
            for packet in done {
                packet.count(error.take().map_or(Ok(()), Err));
            }
            rest = left;
        }
    }
}
