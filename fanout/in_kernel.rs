//! Listeners of one interface whose datagrams an eBPF program forwards by itself: the turns that it takes,
//! built from paths, and what it counts. How a path is taken depends on the mode, and so does which can be.

use std::{fmt, net::SocketAddr};

use fanout_ebpf::abi::{Egress, NextHop, mapped};

use crate::{
    balance,
    bpf::{self, Programs},
    config::{self, Source},
    interface::Listeners,
    link::IfIndex,
    metrics::{DownstreamSample, ListenerSample},
    neighbor::{Path, Paths},
    roster::{Member, Roster},
    wire::ethernet::EthernetHeader,
};

/// The listeners of one mode.
#[derive(Debug)]
pub struct InKernel {
    listeners: Vec<Listener>,
    /// The numbers that their downstreams are counted under.
    numbers: std::ops::Range<u32>,
}

#[derive(Debug)]
struct Listener {
    /// Its place in the config.
    index: u32,
    config: config::Listener,
    downstreams: Vec<Downstream>,
    refused: Vec<Refused>,
    /// Whose turn it is after whose.
    turns: Vec<NextHop>,
    /// What the program goes by.
    published: Option<Vec<NextHop>>,
}

#[derive(Debug)]
struct Downstream {
    name: String,
    /// What it is counted under.
    number: u32,
    /// Each of its addresses, and whether datagrams go there.
    addresses: Vec<(SocketAddr, bool)>,
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
    /// Downstreams are counted under the numbers from `first` on.
    #[must_use]
    pub fn new(listeners: Listeners, first: u32) -> Self {
        let mut numbers = first..;
        let listeners = listeners.into_iter().map(|(index, config)| {
            let downstreams = config.downstreams.iter().zip(&mut numbers);
            let downstreams = downstreams.map(|(config, number)| Downstream {
                name: config.name.clone(),
                number,
                addresses: Vec::new(),
            });
            Listener {
                index,
                downstreams: downstreams.collect(),
                config,
                refused: Vec::new(),
                turns: Vec::new(),
                published: None,
            }
        });
        Self {
            listeners: listeners.collect(),
            numbers: first..numbers.start,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// The number behind that of the last downstream.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.numbers.end
    }

    /// The listeners, with their places in the config.
    pub fn listeners(&self) -> impl Iterator<Item = (u32, &config::Listener)> {
        let listeners = self.listeners.iter();
        listeners.map(|listener| (listener.index, &listener.config))
    }

    /// Lays out the turns of the members of `roster` along `paths`; `choose` says how each is taken, or why it
    /// can't be.
    pub fn route(
        &mut self,
        roster: &Roster,
        paths: &Paths,
        mut choose: impl FnMut(&Path, Source) -> Result<Way, String>,
    ) {
        for listener in &mut self.listeners {
            listener.route(roster, paths, &mut choose);
        }
    }

    /// Has the programs go by the turns that changed.
    ///
    /// # Errors
    /// If their maps can't be written.
    pub fn publish(&mut self, programs: &mut Programs) -> Result<(), bpf::Error> {
        for listener in &mut self.listeners {
            if listener.published.as_ref() != Some(&listener.turns) {
                programs.set_turns(listener.index, &listener.turns)?;
                listener.published = Some(listener.turns.clone());
            }
        }
        Ok(())
    }

    /// Of each listener, by its slot, whether any member is in turn.
    pub fn forwards(&self) -> impl Iterator<Item = (u32, bool)> {
        let listeners = self.listeners.iter();
        listeners.map(|listener| (listener.index, !listener.turns.is_empty()))
    }

    /// The members whose paths can't be taken.
    pub fn refused(&self) -> impl Iterator<Item = Refused> {
        let listeners = self.listeners.iter();
        listeners.flat_map(|listener| listener.refused.iter().cloned())
    }

    /// Adds what the programs count of each listener, by `queues` RX queues at least.
    pub fn sample<'s>(
        &'s self,
        programs: &Programs,
        queues: u32,
        samples: &mut Vec<(u32, ListenerSample<'s>)>,
    ) {
        for listener in &self.listeners {
            let mut sample = ListenerSample::of(&listener.config);
            if let Ok(received) = programs.received(listener.index) {
                let all = (0..).zip(received.queues);
                let used = all.filter(|&(queue, traffic)| queue < queues || traffic.packets > 0);
                let used = used.map(|(queue, traffic)| (queue, traffic.into()));
                sample.received = used.collect();
                sample.dropped = received.dropped;
            }
            let downstreams = listener
                .downstreams
                .iter()
                .map(|downstream| DownstreamSample {
                    name: &downstream.name,
                    forwarded: programs
                        .forwarded(downstream.number)
                        .unwrap_or_default()
                        .into(),
                    addresses: downstream.addresses.clone(),
                });
            sample.downstreams = downstreams.collect();
            samples.push((listener.index, sample));
        }
    }
}

impl Listener {
    fn route(
        &mut self,
        roster: &Roster,
        paths: &Paths,
        choose: &mut impl FnMut(&Path, Source) -> Result<Way, String>,
    ) {
        let source = self.config.source;
        self.refused.clear();
        for downstream in &mut self.downstreams {
            downstream.addresses.clear();
        }
        let (mut weights, mut hops) = (Vec::new(), Vec::new());
        for member in roster.members(self.index) {
            let downstream = &mut self.downstreams[member.place];
            let path = member.path(paths);
            let way = path.map(|path| Ok((path, choose(path, source)?)));
            let is_up = matches!(way, Some(Ok(_)));
            downstream.addresses.push((member.address, is_up));
            match way {
                Some(Ok((path, way))) => {
                    weights.push(member.weight);
                    hops.push(next_hop(member, downstream.number, source, path, &way));
                }
                Some(Err(reason)) => self.refused.push(Refused {
                    listener: self.config.name.clone(),
                    downstream: member.name.clone(),
                    address: member.address,
                    reason,
                }),
                None => {}
            }
        }
        let turns = balance::turns(&weights);
        self.turns = turns
            .into_iter()
            .map(|turn| hops[usize::from(turn)])
            .collect();
    }
}

fn next_hop(member: &Member, number: u32, source: Source, path: &Path, way: &Way) -> NextHop {
    let destination = member.address;
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
        source: new_source.map_or([0; 16], mapped),
        rewrites_source: new_source.is_some().into(),
        header,
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
