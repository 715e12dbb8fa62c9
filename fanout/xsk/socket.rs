//! AF_XDP sockets as the two things that a worker does with them: [`Receive`] and [`Transmit`].
//!
//! The socket of the ingress queue does both and brings the UMEM; a socket on another interface
//! only transmits, from the same UMEM.

use std::{
    io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use log::debug;

use super::{
    ring::{Consumer, Producer},
    umem::{FRAME_SIZE, Frame, Port, Umem},
};
use crate::{
    config::ZeroCopy,
    link::{IfIndex, QueueId},
    sys::xdp::{self, Bind, Ring, xdp_desc},
};

/// Entries of the fill ring: as many as the RX ring and a NIC's own ring together may hold.
pub const FILL_SIZE: u32 = 8192;
const RX_SIZE: u32 = 8192;
/// Frames that stay out of the fill ring where packets are copied: as many as one port may have under way.
const SPARE: usize = TX_SIZE as usize;
const TX_SIZE: u32 = 2048;
/// Every frame in the TX ring has its place here, so a completion never waits for room.
const COMPLETION_SIZE: u32 = 2048;
/// Descriptors sent by one `sendto` in copy mode, where the kernel lets us choose: a worker's batch.
const TX_BUDGET: u32 = 256;
/// So many packets ahead, memory is fetched into the caches: another core wrote it.
const AHEAD: u32 = 16;
/// For drivers that poll in place of interrupts, if the host is set up for that; a veth does not mind.
const BUSY_POLL_MICROSECONDS: u32 = 20;
/// What a driver takes at a time without being asked, too (`NAPI_POLL_WEIGHT`).
const BUSY_POLL_BUDGET: u32 = 64;
/// The longest that the kernel takes to free a queue whose socket was closed.
const RELEASE: Duration = Duration::from_secs(1);
/// Between two attempts to bind to it.
const RETRY: Duration = Duration::from_millis(10);
/// The port of frames that the kernel has to receive into.
const RECEIVE: Port = Port::MAX;

/// Opens the socket of an interface's RX queue, with `umem` as its packet memory; with frames to spare where packets
/// are to be `copies` of others.
///
/// # Errors
/// Those of each call, with its name.
pub fn open(
    ifindex: IfIndex,
    queue: QueueId,
    umem: &mut Umem,
    zero_copy: ZeroCopy,
    copies: bool,
) -> io::Result<(Receive, Transmit)> {
    let mut open = |how| once_free(|| bound(ifindex, queue, umem, how, copies));
    match zero_copy {
        ZeroCopy::Off => open(Bind::Copy),
        ZeroCopy::On => open(Bind::ZeroCopy),
        ZeroCopy::Auto => open(Bind::ZeroCopy).or_else(|error| {
            if is_busy(&error) {
                return Err(error);
            }
            debug!(
                "no zero copy ifindex={} queue={queue} error=\"{error}\"",
                ifindex.0
            );
            open(Bind::Copy)
        }),
    }
}

/// Opens a socket as soon as its queue is free: the kernel lets go of one some time after the last
/// socket on it was closed, by the process that was here before, say. A socket whose bind was refused
/// can't be bound again, its rings are gone: `open` makes a new one.
fn once_free<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        match open() {
            Err(error) if is_busy(&error) && start.elapsed() < RELEASE => thread::sleep(RETRY),
            result => return result,
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBUSY)
}

fn bound(
    ifindex: IfIndex,
    queue: QueueId,
    umem: &mut Umem,
    how: Bind<'_>,
    copies: bool,
) -> io::Result<(Receive, Transmit)> {
    let fd = Arc::new(xdp::open()?);
    umem.register(fd.as_fd())?;
    let mut receive = Receive {
        fill: Producer::map(fd.as_fd(), Ring::Fill, FILL_SIZE)?,
        rx: Consumer::map(fd.as_fd(), Ring::Rx, RX_SIZE)?,
        spare: 0,
        invalid: 0,
        fd: fd.clone(),
    };
    let transmit = Transmit::map(fd.clone())?;
    // Before the socket is bound: the program may send packets to it from then on, and a driver that
    // finds no frames then need not look again (igb).
    receive.spare_for_copies(copies);
    receive.fill(umem);
    if let Err(error) = xdp::bind(fd.as_fd(), ifindex.0, queue.0, how) {
        umem.reclaim_all(RECEIVE);
        return Err(error);
    }
    tune(fd.as_fd());
    Ok((receive, transmit))
}

/// Opens a socket that transmits on another interface, from the UMEM of the socket `umem`.
///
/// # Errors
/// `EBUSY` if another UMEM is on that queue; `EOPNOTSUPP` if `umem` is zero-copy and the driver can't;
/// `EINVAL` or `ENXIO` if the driver sends zero-copy frames only while it runs an XDP program.
pub fn open_shared(ifindex: IfIndex, queue: QueueId, umem: BorrowedFd<'_>) -> io::Result<Transmit> {
    let fd = Arc::new(xdp::open()?);
    // A queue of its own needs a fill ring of its own (af_xdp.rst), though nothing is received.
    xdp::create_ring(fd.as_fd(), Ring::Fill, 1)?;
    let transmit = Transmit::map(fd.clone())?;
    xdp::bind(fd.as_fd(), ifindex.0, queue.0, Bind::Shared(umem))?;
    // Binding proves less than sending: a driver may refuse only that.
    xdp::wake_tx(fd.as_fd())?;
    tune(fd.as_fd());
    Ok(transmit)
}

/// What makes it faster where the kernel has it, and is not missed where not.
fn tune(fd: BorrowedFd<'_>) {
    let _ = xdp::set_busy_poll(fd, BUSY_POLL_MICROSECONDS, BUSY_POLL_BUDGET);
    let _ = xdp::set_tx_budget(fd, TX_BUDGET);
}

/// The receiving half: fill ring and RX ring.
#[derive(Debug)]
pub struct Receive {
    fill: Producer<u64>,
    rx: Consumer<xdp_desc>,
    /// Frames that it leaves free.
    spare: usize,
    /// Descriptors that named no frame the kernel had.
    invalid: u64,
    /// Last: a mapped ring keeps its socket alive.
    fd: Arc<OwnedFd>,
}

/// A received packet: where in which frame.
#[derive(Debug)]
pub struct Received {
    /// The frame that it lies in.
    pub frame: Frame,
    /// Where it lies in the frame.
    pub packet: Range<usize>,
}

impl Receive {
    /// Its file descriptor, to look at while the worker has this.
    #[must_use]
    pub fn socket(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }

    /// The next packet, `None` if none is there.
    pub fn next(&mut self, umem: &mut Umem) -> Option<Received> {
        loop {
            let desc = self.rx.read()?;
            if let Some(later) = self.rx.look_ahead(AHEAD) {
                umem.prefetch(later.addr);
            }
            let Some(frame) = umem.reclaim(desc.addr, RECEIVE) else {
                self.invalid += 1;
                continue;
            };
            let offset = offset_in_frame(desc.addr);
            let end = offset + desc.len as usize;
            if end <= FRAME_SIZE {
                return Some(Received {
                    frame,
                    packet: offset..end,
                });
            }
            self.invalid += 1;
            self.supply(umem, frame);
        }
    }

    /// Leaves frames free for copies of packets from now on, or none. Those that the kernel has come back with
    /// packets.
    pub fn spare_for_copies(&mut self, any: bool) {
        self.spare = if any { SPARE } else { 0 };
    }

    /// Lets the kernel reuse the RX ring's entries that were read.
    pub fn release(&mut self) {
        self.rx.release();
    }

    /// Puts a frame into the fill ring for the next [`refill`](Self::refill); if that is full, or too few
    /// are to spare, it is free.
    pub fn supply(&mut self, umem: &mut Umem, frame: Frame) {
        if umem.free_frames() < self.spare || self.fill.reserve(1) == 0 {
            umem.give_back(frame);
        } else {
            // There is room: reserved above.
            let _ = self.fill.write(umem.lend(frame, RECEIVE));
        }
    }

    /// Gives the kernel what was supplied and what is free but for the spare ones, as much as the fill ring takes,
    /// and wakes it if it asks.
    pub fn refill(&mut self, umem: &mut Umem) {
        self.fill(umem);
        if self.fill.needs_wakeup() {
            // A driver that ran out of frames waits for this; errors leave the flag set.
            let _ = xdp::wake_rx(self.fd.as_fd());
        }
    }

    fn fill(&mut self, umem: &mut Umem) {
        while umem.free_frames() > self.spare
            && self.fill.reserve(1) > 0
            && let Some(frame) = umem.take()
        {
            // There is room: reserved above.
            let _ = self.fill.write(umem.lend(frame, RECEIVE));
        }
        self.fill.submit();
    }
}

#[expect(clippy::cast_possible_truncation, reason = "below FRAME_SIZE")]
const fn offset_in_frame(address: u64) -> usize {
    (address % FRAME_SIZE as u64) as usize
}

impl AsFd for Receive {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The transmitting half: TX ring and completion ring.
#[derive(Debug)]
pub struct Transmit {
    tx: Producer<xdp_desc>,
    completion: Consumer<u64>,
    /// Frames that the kernel has: at most as many as the completion ring has places.
    in_flight: u32,
    /// Last: a mapped ring keeps its socket alive.
    fd: Arc<OwnedFd>,
}

impl Transmit {
    fn map(fd: Arc<OwnedFd>) -> io::Result<Self> {
        Ok(Self {
            tx: Producer::map(fd.as_fd(), Ring::Tx, TX_SIZE)?,
            completion: Consumer::map(fd.as_fd(), Ring::Completion, COMPLETION_SIZE)?,
            in_flight: 0,
            fd,
        })
    }

    /// Puts `packet`, a range of the frame, into the TX ring for the next [`flush`](Self::flush).
    /// Hands the frame back if there is no room.
    ///
    /// # Errors
    /// The frame.
    pub fn send(
        &mut self,
        umem: &mut Umem,
        port: Port,
        frame: Frame,
        packet: &Range<usize>,
    ) -> Result<(), Frame> {
        if self.in_flight >= COMPLETION_SIZE || self.tx.reserve(1) == 0 {
            return Err(frame);
        }
        let addr = umem.lend(frame, port) + packet.start as u64;
        #[expect(clippy::cast_possible_truncation, reason = "a range of a frame")]
        let len = packet.len() as u32;
        // There is room: reserved above.
        let _ = self.tx.write(xdp_desc {
            addr,
            len,
            options: 0,
        });
        self.in_flight += 1;
        Ok(())
    }

    /// Submits what was sent and wakes the kernel, if it asks, until it has taken all or gets no
    /// further: one call sends a budget of descriptors in copy mode and then says `EAGAIN`.
    pub fn flush(&mut self) {
        self.tx.submit();
        let mut pending = self.tx.pending();
        while pending > 0 && self.tx.needs_wakeup() {
            // Errors are no news: the ring tells what was taken. What `EBUSY` consumed completes.
            let _ = xdp::wake_tx(self.fd.as_fd());
            let left = self.tx.pending();
            if left == pending {
                break;
            }
            pending = left;
        }
    }

    /// Whether the kernel still has frames to send or to complete.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// Takes back the frames that were sent and hands each to `reuse`. Returns how many addresses named
    /// no frame the kernel had.
    pub fn complete(
        &mut self,
        umem: &mut Umem,
        port: Port,
        mut reuse: impl FnMut(&mut Umem, Frame),
    ) -> u64 {
        let mut invalid = 0;
        while let Some(address) = self.completion.read() {
            match umem.reclaim(address, port) {
                Some(frame) => {
                    self.in_flight = self.in_flight.saturating_sub(1);
                    reuse(umem, frame);
                }
                None => invalid += 1,
            }
        }
        self.completion.release();
        invalid
    }
}
