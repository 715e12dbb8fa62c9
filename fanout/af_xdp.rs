//! The af_xdp listeners of one interface: a socket and a worker for each RX queue, and the tables that the
//! workers forward by.

mod queue;
mod table;
mod zero_copy;

use std::{io, net::SocketAddr, sync::Arc};

use fanout_ebpf::abi::MAX_QUEUES;
use log::{info, warn};

use self::queue::Queue;
use crate::{
    bpf::{Mode, Programs},
    config::{self, Cpus, ZeroCopy},
    interface::{Error, Listeners, RxQueues},
    link::{Link, QueueId},
    metrics::{
        DownstreamCounters, DownstreamSample, ListenerCounters, ListenerSample, QueueSample, Totals,
    },
    neighbor::Paths,
    roster::Roster,
};

/// Without listeners there are no queues.
#[derive(Debug, Default)]
pub struct AfXdp {
    queues: Vec<Queue>,
    listeners: Vec<Listener>,
}

/// A listener of this interface.
#[derive(Debug)]
struct Listener {
    /// Its place in the config.
    index: u32,
    config: config::Listener,
    /// One for each queue.
    counters: Vec<Arc<ListenerCounters>>,
    downstreams: Vec<Downstream>,
}

/// A downstream of a listener.
#[derive(Debug)]
struct Downstream {
    name: String,
    /// Each of its addresses, and whether datagrams go there.
    addresses: Vec<(SocketAddr, bool)>,
    /// One for each queue.
    counters: Vec<Arc<DownstreamCounters>>,
}

impl Listener {
    fn new(index: u32, config: config::Listener, queues: usize) -> Self {
        let downstreams = config.downstreams.iter().map(|downstream| Downstream {
            name: downstream.name.clone(),
            addresses: Vec::new(),
            counters: (0..queues).map(|_| Arc::default()).collect(),
        });
        Self {
            downstreams: downstreams.collect(),
            counters: (0..queues).map(|_| Arc::default()).collect(),
            index,
            config,
        }
    }
}

impl AfXdp {
    /// Opens a socket on each RX queue of `link`, to which the XDP program is attached in `mode`.
    ///
    /// # Errors
    /// If a socket can't be had.
    pub fn open(
        programs: &mut Programs,
        settings: &config::Interface,
        link: &Link,
        mode: Mode,
        queues: RxQueues,
        listeners: Listeners,
    ) -> Result<Self, Error> {
        let queues = if listeners.is_empty() {
            Vec::new()
        } else {
            open_queues(programs, settings, link, mode, queues)?
        };
        let listeners = listeners
            .into_iter()
            .map(|(index, config)| Listener::new(index, config, queues.len()))
            .collect();
        Ok(Self { queues, listeners })
    }

    /// Starts the workers, each on the CPU that `pin` gives for its queue.
    ///
    /// # Errors
    /// If a thread can't be had.
    pub fn start(
        &mut self,
        interface: &str,
        cpus: &Cpus,
        mut pin: impl FnMut(&Cpus, QueueId) -> Option<usize>,
    ) -> io::Result<()> {
        let mut queues = self.queues.iter_mut();
        queues.try_for_each(|queue| queue.start(interface, pin(cpus, queue.id())))
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.queues.len()
    }

    /// The listeners, with their places in the config.
    pub fn listeners(&self) -> impl Iterator<Item = (u32, &config::Listener)> {
        let listeners = self.listeners.iter();
        listeners.map(|listener| (listener.index, &listener.config))
    }

    /// Has the workers forward to the members of `roster` along `paths` from their next batch on.
    pub fn route(&mut self, ingress: &Link, roster: &Roster, paths: &Paths) {
        for listener in &mut self.listeners {
            for downstream in &mut listener.downstreams {
                downstream.addresses.clear();
            }
            for member in roster.members(listener.index) {
                let address = (member.address, member.path(paths).is_some());
                listener.downstreams[member.place].addresses.push(address);
            }
        }
        for queue in &mut self.queues {
            let table = table::build(&self.listeners, ingress, roster, paths, queue);
            queue.publish(table);
        }
    }

    /// Of each listener, by its slot, whether any member is in turn.
    pub fn forwards(&self) -> impl Iterator<Item = (u32, bool)> {
        self.listeners.iter().map(|listener| {
            let downstreams = listener.downstreams.iter();
            let mut addresses = downstreams.flat_map(|downstream| &downstream.addresses);
            (listener.index, addresses.any(|&(_, up)| up))
        })
    }

    /// Lets the workers send what they have, and end.
    pub fn stop(&mut self) {
        self.queues.iter_mut().for_each(Queue::stop);
    }

    /// A queue whose worker ended though nobody told it to.
    #[must_use]
    pub fn dead(&self) -> Option<QueueId> {
        let dead = self.queues.iter().find(|queue| queue.has_died())?;
        Some(dead.id())
    }

    /// Adds what the workers count of each listener.
    pub fn sample<'s>(&'s self, samples: &mut Vec<(u32, ListenerSample<'s>)>) {
        let zero_copy = self.queues.iter().all(Queue::is_zero_copy);
        for listener in &self.listeners {
            let downstreams = listener.downstreams.iter().map(Downstream::sample);
            let mut sample = ListenerSample {
                zero_copy,
                downstreams: downstreams.collect(),
                ..ListenerSample::of(&listener.config)
            };
            sample.count_workers(listener.counters.iter().map(Arc::as_ref));
            samples.push((listener.index, sample));
        }
    }

    /// What the kernel counts of each queue's socket.
    pub fn queues<'s>(&'s self, interface: &'s str) -> impl Iterator<Item = QueueSample<'s>> {
        self.queues.iter().map(move |queue| QueueSample {
            interface,
            queue: queue.id().0,
            statistics: queue.statistics(),
            umem_free_frames: queue.free_frames(),
        })
    }
}

fn open_queues(
    programs: &mut Programs,
    settings: &config::Interface,
    link: &Link,
    mode: Mode,
    RxQueues { before, now: count }: RxQueues,
) -> Result<Vec<Queue>, Error> {
    info!("receive queues interface={} queues={count}", link.name);
    if count > MAX_QUEUES {
        warn!(
            "more receive queues than fanout serves, the kernel gets the rest interface={} served={MAX_QUEUES}",
            link.name
        );
    }
    if count > before {
        warn!(
            "its driver added queues for the program, so sockets copy and the new queues send by raw \
             socket, which is slower interface={0} before={before} mend=\"ethtool -L {0} combined {count}\"",
            link.name
        );
    }
    let zero_copy = zero_copy::choose(settings.zero_copy, mode, before, count)
        .map_err(|why| Error::ZeroCopy(link.name.clone(), why))?;
    let mut queues = Vec::new();
    for id in (0..count.min(MAX_QUEUES)).map(QueueId) {
        let sends = id.0 < before;
        let opened = Queue::open(id, link.index, zero_copy, settings.busy_poll, sends);
        let queue = opened.map_err(|error| match error.raw_os_error() {
            Some(libc::ENOBUFS) => Error::Memory(link.name.clone()),
            Some(libc::EOPNOTSUPP | libc::EINVAL) if zero_copy == ZeroCopy::On => {
                Error::ZeroCopy(link.name.clone(), format!("its driver says \"{error}\""))
            }
            _ => Error::Io("can't open an AF_XDP socket", link.name.clone(), error),
        })?;
        programs.set_socket(id, queue.socket())?;
        queues.push(queue);
    }
    info!(
        "AF_XDP sockets interface={} queues={} zero_copy={}",
        link.name,
        queues.len(),
        queues.iter().all(Queue::is_zero_copy)
    );
    Ok(queues)
}

impl Downstream {
    fn sample(&self) -> DownstreamSample<'_> {
        DownstreamSample {
            name: &self.name,
            forwarded: Totals::forwarded(self.counters.iter().map(Arc::as_ref)),
            addresses: self.addresses.clone(),
        }
    }
}
