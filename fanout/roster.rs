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
    metrics::{DownstreamSample, ListenerSample, MemberSample, Totals},
    names::{Names, Question},
    neighbor::{Path, Paths},
};

/// All listeners, in the order of the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    listeners: Vec<Served>,
    /// Addresses of names that nothing is sent to.
    pub left_out: Vec<LeftOut>,
}

/// One listener, and who it forwards to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its number as long as it is served, below [`MAX_SLOTS`](fanout_ebpf::abi::MAX_SLOTS): what maps, tables,
    /// cursors and probes know it by.
    pub slot: u32,
    /// What the config says of it.
    pub config: config::Listener,
    /// In the order of the downstreams that they are of.
    pub members: Vec<Member>,
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
    /// How the log names it among those of `listener`: `listener=… name=… address=…`.
    #[must_use]
    pub fn who(&self, listener: &config::Listener) -> String {
        let Self { name, address, .. } = self;
        format!("listener={} name={name} address={address}", listener.name)
    }

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
    /// What `config` comes to, with what `names` and `prober` know. A listener that was served `before` keeps its
    /// slot; the others get slots that nobody had, for who is served no more has datagrams on the way.
    #[must_use]
    pub fn new(config: &Config, names: &Names, prober: &Prober, before: &Self) -> Self {
        let taken: HashSet<_> = before.iter().map(|served| served.slot).collect();
        // There is always one more: a config has half as many listeners as there are slots.
        let mut free = (0..).filter(|slot| !taken.contains(slot));
        let binds = config.listeners.iter().flat_map(|listener| &listener.binds);
        let binds: HashSet<_> = binds.copied().collect();
        let mut roster = Self::default();
        for listener in &config.listeners {
            let same = before.iter().find(|served| served.is(listener));
            let slot = same.map(|served| served.slot).or_else(|| free.next());
            let mut served = Served {
                slot: slot.unwrap_or_default(),
                config: listener.clone(),
                members: Vec::new(),
            };
            roster.find_members(&mut served, names, prober, &binds);
            roster.listeners.push(served);
        }
        roster
    }

    fn find_members(
        &mut self,
        served: &mut Served,
        names: &Names,
        prober: &Prober,
        binds: &HashSet<SocketAddr>,
    ) {
        let Served {
            slot: listener,
            ref config,
            ref mut members,
        } = *served;
        for (place, downstream) in config.downstreams.iter().enumerate() {
            for address in addresses(config, &downstream.target, names) {
                if let Some(reason) = unfit(address, binds, members.len()) {
                    self.left_out.push(LeftOut {
                        listener: config.name.clone(),
                        downstream: downstream.name.clone(),
                        address,
                        reason,
                    });
                    continue;
                }
                members.push(Member {
                    name: downstream.name.clone(),
                    place,
                    address,
                    weight: downstream.weight,
                    healthy: prober.down(Key { address, listener }).is_none(),
                });
            }
        }
    }

    /// Each listener.
    pub fn iter(&self) -> impl Iterator<Item = &Served> {
        self.listeners.iter()
    }

    /// The listener in a slot.
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<&Served> {
        self.iter().find(|served| served.slot == slot)
    }

    /// Those of one mode.
    pub fn of(&self, mode: Mode) -> impl Iterator<Item = &Served> {
        self.iter().filter(move |served| served.config.mode == mode)
    }

    /// Those that programs on this interface serve.
    #[must_use]
    pub fn on(&self, interface: &str) -> Vec<Served> {
        let here = |served: &&Served| {
            Mode::ON_INTERFACE.contains(&served.config.mode)
                && served.config.interface.as_deref() == Some(interface)
        };
        self.iter().filter(here).cloned().collect()
    }

    /// What has to be probed, and how.
    pub fn probes(&self) -> impl Iterator<Item = (Key, Health)> + '_ {
        self.iter().flat_map(|served| {
            served.members.iter().map(|&Member { address, .. }| {
                let listener = served.slot;
                (Key { address, listener }, served.config.health)
            })
        })
    }

    /// Lets listeners none of whose members can be reached yet keep those of `before`, if any of these can be.
    /// Whether there is such a listener.
    pub fn keep_reachable(&mut self, before: &Self, paths: &Paths) -> bool {
        let mut any = false;
        for served in &mut self.listeners {
            let Some(before) = before.get(served.slot) else {
                continue;
            };
            // That there are none is final.
            if !served.members.is_empty() && !served.is_reached(paths) && before.is_reached(paths) {
                served.members.clone_from(&before.members);
                any = true;
            }
        }
        any
    }

    /// The addresses of all members of this roster and `other`, each once.
    #[must_use]
    pub fn destinations(&self, other: &Self) -> Vec<IpAddr> {
        let members = self.iter().chain(other.iter()).flat_map(Served::addresses);
        let mut addresses: Vec<_> = members.collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Those that no mode but userspace sends to: the kernel's sockets find the way by themselves.
    #[must_use]
    pub fn only_by_sockets(&self, other: &Self) -> HashSet<IpAddr> {
        let of = |by_sockets: bool| {
            let listeners = self.iter().chain(other.iter());
            listeners
                .filter(move |served| (served.config.mode == Mode::Userspace) == by_sockets)
                .flat_map(Served::addresses)
        };
        let others: HashSet<_> = of(false).collect();
        of(true)
            .filter(|address| !others.contains(address))
            .collect()
    }
}

impl Served {
    /// Whether `listener` is this one, with other settings maybe. Of a listener in userspace mode, whatever its
    /// sockets and workers are made for makes another listener.
    fn is(&self, listener: &config::Listener) -> bool {
        let served = &self.config;
        let same = (&served.name, served.mode, &served.interface)
            == (&listener.name, listener.mode, &listener.interface);
        let made_for = |listener: &config::Listener| {
            let config::Listener {
                policy,
                source,
                max_packet_size,
                workers,
                receive_buffer,
                ..
            } = *listener;
            (policy, source, max_packet_size, workers, receive_buffer)
        };
        let same_sockets =
            || served.binds == listener.binds && made_for(served) == made_for(listener);
        same && (served.mode != Mode::Userspace || same_sockets())
    }

    /// Whether any member can be reached. Whether it is healthy is another question.
    #[must_use]
    pub fn is_reached(&self, paths: &Paths) -> bool {
        let mut ways = self.addresses().map(|address| paths.get(&address));
        ways.any(|way| matches!(way, Some(Ok(_))))
    }

    /// What the metrics show of it and its downstreams: `is_up` says whether datagrams can go to a member, by its
    /// place among the members, `forwarded` what went to all members of a name.
    pub fn sample(
        &self,
        is_up: impl Fn(usize) -> bool,
        forwarded: impl Fn(&str) -> Totals,
    ) -> ListenerSample<'_> {
        let downstreams = self.config.downstreams.iter().map(|downstream| {
            let name = downstream.name.as_str();
            let forwarded = forwarded(name);
            DownstreamSample { name, forwarded }
        });
        let members = (0..)
            .zip(&self.members)
            .map(|(place, member)| MemberSample {
                downstream: &member.name,
                address: member.address,
                is_up: is_up(place),
            });
        ListenerSample {
            downstreams: downstreams.collect(),
            members: members.collect(),
            ..ListenerSample::of(&self.config)
        }
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.members.iter().map(|member| member.address.ip())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listeners: &[(&str, &str)]) -> Config {
        let sections = listeners.iter().zip(1..).map(|((name, mode), port)| {
            format!(
                "[listener {name}]\nmode = {mode}\ninterface = eth0\nbind = 192.0.2.1:{port}\n\
                 downstream.a = 192.0.2.2:{port}\n"
            )
        });
        config::parse("test.ini", &sections.collect::<String>()).unwrap()
    }

    fn after(config: &Config, before: &Roster) -> Roster {
        Roster::new(config, &Names::new().unwrap(), &Prober::default(), before)
    }

    fn slots(roster: &Roster) -> Vec<u32> {
        roster.iter().map(|served| served.slot).collect()
    }

    #[test]
    fn who_stays_keeps_its_slot_and_nobody_inherits_one_at_once() {
        let first = after(
            &config(&[("a", "xdp"), ("b", "xdp"), ("c", "xdp")]),
            &Roster::default(),
        );
        assert_eq!(slots(&first), [0, 1, 2]);
        let second = after(
            &config(&[("d", "xdp"), ("c", "xdp"), ("a", "af_xdp")]),
            &first,
        );
        assert_eq!(slots(&second), [3, 2, 4]);
        let third = after(&config(&[("c", "xdp"), ("e", "xdp")]), &second);
        assert_eq!(slots(&third), [2, 0]);
    }

    #[test]
    fn a_config_can_replace_another_that_is_full() {
        let name = |prefix: &str| {
            (0..64)
                .map(|n| format!("{prefix}{n}"))
                .collect::<Vec<String>>()
        };
        let (old, new) = (name("a"), name("b"));
        let full = |names: &[String]| {
            let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), "xdp")).collect();
            config(&pairs)
        };
        let old = after(&full(&old), &Roster::default());
        let new = after(&full(&new), &old);
        assert!(slots(&new).iter().all(|&slot| slot < 128));
    }
}
