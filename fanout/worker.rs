//! One RX queue's worker: takes a batch from the RX ring, forwards each packet in its frame, hands
//! the frames to the rings they leave by, and gives free ones back to the fill ring. After its start
//! it allocates nothing, takes no lock unless the supervisor changed something, and logs nothing.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod idle;
mod inbox;
mod raw;

use std::{ops::Range, sync::Arc};

use heapless::Vec;

use self::{idle::Idle, raw::Packet};
pub use self::{inbox::Inbox, raw::RawSockets};
use crate::{
    balance::Cursors,
    config::BusyPoll,
    forward::{self, Batch, Copies, Egress, Listener, NextHop, Table, Verdict},
    metrics::DropReason,
    xsk::{
        socket::{Receive, Received, Transmit},
        umem::{Frame, Port, Umem},
    },
};

/// Packets taken from the RX ring at a time.
const BATCH: usize = 256;
/// Interfaces that one worker can send by through rings.
pub const MAX_PORTS: usize = 16;

/// A packet that is ready to leave.
struct Outbound<'t> {
    frame: Frame,
    /// Where it lies in the frame, with its Ethernet header.
    packet: Range<usize>,
    /// Where its IP packet lies.
    ip: Range<usize>,
    listener: &'t Listener,
    next_hop: &'t NextHop,
}

/// All that one worker needs; made by the supervisor, used on the worker's thread alone.
#[derive(Debug)]
pub struct Worker {
    /// When it sleeps.
    pub busy_poll: BusyPoll,
    /// Its packet memory.
    pub umem: Umem,
    /// Where packets come from.
    pub receive: Receive,
    /// Where they go; number 0 is the ingress interface itself.
    pub ports: Vec<Transmit, MAX_PORTS>,
    /// Where all others go.
    pub raw: RawSockets,
    /// News from the supervisor.
    pub inbox: Arc<Inbox>,
}

impl Worker {
    /// Works until the inbox says stop, and what was received by then is sent.
    pub fn run(mut self) {
        let mut table = Arc::new(Table::default());
        let mut cursors = Cursors::default();
        let mut idle = Idle::new(self.busy_poll);
        loop {
            self.collect_mail(&mut table);
            let packets = self.forward_batch(&table, &mut cursors);
            self.flush_ports();
            self.receive.refill(&mut self.umem);
            self.inbox.show_free_frames(self.umem.free_frames());
            if packets > 0 {
                idle.end();
            } else if self.inbox.mailbox.is_stopped() || idle.wait(&self.receive).is_err() {
                // Stopped, and nothing left to send. (poll(2) fails on a bad descriptor only.)
                break;
            }
        }
    }

    /// Takes over a new table and new ports.
    fn collect_mail(&mut self, table: &mut Arc<Table>) {
        let Some(mut mail) = self.inbox.mailbox.collect() else {
            return;
        };
        if let Some(new) = mail.table.take() {
            self.receive.spare_for_copies(new.copies());
            mail.retired.push(std::mem::replace(table, new));
        }
        for transmit in mail.ports.drain(..) {
            // There is room: the supervisor knows MAX_PORTS and numbers the ports as we do.
            let _ = self.ports.push(transmit);
        }
    }

    /// Receives up to a batch and sends each packet on its way. Returns how many came, copies included: those fill
    /// a batch as well, so that frames to spare and the TX rings hold it.
    fn forward_batch(&mut self, table: &Table, cursors: &mut Cursors) -> usize {
        let mut batch = Batch::new(table, cursors);
        let mut unsent = raw::Packets::new();
        let mut packets = 0;
        while packets < BATCH
            && let Some(Received { mut frame, packet }) = self.receive.next(&mut self.umem)
        {
            packets += 1;
            match batch.forward(self.umem.bytes_mut(&mut frame), packet.clone()) {
                Verdict::Forward {
                    listener,
                    next_hop,
                    packet,
                    ip,
                } => {
                    listener.counters.received.count(ip.len());
                    let outbound = Outbound {
                        frame,
                        packet,
                        ip,
                        listener,
                        next_hop,
                    };
                    self.dispatch(outbound, &mut unsent);
                }
                Verdict::Replicate {
                    listener,
                    copies,
                    ip_len,
                } => {
                    listener.counters.received.count(ip_len);
                    packets += copies.len();
                    self.replicate(frame, &packet, listener, copies, &mut unsent);
                }
                Verdict::Drop {
                    listener,
                    reason,
                    ip_len,
                } => {
                    listener.counters.received.count(ip_len);
                    listener.counters.count_drop(reason);
                    self.receive.supply(&mut self.umem, frame);
                }
                Verdict::NotOurs => self.receive.supply(&mut self.umem, frame),
            }
        }
        self.receive.release();
        self.send_raw(&mut unsent);
        packets
    }

    /// Hands a rewritten packet to the way out that its next hop has.
    fn dispatch<'t>(&mut self, outbound: Outbound<'t>, unsent: &mut raw::Packets<'t>) {
        let Outbound {
            frame,
            packet,
            ip,
            listener,
            next_hop,
        } = outbound;
        match next_hop.egress {
            Egress::Port(port) => {
                if self.send(port, frame, &packet) {
                    next_hop.counters.forwarded.count(ip.len());
                } else {
                    listener.counters.count_drop(DropReason::TxFull);
                }
            }
            Egress::Raw => {
                if unsent.is_full() {
                    self.send_raw(unsent);
                }
                // There is room now.
                let _ = unsent.push(Packet {
                    frame,
                    ip,
                    listener,
                    next_hop,
                });
            }
        }
    }

    /// Sends a copy of a packet to each of `copies`, the last one in the frame that it came in.
    fn replicate<'t>(
        &mut self,
        frame: Frame,
        packet: &Range<usize>,
        listener: &'t Listener,
        copies: Copies<'t>,
        unsent: &mut raw::Packets<'t>,
    ) {
        let mut original = Some(frame);
        let mut left = copies.len();
        for next_hop in copies {
            left -= 1;
            let copy = match &original {
                Some(frame) if left > 0 => self.copy(frame, packet),
                _ => original.take(),
            };
            let Some(mut frame) = copy else {
                listener.counters.count_drop(DropReason::TxFull);
                continue;
            };
            match forward::redirect(self.umem.bytes_mut(&mut frame), packet.clone(), next_hop) {
                Ok((packet, ip)) => {
                    let outbound = Outbound {
                        frame,
                        packet,
                        ip,
                        listener,
                        next_hop,
                    };
                    self.dispatch(outbound, unsent);
                }
                Err(reason) => {
                    listener.counters.count_drop(reason);
                    self.receive.supply(&mut self.umem, frame);
                }
            }
        }
    }

    /// A copy of a packet, at the same place of another frame. `None` if no frame is free.
    fn copy(&mut self, frame: &Frame, packet: &Range<usize>) -> Option<Frame> {
        let mut copy = self.umem.take()?;
        self.umem.copy(frame, &mut copy, packet.clone());
        Some(copy)
    }

    /// Sends what waits for the raw sockets, and takes the frames back.
    fn send_raw(&mut self, unsent: &mut raw::Packets<'_>) {
        if !unsent.is_empty() {
            self.raw.send(unsent, &self.umem);
        }
        while let Some(Packet { frame, .. }) = unsent.pop() {
            self.receive.supply(&mut self.umem, frame);
        }
    }

    /// Puts a packet into a port's TX ring. False, and the frame is free again, if there is no room.
    fn send(&mut self, port: Port, frame: Frame, packet: &Range<usize>) -> bool {
        let sent = match self.ports.get_mut(usize::from(port)) {
            Some(transmit) => transmit.send(&mut self.umem, port, frame, packet),
            None => Err(frame),
        };
        sent.map_err(|frame| self.receive.supply(&mut self.umem, frame))
            .is_ok()
    }

    /// Submits what the batch put into the TX rings, and takes sent frames back.
    fn flush_ports(&mut self) {
        for (number, port) in (0..).zip(&mut self.ports) {
            if port.in_flight() {
                port.flush();
                let receive = &mut self.receive;
                port.complete(&mut self.umem, number, |umem, frame| {
                    receive.supply(umem, frame);
                });
            }
        }
    }
}
