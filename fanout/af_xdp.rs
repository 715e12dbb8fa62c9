//! One interface in af_xdp mode: its XDP program, a socket and a worker for each RX queue, and the
//! tables that the workers forward by.

mod queue;
mod table;
mod zero_copy;

use std::{fmt, io, sync::Arc};

use fanout_ebpf::abi::{Bind, BindKey, MAX_QUEUES};
use log::{info, warn};

use self::queue::Queue;
use crate::{
    bpf::{self, Mode, Program},
    config::{self, Cpus, ZeroCopy},
    link::{self, Link, Links, QueueId},
    metrics::{
        DownstreamCounters, DownstreamSample, ListenerCounters, ListenerSample, QueueSample, Totals,
    },
    neighbor::Paths,
    wire::ethernet,
    xsk::umem::{self, FRAME_SIZE, HEADROOM},
};

/// The largest IP packet that fits a frame, behind a tagged Ethernet header.
#[expect(clippy::cast_possible_truncation, reason = "less than 4096")]
const LARGEST_PACKET: u32 = (FRAME_SIZE - HEADROOM - ethernet::HEADER - ethernet::TAG) as u32;

/// An interface that forwards.
#[derive(Debug)]
pub struct Interface {
    /// First: traffic is the kernel's again before the sockets close.
    program: Program,
    settings: config::Interface,
    link: Link,
    xdp: Mode,
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
    config: config::Downstream,
    up: bool,
    /// One for each queue.
    counters: Vec<Arc<DownstreamCounters>>,
}

impl Listener {
    fn new(index: u32, config: config::Listener, queues: usize) -> Self {
        let downstreams = config.downstreams.iter().map(|downstream| Downstream {
            config: downstream.clone(),
            up: false,
            counters: (0..queues).map(|_| Arc::default()).collect(),
        });
        Self {
            downstreams: downstreams.collect(),
            counters: (0..queues).map(|_| Arc::default()).collect(),
            index,
            config,
        }
    }

    /// Its binds, as the program and the workers look them up.
    fn keys(&self) -> impl Iterator<Item = BindKey> {
        let key = |&address| BindKey::new(address, self.config.vlan);
        self.config.binds.iter().map(key)
    }
}

/// What kept an interface from forwarding.
#[derive(Debug)]
pub enum Error {
    /// The XDP program.
    Program(bpf::Error),
    /// The limit on pinned memory is too low for the UMEMs of this interface.
    Memory(String),
    /// The config insists on zero copy for this interface, and why it can't be had.
    ZeroCopy(String, String),
    /// A system call, what it was to do, and on which interface.
    Io(&'static str, String, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(error) => error.fmt(f),
            Self::Io(what, interface, error) => write!(f, "interface {interface}: {what}: {error}"),
            Self::Memory(interface) => write!(
                f,
                "interface {interface}: the kernel refuses to pin {} MiB for each queue; \
                 raise the limit (LimitMEMLOCK=, ulimit -l) or grant CAP_IPC_LOCK",
                umem::SIZE >> 20
            ),
            Self::ZeroCopy(interface, why) => {
                write!(
                    f,
                    "interface {interface}: zero_copy = on can't be had: {why}"
                )
            }
        }
    }
}

impl From<bpf::Error> for Error {
    fn from(error: bpf::Error) -> Self {
        Self::Program(error)
    }
}

impl Interface {
    /// Attaches the program and opens a socket on each RX queue. Takes no traffic yet.
    ///
    /// # Errors
    /// See [`Error`]; whatever was set up is taken down again.
    pub fn open(
        loader: &mut bpf::Loader,
        settings: &config::Interface,
        link: &Link,
        listeners: Vec<(u32, config::Listener)>,
    ) -> Result<Self, Error> {
        let io = |what| move |error| Error::Io(what, link.name.clone(), error);
        let mut program = loader.load(link)?;
        if let Err(error) = program.passed(0) {
            warn!("packets passed to the kernel will not be counted error=\"{error}\"");
        }
        let count_queues = || link::rx_queues(link).map_err(io("can't count its RX queues"));
        let before = count_queues()?;
        let attached = program.attach(settings.xdp)?;
        if let Some(why) = attached.why_not_native {
            warn!(
                "native XDP refused, going on in skb mode, which is slower interface={} reason=\"{why}\"",
                link.name
            );
        }
        info!(
            "attached XDP program interface={} mode={}",
            link.name, attached.mode
        );
        // Only now: some drivers change their queues when a program is attached.
        let count = count_queues()?;
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
        let zero_copy = zero_copy::choose(settings.zero_copy, attached.mode, before, count)
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
                _ => io("can't open an AF_XDP socket")(error),
            })?;
            program.set_socket(id, queue.socket())?;
            queues.push(queue);
        }
        info!(
            "AF_XDP sockets interface={} queues={} zero_copy={}",
            link.name,
            queues.len(),
            queues.iter().all(Queue::is_zero_copy)
        );
        let listeners = listeners
            .into_iter()
            .map(|(index, config)| Listener::new(index, config, queues.len()))
            .collect();
        Ok(Self {
            program,
            settings: settings.clone(),
            link: link.clone(),
            xdp: attached.mode,
            queues,
            listeners,
        })
    }

    /// Starts the workers, each on the CPU that `pin` gives for its queue.
    ///
    /// # Errors
    /// If a thread can't be had.
    pub fn start(
        &mut self,
        mut pin: impl FnMut(&Cpus, QueueId) -> Option<usize>,
    ) -> Result<(), Error> {
        for queue in &mut self.queues {
            queue
                .start(&self.link.name, pin(&self.settings.cpus, queue.id()))
                .map_err(|error| {
                    Error::Io("can't start a worker", self.link.name.clone(), error)
                })?;
        }
        Ok(())
    }

    /// How many workers it has.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.queues.len()
    }

    /// Has the workers forward along `paths` from their next batch on.
    pub fn route(&mut self, paths: &Paths) {
        let downstreams = self
            .listeners
            .iter_mut()
            .flat_map(|listener| &mut listener.downstreams);
        downstreams.for_each(|downstream| {
            downstream.up = matches!(paths.get(&downstream.config.address.ip()), Some(Ok(_)));
        });
        for queue in &mut self.queues {
            let table = table::build(&self.listeners, &self.link, paths, queue);
            queue.publish(table);
        }
    }

    /// Has the program look out for the interface's MAC address, which may have changed.
    ///
    /// # Errors
    /// If the program's maps can't be written.
    pub fn follow(&mut self, links: &Links) -> Result<(), Error> {
        if let Some(link) = links.by_index(self.link.index)
            && *link != self.link
        {
            self.link = link.clone();
            self.program.set_mac(self.link.mac)?;
        }
        Ok(())
    }

    /// Takes traffic: the listeners' binds from now on reach the workers.
    ///
    /// # Errors
    /// If the program's maps can't be written.
    pub fn accept(&mut self) -> Result<(), Error> {
        let binds = self.binds();
        Ok(self.program.set_binds(&binds)?)
    }

    /// Takes no more traffic, and lets the workers send what they have. The kernel gets the rest.
    pub fn stop(mut self) {
        if let Err(error) = self.program.set_binds(&[]) {
            warn!(
                "can't stop taking traffic interface={} error=\"{error}\"",
                self.link.name
            );
        }
        for queue in &mut self.queues {
            queue.stop();
        }
    }

    /// Why the interface forwards no more, if it doesn't.
    #[must_use]
    pub fn fault(&self, links: &Links) -> Option<String> {
        let name = &self.link.name;
        if links.by_index(self.link.index).is_none() {
            return Some(format!("interface {name} is gone"));
        }
        let dead = self.queues.iter().find(|queue| queue.has_died())?;
        Some(format!("the worker of {name} queue {} ended", dead.id()))
    }

    fn binds(&self) -> Vec<(BindKey, Bind)> {
        let mut binds = Vec::new();
        for listener in &self.listeners {
            let max_packet_size = listener.config.max_packet_size.unwrap_or(LARGEST_PACKET);
            let bind = Bind {
                listener: listener.index,
                max_packet_size: max_packet_size.min(LARGEST_PACKET),
            };
            binds.extend(listener.keys().map(|key| (key, bind)));
        }
        binds
    }

    /// Adds what this interface counts.
    pub fn sample<'s>(
        &'s self,
        listeners: &mut Vec<(u32, ListenerSample<'s>)>,
        queues: &mut Vec<QueueSample<'s>>,
    ) {
        let zero_copy = self.queues.iter().all(Queue::is_zero_copy);
        for listener in &self.listeners {
            let mut sample = ListenerSample {
                name: &listener.config.name,
                mode: listener.config.mode.name(),
                interface: &self.link.name,
                xdp: self.xdp.name(),
                zero_copy,
                received: Vec::new(),
                dropped: Default::default(),
                passed: self.program.passed(listener.index).unwrap_or_default(),
                downstreams: listener
                    .downstreams
                    .iter()
                    .map(Downstream::sample)
                    .collect(),
            };
            sample.count_workers(listener.counters.iter().map(Arc::as_ref));
            listeners.push((listener.index, sample));
        }
        queues.extend(self.queues.iter().map(|queue| QueueSample {
            interface: &self.link.name,
            queue: queue.id().0,
            statistics: queue.statistics(),
            umem_free_frames: queue.free_frames(),
        }));
    }
}

impl Downstream {
    fn sample(&self) -> DownstreamSample<'_> {
        DownstreamSample {
            name: &self.config.name,
            forwarded: Totals::forwarded(self.counters.iter().map(Arc::as_ref)),
            addresses: vec![(self.config.address, self.up)],
        }
    }
}
