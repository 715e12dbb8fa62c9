//! Listeners of one interface whose datagrams an eBPF program forwards by itself: the turns that it takes,
//! built from paths, and what it counts. How a path is taken depends on the mode, and so does which can be.

use std::{collections::HashMap, fmt, net::SocketAddr};

use fanout_ebpf::{
    abi::{Egress, NextHop, mapped},
    words::words,
};

use crate::{
    balance,
    bpf::{self, Programs},
    config::Source,
    link::IfIndex,
    metrics::{ListenerSample, Past},
    neighbor::{Path, Paths},
    roster::{Member, Served},
    wire::ethernet::EthernetHeader,
};

/// The listeners of one mode.
#[derive(Debug, Default)]
pub struct InKernel {
    listeners: Vec<Listener>,
    /// Served no more: what is on the way to them is still forwarded.
    leaving: Vec<Listener>,
}

#[derive(Debug)]
struct Listener {
    served: Served,
    /// What each downstream is counted under.
    numbers: HashMap<String, u32>,
    /// The way to each member.
    ways: Vec<Taken>,
    /// Whose turn it is after whose.
    turns: Vec<NextHop>,
    /// What the program goes by.
    published: Option<Vec<NextHop>>,
}

/// How a member's path is taken.
#[derive(Clone, Debug, Default)]
struct Taken {
    /// The way, if there is one that can be taken.
    hop: Option<NextHop>,
    /// Why the way can't be taken.
    refused: Option<String>,
}

/// The numbers that downstreams of one interface's listeners are counted under.
#[derive(Debug)]
pub struct Numbers {
    count: u32,
    /// All below were given out at least once.
    next: u32,
    given_back: Vec<u32>,
}

impl Numbers {
    /// So many that each of the `downstreams` can be replaced, and most configs by larger ones.
    #[must_use]
    pub fn new(downstreams: usize) -> Self {
        let downstreams = u32::try_from(downstreams).unwrap_or(u32::MAX);
        Self {
            count: downstreams.saturating_mul(2).max(1 << 14),
            next: 0,
            given_back: Vec::new(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many nobody has.
    #[must_use]
    pub fn left(&self) -> usize {
        (self.count - self.next) as usize + self.given_back.len()
    }

    /// One that nobody has. Those that find none share the last.
    fn take(&mut self) -> u32 {
        self.given_back.pop().unwrap_or_else(|| {
            self.next = self.count.min(self.next + 1);
            self.next - 1
        })
    }
}

/// How a path is taken.
#[derive(Debug)]
pub struct Way {
    /// By which kind of egress.
    pub egress: Egress,
    /// By which interface.
    pub interface: IfIndex,
    /// With which tag, where the program has to write it.
    pub vlan: Option<u16>,
}

impl Way {
    /// Up to an address of this host, as if it had been sent there.
    ///
    /// # Errors
    /// Why the kernel would not take it in, and what mends that.
    pub fn up(path: &Path, source: Source) -> Result<Self, String> {
        let name = &path.link.name;
        if path.next_hop.is_loopback() {
            return Err(format!(
                "the kernel takes nothing for {} from outside: that takes another mode",
                path.next_hop
            ));
        }
        if source == Source::Rewrite {
            return Err(format!(
                "the kernel takes nothing from its own address ({name}) from outside: that takes source = keep"
            ));
        }
        Ok(Self {
            egress: Egress::Local,
            interface: path.link.index,
            vlan: None,
        })
    }
}

/// A downstream that has a path, but none that its listener's mode can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    listener: String,
    downstream: String,
    address: SocketAddr,
    /// What keeps its path from being taken, and what mends it.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "listener={} name={} address={}",
            self.listener, self.downstream, self.address
        )
    }
}

impl InKernel {
    /// From the next [`route`](Self::route) on serves these listeners; those that it served before and that are
    /// not among them leave.
    pub fn serve(&mut self, listeners: Vec<Served>, numbers: &mut Numbers) {
        let mut before = std::mem::take(&mut self.listeners);
        let serve = |served: Served| {
            let same = |listener: &Listener| listener.served.slot == served.slot;
            let place = before.iter().position(same);
            let mut listener = match place {
                Some(place) => before.swap_remove(place),
                None => Listener::new(served.clone()),
            };
            listener.serve(served, numbers);
            listener
        };
        self.listeners = listeners.into_iter().map(serve).collect();
        self.leaving.append(&mut before);
    }

    /// How many numbers it takes to serve `listeners` too.
    pub fn numbers_for<'s>(&self, listeners: impl Iterator<Item = &'s Served>) -> usize {
        let new = listeners.map(|served| {
            let mut known = self.listeners.iter();
            let known = known.find(|listener| listener.served.slot == served.slot);
            let has = |name| known.is_some_and(|listener| listener.numbers.contains_key(name));
            let downstreams = served.config.downstreams.iter();
            downstreams
                .filter(|downstream| !has(&downstream.name))
                .count()
        });
        new.sum()
    }

    /// Whether none are served.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Whether any leave.
    #[must_use]
    pub fn any_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// The listeners that are served.
    pub fn listeners(&self) -> impl Iterator<Item = &Served> {
        self.listeners.iter().map(|listener| &listener.served)
    }

    /// Lays out the turns along `paths`; `choose` says how each is taken, or why it can't be.
    pub fn route(
        &mut self,
        paths: &Paths,
        mut choose: impl FnMut(&Path, Source) -> Result<Way, String>,
    ) {
        for listener in self.listeners.iter_mut().chain(&mut self.leaving) {
            listener.route(paths, &mut choose);
            listener.lay_out();
        }
    }

    /// Has the programs go by the turns that changed. Those that were there before are in use no more when this
    /// returns.
    ///
    /// # Errors
    /// If their maps can't be written.
    pub fn publish(&mut self, programs: &mut Programs) -> Result<(), bpf::Error> {
        for listener in self.listeners.iter_mut().chain(&mut self.leaving) {
            if listener.published.as_ref() != Some(&listener.turns) {
                programs.set_turns(listener.served.slot, &listener.turns)?;
                listener.published = Some(listener.turns.clone());
            }
        }
        Ok(())
    }

    /// Forgets those that left, whose counts, and those of downstreams that left, go to `past`. To be called
    /// when the programs no longer see either.
    ///
    /// # Errors
    /// If their maps can't be written.
    pub fn retire(
        &mut self,
        programs: &mut Programs,
        numbers: &mut Numbers,
        past: &mut Past,
    ) -> Result<(), bpf::Error> {
        for mut listener in std::mem::take(&mut self.leaving) {
            let mut sample = listener.sample(programs, 0);
            sample.passed = programs.passed(listener.served.slot).unwrap_or_default();
            past.keep(&sample);
            programs.set_turns(listener.served.slot, &[])?;
            programs.forget_listener(listener.served.slot)?;
            for number in std::mem::take(&mut listener.numbers).into_values() {
                programs.forget_downstream(number)?;
                numbers.given_back.push(number);
            }
        }
        for listener in &mut self.listeners {
            let downstreams = &listener.served.config.downstreams;
            let gone = |name: &String| {
                !downstreams
                    .iter()
                    .any(|downstream| downstream.name == *name)
            };
            for (name, number) in listener.numbers.extract_if(|name, _| gone(name)) {
                let forwarded = programs.forwarded(number).unwrap_or_default();
                past.keep_downstream(&listener.served.config.name, &name, forwarded.into());
                programs.forget_downstream(number)?;
                numbers.given_back.push(number);
            }
        }
        Ok(())
    }

    /// Of each listener, by its slot, whether any member is in turn.
    pub fn forwards(&self) -> impl Iterator<Item = (u32, bool)> {
        let listeners = self.listeners.iter();
        listeners.map(|listener| (listener.served.slot, !listener.turns.is_empty()))
    }

    /// The members whose paths can't be taken.
    pub fn refused(&self) -> impl Iterator<Item = Refused> {
        self.listeners.iter().flat_map(|listener| {
            let members = listener.served.members.iter().zip(&listener.ways);
            members.filter_map(|(member, way)| {
                Some(Refused {
                    listener: listener.served.config.name.clone(),
                    downstream: member.name.clone(),
                    address: member.address,
                    reason: way.refused.clone()?,
                })
            })
        })
    }

    /// Adds what the programs count of each listener, by `queues` RX queues at least.
    pub fn sample<'s>(
        &'s self,
        programs: &Programs,
        queues: u32,
        samples: &mut Vec<(u32, ListenerSample<'s>)>,
    ) {
        samples.extend(self.listeners.iter().map(|listener| {
            let sample = listener.sample(programs, queues);
            (listener.served.slot, sample)
        }));
    }
}

impl Listener {
    fn new(served: Served) -> Self {
        Self {
            served,
            numbers: HashMap::new(),
            ways: Vec::new(),
            turns: Vec::new(),
            published: None,
        }
    }

    fn serve(&mut self, served: Served, numbers: &mut Numbers) {
        for downstream in &served.config.downstreams {
            let name = downstream.name.clone();
            self.numbers.entry(name).or_insert_with(|| numbers.take());
        }
        self.served = served;
        self.ways.clear();
    }

    fn route(
        &mut self,
        paths: &Paths,
        choose: &mut impl FnMut(&Path, Source) -> Result<Way, String>,
    ) {
        let source = self.served.config.source;
        let take = |member: &Member| {
            let path = member.path(paths)?;
            let number = *self.numbers.get(&member.name)?;
            Some(match choose(path, source) {
                Ok(way) => Taken {
                    hop: Some(next_hop(member.address, number, source, path, &way)),
                    refused: None,
                },
                Err(reason) => Taken {
                    hop: None,
                    refused: Some(reason),
                },
            })
        };
        let ways = self.served.members.iter().map(take);
        self.ways = ways.map(Option::unwrap_or_default).collect();
    }

    fn lay_out(&mut self) {
        let members = self.served.members.iter().zip(&self.ways);
        let usable = members.filter_map(|(member, way)| {
            let weighted = (member.weight, member.address);
            Some((weighted, way.hop?))
        });
        let (members, hops): (Vec<_>, Vec<_>) = usable.unzip();
        let turns = balance::schedule(self.served.config.policy, &members);
        self.turns = turns
            .into_iter()
            .map(|turn| hops[usize::from(turn)])
            .collect();
    }

    fn sample(&self, programs: &Programs, queues: u32) -> ListenerSample<'_> {
        let is_up = |place: usize| self.ways.get(place).is_some_and(|way| way.hop.is_some());
        let forwarded = |name: &str| {
            let number = self.numbers.get(name);
            let forwarded = number.and_then(|&number| programs.forwarded(number).ok());
            forwarded.unwrap_or_default().into()
        };
        let mut sample = self.served.sample(is_up, forwarded);
        if let Ok(received) = programs.received(self.served.slot) {
            let all = (0..).zip(received.queues);
            let used = all.filter(|&(queue, traffic)| queue < queues || traffic.packets > 0);
            let used = used.map(|(queue, traffic)| (queue, traffic.into()));
            sample.received = used.collect();
            sample.dropped = received.dropped;
        }
        sample
    }
}

fn next_hop(
    destination: SocketAddr,
    number: u32,
    source: Source,
    path: &Path,
    way: &Way,
) -> NextHop {
    let mac = path.mac.unwrap_or_default();
    let ethernet = EthernetHeader::new(path.link.mac, mac, way.vlan, destination.is_ipv6());
    let bytes = ethernet.as_bytes();
    let mut header = [0; 18];
    for (to, from) in header.iter_mut().zip(bytes) {
        *to = *from;
    }
    let new_source = path.source.filter(|_| source == Source::Rewrite);
    let IfIndex(ifindex) = way.interface;
    NextHop {
        source: new_source.map_or([0; 8], |ip| words(&mapped(ip))),
        rewrites_source: new_source.is_some().into(),
        header: words(&header),
        header_len: if way.vlan.is_some() { 18 } else { 14 },
        egress: way.egress,
        ifindex,
        mtu: path.mtu,
        downstream: number,
        ..NextHop::to(destination).via(path.next_hop)
    }
}

#[cfg(test)]
mod tests;
