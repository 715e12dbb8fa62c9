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
    config::{self, Policy, Source},
    link::Links,
    mailbox::Mailbox,
    metrics::{DownstreamCounters, DropReason, ListenerCounters, ListenerSample, Past, Totals},
    neighbor::Paths,
    roster::{Member, Served},
    rules::host::too_many_sockets,
    sys, thread,
    wire::{ipv4, ipv6, udp},
};

/// Messages taken in one call.
const BATCH: usize = 64;

/// A listener that forwards.
#[derive(Debug)]
pub struct Listener {
    served: Served,
    /// One for each member.
    downstreams: Vec<Downstream>,
    /// Of each downstream, one for each worker.
    forwarded: HashMap<String, Vec<Arc<DownstreamCounters>>>,
    workers: Vec<Side>,
    /// Binds of this process to any address.
    everywhere: Vec<SocketAddr>,
}

/// One worker, as the supervisor sees it.
#[derive(Debug)]
struct Side {
    receivers: Vec<Receiver>,
    counters: Arc<ListenerCounters>,
    mailbox: Arc<Mailbox<Mail>>,
    thread: Option<JoinHandle<()>>,
}

/// As many as the config says, or else one for each CPU.
fn workers(config: &config::Listener) -> usize {
    let cores = || sys::process::allowed_cpus().map_or(1, |cpus| cpus.len());
    let workers = config
        .workers
        .map_or_else(cores, |workers| workers as usize);
    workers.max(1)
}

/// So many sockets a listener has, with so many members.
#[must_use]
pub fn sockets(config: &config::Listener, members: usize) -> u64 {
    (workers(config) * (config.binds.len() + members)) as u64
}

/// Opens listeners. From now on the kernel keeps what comes until the workers start. `ours` are those that this
/// process has.
///
/// # Errors
/// See [`Error`]; nothing stays open then.
pub fn open(mut listeners: Vec<Served>, ours: &[Listener]) -> Result<Vec<Listener>, Error> {
    let all = listeners.iter().chain(ours.iter().map(|l| &l.served));
    let needed = all.map(|l| sockets(&l.config, l.members.len())).sum();
    let limit = sys::process::file_limit().unwrap_or(u64::MAX);
    if let Some(verdict) = too_many_sockets(needed, limit) {
        return Err(Error::TooManySockets(verdict));
    }
    let has = |bind: &SocketAddr| ours.iter().any(|l| l.served.config.binds.contains(bind));
    for served in &listeners {
        receive::probe(&served.config, has)?;
    }
    // Of the sockets on one address and port, the kernel takes the first that fits, once they share a
    // port (net/ipv4/udp.c, udp4_lib_lookup2): those on an interface must go before those on any. It puts
    // the latest first; with IPv6 last (udp_lib_get_port).
    listeners.sort_by_key(|served| {
        let config = &served.config;
        config.interface.is_some() != config.is_ipv6()
    });
    listeners.into_iter().map(Listener::open).collect()
}

impl Listener {
    fn open(served: Served) -> Result<Self, Error> {
        let config = &served.config;
        if config.source == Source::Keep {
            sys::socket::raw_ip(config.is_ipv6())
                .map_err(|error| Error::Keep(config.name.clone(), error))?;
        }
        let workers = receive::open(config, workers(config))?
            .into_iter()
            .map(|receivers| Side {
                receivers,
                counters: Arc::default(),
                mailbox: Arc::default(),
                thread: None,
            });
        Ok(Self {
            downstreams: Vec::new(),
            forwarded: HashMap::new(),
            workers: workers.collect(),
            everywhere: Vec::new(),
            served,
        })
    }

    /// Whether it is the one that `served` stands for.
    #[must_use]
    pub fn is(&self, served: &Served) -> bool {
        self.served.slot == served.slot
    }

    /// From the next [`route`](Self::route) on sends to these members. `everywhere` are the binds of this process
    /// to any address.
    pub fn serve(&mut self, served: Served, everywhere: &[SocketAddr]) {
        let workers = self.workers.len();
        let mut before = std::mem::take(&mut self.downstreams);
        if self.everywhere != everywhere {
            self.everywhere = everywhere.to_vec();
            // What was no loop may be one now.
            before.iter_mut().for_each(Downstream::forget_path);
        }
        for downstream in &served.config.downstreams {
            let counters = || (0..workers).map(|_| Arc::default()).collect();
            let name = downstream.name.clone();
            self.forwarded.entry(name).or_insert_with(counters);
        }
        let key = |member: &Member| (member.name.clone(), member.address);
        let mut before: HashMap<_, _> = (before.into_iter())
            .map(|downstream| (key(downstream.member()), downstream))
            .collect();
        let serve = |member: &Member| {
            if let Some(downstream) = before.remove(&key(member)) {
                return downstream.with(member);
            }
            let counters = self.forwarded.get(&member.name);
            let counters = counters.map_or(&[][..], Vec::as_slice);
            Downstream::new(member.clone(), served.config.source, counters)
        };
        self.downstreams = served.members.iter().map(serve).collect();
        self.served = served;
    }

    /// Whether all workers go by what was routed last.
    #[must_use]
    pub fn has_taken_over(&self) -> bool {
        let goes = |side: &Side| side.thread.is_none() || side.mailbox.is_collected();
        self.workers.iter().all(goes)
    }

    /// Gives the counts of downstreams that it has no more to `past`. To be called when the workers go by a
    /// table without them.
    pub fn retire(&mut self, past: &mut Past) {
        let config = &self.served.config;
        let gone = |name: &String| !config.downstreams.iter().any(|d| d.name == *name);
        for (name, counters) in self.forwarded.extract_if(|name, _| gone(name)) {
            let forwarded = Totals::forwarded(counters.iter().map(Arc::as_ref));
            past.keep_downstream(&config.name, &name, forwarded);
        }
    }

    /// Lets all workers send what came, and end.
    pub fn stop(&mut self) {
        self.workers.iter().for_each(|side| side.mailbox.stop());
        let threads = self
            .workers
            .iter_mut()
            .filter_map(|side| side.thread.take());
        for thread in threads {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
    }

    /// Starts the workers that don't run, each on the CPU that `pin` gives.
    ///
    /// # Errors
    /// If a thread can't be had.
    pub fn start(&mut self, mut pin: impl FnMut(usize) -> Option<usize>) -> Result<(), Error> {
        let overhead = self.overhead();
        for (number, side) in self.workers.iter_mut().enumerate() {
            let cpu = pin(number);
            if side.thread.is_some() {
                continue;
            }
            let sockets = side
                .receivers
                .iter()
                .map(|receiver| receiver.socket.clone());
            let config = &self.served.config;
            let with_sources = config.source == Source::Keep || config.policy == Policy::SourceHash;
            let max_packet_size = self.served.config.max_packet_size;
            let forwarder = Forwarder {
                overhead,
                max_packet_size: max_packet_size.map_or(usize::MAX, |size| size as usize),
                counters: side.counters.clone(),
                table: Box::default(),
                cursors: Cursors::default(),
            };
            let worker = Worker::new(sockets, with_sources, forwarder, side.mailbox.clone());
            let name = format!("{}-{number}", self.served.config.name);
            let thread = thread::spawn(name, cpu, move || worker.run());
            let thread = thread.map_err(|error| {
                Error::Io(
                    self.served.config.name.clone(),
                    "can't start a worker",
                    error,
                )
            })?;
            side.thread = Some(thread);
        }
        Ok(())
    }

    /// What it was opened for.
    #[must_use]
    pub fn config(&self) -> &config::Listener {
        &self.served.config
    }

    /// How many workers it has.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Has the workers forward along `paths` from their next batch on.
    pub fn route(&mut self, paths: &Paths) {
        for downstream in &mut self.downstreams {
            let path = paths.get(&downstream.member().address.ip());
            let path = path.and_then(|path| path.as_ref().ok());
            if let Err(why) = downstream.route(path, &self.everywhere) {
                warn!(
                    "downstream is out of turn {} reason=\"{why}\"",
                    downstream.member().who(&self.served.config)
                );
            }
        }
        self.publish();
    }

    /// Its slot, and whether any member is in turn.
    #[must_use]
    pub fn forwards(&self) -> (u32, bool) {
        let in_turn =
            |downstream: &Downstream| downstream.is_up() && downstream.member().weight > 0;
        let any = self.downstreams.iter().any(in_turn);
        (self.served.slot, any)
    }

    /// Takes downstreams out of turn that refuse what they get, and back after a while.
    pub fn look(&mut self) {
        let now = Instant::now();
        let mut changed = false;
        for downstream in &mut self.downstreams {
            let (moved, change) = downstream.look(now);
            changed |= moved;
            let who = downstream.member().who(&self.served.config);
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
            let member = downstream.member();
            Some(((member.weight, member.address), next_hop))
        };
        let next_hops = self.downstreams.iter().filter_map(next_hop);
        Table::new(self.served.config.policy, next_hops.collect())
    }

    /// Bytes of the headers before a payload.
    fn overhead(&self) -> usize {
        udp::HEADER
            + if self.served.config.is_ipv6() {
                ipv6::HEADER
            } else {
                ipv4::HEADER
            }
    }

    /// Why the listener forwards no more, if it doesn't.
    #[must_use]
    pub fn fault(&self, links: &Links) -> Option<String> {
        if let Some(name) = &self.served.config.interface
            && links.by_name(name).is_none()
        {
            return Some(format!("interface {name} is gone"));
        }
        let has_died = |side: &Side| side.thread.as_ref().is_some_and(JoinHandle::is_finished);
        let dead = self.workers.iter().position(has_died)?;
        Some(format!(
            "worker {dead} of listener {} ended",
            self.served.config.name
        ))
    }

    /// What this listener counts, under its slot.
    #[must_use]
    pub fn sample(&self) -> (u32, ListenerSample<'_>) {
        let is_up = |place: usize| self.downstreams.get(place).is_some_and(Downstream::is_up);
        let forwarded = |name: &str| {
            let counters = self.forwarded.get(name).into_iter().flatten();
            Totals::forwarded(counters.map(Arc::as_ref))
        };
        let mut sample = ListenerSample {
            interface: self.served.config.interface.as_deref().unwrap_or_default(),
            ..self.served.sample(is_up, forwarded)
        };
        sample.count_workers(self.workers.iter().map(|side| side.counters.as_ref()));
        // What the kernel dropped, no worker ever saw.
        for (number, side) in self.workers.iter().enumerate() {
            let dropped = side.receivers.iter().map(Receiver::dropped).sum();
            sample.count_unseen(number, DropReason::ReceiveBufferFull, dropped);
        }
        (self.served.slot, sample)
    }
}
