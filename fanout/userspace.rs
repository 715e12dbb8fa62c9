//! A listener in userspace mode: UDP sockets and nothing else, so it runs without privileges, on any
//! kernel and interface. Its workers share the port (`SO_REUSEPORT`): the kernel gives each the flows
//! that its hash of addresses and ports says.
//!
//! ```text
//!   socket ─ recvmmsg, UDP_GRO ─▶ merged datagrams, cut    sys/datagram.rs, batch.rs
//!                                        │ each
//!                                  whose turn is it        table.rs, balance.rs
//!                                        │
//!                                 in order of downstreams  batch.rs
//!                                        │
//!   one socket a downstream ◀─ sendmmsg, UDP_SEGMENT       send.rs
//! ```

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod batch;
mod downstream;
mod error;
mod keep;
mod receive;
mod send;
mod table;
mod worker;

use std::{net::SocketAddr, sync::Arc, thread::JoinHandle, time::Instant};

use log::{info, warn};

pub use self::error::Error;
use self::{
    downstream::{Change, Downstream},
    receive::Receiver,
    table::Table,
    worker::{Forwarder, Mail, Worker},
};
use crate::{
    balance::Cursors,
    config::{self, Source},
    link::Links,
    mailbox::Mailbox,
    metrics::{DropReason, ListenerCounters, ListenerSample},
    neighbor::Paths,
    sys, thread,
    wire::{ipv4, ipv6, udp},
};

/// Messages taken in one call.
const BATCH: usize = 64;

/// A listener that forwards.
#[derive(Debug)]
pub struct Listener {
    /// Its place in the config.
    index: u32,
    config: config::Listener,
    downstreams: Vec<Downstream>,
    workers: Vec<Side>,
}

/// One worker, as the supervisor sees it.
#[derive(Debug)]
struct Side {
    receivers: Vec<Receiver>,
    counters: Arc<ListenerCounters>,
    mailbox: Arc<Mailbox<Mail>>,
    thread: Option<JoinHandle<()>>,
}

/// Opens listeners, with their places in the config; each has as many workers as the config says, or
/// else `cores`. From now on the kernel keeps what comes until the workers start.
///
/// # Errors
/// See [`Error`]; nothing stays open then.
pub fn open(
    mut listeners: Vec<(u32, config::Listener)>,
    cores: usize,
) -> Result<Vec<Listener>, Error> {
    (listeners.iter()).try_for_each(|(_, listener)| receive::probe(listener))?;
    // Of the sockets on one address and port, the kernel takes the first that fits, once they share a
    // port (net/ipv4/udp.c, udp4_lib_lookup2): those on an interface must go before those on any. It puts
    // the latest first; with IPv6 last (udp_lib_get_port).
    listeners.sort_by_key(|(_, listener)| listener.interface.is_some() != is_ipv6(listener));
    let everywhere: Vec<_> = (listeners.iter())
        .flat_map(|(_, listener)| listener.binds.clone())
        .filter(|bind| bind.ip().is_unspecified())
        .collect();
    let open = |(index, listener)| Listener::open(index, listener, cores, &everywhere);
    listeners.into_iter().map(open).collect()
}

/// All its addresses are of one family.
fn is_ipv6(listener: &config::Listener) -> bool {
    listener.binds.iter().any(SocketAddr::is_ipv6)
}

impl Listener {
    /// `everywhere` are the binds to any address.
    fn open(
        index: u32,
        config: config::Listener,
        cores: usize,
        everywhere: &[SocketAddr],
    ) -> Result<Self, Error> {
        if config.source == Source::Keep {
            sys::socket::raw_ip(is_ipv6(&config))
                .map_err(|error| Error::Keep(config.name.clone(), error))?;
        }
        let count = config
            .workers
            .map_or(cores, |workers| workers as usize)
            .max(1);
        let workers = receive::open(&config, count)?
            .into_iter()
            .map(|receivers| Side {
                receivers,
                counters: Arc::default(),
                mailbox: Arc::default(),
                thread: None,
            });
        let downstream = |downstream: &config::Downstream| {
            let to = downstream.address;
            let is_same =
                |bind: &SocketAddr| (bind.is_ipv4(), bind.port()) == (to.is_ipv4(), to.port());
            let port_is_ours = everywhere.iter().any(is_same);
            Downstream::new(downstream.clone(), config.source, port_is_ours, count)
        };
        Ok(Self {
            downstreams: config.downstreams.iter().map(downstream).collect(),
            workers: workers.collect(),
            index,
            config,
        })
    }

    /// Starts the workers, each on the CPU that `pin` gives.
    ///
    /// # Errors
    /// If a thread can't be had.
    pub fn start(&mut self, mut pin: impl FnMut(usize) -> Option<usize>) -> Result<(), Error> {
        let overhead = self.overhead();
        for (number, side) in self.workers.iter_mut().enumerate() {
            let sockets = side
                .receivers
                .iter()
                .map(|receiver| receiver.socket.clone());
            let with_sources = self.config.source == Source::Keep;
            let max_packet_size = self.config.max_packet_size;
            let forwarder = Forwarder {
                overhead,
                max_packet_size: max_packet_size.map_or(usize::MAX, |size| size as usize),
                counters: side.counters.clone(),
                table: Box::default(),
                cursors: Cursors::default(),
            };
            let worker = Worker::new(sockets, with_sources, forwarder, side.mailbox.clone());
            let name = format!("{}-{number}", self.config.name);
            let thread = thread::spawn(name, pin(number), move || worker.run());
            let thread = thread.map_err(|error| {
                Error::Io(self.config.name.clone(), "can't start a worker", error)
            })?;
            side.thread = Some(thread);
        }
        Ok(())
    }

    /// What it was opened for.
    #[must_use]
    pub fn config(&self) -> &config::Listener {
        &self.config
    }

    /// How many workers it has.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Has the workers forward along `paths` from their next batch on.
    pub fn route(&mut self, paths: &Paths) {
        for downstream in &mut self.downstreams {
            let path = paths.get(&downstream.config().address.ip());
            let path = path.and_then(|path| path.as_ref().ok());
            if let Err(why) = downstream.route(path) {
                warn!(
                    "downstream is out of turn {} reason=\"{why}\"",
                    self.config.who(downstream.config())
                );
            }
        }
        self.publish();
    }

    /// Takes downstreams out of turn that refuse what they get, and back after a while.
    pub fn look(&mut self) {
        let now = Instant::now();
        let mut changed = false;
        for downstream in &mut self.downstreams {
            let (moved, change) = downstream.look(now);
            changed |= moved;
            let who = self.config.who(downstream.config());
            match change {
                Some(Change::Refuses) => {
                    warn!("downstream is out of turn {who} reason=\"port unreachable\"");
                }
                Some(Change::Accepts) => info!("downstream is back {who}"),
                None => {}
            }
            if downstream.lost_segmentation() {
                info!("sending datagrams one by one, without UDP_SEGMENT {who}");
            }
        }
        if changed {
            self.publish();
        }
    }

    fn publish(&self) {
        for (number, side) in self.workers.iter().enumerate() {
            let table = Box::new(self.table(number));
            side.mailbox.post(|mail| {
                mail.retired = None;
                mail.table = Some(table);
            });
        }
    }

    fn table(&self, worker: usize) -> Table {
        let next_hop = |downstream: &Downstream| {
            let next_hop = downstream.next_hop(worker, self.overhead())?;
            Some((downstream.config().weight, next_hop))
        };
        Table::new(self.downstreams.iter().filter_map(next_hop).collect())
    }

    /// Bytes of the headers before a payload.
    fn overhead(&self) -> usize {
        udp::HEADER
            + if is_ipv6(&self.config) {
                ipv6::HEADER
            } else {
                ipv4::HEADER
            }
    }

    /// Why the listener forwards no more, if it doesn't.
    #[must_use]
    pub fn fault(&self, links: &Links) -> Option<String> {
        if let Some(name) = &self.config.interface
            && links.by_name(name).is_none()
        {
            return Some(format!("interface {name} is gone"));
        }
        let has_died = |side: &Side| side.thread.as_ref().is_some_and(JoinHandle::is_finished);
        let dead = self.workers.iter().position(has_died)?;
        Some(format!(
            "worker {dead} of listener {} ended",
            self.config.name
        ))
    }

    /// Adds what this listener counts.
    pub fn sample<'s>(&'s self, listeners: &mut Vec<(u32, ListenerSample<'s>)>) {
        let mut sample = ListenerSample {
            name: &self.config.name,
            mode: self.config.mode.name(),
            interface: self.config.interface.as_deref().unwrap_or_default(),
            xdp: "none",
            zero_copy: false,
            received: Vec::new(),
            dropped: Default::default(),
            passed: Default::default(),
            downstreams: self.downstreams.iter().map(Downstream::sample).collect(),
        };
        sample.count_workers(self.workers.iter().map(|side| side.counters.as_ref()));
        // What the kernel dropped, no worker ever saw.
        for (number, side) in self.workers.iter().enumerate() {
            let dropped = side.receivers.iter().map(Receiver::dropped).sum();
            sample.count_unseen(number, DropReason::ReceiveBufferFull, dropped);
        }
        listeners.push((self.index, sample));
    }
}

/// Lets all workers send what came, and end.
pub fn stop(listeners: Vec<Listener>) {
    let workers = listeners.iter().flat_map(|listener| &listener.workers);
    workers.for_each(|side| side.mailbox.stop());
    let workers = listeners.into_iter().flat_map(|listener| listener.workers);
    for thread in workers.filter_map(|side| side.thread) {
        // A panic was reported where it happened.
        let _ = thread.join();
    }
}
