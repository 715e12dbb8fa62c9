//! One worker: takes what its sockets have, lets each datagram have its turn, and sends what the turns
//! gave each downstream. After its start it allocates nothing, takes no lock unless the supervisor changed
//! something, and logs nothing.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use fanout_ebpf::sender;

use super::{
    BATCH,
    batch::{Batch, Datagram, cut},
    table::Table,
};
use crate::{
    balance::Cursors,
    mailbox::Mailbox,
    metrics::{DropReason, ListenerCounters},
    sys::{datagram::Inbound, socket::PollSet},
};

/// The longest sleep: after it a worker sees what its mailbox holds.
const NAP: Duration = Duration::from_millis(100);
/// Batches that a worker which is told to end still takes, so that an end comes under any load.
const LAST_BATCHES: usize = 64;

/// What changed.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// The table to forward by; `None` once it is taken.
    pub(super) table: Option<Box<Table>>,
    /// What the worker no longer needs, for the supervisor to free.
    pub(super) retired: Option<Box<Table>>,
}

/// All that one worker needs; made by the supervisor, used on the worker's thread alone.
#[derive(Debug)]
pub(super) struct Worker {
    receivers: Vec<Receiver>,
    poll: PollSet,
    inbound: Inbound<BATCH>,
    forwarder: Forwarder,
    mailbox: Arc<Mailbox<Mail>>,
}

/// One of its sockets.
#[derive(Debug)]
struct Receiver {
    socket: Arc<OwnedFd>,
    /// Whether there may be something to receive.
    ready: bool,
}

/// What it does with datagrams.
#[derive(Debug)]
pub(super) struct Forwarder {
    /// Bytes of the headers before a payload.
    pub(super) overhead: usize,
    /// Largest IP packet taken, in bytes.
    pub(super) max_packet_size: usize,
    pub(super) counters: Arc<ListenerCounters>,
    pub(super) table: Box<Table>,
    pub(super) cursors: Cursors,
}

impl Worker {
    /// One that receives by `sockets` and hears by `mailbox`; `with_sources` if it must know who sent.
    pub(super) fn new(
        sockets: impl Iterator<Item = Arc<OwnedFd>>,
        with_sources: bool,
        forwarder: Forwarder,
        mailbox: Arc<Mailbox<Mail>>,
    ) -> Self {
        let ready = false;
        let receivers: Vec<_> = sockets.map(|socket| Receiver { socket, ready }).collect();
        Self {
            poll: PollSet::new(receivers.iter().map(|receiver| receiver.socket.as_fd())),
            receivers,
            inbound: Inbound::new(with_sources),
            forwarder,
            mailbox,
        }
    }

    /// Works until the mailbox says stop, and what was received by then is sent.
    pub(super) fn run(mut self) {
        while !self.mailbox.is_stopped() {
            self.collect_mail();
            let mut more = false;
            for receiver in self.receivers.iter_mut().filter(|receiver| receiver.ready) {
                receiver.ready = self
                    .forwarder
                    .take_batch(&receiver.socket, &mut self.inbound);
                more |= receiver.ready;
            }
            if more {
                continue;
            }
            // It fails on a bad descriptor only.
            let Ok(readable) = self.poll.wait(NAP) else {
                return;
            };
            for (receiver, readable) in self.receivers.iter_mut().zip(readable) {
                receiver.ready = readable;
            }
        }
        for Receiver { socket, .. } in &self.receivers {
            let mut batches = 0..LAST_BATCHES;
            while batches.next().is_some() && self.forwarder.take_batch(socket, &mut self.inbound) {
            }
        }
    }

    /// Takes over a new table.
    fn collect_mail(&mut self) {
        if let Some(mut mail) = self.mailbox.collect()
            && let Some(new) = mail.table.take()
        {
            mail.retired = Some(std::mem::replace(&mut self.forwarder.table, new));
        }
    }
}

impl Forwarder {
    /// Whether there may be more: fewer messages than there was room for were all.
    fn take_batch(&mut self, socket: &OwnedFd, inbound: &mut Inbound<BATCH>) -> bool {
        let received = inbound.receive(socket.as_fd()).unwrap_or(0);
        self.forward(inbound);
        received == BATCH
    }

    /// Sends on what was received, and counts it.
    fn forward(&mut self, inbound: &Inbound<BATCH>) {
        let mut batch = Batch::default();
        let (mut datagrams, mut bytes) = (0, 0);
        for (message, received) in (0..).zip(inbound.messages()) {
            for payload in cut(&received) {
                datagrams += 1;
                bytes += payload.len() + self.overhead;
                if payload.len() + self.overhead > self.max_packet_size {
                    self.counters.count_drop(DropReason::TooBig);
                    continue;
                }
                let datagram = |next_hop| Datagram {
                    payload,
                    message,
                    next_hop,
                };
                // Whoever refuses what is sent now is out of turn afterwards: not between two copies.
                if batch.room() < self.table.copies().max(1) {
                    self.send(&mut batch, inbound);
                }
                let copies = self.table.copies();
                if copies == 0 {
                    let place = || inbound.source(message.into()).map(place);
                    match self.table.choose(&mut self.cursors, place) {
                        Some(choice) => self.put(datagram(choice), &mut batch),
                        None => self.counters.count_drop(DropReason::NoDownstream),
                    }
                }
                for number in 0..copies {
                    if let Some(copy) = self.table.copy(number) {
                        self.put(datagram(copy), &mut batch);
                    }
                }
            }
        }
        self.counters.received.count_all(datagrams, bytes);
        self.send(&mut batch, inbound);
    }

    #[inline]
    fn put<'b>(&mut self, datagram: Datagram<'b>, batch: &mut Batch<'b>) {
        self.table.count(datagram.next_hop);
        batch.push(datagram);
    }

    fn send(&mut self, batch: &mut Batch<'_>, inbound: &Inbound<BATCH>) {
        let in_order = batch.in_order(&mut self.table.next_hops);
        let mut rest = in_order.as_slice();
        let mut refused = false;
        for next_hop in &mut self.table.next_hops {
            let count = std::mem::take(&mut next_hop.count);
            let (own, others) = rest.split_at_checked(count).unwrap_or_default();
            if !own.is_empty() {
                refused |= next_hop.send(own, inbound, &self.counters);
            }
            rest = others;
        }
        if refused {
            self.table.retire_refused();
        }
    }
}

fn place(sender: SocketAddr) -> u32 {
    match sender.ip() {
        IpAddr::V4(ip) => sender::place_v4(ip.octets()),
        IpAddr::V6(ip) => sender::place_v6(ip.octets()),
    }
}
