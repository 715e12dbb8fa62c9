//! The life of the process: start, the kernel's news, signals, the metrics file, stop.
//!
//! Everything here runs on the main thread and may take its time; the workers go on meanwhile.

mod difference;
mod fault;
mod privileges;
mod reload;
mod report;

use std::{
    collections::HashMap,
    os::fd::AsFd,
    path::{Path as FilePath, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use log::{info, warn};

pub use self::fault::Fault;
use self::report::Report;
use crate::{
    config::{Config, Cpus, Mode},
    events::Events,
    health::Prober,
    interface::Interface,
    link::QueueId,
    metrics::{InterfaceSample, MetricsFile, Past, Reload, Snapshot},
    names::Names,
    neighbor::{Paths, Resolver},
    roster::{self, Roster},
    service,
    sys::{self, process::Signals, socket::PollSet},
    tuned::Tuned,
    userspace,
};

/// Signals that it acts on.
const SIGNALS: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1];
/// The kernel's news come in bursts: so long it waits for the rest of one.
const SETTLE: Duration = Duration::from_millis(20);
/// Between two looks at the workers and at next hops that don't answer.
const TICK: Duration = Duration::from_secs(1);
/// How long the start waits for next hops, and members that are to go for those in their place.
const PATIENCE: Duration = Duration::from_secs(1);

/// A running instance.
#[derive(Debug)]
struct Supervisor {
    file: PathBuf,
    /// As it was read last and found good.
    config: Config,
    started: SystemTime,
    reload: Reload,
    interfaces: Vec<Interface>,
    userspace: Vec<userspace::Listener>,
    /// What those counted that are no more.
    past: Past,
    resolver: Resolver,
    events: Events,
    names: Names,
    prober: Prober,
    roster: Roster,
    paths: Paths,
    /// When the ways there, or who the members are, may have changed.
    changed: Option<Instant>,
    /// Since when listeners have kept members that are none any more, for nobody of the new ones can be reached.
    stranded: Option<Instant>,
    report: Report,
    metrics: Option<MetricsFile>,
    /// Whether the log has said so.
    ready: bool,
    /// Last: put back when nothing is attached any more.
    tuned: Vec<Tuned>,
}

/// Runs `config` until a signal ends it.
///
/// # Errors
/// See [`Fault`]; whatever was set up is taken down again.
pub fn run(file: &FilePath, config: Config) -> Result<(), Fault> {
    let started = SystemTime::now();
    info!(
        "starting fanout version={} config={}",
        env!("CARGO_PKG_VERSION"),
        file.display()
    );
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let count = |mode| config.listeners.iter().filter(|l| l.mode == mode).count();
    info!(
        "configured listeners af_xdp={} tc_ebpf={} xdp={} userspace={}",
        count(Mode::AfXdp),
        count(Mode::TcEbpf),
        count(Mode::Xdp),
        count(Mode::Userspace)
    );
    let signals = Signals::new(&SIGNALS).map_err(|error| Fault::Io("can't read signals", error))?;
    let mut supervisor = Supervisor::start(file, config, started)?;
    supervisor.forward_until_told(&signals)?;
    supervisor.stop();
    Ok(())
}

impl Supervisor {
    fn start(file: &FilePath, config: Config, started: SystemTime) -> Result<Self, Fault> {
        let names = Names::new().map_err(|error| Fault::Io("can't have a pipe", error))?;
        let events =
            Events::subscribe().map_err(|error| Fault::Io("can't listen to netlink", error))?;
        let mut supervisor = Self {
            file: file.to_owned(),
            config: Config::default(),
            started,
            reload: Reload {
                successful: true,
                last_success: started,
            },
            interfaces: Vec::new(),
            userspace: Vec::new(),
            past: Past::default(),
            resolver: Resolver::new()?,
            events,
            names,
            prober: Prober::default(),
            roster: Roster::default(),
            paths: HashMap::new(),
            changed: None,
            stranded: None,
            report: Report::default(),
            metrics: config.metrics_file.clone().map(MetricsFile::new),
            ready: false,
            tuned: Vec::new(),
        };
        // Names answer while all else is set up.
        let now = Instant::now();
        supervisor.names.follow(roster::questions(&config), now);
        supervisor.names.step(now);
        let roster = supervisor.roster_of(&config);
        // And so do next hops that nobody asked for yet.
        supervisor.look_up(&roster)?;
        supervisor.resolver.refresh();
        // Refused without CAP_SYS_RESOURCE; what that means, a refused UMEM says.
        let _ = sys::process::lift_memlock_limit();
        // A socket for each worker and downstream in userspace mode.
        let _ = sys::process::lift_file_limit();
        let opened = supervisor.prepare(&config, &roster)?;
        sys::process::trim_heap();
        if let Err(error) = privileges::drop_unneeded() {
            warn!("privileges that are not needed could not be dropped error=\"{error}\"");
        }
        supervisor.adopt(config, &roster, opened);
        supervisor.route()?;
        supervisor.start_workers()?;
        supervisor.accept()?;
        Ok(supervisor)
    }

    /// What `config` comes to now.
    fn roster_of(&self, config: &Config) -> Roster {
        Roster::new(config, &self.names, &self.prober, &self.roster)
    }

    /// Takes the traffic of all listeners, and no other.
    fn accept(&mut self) -> Result<(), Fault> {
        for interface in &mut self.interfaces {
            interface.accept()?;
        }
        Ok(())
    }

    /// Each worker on a CPU of its own as long as there are enough.
    fn start_workers(&mut self) -> Result<(), Fault> {
        let allowed = sys::process::allowed_cpus().unwrap_or_default();
        let mut turn = allowed.iter().copied().cycle();
        let mut pin = |cpus: &Cpus, worker| match cpus {
            Cpus::None => None,
            Cpus::Auto => turn.next(),
            Cpus::List(list) => list.iter().copied().cycle().nth(worker),
        };
        for interface in &mut self.interfaces {
            interface.start(|cpus, QueueId(queue)| pin(cpus, queue as usize))?;
        }
        for listener in &mut self.userspace {
            let name = listener.config().interface.as_ref();
            let interfaces = &self.config.interfaces;
            let settings = name.and_then(|name| interfaces.iter().find(|i| i.name == *name));
            let cpus = settings.map_or(Cpus::Auto, |settings| settings.cpus.clone());
            listener.start(|worker| pin(&cpus, worker))?;
        }
        Ok(())
    }

    /// The main loop.
    fn forward_until_told(&mut self, signals: &Signals) -> Result<(), Fault> {
        // From the start on: later it comes with each tick.
        self.write_metrics(MetricsFile::update_now);
        let ready_by = Instant::now() + PATIENCE;
        let mut next_tick = Instant::now() + TICK;
        let mut next_metrics = Instant::now();
        let mut next_refresh = Instant::now();
        loop {
            let now = Instant::now();
            if self.changed.is_some_and(|since| since + SETTLE <= now) {
                self.changed = None;
                self.route()?;
                next_refresh = now;
            }
            if now >= next_refresh {
                next_refresh = now + self.resolver.refresh();
            }
            if !self.ready {
                self.look_if_ready(now >= ready_by);
            }
            if now >= next_tick {
                next_tick = now + TICK;
                self.look_for_faults()?;
                for listener in &mut self.userspace {
                    listener.look();
                }
                self.report_forwarding();
                if self.metrics.as_mut().is_some_and(MetricsFile::is_due) {
                    self.write_metrics(MetricsFile::update_now);
                }
                if self.interfaces.iter().any(Interface::has_news) {
                    self.changed.get_or_insert(now);
                }
            }
            let is_overdue = self.stranded.is_some_and(|since| since + PATIENCE <= now);
            if self.names.step(now) | self.prober.step(now) | is_overdue {
                self.changed.get_or_insert(now);
            }
            if now >= next_metrics {
                next_metrics = now + self.config.metrics_interval;
                self.write_metrics(MetricsFile::update);
            }
            let deadlines = [
                Some(next_tick),
                Some(next_metrics),
                Some(next_refresh),
                (!self.ready).then_some(ready_by),
                self.changed.map(|since| since + SETTLE),
                self.stranded.map(|since| since + PATIENCE),
                self.names.deadline(),
                self.prober.deadline(now),
            ];
            let until = deadlines.into_iter().flatten().min().unwrap_or(next_tick);
            let timeout = until.saturating_duration_since(Instant::now());
            let fds = [signals.as_fd(), self.events.as_fd(), self.names.as_fd()];
            let mut poll = PollSet::new(fds.into_iter().chain(self.prober.fds()));
            let waited = poll.wait(timeout).map(|ready| ready.for_each(drop));
            waited.map_err(|error| Fault::Io("can't wait for events", error))?;
            if self.events.drain(&mut self.resolver) {
                self.changed.get_or_insert_with(Instant::now);
            }
            while let Some(signal) = signals.next() {
                match signal {
                    libc::SIGUSR1 => self.write_metrics(MetricsFile::update),
                    libc::SIGHUP => {
                        self.reload()?;
                        next_metrics = Instant::now();
                    }
                    _ => {
                        let name = if signal == libc::SIGTERM {
                            "SIGTERM"
                        } else {
                            "SIGINT"
                        };
                        info!("stopping signal={name}");
                        service::stopping();
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Asks the kernel for the ways to the members of `roster`, and to those that it takes over from.
    fn look_up(&mut self, roster: &Roster) -> Result<Paths, Fault> {
        let by_sockets = roster.only_by_sockets(&self.roster);
        self.resolver.leave_to_kernel(by_sockets);
        let destinations = roster.destinations(&self.roster);
        let answers = self.resolver.resolve(&destinations)?;
        Ok(destinations.into_iter().zip(answers).collect())
    }

    /// Looks who is a member now and asks the kernel for the ways there, and publishes all that if it changed.
    fn route(&mut self) -> Result<(), Fault> {
        let mut roster = self.roster_of(&self.config);
        let paths = self.look_up(&roster)?;
        self.look_for_faults()?;
        for interface in &mut self.interfaces {
            interface.follow(self.resolver.links())?;
        }
        let now = Instant::now();
        let patient = self.stranded.is_none_or(|since| now < since + PATIENCE);
        let stranded = patient && roster.keep_reachable(&self.roster, &paths);
        self.stranded = stranded.then(|| self.stranded.unwrap_or(now));
        let news = self.interfaces.iter().any(Interface::has_news);
        if roster == self.roster && paths == self.paths && !news {
            return Ok(());
        }
        if roster != self.roster {
            self.serve(&roster);
        }
        self.publish(roster, paths)
    }

    /// Has everybody forward to the members of `roster`, which is served, along `paths`.
    fn publish(&mut self, roster: Roster, paths: Paths) -> Result<(), Fault> {
        let now = Instant::now();
        self.prober.follow(roster.probes(), now);
        if roster != self.roster {
            // The ways to those that are gone are of no interest then.
            self.changed = Some(now);
        }
        (self.roster, self.paths) = (roster, paths);
        let paths = &self.paths;
        self.report.members(&self.roster, paths, &self.prober);
        let mut refused = Vec::new();
        for interface in &mut self.interfaces {
            refused.extend(interface.route(paths, self.resolver.links())?);
        }
        for listener in &mut self.userspace {
            listener.route(paths);
        }
        self.report.refused(refused);
        self.report_forwarding();
        match self.report.first_refused() {
            // What can't work is better said at the start than found out in the night.
            Some(refused) if !self.ready => Err(Fault::Refused(refused.clone())),
            _ => Ok(()),
        }
    }

    /// Logs which listeners have no member in turn any more, and which have again.
    fn report_forwarding(&mut self) {
        let on_interfaces = self.interfaces.iter().flat_map(Interface::forwards);
        let by_sockets = self.userspace.iter().map(userspace::Listener::forwards);
        let forwards = on_interfaces.chain(by_sockets);
        self.report.forwarding(&self.roster, forwards, !self.ready);
    }

    /// Logs that it is ready once every downstream has its next hop, or when its patience is `over`.
    fn look_if_ready(&mut self, over: bool) {
        let are_reached = self.paths.values().all(Result::is_ok);
        if !are_reached || self.names.untried().next().is_some() {
            if !over {
                return;
            }
            for question in self.names.untried() {
                warn!("name has no answer yet {question}");
            }
            report::missing(&self.roster, &self.paths);
        }
        self.ready = true;
        self.report_forwarding();
        let queues = self.interfaces.iter().map(Interface::workers);
        let threads = self.userspace.iter().map(userspace::Listener::workers);
        let workers: usize = queues.chain(threads).sum();
        let ready = format!(
            "ready listeners={} workers={workers}",
            self.config.listeners.len()
        );
        info!("{ready}");
        service::ready(&ready);
    }

    fn look_for_faults(&self) -> Result<(), Fault> {
        let links = self.resolver.links();
        let mut interfaces = self
            .interfaces
            .iter()
            .map(|interface| interface.fault(links));
        let mut userspace = self.userspace.iter().map(|listener| listener.fault(links));
        let fault = interfaces
            .find_map(|fault| fault)
            .or_else(|| userspace.find_map(|fault| fault));
        fault.map_or(Ok(()), |why| Err(Fault::Stopped(why)))
    }

    /// Has the metrics file show what is counted; or only what `fanout status` reads.
    fn write_metrics(&mut self, write: impl FnOnce(&mut MetricsFile, &Snapshot<'_>)) {
        let Some(file) = &mut self.metrics else {
            return;
        };
        let (mut listeners, mut queues, mut redirects) = (Vec::new(), Vec::new(), Vec::new());
        for interface in &self.interfaces {
            interface.sample(&mut listeners, &mut queues, &mut redirects);
        }
        listeners.extend(self.userspace.iter().map(userspace::Listener::sample));
        let resolver = &mut self.resolver;
        let interfaces = self.interfaces.iter().filter_map(|interface| {
            let link = interface.link();
            Some(InterfaceSample {
                name: &link.name,
                losses: resolver.losses(link.index)?,
            })
        });
        let order: HashMap<_, _> = self.roster.iter().map(|s| s.slot).zip(0..).collect();
        listeners.sort_by_key(|(slot, _)| order.get(slot).copied().unwrap_or(usize::MAX));
        let mut listeners = listeners.into_iter().map(|(_, sample)| sample).collect();
        self.past.add_to(&mut listeners);
        let snapshot = Snapshot {
            started: self.started,
            reload: self.reload,
            listeners,
            queues,
            interfaces: interfaces.collect(),
            redirects,
        };
        write(file, &snapshot);
    }

    /// Traffic is the kernel's again first; then the workers end, then all else is taken down.
    fn stop(mut self) {
        self.interfaces.iter_mut().for_each(Interface::stop);
        drop(self.interfaces);
        (self.userspace.iter_mut()).for_each(userspace::Listener::stop);
        if let Some(file) = self.metrics
            && let Err(error) = file.remove()
        {
            warn!("metrics file is left behind error=\"{error}\"");
        }
        drop(self.tuned);
        info!("stopped");
    }
}
