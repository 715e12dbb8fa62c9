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

use std::{collections::HashMap, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Instant};

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
    metrics::{
        DownstreamCounters, DownstreamSample, DropReason, ListenerCounters, ListenerSample, Totals,
    },
    neighbor::Paths,
    roster::{Member, Roster},
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
    /// The binds to any address of all listeners.
    everywhere: Arc<[SocketAddr]>,
    downstreams: Vec<Named>,
    members: Vec<Downstream>,
    workers: Vec<Side>,
}

/// What the addresses of one downstream have in common.
#[derive(Debug)]
struct Named {
    name: String,
    /// One for each worker.
    counters: Vec<Arc<DownstreamCounters>>,
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
    listeners.sort_by_key(|(_, listener)| listener.interface.is_some() != listener.is_ipv6());
    let everywhere: Arc<[_]> = (listeners.iter())
        .flat_map(|(_, listener)| listener.binds.clone())
        .filter(|bind| bind.ip().is_unspecified())
        .collect();
    let open = |(index, listener)| Listener::open(index, listener, cores, &everywhere);
    listeners.into_iter().map(open).collect()
}

impl Listener {
    fn open(
        index: u32,
        config: config::Listener,
        cores: usize,
        everywhere: &Arc<[SocketAddr]>,
    ) -> Result<Self, Error> {
        if config.source == Source::Keep {
            sys::socket::raw_ip(config.is_ipv6())
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
        let downstream = |downstream: &config::Downstream| Named {
            name: downstream.name.clone(),
            counters: (0..count).map(|_| Arc::default()).collect(),
        };
        Ok(Self {
            everywhere: everywhere.clone(),
            downstreams: config.downstreams.iter().map(downstream).collect(),
            members: Vec::new(),
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

    /// Has the workers forward to the members of `roster` along `paths` from their next batch on. What is
    /// known of those that were members before stays.
    pub fn route(&mut self, roster: &Roster, paths: &Paths) {
        let before = std::mem::take(&mut self.members).into_iter();
        let mut before: HashMap<_, _> = before
            .map(|downstream| (downstream.member().key(), downstream))
            .collect();
        for member in roster.members(self.index) {
            let mut downstream = match before.remove(&member.key()) {
                Some(downstream) => downstream.with(member),
                None => self.downstream(member),
            };
            let path = paths.get(&member.address.ip());
            if let Err(why) = downstream.route(path.and_then(|path| path.as_ref().ok())) {
                warn!(
                    "downstream is out of turn {} reason=\"{why}\"",
                    self.config.who(member)
                );
            }
            self.members.push(downstream);
        }
        self.publish();
    }

    fn downstream(&self, member: &Member) -> Downstream {
        let to = member.address;
        let is_same =
            |bind: &SocketAddr| (bind.is_ipv4(), bind.port()) == (to.is_ipv4(), to.port());
        let port_is_ours = self.everywhere.iter().any(is_same);
        let counters = self.downstreams.get(member.place);
        let counters = counters.map_or(&[][..], |named| &named.counters);
        Downstream::new(member.clone(), self.config.source, port_is_ours, counters)
    }

    /// Its slot, and whether any member is in turn.
    #[must_use]
    pub fn forwards(&self) -> (u32, bool) {
        (self.index, self.members.iter().any(Downstream::is_up))
    }

    /// Takes downstreams out of turn that refuse what they get, and back after a while.
    pub fn look(&mut self) {
        let now = Instant::now();
        let mut changed = false;
        for downstream in &mut self.members {
            let (moved, change) = downstream.look(now);
            changed |= moved;
            let who = self.config.who(downstream.member());
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
            Some((downstream.member().weight, next_hop))
        };
        Table::new(self.members.iter().filter_map(next_hop).collect())
    }

    /// Bytes of the headers before a payload.
    fn overhead(&self) -> usize {
        udp::HEADER
            + if self.config.is_ipv6() {
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
            downstreams: self.downstreams.iter().map(Named::sample).collect(),
        };
        for downstream in &self.members {
            let member = downstream.member();
            if let Some(sample) = sample.downstreams.get_mut(member.place) {
                sample.addresses.push((member.address, downstream.is_up()));
            }
        }
        sample.count_workers(self.workers.iter().map(|side| side.counters.as_ref()));
        // What the kernel dropped, no worker ever saw.
        for (number, side) in self.workers.iter().enumerate() {
            let dropped = side.receivers.iter().map(Receiver::dropped).sum();
            sample.count_unseen(number, DropReason::ReceiveBufferFull, dropped);
        }
        listeners.push((self.index, sample));
    }
}

impl Named {
    /// Without its addresses.
    fn sample(&self) -> DownstreamSample<'_> {
        DownstreamSample {
            name: &self.name,
            forwarded: Totals::forwarded(self.counters.iter().map(Arc::as_ref)),
            addresses: Vec::new(),
        }
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
