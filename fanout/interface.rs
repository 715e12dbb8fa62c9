//! One interface: its eBPF programs, and the listeners of all modes that are served on it by them.
//!
//! Which mode does what is in the files of the modes: [`af_xdp`](crate::af_xdp), and for those whose
//! datagrams the kernel forwards by itself [`in_kernel`](crate::in_kernel).

mod attach;
mod error;

use std::collections::{BTreeMap, HashSet};

use fanout_ebpf::abi::{Bind, BindKey, Policy, Way};
use log::{info, warn};

pub use self::error::Error;
use crate::{
    af_xdp::AfXdp,
    bpf::{self, Mode, Programs},
    claim::Claim,
    config::{self, Cpus},
    in_kernel::{InKernel, Numbers, Refused},
    link::{self, IfIndex, Link, Links, QueueId},
    metrics::{ListenerSample, Past, QueueSample, RedirectSample},
    neighbor::Paths,
    roster::Served,
    tc,
    wire::ethernet,
    xdp,
    xdp_features::XdpFeatures,
    xsk::umem::{FRAME_SIZE, HEADROOM},
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
    queues: RxQueues,
    af_xdp: AfXdp,
    xdp: InKernel,
    tc: InKernel,
    /// What downstreams of `xdp` and `tc` are counted under.
    numbers: Numbers,
    features: XdpFeatures,
    /// Whether what the kernel drops of redirected frames is counted, or was tried to.
    counts_failures: bool,
    /// The interfaces that datagrams of xdp listeners ever left by, with their names.
    egresses: BTreeMap<IfIndex, String>,
    /// So that no other instance takes the same binds.
    claims: BTreeMap<String, Claim>,
}

/// How many RX queues an interface has.
#[derive(Clone, Copy, Debug)]
pub struct RxQueues {
    /// Without the XDP program.
    pub before: u32,
    /// With it.
    pub now: u32,
}

impl Interface {
    /// Loads the programs, with room for what `listeners` are counted by. Attaches nothing yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(
        loader: &mut bpf::Loader,
        settings: &config::Interface,
        link: &Link,
        listeners: &[Served],
    ) -> Result<Self, Error> {
        let downstreams = listeners
            .iter()
            .map(|served| served.config.downstreams.len());
        let numbers = Numbers::new(downstreams.sum());
        let programs = loader.load(link, numbers.count())?;
        if let Err(error) = programs.passed(0) {
            warn!("what the programs do will not be counted error=\"{error}\"");
        }
        let queues = count_queues(link)?;
        Ok(Self {
            programs,
            settings: settings.clone(),
            link: link.clone(),
            mode: None,
            queues: RxQueues {
                before: queues,
                now: queues,
            },
            af_xdp: AfXdp::default(),
            xdp: InKernel::default(),
            tc: InKernel::default(),
            numbers,
            features: XdpFeatures::default(),
            counts_failures: false,
            egresses: BTreeMap::new(),
            claims: BTreeMap::new(),
        })
    }

    /// Sets up what `listeners` need beside what is there: attaches programs, claims binds, opens a socket on each
    /// RX queue. Takes none of their traffic yet.
    ///
    /// # Errors
    /// See [`Error`]; [`trim`](Self::trim) takes down what was set up by then.
    pub fn prepare(&mut self, listeners: &[Served]) -> Result<(), Error> {
        let any = |mode| listeners.iter().any(|served| served.config.mode == mode);
        let needs = |mode, of: &InKernel| {
            let listeners = listeners.iter().filter(|served| served.config.mode == mode);
            of.numbers_for(listeners)
        };
        let numbers = needs(config::Mode::Xdp, &self.xdp) + needs(config::Mode::TcEbpf, &self.tc);
        if numbers > self.numbers.left() {
            return Err(Error::Full(self.link.name.clone()));
        }
        let (for_sockets, for_itself) = (any(config::Mode::AfXdp), any(config::Mode::Xdp));
        let is_new = self.mode.is_none() && (for_sockets || for_itself);
        if is_new {
            self.queues.before = count_queues(&self.link)?;
            self.queues.now = self.queues.before;
        }
        // Queues that came with the program are what is missing otherwise.
        let may_crash = for_itself && self.xdp.is_empty() && self.queues.now == self.queues.before;
        let crash = may_crash.then(|| attach::crash(&self.link)).flatten();
        if is_new {
            let (programs, settings) = (&mut self.programs, &self.settings);
            self.mode = Some(attach::xdp(programs, settings, &self.link, crash)?);
        } else if let (Some(Mode::Native), Some(reason)) = (self.mode, crash) {
            return Err(attach::refused(&self.link, reason));
        }
        if for_itself
            && !std::mem::replace(&mut self.counts_failures, true)
            && let Err(error) = self.programs.count_failures()
        {
            warn!("redirects that fail will be counted as forwarded only error=\"{error}\"");
        }
        attach::claim(&mut self.claims, &self.link, listeners)?;
        if any(config::Mode::TcEbpf) && !self.programs.has_tc() {
            attach::tc(&mut self.programs, &self.link)?;
        }
        // Only now: some drivers change their queues when a program is attached.
        self.queues.now = count_queues(&self.link)?;
        if for_sockets
            && !self.af_xdp.is_open()
            && let Some(mode) = self.mode
        {
            let (programs, link) = (&mut self.programs, &self.link);
            let mut policies = listeners.iter().map(|served| served.config.policy);
            let copies = policies.any(|policy| policy == Policy::Replicate);
            let settings = &self.settings;
            self.af_xdp = AfXdp::open(programs, settings, link, mode, self.queues, copies)?;
        }
        Ok(())
    }

    /// From the next [`route`](Self::route) on serves `listeners`, for which it was
    /// [prepared](Self::prepare).
    pub fn serve(&mut self, listeners: Vec<Served>) {
        let (af_xdp, in_kernel): (Vec<_>, Vec<_>) =
            (listeners.into_iter()).partition(|served| served.config.mode == config::Mode::AfXdp);
        let (xdp, tc) =
            (in_kernel.into_iter()).partition(|served| served.config.mode == config::Mode::Xdp);
        self.af_xdp.serve(af_xdp);
        self.xdp.serve(xdp, &mut self.numbers);
        self.tc.serve(tc, &mut self.numbers);
    }

    /// Whether all workers go by what was routed last.
    #[must_use]
    pub fn has_taken_over(&self) -> bool {
        self.af_xdp.has_taken_over()
    }

    /// Whether it still forwards what is on the way to listeners that are served no more.
    #[must_use]
    pub fn any_leaving(&self) -> bool {
        self.af_xdp.any_leaving() || self.xdp.any_leaving() || self.tc.any_leaving()
    }

    /// Forgets listeners and downstreams that left: their counts go to `past`. To be called when none of their
    /// datagrams is on the way, and followed by a [`route`](Self::route).
    ///
    /// # Errors
    /// If the programs' maps can't be written.
    pub fn retire(&mut self, past: &mut Past) -> Result<(), Error> {
        self.af_xdp.retire(past);
        let (programs, numbers) = (&mut self.programs, &mut self.numbers);
        self.xdp.retire(programs, numbers, past)?;
        self.tc.retire(programs, numbers, past)?;
        Ok(())
    }

    /// Takes down what the listeners that are served don't need.
    pub fn trim(&mut self) {
        let is_af_xdp_idle = self.af_xdp.listeners().next().is_none();
        if is_af_xdp_idle {
            self.af_xdp.stop();
            self.af_xdp = AfXdp::default();
        }
        if is_af_xdp_idle && self.xdp.is_empty() && self.mode.take().is_some() {
            self.programs.detach_xdp();
            info!("detached XDP program interface={}", self.link.name);
        }
        if self.tc.is_empty() && self.programs.detach_tc() {
            info!("detached TC program interface={}", self.link.name);
        }
        let served = self.listeners().map(|(_, served)| served);
        let needed: Vec<_> = served
            .flat_map(|served| attach::claimed(&self.link, served))
            .map(|(name, _)| name)
            .collect();
        self.claims.retain(|name, _| needed.contains(name));
    }

    /// Whether it serves any listener.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.listeners().next().is_some()
    }

    /// The settings that were in force from the start.
    #[must_use]
    pub fn settings(&self) -> &config::Interface {
        &self.settings
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
        if let Some(mode) = self.mode {
            let mut egress = xdp::Egresses::new(&self.link, mode, links, &mut self.features);
            self.xdp
                .route(paths, |path, source| egress.choose(path, source));
            let devices = egress.into_devices();
            self.count_failures(&devices, links)?;
            self.xdp.publish(&mut self.programs)?;
        }
        self.tc.route(paths, tc::choose);
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
        for (way, Served { slot, config, .. }) in self.listeners() {
            let largest = match way {
                Way::AfXdp | Way::Xdp => LARGEST_PACKET,
                Way::Tc => u16::MAX.into(),
            };
            let bind = Bind {
                listener: *slot,
                max_packet_size: config.max_packet_size.unwrap_or(largest).min(largest),
                way,
                policy: config.policy,
            };
            binds.extend(keys(config).map(|key| (key, bind)));
        }
        Ok(self.programs.set_binds(&binds)?)
    }

    fn listeners(&self) -> impl Iterator<Item = (Way, &Served)> {
        let af_xdp = self.af_xdp.listeners().map(|served| (Way::AfXdp, served));
        let xdp = self.xdp.listeners().map(|served| (Way::Xdp, served));
        let tc = self.tc.listeners().map(|served| (Way::Tc, served));
        af_xdp.chain(xdp).chain(tc)
    }

    /// Takes no more traffic, and lets the workers send what they have. The kernel gets the rest.
    pub fn stop(&mut self) {
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
        self.xdp
            .sample(&self.programs, self.queues.now, &mut samples);
        let xdp = self.mode.map_or("none", Mode::name);
        for (_, sample) in &mut samples {
            sample.xdp = xdp;
        }
        self.tc
            .sample(&self.programs, self.queues.now, &mut samples);
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

fn count_queues(link: &Link) -> Result<u32, Error> {
    link::rx_queues(link)
        .map_err(|error| Error::Io("can't count its RX queues", link.name.clone(), error))
}

/// The binds of a listener, as the programs and the workers look them up.
pub fn keys(listener: &config::Listener) -> impl Iterator<Item = BindKey> {
    let key = |&address| BindKey::new(address, listener.vlan);
    listener.binds.iter().map(key)
}
