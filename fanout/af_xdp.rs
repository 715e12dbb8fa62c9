//! The af_xdp listeners of one interface: a socket and a worker for each RX queue, and the tables that the
//! workers forward by.

mod queue;
mod table;
mod zero_copy;

use std::{collections::HashMap, io, sync::Arc};

use fanout_ebpf::abi::MAX_QUEUES;
use log::{info, warn};

use self::queue::Queue;
use crate::{
    bpf::{Mode, Programs},
    config::{self, Cpus, ZeroCopy},
    interface::{Error, RxQueues},
    link::{Link, QueueId},
    metrics::{DownstreamCounters, ListenerCounters, ListenerSample, Past, QueueSample, Totals},
    neighbor::Paths,
    roster::{Member, Served},
};

/// Without listeners there are no queues.
#[derive(Debug, Default)]
pub struct AfXdp {
    queues: Vec<Queue>,
    listeners: Vec<Listener>,
    /// Served no more: what is on the way to them is still forwarded.
    leaving: Vec<Listener>,
}

/// A listener of this interface.
#[derive(Debug)]
struct Listener {
    served: Served,
    /// One for each queue.
    counters: Vec<Arc<ListenerCounters>>,
    /// Whether there is a way to each member.
    up: Vec<bool>,
    /// Of each downstream, one for each queue.
    forwarded: HashMap<String, Vec<Arc<DownstreamCounters>>>,
}

impl Listener {
    fn new(served: Served, queues: usize) -> Self {
        let listener = Self {
            counters: (0..queues).map(|_| Arc::default()).collect(),
            up: Vec::new(),
            forwarded: HashMap::new(),
            served: served.clone(),
        };
        listener.serve(served)
    }

    /// The same listener with other settings.
    fn serve(mut self, served: Served) -> Self {
        for downstream in &served.config.downstreams {
            let queues = self.counters.len();
            let counters = || (0..queues).map(|_| Arc::default()).collect();
            let name = downstream.name.clone();
            self.forwarded.entry(name).or_insert_with(counters);
        }
        self.up = vec![false; served.members.len()];
        Self { served, ..self }
    }

    fn sample(&self) -> ListenerSample<'_> {
        let forwarded = |name: &str| {
            let counters = self.forwarded.get(name).into_iter().flatten();
            Totals::forwarded(counters.map(Arc::as_ref))
        };
        let is_up = |place: usize| self.up.get(place) == Some(&true);
        let mut sample = self.served.sample(is_up, forwarded);
        sample.count_workers(self.counters.iter().map(Arc::as_ref));
        sample
    }

    /// Gives the counts of downstreams that it has no more to `past`.
    fn retire(&mut self, past: &mut Past) {
        let downstreams = &self.served.config.downstreams;
        let gone = |name: &String| {
            !downstreams
                .iter()
                .any(|downstream| downstream.name == *name)
        };
        for (name, counters) in self.forwarded.extract_if(|name, _| gone(name)) {
            let forwarded = Totals::forwarded(counters.iter().map(Arc::as_ref));
            past.keep_downstream(&self.served.config.name, &name, forwarded);
        }
    }
}

impl AfXdp {
    /// Opens a socket on each RX queue of `link`, to which the XDP program is attached in `mode`; `copies` says
    /// whether a listener will replicate.
    ///
    /// # Errors
    /// If a socket can't be had.
    pub fn open(
        programs: &mut Programs,
        settings: &config::Interface,
        link: &Link,
        mode: Mode,
        queues: RxQueues,
        copies: bool,
    ) -> Result<Self, Error> {
        Ok(Self {
            queues: open_queues(programs, settings, link, mode, queues, copies)?,
            ..Self::default()
        })
    }

    /// From the next [`route`](Self::route) on serves these listeners; those that it served before and that are
    /// not among them leave.
    pub fn serve(&mut self, listeners: Vec<Served>) {
        let mut before = std::mem::take(&mut self.listeners);
        let queues = self.queues.len();
        let serve = |served: Served| {
            let same = |listener: &Listener| listener.served.slot == served.slot;
            match before.iter().position(same) {
                Some(place) => before.swap_remove(place).serve(served),
                None => Listener::new(served, queues),
            }
        };
        self.listeners = listeners.into_iter().map(serve).collect();
        self.leaving.append(&mut before);
    }

    /// Whether the workers go by what was published last.
    #[must_use]
    pub fn has_taken_over(&self) -> bool {
        self.queues.iter().all(Queue::has_taken_over)
    }

    /// Forgets those that left, whose counts, and those of downstreams that left, go to `past`. To be called
    /// when the workers go by tables without them.
    pub fn retire(&mut self, past: &mut Past) {
        for listener in std::mem::take(&mut self.leaving) {
            past.keep(&listener.sample());
        }
        for listener in &mut self.listeners {
            listener.retire(past);
        }
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

    /// Whether it has queues.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.queues.is_empty()
    }

    /// The listeners that are served.
    pub fn listeners(&self) -> impl Iterator<Item = &Served> {
        self.listeners.iter().map(|listener| &listener.served)
    }

    /// Whether any leave.
    #[must_use]
    pub fn any_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Has the workers forward along `paths` from their next batch on.
    pub fn route(&mut self, ingress: &Link, paths: &Paths) {
        for listener in &mut self.listeners {
            let members = listener.served.members.iter();
            let is_up = |member: &Member| member.path(paths).is_some();
            listener.up = members.map(is_up).collect();
        }
        for queue in &mut self.queues {
            // Of two with the same bind, the last one has it.
            let listeners = self.leaving.iter().chain(&self.listeners);
            let table = table::build(listeners, ingress, paths, queue);
            queue.publish(table);
        }
    }

    /// Of each listener, by its slot, whether any member is in turn.
    pub fn forwards(&self) -> impl Iterator<Item = (u32, bool)> {
        let listeners = self.listeners.iter();
        listeners.map(|listener| {
            let mut members = listener.served.members.iter().zip(&listener.up);
            let any = members.any(|(member, &up)| up && member.weight > 0);
            (listener.served.slot, any)
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
        samples.extend(self.listeners.iter().map(|listener| {
            let sample = ListenerSample {
                zero_copy,
                ..listener.sample()
            };
            (listener.served.slot, sample)
        }));
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
    copies: bool,
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
    let zero_copy = zero_copy::choose(&link.name, settings.zero_copy, mode, before, count)
        .map_err(|why| Error::ZeroCopy(link.name.clone(), why))?;
    let mut queues = Vec::new();
    for id in (0..count.min(MAX_QUEUES)).map(QueueId) {
        let sends = id.0 < before;
        let opened = Queue::open(id, link.index, zero_copy, settings.busy_poll, sends, copies);
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
