//! One interface: its eBPF programs, and the listeners of all modes that are served on it by them.
//!
//! Which mode does what is in the files of the modes: [`af_xdp`](crate::af_xdp), and for those whose
//! datagrams the kernel forwards by itself [`in_kernel`](crate::in_kernel).

use std::{
    collections::{BTreeMap, HashSet},
    fmt, io,
};

use fanout_ebpf::abi::{Bind, BindKey, Way};
use log::{info, warn};

use crate::{
    af_xdp::AfXdp,
    bpf::{self, Mode, Programs},
    config::{self, Cpus},
    in_kernel::{InKernel, Refused},
    link::{self, IfIndex, Link, Links, QueueId},
    metrics::{ListenerSample, QueueSample, RedirectSample},
    neighbor::Paths,
    wire::ethernet,
    xdp,
    xdp_features::XdpFeatures,
    xsk::umem::{self, FRAME_SIZE, HEADROOM},
};

/// The largest IP packet that fits a frame, behind a tagged Ethernet header. The programs that forward by
/// themselves take no larger ones either: in native mode there are none, and one listener is like another.
#[expect(clippy::cast_possible_truncation, reason = "less than 4096")]
const LARGEST_PACKET: u32 = (FRAME_SIZE - HEADROOM - ethernet::HEADER - ethernet::TAG) as u32;

/// An interface that forwards.
#[derive(Debug)]
pub struct Interface {
    /// First: traffic is the kernel's again before the sockets close.
    programs: Programs,
    settings: config::Interface,
    link: Link,
    /// How the XDP program is attached.
    mode: Mode,
    /// RX queues.
    queues: u32,
    af_xdp: AfXdp,
    xdp: InKernel,
    features: XdpFeatures,
    /// The interfaces that datagrams of xdp listeners ever left by, with their names.
    egresses: BTreeMap<IfIndex, String>,
}

/// How many RX queues an interface has.
#[derive(Clone, Copy, Debug)]
pub struct RxQueues {
    /// Without the XDP program.
    pub before: u32,
    /// With it.
    pub now: u32,
}

/// Listeners, and the place of each in the config.
pub type Listeners = Vec<(u32, config::Listener)>;

/// What kept an interface from forwarding.
#[derive(Debug)]
pub enum Error {
    /// An eBPF program.
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
    /// Attaches the programs that `listeners` need, and opens a socket on each RX queue if there is an
    /// af_xdp one. Takes no traffic yet.
    ///
    /// # Errors
    /// See [`Error`]; whatever was set up is taken down again.
    pub fn open(
        loader: &mut bpf::Loader,
        settings: &config::Interface,
        link: &Link,
        listeners: Listeners,
    ) -> Result<Self, Error> {
        let (af_xdp, xdp): (Vec<_>, Vec<_>) = listeners
            .into_iter()
            .partition(|(_, listener)| listener.mode == config::Mode::AfXdp);
        let xdp = InKernel::new(xdp, 0);
        let mut programs = loader.load(link, xdp.end())?;
        if let Err(error) = programs.passed(0) {
            warn!("what the programs do will not be counted error=\"{error}\"");
        }
        let count_queues = || {
            let failed = |error| Error::Io("can't count its RX queues", link.name.clone(), error);
            link::rx_queues(link).map_err(failed)
        };
        let before = count_queues()?;
        let mode = attach_xdp(&mut programs, settings, link)?;
        if !xdp.is_empty()
            && let Err(error) = programs.count_failures()
        {
            warn!("redirects that fail will be counted as forwarded only error=\"{error}\"");
        }
        // Only now: some drivers change their queues when a program is attached.
        let queues = RxQueues {
            before,
            now: count_queues()?,
        };
        let af_xdp = AfXdp::open(&mut programs, settings, link, mode, queues, af_xdp)?;
        Ok(Self {
            programs,
            settings: settings.clone(),
            link: link.clone(),
            mode,
            queues: queues.now,
            af_xdp,
            xdp,
            features: XdpFeatures::default(),
            egresses: BTreeMap::new(),
        })
    }

    /// Starts the workers, each on the CPU that `pin` gives for its queue.
    ///
    /// # Errors
    /// If a thread can't be had.
    pub fn start(&mut self, pin: impl FnMut(&Cpus, QueueId) -> Option<usize>) -> Result<(), Error> {
        self.af_xdp
            .start(&self.link.name, &self.settings.cpus, pin)
            .map_err(|error| Error::Io("can't start a worker", self.link.name.clone(), error))
    }

    /// Which interface it is.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// How many workers it has.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.af_xdp.workers()
    }

    /// Forwards along `paths` from now on. Says which downstreams have one that their listener's mode can't
    /// take.
    ///
    /// # Errors
    /// If the programs' maps can't be written.
    pub fn route(&mut self, paths: &Paths, links: &Links) -> Result<Vec<Refused>, Error> {
        self.af_xdp.route(&self.link, paths);
        self.features.forget();
        let mut egress = xdp::Egresses::new(&self.link, self.mode, links, &mut self.features);
        self.xdp
            .route(paths, |path, source| egress.choose(path, source));
        let devices = egress.into_devices();
        self.count_failures(&devices, links)?;
        self.programs.add_devices(&devices)?;
        self.xdp.publish(&mut self.programs)?;
        self.programs.retain_devices(&devices)?;
        Ok(self.xdp.refused().collect())
    }

    /// Counts what the kernel drops of what goes to `devices`, or back.
    fn count_failures(
        &mut self,
        devices: &HashSet<IfIndex>,
        links: &Links,
    ) -> Result<(), bpf::Error> {
        if self.xdp.is_empty() {
            return Ok(());
        }
        for &device in devices.iter().chain([&self.link.index]) {
            if let Some(link) = links.by_index(device)
                && self.egresses.insert(device, link.name.clone()).is_none()
            {
                self.programs.count_failures_of(device)?;
            }
        }
        Ok(())
    }

    /// Whether [`route`](Self::route) would have another result though no path has changed: interfaces may
    /// take redirected frames that did not, and the other way round.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.features.changed()
    }

    /// Has the programs look out for the interface's MAC address, which may have changed.
    ///
    /// # Errors
    /// If the programs' maps can't be written.
    pub fn follow(&mut self, links: &Links) -> Result<(), Error> {
        if let Some(link) = links.by_index(self.link.index)
            && *link != self.link
        {
            self.link = link.clone();
            self.programs.set_mac(self.link.mac)?;
        }
        Ok(())
    }

    /// Takes traffic: the listeners' binds from now on reach them.
    ///
    /// # Errors
    /// If the programs' maps can't be written.
    pub fn accept(&mut self) -> Result<(), Error> {
        let mut binds = Vec::new();
        for (way, index, listener) in self.listeners() {
            let max_packet_size = listener.max_packet_size.unwrap_or(LARGEST_PACKET);
            let bind = Bind {
                listener: index,
                max_packet_size: max_packet_size.min(LARGEST_PACKET),
                way,
            };
            binds.extend(keys(listener).map(|key| (key, bind)));
        }
        Ok(self.programs.set_binds(&binds)?)
    }

    fn listeners(&self) -> impl Iterator<Item = (Way, u32, &config::Listener)> {
        let af_xdp = self.af_xdp.listeners();
        let af_xdp = af_xdp.map(|(index, listener)| (Way::AfXdp, index, listener));
        let xdp = self.xdp.listeners();
        af_xdp.chain(xdp.map(|(index, listener)| (Way::Xdp, index, listener)))
    }

    /// Takes no more traffic, and lets the workers send what they have. The kernel gets the rest.
    pub fn stop(mut self) {
        if let Err(error) = self.programs.set_binds(&[]) {
            warn!(
                "can't stop taking traffic interface={} error=\"{error}\"",
                self.link.name
            );
        }
        self.af_xdp.stop();
    }

    /// Why the interface forwards no more, if it doesn't.
    #[must_use]
    pub fn fault(&self, links: &Links) -> Option<String> {
        let name = &self.link.name;
        if links.by_index(self.link.index).is_none() {
            return Some(format!("interface {name} is gone"));
        }
        let dead = self.af_xdp.dead()?;
        Some(format!("the worker of {name} queue {dead} ended"))
    }

    /// Adds what this interface counts.
    pub fn sample<'s>(
        &'s self,
        listeners: &mut Vec<(u32, ListenerSample<'s>)>,
        queues: &mut Vec<QueueSample<'s>>,
        redirects: &mut Vec<RedirectSample<'s>>,
    ) {
        let mut samples = Vec::new();
        self.af_xdp.sample(&mut samples);
        self.xdp.sample(&self.programs, self.queues, &mut samples);
        for (index, sample) in &mut samples {
            sample.interface = &self.link.name;
            sample.xdp = self.mode.name();
            sample.passed = self.programs.passed(*index).unwrap_or_default();
        }
        listeners.append(&mut samples);
        queues.extend(self.af_xdp.queues(&self.link.name));
        let egresses = self.egresses.iter();
        redirects.extend(egresses.map(|(&egress, name)| RedirectSample {
            interface: &self.link.name,
            egress: name,
            failed: self.programs.failures_of(egress),
        }));
    }
}

/// The binds of a listener, as the programs and the workers look them up.
pub fn keys(listener: &config::Listener) -> impl Iterator<Item = BindKey> {
    let key = |&address| BindKey::new(address, listener.vlan);
    listener.binds.iter().map(key)
}

fn attach_xdp(
    programs: &mut Programs,
    settings: &config::Interface,
    link: &Link,
) -> Result<Mode, Error> {
    let attached = programs.attach_xdp(settings.xdp)?;
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
    Ok(attached.mode)
}
