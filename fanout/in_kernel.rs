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
    /// Whose turn it is after whose.
    turns: Vec<NextHop>,
    /// What the program goes by.
    published: Option<Vec<NextHop>>,
}

#[derive(Debug)]
struct Downstream {
    config: config::Downstream,
    /// What it is counted under.
    number: u32,
    /// The way to it, if it has one that can be taken.
    hop: Option<NextHop>,
    /// Why the way to it can't be taken.
    refused: Option<String>,
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
                config: config.clone(),
                number,
                hop: None,
                refused: None,
            });
            Listener {
                index,
                downstreams: downstreams.collect(),
                config,
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

    /// Lays out the turns along `paths`; `choose` says how each is taken, or why it can't be.
    pub fn route(
        &mut self,
        paths: &Paths,
        mut choose: impl FnMut(&Path, Source) -> Result<Way, String>,
    ) {
        for listener in &mut self.listeners {
            let source = listener.config.source;
            for downstream in &mut listener.downstreams {
                let path = paths.get(&downstream.config.address.ip());
                let path = path.and_then(|path| path.as_ref().ok());
                let way = path.map(|path| Ok((path, choose(path, source)?)));
                (downstream.hop, downstream.refused) = match way {
                    Some(Ok((path, way))) => (Some(next_hop(downstream, source, path, &way)), None),
                    Some(Err(reason)) => (None, Some(reason)),
                    None => (None, None),
                };
            }
            listener.lay_out();
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

    /// The downstreams whose paths can't be taken.
    pub fn refused(&self) -> impl Iterator<Item = Refused> {
        self.listeners.iter().flat_map(|listener| {
            listener.downstreams.iter().filter_map(|downstream| {
                Some(Refused {
                    listener: listener.config.name.clone(),
                    downstream: downstream.config.name.clone(),
                    address: downstream.config.address,
                    reason: downstream.refused.clone()?,
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
                    name: &downstream.config.name,
                    forwarded: programs
                        .forwarded(downstream.number)
                        .unwrap_or_default()
                        .into(),
                    addresses: vec![(downstream.config.address, downstream.hop.is_some())],
                });
            sample.downstreams = downstreams.collect();
            samples.push((listener.index, sample));
        }
    }
}

impl Listener {
    fn lay_out(&mut self) {
        let usable = self.downstreams.iter().filter_map(|downstream| {
            let hop = downstream.hop?;
            Some((downstream.config.weight, hop))
        });
        let (weights, hops): (Vec<_>, Vec<_>) = usable.unzip();
        let turns = balance::turns(&weights);
        self.turns = turns
            .into_iter()
            .map(|turn| hops[usize::from(turn)])
            .collect();
    }
}

fn next_hop(downstream: &Downstream, source: Source, path: &Path, way: &Way) -> NextHop {
    let destination = downstream.config.address;
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
        downstream: downstream.number,
        ..NextHop::to(destination).via(path.next_hop)
    }
}

#[cfg(test)]
mod tests;
