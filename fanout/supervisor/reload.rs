//! From one config to another: at the start from none, later while all that stays goes on.
//!
//! What can fail is done first, beside what runs; nothing of it is seen by a datagram, and it is taken down
//! again if the host refuses a part of it. Then listeners take over in this order: workers and programs know
//! the new ones, the new binds are there, the old binds go, what is on the way to the old ones is forwarded,
//! the old ones go.

use std::{
    os::fd::AsFd,
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use log::{error, info, warn};

use super::{Fault, PATIENCE, SETTLE, Supervisor, difference::Difference};
use crate::{
    bpf,
    config::{self, Config, Mode},
    interface::Interface,
    logger,
    metrics::MetricsFile,
    roster::{self, Roster, Served},
    sys,
    tuned::Tuned,
    userspace,
};

/// Longer than a datagram is on its way through a program and a worker's rings.
const IN_FLIGHT: Duration = Duration::from_millis(50);
/// Far longer than a worker takes to look up, be it asleep or its core taken away for a while: one that hangs so long
/// hangs for good.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// What a config needs that was not there.
pub(super) struct Opened {
    interfaces: Vec<Interface>,
    userspace: Vec<userspace::Listener>,
    tuned: Vec<Tuned>,
}

impl Supervisor {
    /// Reads the config again and goes by it, or says why not and goes on as before.
    pub(super) fn reload(&mut self) -> Result<(), Fault> {
        info!("reloading config={}", self.file.display());
        self.reload.successful = false;
        let config = match config::load(&self.file) {
            Ok(config) => config,
            Err(errors) => {
                for error in errors {
                    error!("{error}");
                }
                error!("reload refused, going on with the config before");
                return Ok(());
            }
        };
        self.look_ahead(&config)?;
        let roster = self.roster_of(&config);
        let opened = match self.prepare(&config, &roster) {
            Ok(opened) => opened,
            Err(fault) => {
                self.interfaces.iter_mut().for_each(Interface::trim);
                self.follow_names();
                error!("{fault}");
                error!("reload refused, going on with the config before");
                return Ok(());
            }
        };
        for warning in &config.warnings {
            warn!("{warning}");
        }
        self.report_restart_keys(&config);
        let before = self.roster.clone();
        let leaving = self.adopt(config, &roster, opened);
        self.take_over(roster, leaving)?;
        let change = Difference::report(&before, &self.roster);
        self.reload.successful = true;
        self.reload.last_success = SystemTime::now();
        info!(
            "reloaded listeners={} {change}",
            self.config.listeners.len()
        );
        Ok(())
    }

    /// Sets up what `roster` needs beside what is there.
    pub(super) fn prepare(&mut self, config: &Config, roster: &Roster) -> Result<Opened, Fault> {
        let mut opened = Opened {
            interfaces: Vec::new(),
            userspace: Vec::new(),
            tuned: Vec::new(),
        };
        for settings in &config.interfaces {
            let before = self.config.interfaces.iter();
            if !before
                .map(|settings| &settings.name)
                .any(|name| *name == settings.name)
            {
                self.exists(&settings.name)?;
                opened.tuned.push(Tuned::new(settings)?);
            }
        }
        let mut loader = None;
        for settings in &config.interfaces {
            let listeners = roster.on(&settings.name);
            if listeners.is_empty() {
                continue;
            }
            let mut interfaces = self.interfaces.iter_mut();
            if let Some(interface) = interfaces.find(|i| i.link().name == settings.name) {
                interface.prepare(&listeners)?;
                continue;
            }
            // What it was tuned to is news.
            let link = self.resolver.look_at(&settings.name)?;
            let link = link.ok_or_else(|| Fault::NoInterface(settings.name.clone()))?;
            if !link.ethernet {
                return Err(Fault::NoEthernet(link.name));
            }
            let loader = loader.get_or_insert_with(bpf::Loader::new);
            let mut interface = Interface::open(loader, settings, &link, &listeners)?;
            interface.prepare(&listeners)?;
            opened.interfaces.push(interface);
        }
        for served in roster.iter() {
            let config = &served.config;
            let opened = self.prober.open(config.health.check, config.is_ipv6());
            opened.map_err(|error| Fault::Health(config.name.clone(), error))?;
        }
        let is_new = |served: &&Served| !self.userspace.iter().any(|listener| listener.is(served));
        let new: Vec<_> = roster.of(Mode::Userspace).filter(is_new).cloned().collect();
        opened.userspace = userspace::open(new, &self.userspace)?;
        Ok(opened)
    }

    fn exists(&self, interface: &str) -> Result<(), Fault> {
        match self.resolver.links().by_name(interface) {
            Some(_) => Ok(()),
            None => Err(Fault::NoInterface(interface.to_owned())),
        }
    }

    /// From the next [`publish`](Self::publish) on serves `roster`, for which everything is prepared. Returns
    /// those that are served no more.
    pub(super) fn adopt(
        &mut self,
        config: Config,
        roster: &Roster,
        opened: Opened,
    ) -> Vec<userspace::Listener> {
        self.tuned.extend(opened.tuned);
        self.interfaces.extend(opened.interfaces);
        self.userspace.extend(opened.userspace);
        let is_served =
            |listener: &userspace::Listener| roster.iter().any(|served| listener.is(served));
        let all = std::mem::take(&mut self.userspace);
        let (stay, leave) = all.into_iter().partition(is_served);
        self.userspace = stay;
        self.serve(roster);
        logger::set_level(config.log_level);
        if config.metrics_file != self.config.metrics_file {
            let new = config.metrics_file.clone().map(MetricsFile::new);
            if let Some(Err(error)) =
                std::mem::replace(&mut self.metrics, new).map(MetricsFile::remove)
            {
                warn!("metrics file is left behind error=\"{error}\"");
            }
        }
        self.config = config;
        self.follow_names();
        leave
    }

    /// From the next [`publish`](Self::publish) on serves these listeners, for which everything is there.
    pub(super) fn serve(&mut self, roster: &Roster) {
        for interface in &mut self.interfaces {
            let listeners = roster.on(&interface.link().name);
            interface.serve(listeners);
        }
        let everywhere: Vec<_> = (roster.of(Mode::Userspace))
            .flat_map(|served| served.config.binds.clone())
            .filter(|bind| bind.ip().is_unspecified())
            .collect();
        for listener in &mut self.userspace {
            if let Some(served) = roster.iter().find(|served| listener.is(served)) {
                listener.serve(served.clone(), &everywhere);
            }
        }
    }

    /// Asks for the names that are in the config, and no others.
    fn follow_names(&mut self) {
        let questions = roster::questions(&self.config);
        self.names.follow(questions, Instant::now());
    }

    /// Has everybody go by the roster, and lets those go that are not in it.
    fn take_over(
        &mut self,
        roster: Roster,
        leaving: Vec<userspace::Listener>,
    ) -> Result<(), Fault> {
        let paths = self.look_up(&roster)?;
        self.publish(roster, paths)?;
        self.start_workers()?;
        self.wait_for_workers();
        self.accept()?;
        let any_leaving = self.interfaces.iter().any(Interface::any_leaving);
        if any_leaving {
            sleep(IN_FLIGHT);
        }
        for mut listener in leaving {
            listener.stop();
            self.past.keep(&listener.sample().1);
        }
        for listener in &mut self.userspace {
            listener.retire(&mut self.past);
        }
        for interface in &mut self.interfaces {
            interface.retire(&mut self.past)?;
        }
        if any_leaving {
            self.publish(self.roster.clone(), self.paths.clone())?;
            self.wait_for_workers();
        }
        self.interfaces.iter_mut().for_each(Interface::trim);
        self.interfaces.retain(Interface::is_needed);
        // Put back now: what an interface has when it returns would be taken for the host's own.
        let used = &self.config.interfaces;
        (self.tuned).retain(|tuned| used.iter().any(|settings| tuned.is_of(&settings.name)));
        sys::process::trim_heap();
        Ok(())
    }

    /// Waits until no worker goes by what it had before, so that what it counted is complete.
    fn wait_for_workers(&self) {
        let since = Instant::now();
        let done = || {
            self.interfaces.iter().all(Interface::has_taken_over)
                && (self.userspace.iter()).all(userspace::Listener::has_taken_over)
        };
        while !done() {
            if since.elapsed() >= TAKE_OVER {
                warn!("a worker does not take the new config over");
                return;
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Gives names that are new in `config`, and next hops of who is, a second to answer, so that nothing is lost
    /// where all downstreams of a listener are replaced.
    fn look_ahead(&mut self, config: &Config) -> Result<(), Fault> {
        let since = Instant::now();
        let questions = roster::questions(&self.config).chain(roster::questions(config));
        self.names.follow(questions, since);
        let known = self.roster.destinations(&self.roster);
        loop {
            self.names.step(Instant::now());
            let roster = self.roster_of(config);
            let paths = self.look_up(&roster)?;
            let has_way = |served: &Served| {
                let mut members = served.members.iter();
                members.all(|member| {
                    let ip = member.address.ip();
                    known.contains(&ip) || matches!(paths.get(&ip), Some(Ok(_)))
                })
            };
            let all_there = self.names.untried().next().is_none() && roster.iter().all(has_way);
            if all_there || since.elapsed() >= PATIENCE {
                return Ok(());
            }
            self.resolver.refresh();
            sys::socket::wait_readable([self.events.as_fd(), self.names.as_fd()], SETTLE)
                .map_err(|error| Fault::Io("can't wait for events", error))?;
            // Whatever it was, the next look sees it.
            let _ = self.events.drain(&mut self.resolver);
        }
    }

    /// Names what of `config` is not taken over.
    fn report_restart_keys(&self, config: &Config) {
        for interface in &self.interfaces {
            let (before, mut now) = (interface.settings(), config.interfaces.iter());
            let Some(now) = now.find(|now| now.name == before.name) else {
                continue;
            };
            for (key, changed) in [
                ("xdp", before.xdp != now.xdp),
                ("zero_copy", before.zero_copy != now.zero_copy),
                ("busy_poll", before.busy_poll != now.busy_poll),
                ("cpus", before.cpus != now.cpus),
                ("mtu", before.mtu != now.mtu),
                ("channels", before.channels != now.channels),
            ] {
                if changed {
                    warn!("takes a restart to change interface={} key={key}", now.name);
                }
            }
        }
    }
}
