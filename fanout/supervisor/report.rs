//! What the log says of downstreams: each change once.

use std::{collections::HashMap, fmt, net::SocketAddr};

use log::{debug, info, warn};

use crate::{
    config::Listener,
    health::{Key, Prober},
    in_kernel::Refused,
    neighbor::{Path, Paths},
    roster::{LeftOut, Member, Roster},
};

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Of each member, by its listener's slot.
    standings: HashMap<(u32, String, SocketAddr), Standing>,
    /// Members whose paths can't be taken.
    refused: Vec<Refused>,
    /// Addresses that are no members.
    left_out: Vec<LeftOut>,
    /// Of each listener, by its slot, whether any member is in turn.
    forwarding: HashMap<u32, bool>,
}

/// Whether a member can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Up(Path),
    /// Though it could be reached: health checks failed.
    Unhealthy(Path),
    /// And why.
    Unreachable(String),
}

impl Report {
    /// Logs how the members' standings changed.
    pub(super) fn members(&mut self, roster: &Roster, paths: &Paths, prober: &Prober) {
        let mut before = std::mem::take(&mut self.standings);
        for served in roster.iter() {
            for member in &served.members {
                let (listener, address) = (served.slot, member.address);
                let key = (listener, member.name.clone(), address);
                let down = prober.down(Key { address, listener });
                let now = standing(member, paths);
                say(&served.config, member, before.remove(&key), &now, down);
                self.standings.insert(key, now);
            }
        }
        for (slot, name, address) in before.into_keys() {
            if let Some(served) = roster.get(slot) {
                let listener = &served.config.name;
                info!("downstream is gone listener={listener} name={name} address={address}");
            }
        }
        for left_out in news(&self.left_out, &roster.left_out) {
            let reason = &left_out.reason;
            warn!("address is left out {left_out} reason=\"{reason}\"");
        }
        self.left_out.clone_from(&roster.left_out);
    }

    /// Logs which members have a way that can't be taken, and which no longer.
    pub(super) fn refused(&mut self, refused: Vec<Refused>) {
        for refused in news(&self.refused, &refused) {
            let reason = &refused.reason;
            warn!("downstream is out of turn {refused} reason=\"{reason}\"");
        }
        for refused in news(&refused, &self.refused) {
            info!("downstream is no longer refused {refused}");
        }
        self.refused = refused;
    }

    /// A member whose way can't be taken, if there is one.
    pub(super) fn first_refused(&self) -> Option<&Refused> {
        self.refused.first()
    }

    /// Logs where the last member went out of turn, and where one came back: of each listener, by its slot, whether
    /// it `forwards`. At the `start` that there is none yet is no news.
    pub(super) fn forwarding(
        &mut self,
        roster: &Roster,
        forwards: impl Iterator<Item = (u32, bool)>,
        start: bool,
    ) {
        for (slot, forwards) in forwards {
            let Some(served) = roster.get(slot) else {
                continue;
            };
            let name = &served.config.name;
            match self.forwarding.get(&slot) {
                None if !forwards && start => continue,
                None | Some(true) if !forwards => {
                    warn!("no downstream left, dropping what comes listener={name}");
                }
                Some(false) if forwards => {
                    info!("downstreams are back, forwarding listener={name}");
                }
                _ => {}
            }
            self.forwarding.insert(slot, forwards);
        }
    }
}

/// Those of `after` that are not in `before`.
fn news<'a, T: PartialEq>(before: &'a [T], after: &'a [T]) -> impl Iterator<Item = &'a T> {
    after.iter().filter(|one| !before.contains(one))
}

fn standing(member: &Member, paths: &Paths) -> Standing {
    match paths.get(&member.address.ip()) {
        Some(Ok(path)) if member.healthy => Standing::Up(path.clone()),
        Some(Ok(path)) => Standing::Unhealthy(path.clone()),
        Some(Err(why)) => Standing::Unreachable(why.to_string()),
        None => Standing::Unreachable("no route".to_owned()),
    }
}

/// `down` is what health checks have against the member.
fn say(
    listener: &Listener,
    member: &Member,
    before: Option<Standing>,
    now: &Standing,
    down: Option<&str>,
) {
    if before.as_ref() == Some(now) {
        return;
    }
    let who = member.who(listener);
    match (before, now) {
        (Some(Standing::Unhealthy(path)), Standing::Up(same)) if path == *same => {
            info!("downstream is back {who}");
        }
        (_, Standing::Up(path)) => info!(
            "downstream {who} egress={} mac={}",
            path.link.name,
            Mac(path)
        ),
        (Some(Standing::Up(_)), Standing::Unreachable(why)) => {
            warn!("downstream is out of turn {who} reason=\"{why}\"");
        }
        (_, Standing::Unreachable(why)) => {
            debug!("downstream is not usable {who} reason=\"{why}\"");
        }
        (Some(Standing::Up(_)), Standing::Unhealthy(_)) => {
            let why = down.unwrap_or_default();
            warn!("downstream is out of turn {who} reason=\"{why}\"");
        }
        (_, Standing::Unhealthy(_)) => {}
    }
}

/// Names the members that have no way after the time that a start waits for them.
pub(super) fn missing(roster: &Roster, paths: &Paths) {
    for served in roster.iter() {
        for member in &served.members {
            if let Some(Err(why)) = paths.get(&member.address.ip()) {
                let who = member.who(&served.config);
                warn!("downstream has no next hop yet {who} reason=\"{why}\"");
            }
        }
    }
}

/// The next hop's, or `none` if the kernel finds the way itself.
struct Mac<'a>(&'a Path);

impl fmt::Display for Mac<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(mac) = self.0.mac else {
            return f.write_str("none");
        };
        for (n, byte) in mac.iter().enumerate() {
            write!(f, "{}{byte:02x}", if n == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}
