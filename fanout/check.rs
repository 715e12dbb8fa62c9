//! `fanout check`: gathers the facts of the host that a config is about, and says what the rules say of them.
//! Changes nothing.

pub mod report;

use std::{
    collections::HashMap,
    ffi::CString,
    net::{IpAddr, SocketAddr},
};

use crate::{
    bpf,
    config::{Config, Listener, Mode, Target, Xdp},
    facts::{
        downstream::{Downstream, Ingress, Name},
        host::{Host, Needs},
        interface::{Interface, Wanted},
        metrics::Metrics,
        port::Port,
    },
    link::{Link, Links},
    neighbor::{self, Surveyed},
    netlink::{Connection, Refusal},
    rules::{self, Level, Mend, Rule, Verdict, host, interface, listener, native},
    sys::{self, ethtool::Flow},
    tc, xdp,
    xdp_features::XdpFeatures,
};

/// What a rule says of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: `host`, `interface ens5`, `listener syslog`, …
    pub subject: String,
    /// The rule's name.
    pub rule: &'static str,
    /// What it says.
    pub verdict: Verdict,
}

/// How bad the worst is.
#[must_use]
pub fn worst(findings: &[Finding]) -> Level {
    let levels = findings.iter().map(|finding| finding.verdict.level);
    levels.max().unwrap_or(Level::Ok)
}

/// Looks at the host as a start with `config` would find it.
///
/// # Errors
/// The kernel's, if it can't say anything at all.
pub fn look(config: &Config) -> Result<Vec<Finding>, Refusal> {
    let mut connection = Connection::open()?;
    let links = Links::read(&mut connection)?;
    let mut interfaces = HashMap::new();
    for settings in &config.interfaces {
        if let Some(link) = links.by_name(&settings.name) {
            let wanted = wanted(config, &settings.name);
            let facts = Interface::read(&mut connection, link, wanted)?;
            interfaces.insert(settings.name.as_str(), (link, facts));
        }
    }
    let mut findings = Findings::default();
    for warning in &config.warnings {
        let verdict = Verdict {
            level: Level::Warn,
            meaning: warning.to_string(),
            mend: None,
        };
        findings.add("config", "section", verdict);
    }
    let with_sockets = interfaces.values().map(|(_, facts)| facts);
    let with_sockets = with_sockets.filter(|facts| facts.wanted.zero_copy.is_some());
    let queues = with_sockets.map(Interface::planned_queues).sum();
    let facts = Host::read(Needs::of(config, queues));
    findings.judge("host", &host::RULES, &facts);
    for settings in &config.interfaces {
        let subject = format!("interface {}", settings.name);
        match interfaces.get(settings.name.as_str()) {
            Some((_, facts)) => {
                findings.judge(&subject, &interface::RULES, facts);
                findings.judge(&subject, &interface::NATIVE, facts);
            }
            None => findings.add(&subject, "exists", no_interface()),
        }
    }
    let mut look = Look {
        connection,
        links: &links,
        interfaces,
        features: XdpFeatures::default(),
    };
    for listener in &config.listeners {
        look.at(listener, &mut findings)?;
    }
    if let Some(file) = &config.metrics_file {
        findings.judge("metrics", &listener::METRICS, &Metrics::read(file));
    }
    Ok(findings.0)
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, subject: &str, rule: &'static str, verdict: Verdict) {
        self.0.push(Finding {
            subject: subject.to_owned(),
            rule,
            verdict,
        });
    }

    fn judge<F>(&mut self, subject: &str, table: &'static [Rule<F>], facts: &F) {
        for (rule, verdict) in rules::judge(table, facts) {
            self.add(subject, rule, verdict);
        }
    }
}

fn no_interface() -> Verdict {
    Verdict {
        level: Level::Fail,
        meaning: "it does not exist; this lists those of the host:".to_owned(),
        mend: Some(Mend::Run("ip link".to_owned())),
    }
}

/// What `config` wants of the interface called `name`.
fn wanted(config: &Config, name: &str) -> Wanted {
    let settings = config
        .interfaces
        .iter()
        .find(|settings| settings.name == name);
    let settings = settings.cloned().unwrap_or_default();
    let listeners = || {
        let all = config.listeners.iter();
        all.filter(|listener| listener.interface.as_deref() == Some(name))
    };
    let has = |mode| listeners().any(|listener| listener.mode == mode);
    let needs_xdp = has(Mode::AfXdp) || has(Mode::Xdp);
    let takes =
        |flow: &Flow| listeners().any(|listener| listener.is_ipv6() == (*flow == Flow::Udp6));
    Wanted {
        program: needs_xdp || has(Mode::TcEbpf),
        xdp: needs_xdp.then_some(settings.xdp),
        sends: has(Mode::Xdp),
        zero_copy: has(Mode::AfXdp).then_some(settings.zero_copy),
        mtu: settings.mtu,
        channels: settings.channels,
        tags: listeners().any(|listener| listener.vlan.is_some()),
        flows: [Flow::Udp4, Flow::Udp6].into_iter().filter(takes).collect(),
    }
}

/// What listeners are looked at with.
struct Look<'l> {
    connection: Connection,
    links: &'l Links,
    interfaces: HashMap<&'l str, (&'l Link, Interface)>,
    features: XdpFeatures,
}

impl Look<'_> {
    fn at(&mut self, listener: &Listener, findings: &mut Findings) -> Result<(), Refusal> {
        let subject = format!("listener {}", listener.name);
        let targets: Vec<_> = listener
            .downstreams
            .iter()
            .map(|downstream| {
                let subject = format!("{subject} {}", downstream.name);
                (subject, addresses(listener, &downstream.target))
            })
            .collect();
        let of_targets = targets.iter().flat_map(|(_, (addresses, _))| addresses);
        let all: Vec<_> = listener
            .binds
            .iter()
            .chain(of_targets)
            .map(SocketAddr::ip)
            .collect();
        let ways = neighbor::survey(&mut self.connection, self.links, &all)?;
        let on = listener.interface.as_deref();
        let on = on.and_then(|name| self.interfaces.get(name));
        for &bind in &listener.binds {
            let is_local = |way: &Surveyed| way.path.as_ref().is_ok_and(|path| path.local);
            let local = bind.ip().is_unspecified() || ways.get(&bind.ip()).is_some_and(is_local);
            let index = on.map(|(link, _)| link.index);
            let facts = Port::read(listener, bind, index, local);
            findings.judge(&subject, &listener::PORT, &facts);
        }
        for (subject, (addresses, name)) in targets {
            if let Some(name) = name {
                findings.judge(&subject, &listener::NAME, &name);
            }
            for address in addresses {
                if let Some(way) = ways.get(&address.ip()) {
                    let facts = self.downstream(listener, address, way);
                    findings.judge(&subject, &listener::DOWNSTREAM, &facts);
                }
            }
        }
        Ok(())
    }

    fn downstream(
        &mut self,
        listener: &Listener,
        address: SocketAddr,
        way: &Surveyed,
    ) -> Downstream {
        let on = listener.interface.as_deref();
        let on = on.and_then(|name| self.interfaces.get(name));
        let ingress = on.map(|(_, facts)| Ingress {
            name: facts.name.clone(),
            driver: facts.driver.clone(),
            largest: (listener.max_packet_size)
                .map_or(facts.planned_mtu(), |size| size.min(facts.planned_mtu())),
        });
        let refused = match (&way.path, on) {
            (Ok(path), Some((link, facts))) if listener.mode == Mode::Xdp => {
                let is_native = facts.wanted.xdp != Some(Xdp::Skb) && native::holds(facts);
                let mode = if is_native {
                    bpf::Mode::Native
                } else {
                    bpf::Mode::Skb
                };
                xdp::Egresses::new(link, mode, self.links, &mut self.features)
                    .choose(path, listener.source)
                    .err()
            }
            (Ok(path), _) if listener.mode == Mode::TcEbpf => {
                tc::choose(path, listener.source).err()
            }
            _ => None,
        };
        Downstream {
            address,
            source: listener.source,
            ingress,
            way: way.clone(),
            refused,
        }
    }
}

/// What a downstream stands for, and how its name did.
fn addresses(listener: &Listener, target: &Target) -> (Vec<SocketAddr>, Option<Name>) {
    let (host, port) = match target {
        Target::Address(address) => return (vec![*address], None),
        Target::Name { host, port } => (host, *port),
    };
    let found: Result<Vec<IpAddr>, String> = match CString::new(host.as_str()) {
        Ok(name) => sys::names::look_up(&name, listener.is_ipv6()).map_err(|why| why.to_string()),
        Err(why) => Err(why.to_string()),
    };
    let name = Name {
        host: host.clone(),
        addresses: found.as_ref().map(Vec::len).map_err(Clone::clone),
    };
    let addresses = found.unwrap_or_default().into_iter();
    let addresses = addresses.map(|ip| SocketAddr::new(ip, port)).collect();
    (addresses, Some(name))
}
