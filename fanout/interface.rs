//! One interface: its eBPF programs, and the listeners of all modes that are served on it by them.
//!
//! Which mode does what is in the files of the modes: [`af_xdp`](crate::af_xdp), and for those whose
//! datagrams the kernel forwards by itself [`in_kernel`](crate::in_kernel).

mod attach;

use std::{
    collections::{BTreeMap, HashSet},
    fmt, io,
    net::SocketAddr,
};

use fanout_ebpf::abi::{Bind, BindKey, Way};
use log::warn;

use crate::{
    af_xdp::AfXdp,
    bpf::{self, Mode, Programs},
    claim::Claim,
    config::{self, Cpus},
    in_kernel::{InKernel, Refused},
    link::{self, IfIndex, Link, Links, QueueId},
    metrics::{ListenerSample, QueueSample, RedirectSample},
    neighbor::Paths,
    roster::Roster,
    tc,
    wire::ethernet,
    xdp,
    xdp_features::XdpFeatures,
    xsk::umem::{self, FRAME_SIZE, HEADROOM},
};

/// The largest IP packet that fits a frame, behind a tagged Ethernet header. The XDP program takes no
/// larger ones either when it forwards by itself: in native mode there are none, and one listener is like
/// another.
#[expect(clippy::cast_possible_truncation, reason = "less than 4096")]
const LARGEST_PACKET: u32 = (FRAME_SIZE - HEADROOM - ethernet::HEADER - ethernet::TAG) as u32;

/// An interface that forwards.
#[derive(Debug)]
pub struct Interface {
    /// First: traffic is the kernel's again before the sockets close.
    programs: Programs,
    settings: config::Interface,
    link: Link,
    /// How the XDP program is attached; `None`: no listener needs it.
    mode: Option<Mode>,
    /// RX queues.
    queues: u32,
    af_xdp: AfXdp,
    xdp: InKernel,
    tc: InKernel,
    features: XdpFeatures,
    /// The interfaces that datagrams of xdp listeners ever left by, with their names.
    egresses: BTreeMap<IfIndex, String>,
    /// So that no other instance takes the same binds.
    _claims: Vec<Claim>,
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
    /// Another instance has a bind on this interface.
    Taken(String, SocketAddr),
    /// A system call, what it was to do, and on which interface.
    Io(&'static str, String, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(error) => error.fmt(f),
            Self::Taken(interface, bind) => write!(
                f,
                "interface {interface}: another fanout takes what is sent to {bind}; one has to go, \
                 or bind another address or port"
            ),
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
        listeners: &Listeners,
    ) -> Result<Self, Error> {
        let of = |mode| {
            let listeners = listeners.iter().cloned();
            listeners
                .filter(|(_, listener)| listener.mode == mode)
                .collect()
        };
        let af_xdp: Listeners = of(config::Mode::AfXdp);
        let xdp = InKernel::new(of(config::Mode::Xdp), 0);
        let tc = InKernel::new(of(config::Mode::TcEbpf), xdp.end());
        let mut programs = loader.load(link, tc.end())?;
        if let Err(error) = programs.passed(0) {
            warn!("what the programs do will not be counted error=\"{error}\"");
        }
        let count_queues = || {
            let failed = |error| Error::Io("can't count its RX queues", link.name.clone(), error);
            link::rx_queues(link).map_err(failed)
        };
        let before = count_queues()?;
        let mode = if af_xdp.is_empty() && xdp.is_empty() {
            None
        } else {
            Some(attach::xdp(&mut programs, settings, link)?)
        };
        if !xdp.is_empty()
            && let Err(error) = programs.count_failures()
        {
            warn!("redirects that fail will be counted as forwarded only error=\"{error}\"");
        }
        let claims = attach::claim(link, listeners)?;
        if !tc.is_empty() {
            attach::tc(&mut programs, link)?;
        }
        // Only now: some drivers change their queues when a program is attached.
        let queues = RxQueues {
            before,
            now: count_queues()?,
        };
        let af_xdp = match mode {
            Some(mode) => AfXdp::open(&mut programs, settings, link, mode, queues, af_xdp)?,
            None => AfXdp::default(),
        };
        Ok(Self {
            programs,
            settings: settings.clone(),
            link: link.clone(),
            mode,
            queues: queues.now,
            af_xdp,
            xdp,
            tc,
            features: XdpFeatures::default(),
            egresses: BTreeMap::new(),
            _claims: claims,
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

    /// Forwards to the members of `roster` along `paths` from now on. Says which downstreams have one that their listener's mode can't
    /// take.
    ///
    /// # Errors
    /// If the programs' maps can't be written.
    pub fn route(
        &mut self,
        roster: &Roster,
        paths: &Paths,
        links: &Links,
    ) -> Result<Vec<Refused>, Error> {
        self.af_xdp.route(&self.link, roster, paths);
        self.features.forget();
        if let Some(mode) = self.mode {
            let mut egress = xdp::Egresses::new(&self.link, mode, links, &mut self.features);
            self.xdp
                .route(roster, paths, |path, source| egress.choose(path, source));
            let devices = egress.into_devices();
            self.count_failures(&devices, links)?;
            self.programs.add_devices(&devices)?;
            self.xdp.publish(&mut self.programs)?;
            self.programs.retain_devices(&devices)?;
        }
        self.tc.route(roster, paths, tc::choose);
        self.tc.publish(&mut self.programs)?;
        Ok(self.xdp.refused().chain(self.tc.refused()).collect())
    }

    /// Of each listener, by its slot, whether any member is in turn.
    pub fn forwards(&self) -> impl Iterator<Item = (u32, bool)> {
        let in_kernel = self.xdp.forwards().chain(self.tc.forwards());
        self.af_xdp.forwards().chain(in_kernel)
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
            let largest = match way {
                Way::AfXdp | Way::Xdp => LARGEST_PACKET,
                Way::Tc => u16::MAX.into(),
            };
            let bind = Bind {
                listener: index,
                max_packet_size: listener.max_packet_size.unwrap_or(largest).min(largest),
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
        let xdp = xdp.map(|(index, listener)| (Way::Xdp, index, listener));
        let tc = self.tc.listeners();
        let tc = tc.map(|(index, listener)| (Way::Tc, index, listener));
        af_xdp.chain(xdp).chain(tc)
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
        let xdp = self.mode.map_or("none", Mode::name);
        for (_, sample) in &mut samples {
            sample.xdp = xdp;
        }
        self.tc.sample(&self.programs, self.queues, &mut samples);
        for (index, sample) in &mut samples {
            sample.interface = &self.link.name;
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
