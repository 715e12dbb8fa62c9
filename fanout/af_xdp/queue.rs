//! One RX queue of an interface: its socket, the ports its worker sends by, and the worker's thread.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    thread::JoinHandle,
};

use log::debug;

use crate::{
    config::{BusyPoll, ZeroCopy},
    forward::{Egress, Table},
    link::{IfIndex, Link, QueueId},
    metrics::XskStatistics,
    sys, thread,
    worker::{Inbox, MAX_PORTS, RawSockets, Worker},
    xsk::{socket, umem::Umem},
};

/// A queue and its worker.
#[derive(Debug)]
pub(super) struct Queue {
    id: QueueId,
    socket: Arc<OwnedFd>,
    inbox: Arc<Inbox>,
    /// The interface that each of the worker's ports sends on.
    ports: Vec<IfIndex>,
    /// Interfaces on which the worker gets no port: the raw socket serves.
    refused: Vec<IfIndex>,
    worker: Thread,
}

#[derive(Debug)]
enum Thread {
    Ready(Box<Worker>),
    Running(JoinHandle<()>),
    Gone,
}

impl Queue {
    /// Opens the queue's socket, its UMEM and the raw sockets. A queue that does not `send` has no
    /// counterpart among those that the kernel's stack sends by, as copy mode does. `copies` says whether packets
    /// will be copied.
    pub(super) fn open(
        id: QueueId,
        interface: IfIndex,
        zero_copy: ZeroCopy,
        busy_poll: BusyPoll,
        sends: bool,
        copies: bool,
    ) -> io::Result<Self> {
        let mut umem = Umem::new()?;
        let (receive, transmit) = socket::open(interface, id, &mut umem, zero_copy, copies)?;
        let socket = receive.socket();
        let inbox = Arc::new(Inbox::default());
        let mut ports = heapless::Vec::new();
        // There is room: it is the first.
        let _ = ports.push(transmit);
        let raw = RawSockets::open()?;
        let worker = Worker {
            busy_poll,
            umem,
            receive,
            ports,
            raw,
            inbox: inbox.clone(),
        };
        Ok(Self {
            id,
            socket,
            inbox,
            ports: vec![interface],
            refused: if sends { Vec::new() } else { vec![interface] },
            worker: Thread::Ready(Box::new(worker)),
        })
    }

    /// Its number.
    pub(super) fn id(&self) -> QueueId {
        self.id
    }

    /// Its AF_XDP socket.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// How its worker's packets leave by `link`: by a ring if one can be had, else by the raw socket.
    pub(super) fn egress(&mut self, link: &Link) -> Egress {
        if self.refused.contains(&link.index) {
            return Egress::Raw;
        }
        if let Some(port) = self
            .ports
            .iter()
            .position(|&interface| interface == link.index)
        {
            return u8::try_from(port).map_or(Egress::Raw, Egress::Port);
        }
        if self.ports.len() == MAX_PORTS {
            return Egress::Raw;
        }
        match self.open_port(link) {
            Ok(port) => Egress::Port(port),
            Err(error) => {
                debug!(
                    "sending by raw socket interface={} queue={} error=\"{error}\"",
                    link.name, self.id
                );
                self.refused.push(link.index);
                Egress::Raw
            }
        }
    }

    /// A socket on a queue of `link` that nobody has, the one with our own number if there is one.
    fn open_port(&mut self, link: &Link) -> io::Result<u8> {
        let transmit = socket::open_shared(link.index, self.id, self.socket.as_fd())
            .or_else(|_| socket::open_shared(link.index, QueueId(0), self.socket.as_fd()))?;
        let port = u8::try_from(self.ports.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.inbox.post(|mail| mail.ports.push(transmit));
        self.ports.push(link.index);
        Ok(port)
    }

    /// Gives the worker a table to forward by from its next batch on.
    pub(super) fn publish(&self, table: Table) {
        self.inbox.post(|mail| mail.table = Some(Arc::new(table)));
    }

    /// Whether the worker goes by what was published last; one that does not run never will.
    pub(super) fn has_taken_over(&self) -> bool {
        !matches!(self.worker, Thread::Running(_)) || self.inbox.mailbox.is_collected()
    }

    /// Starts the worker, on `cpu` if one is given.
    pub(super) fn start(&mut self, interface: &str, cpu: Option<usize>) -> io::Result<()> {
        let Thread::Ready(worker) = std::mem::replace(&mut self.worker, Thread::Gone) else {
            return Ok(());
        };
        let name = format!("{interface}-{}", self.id);
        let thread = thread::spawn(name, cpu, move || worker.run())?;
        self.worker = Thread::Running(thread);
        Ok(())
    }

    /// Whether the worker ended though nobody told it to.
    pub(super) fn has_died(&self) -> bool {
        matches!(&self.worker, Thread::Running(thread) if thread.is_finished())
    }

    /// Has the worker send what it received, end, and give up its sockets.
    pub(super) fn stop(&mut self) {
        self.inbox.mailbox.stop();
        if let Thread::Running(thread) = std::mem::replace(&mut self.worker, Thread::Gone) {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
    }

    /// Frames that are in no ring.
    pub(super) fn free_frames(&self) -> u64 {
        self.inbox.free_frames()
    }

    /// What the kernel counts of the socket.
    pub(super) fn statistics(&self) -> XskStatistics {
        sys::xdp::statistics(self.socket())
            .map_or_else(|_| XskStatistics::default(), XskStatistics::from)
    }

    /// Whether the socket shares memory with the driver.
    pub(super) fn is_zero_copy(&self) -> bool {
        sys::xdp::is_zero_copy(self.socket()).unwrap_or(false)
    }
}

impl From<sys::xdp::xdp_statistics> for XskStatistics {
    fn from(kernel: sys::xdp::xdp_statistics) -> Self {
        Self {
            rx_dropped: kernel.rx_dropped,
            rx_invalid_descs: kernel.rx_invalid_descs,
            tx_invalid_descs: kernel.tx_invalid_descs,
            rx_ring_full: kernel.rx_ring_full,
            rx_fill_ring_empty_descs: kernel.rx_fill_ring_empty_descs,
            tx_ring_empty_descs: kernel.tx_ring_empty_descs,
        }
    }
}
