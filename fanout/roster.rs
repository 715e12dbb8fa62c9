//! Who the listeners forward to: all that the config says, the names among it by what they stand for now, and what
//! health checks say of each. Built anew whenever one of those changes; whoever forwards takes it as a whole.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    config::{self, Config, Health, MAX_DOWNSTREAMS, Mode, Target},
    health::{Key, Prober},
    names::{Names, Question},
    neighbor::{Path, Paths},
};

/// All listeners' members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// By the listener's slot.
    listeners: Vec<Vec<Member>>,
    /// Addresses of names that nothing is sent to.
    pub left_out: Vec<LeftOut>,
}

/// One address that a listener may forward to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `downstream.NAME`, which several may share.
    pub name: String,
    /// The place of that among the listener's downstreams.
    pub place: usize,
    /// Where datagrams go.
    pub address: SocketAddr,
    /// So many turns where one of weight 1 has one.
    pub weight: u8,
    /// Whether health checks, if there are any, have nothing against it.
    pub healthy: bool,
}

/// An address of a name that can't be a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    listener: String,
    downstream: String,
    address: SocketAddr,
    /// Why.
    pub reason: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            listener,
            downstream,
            address,
            ..
        } = self;
        write!(f, "listener={listener} name={downstream} address={address}")
    }
}

impl Member {
    /// What tells it from the listener's others.
    #[must_use]
    pub fn key(&self) -> (usize, SocketAddr) {
        (self.place, self.address)
    }

    /// The way to it, if it has one and is healthy.
    #[must_use]
    pub fn path<'p>(&self, paths: &'p Paths) -> Option<&'p Path> {
        let path = paths.get(&self.address.ip()).filter(|_| self.healthy)?;
        path.as_ref().ok()
    }
}

impl Roster {
    /// What `config` comes to, with what `names` and `prober` know.
    #[must_use]
    pub fn new(config: &Config, names: &Names, prober: &Prober) -> Self {
        let mut roster = Self::default();
        let binds = config.listeners.iter().flat_map(|listener| &listener.binds);
        let binds: HashSet<_> = binds.copied().collect();
        for (slot, listener) in (0..).zip(&config.listeners) {
            let mut members = Vec::new();
            for (place, downstream) in listener.downstreams.iter().enumerate() {
                for address in addresses(listener, &downstream.target, names) {
                    if let Some(reason) = unfit(address, &binds, members.len()) {
                        roster.left_out.push(LeftOut {
                            listener: listener.name.clone(),
                            downstream: downstream.name.clone(),
                            address,
                            reason,
                        });
                        continue;
                    }
                    let listener = slot;
                    members.push(Member {
                        name: downstream.name.clone(),
                        place,
                        address,
                        weight: downstream.weight,
                        healthy: prober.down(Key { address, listener }).is_none(),
                    });
                }
            }
            roster.listeners.push(members);
        }
        roster
    }

    /// Those of the listener in a slot.
    #[must_use]
    pub fn members(&self, slot: u32) -> &[Member] {
        let members = self.listeners.get(slot as usize);
        members.map_or(&[], Vec::as_slice)
    }

    /// What has to be probed, and how.
    pub fn probes<'r>(&'r self, config: &'r Config) -> impl Iterator<Item = (Key, Health)> + 'r {
        let listeners = (0..).zip(&config.listeners).zip(&self.listeners);
        listeners.flat_map(|((listener, config), members)| {
            members.iter().map(move |&Member { address, .. }| {
                let key = Key { address, listener };
                (key, config.health)
            })
        })
    }

    /// Lets listeners none of whose members can be reached yet keep those of `before`, if any of these can be.
    /// Whether there is such a listener.
    pub fn keep_reachable(&mut self, before: &Self, paths: &Paths) -> bool {
        // Whether they are healthy is another question.
        let is_reached = |members: &[Member]| {
            let mut ways = members.iter().map(|member| paths.get(&member.address.ip()));
            ways.any(|way| matches!(way, Some(Ok(_))))
        };
        let mut any = false;
        for (members, before) in self.listeners.iter_mut().zip(&before.listeners) {
            // That there are none is final.
            if !members.is_empty() && !is_reached(members) && is_reached(before) {
                members.clone_from(before);
                any = true;
            }
        }
        any
    }

    /// The addresses of all members of this roster and `other`, each once.
    #[must_use]
    pub fn destinations(&self, other: &Self) -> Vec<IpAddr> {
        let members = self.listeners.iter().chain(&other.listeners).flatten();
        let mut addresses: Vec<_> = members.map(|member| member.address.ip()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Those that no mode but userspace sends to: the kernel's sockets find the way by themselves.
    #[must_use]
    pub fn only_by_sockets(&self, other: &Self, config: &Config) -> HashSet<IpAddr> {
        let of = |by_sockets: bool| {
            let rosters = [self, other].into_iter();
            let listeners =
                rosters.flat_map(|roster| config.listeners.iter().zip(&roster.listeners));
            let listeners =
                listeners.filter(move |(of, _)| (of.mode == Mode::Userspace) == by_sockets);
            listeners.flat_map(|(_, members)| members.iter().map(|member| member.address.ip()))
        };
        let others: HashSet<_> = of(false).collect();
        of(true)
            .filter(|address| !others.contains(address))
            .collect()
    }
}

/// The names in `config`, and how often each is to be looked up.
pub fn questions(config: &Config) -> impl Iterator<Item = (Question, Duration)> + '_ {
    config.listeners.iter().flat_map(|listener| {
        let names = listener.downstreams.iter().filter_map(|downstream| {
            let Target::Name { host, .. } = &downstream.target else {
                return None;
            };
            Some(question(listener, host))
        });
        names.map(|question| (question, listener.resolve_interval))
    })
}

/// A listener sends to addresses of its own family.
fn question(listener: &config::Listener, host: &str) -> Question {
    Question {
        host: host.to_owned(),
        ipv6: listener.is_ipv6(),
    }
}

fn addresses(listener: &config::Listener, target: &Target, names: &Names) -> Vec<SocketAddr> {
    match target {
        Target::Address(address) => vec![*address],
        Target::Name { host, port } => {
            let addresses = names.addresses(&question(listener, host)).iter();
            addresses.map(|&ip| SocketAddr::new(ip, *port)).collect()
        }
    }
}

/// What the config's rules say against an address behind `members` others. They have been applied to addresses in
/// the config, and not yet to those of a name.
fn unfit(address: SocketAddr, binds: &HashSet<SocketAddr>, members: usize) -> Option<String> {
    if members >= MAX_DOWNSTREAMS {
        return Some(format!(
            "one too many: at most {MAX_DOWNSTREAMS} addresses a listener"
        ));
    }
    if binds.contains(&address) {
        return Some("a listener's own bind: a loop".to_owned());
    }
    config::not_a_receiver(address.ip())
}
