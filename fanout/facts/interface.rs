//! One interface: its driver, its queues, what it can do, what is on it, and what is wanted of it.

use std::fmt;

use aya::{programs::loaded_programs, util::nr_cpus};

use super::process::Process;
use crate::{
    config,
    link::{self, IfIndex, Link, LinkMessage, State},
    netlink::{Attributes, Connection, Refusal, attributes, text_in, u32_in},
    sys::ethtool::{self, Channels, Flow, Offload},
    xdp_features::Features,
};

// linux/if_link.h
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const IFLA_BOND_MODE: u16 = 1;

/// One interface.
#[derive(Clone, Debug, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// The name of its driver; empty if it has none to speak of.
    pub driver: String,
    /// The driver's version, or the kernel's.
    pub version: String,
    /// What kind of virtual interface it is, if it is one.
    pub kind: Kind,
    /// Whether its packets have no Ethernet header.
    pub bare: bool,
    /// Whether packets can come and go.
    pub state: State,
    /// Largest IP packet it sends, in bytes.
    pub mtu: u32,
    /// Its channels, if it has such.
    pub channels: Option<Channels>,
    /// RX queues in use.
    pub rx_queues: u32,
    /// CPUs that a driver may want a TX queue for each of.
    pub cpus: u32,
    /// Whether the card merges TCP packets (`lro`).
    pub lro: Option<Offload>,
    /// The same, so that they can be cut again (`rx-gro-hw`).
    pub gro_hw: Option<Offload>,
    /// Whether it takes VLAN tags out of frames (`rxvlan`).
    pub rx_vlan: Option<Offload>,
    /// Whether ports choose the queue, of each flow that is wanted and that the driver tells of.
    pub hashes_ports: Vec<(Flow, bool)>,
    /// What it can do with XDP; `None`: the kernel does not say.
    pub features: Option<Features>,
    /// The XDP programs on it.
    pub programs: Vec<Program>,
    /// The bond or bridge that it is a part of: its name and its kind.
    pub master: Option<(String, String)>,
}

/// What the config wants of an interface.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Whether there is a program to attach, XDP's or TC's.
    pub program: bool,
    /// `xdp`; `None`: there is no XDP program to attach.
    pub xdp: Option<config::Xdp>,
    /// Whether the program also sends, natively.
    pub sends: bool,
    /// `zero_copy`; `None`: there are no AF_XDP sockets.
    pub zero_copy: Option<config::ZeroCopy>,
    /// `mtu`
    pub mtu: Option<u32>,
    /// `channels`
    pub channels: Option<u32>,
    /// Whether a listener wants a tag.
    pub tags: bool,
    /// What listeners take.
    pub flows: Vec<Flow>,
}

/// What kind of virtual interface it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// None.
    #[default]
    Card,
    /// One end of a pair, and the other end if that can be seen.
    Veth(Option<Peer>),
    /// A VLAN on the interface of this name.
    Vlan(String, u16),
    /// Several cards as one, in this mode (`linux/if_bonding.h`).
    Bond(u8),
    /// Another, such as a bridge or a tunnel.
    Other(String),
}

/// The other end of a veth pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its name, where it is.
    pub name: String,
    /// Whether that is this network namespace.
    pub here: bool,
    /// Its MTU.
    pub mtu: u32,
    /// TX queues that it uses, or, in another namespace, those that it has.
    pub tx_queues: u32,
}

/// An XDP program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its number.
    pub id: u32,
    /// Its name, if this process may know it.
    pub name: Option<String>,
    /// Where it runs, in ip-link(8)'s words: xdpdrv, xdpgeneric or xdpoffload.
    pub mode: &'static str,
    /// A process that has it open, if this process may know, and whether that is what keeps it attached.
    pub holder: Option<(Process, bool)>,
}

impl Interface {
    /// Looks at `link`.
    ///
    /// # Errors
    /// If the kernel does not tell of it.
    pub fn read(connection: &mut Connection, link: &Link, wanted: Wanted) -> Result<Self, Refusal> {
        let name = &link.name;
        let message = describe(connection, link.index, None)?.unwrap_or_default();
        let (driver, version) = ethtool::driver(name).unwrap_or_default();
        let [lro, gro_hw, rx_vlan] =
            ethtool::offloads(name, ["rx-lro", "rx-gro-hw", "rx-vlan-hw-parse"])
                .unwrap_or_default();
        let hashes_ports = wanted
            .flows
            .iter()
            .filter_map(|&flow| Some((flow, ethtool::hashes_ports(name, flow).ok()?)));
        let master = number(&message, libc::IFLA_MASTER)
            .and_then(|master| describe(connection, IfIndex(master), None).ok().flatten())
            .map(|master| (text(&master, libc::IFLA_IFNAME), kind_name(&master)));
        Ok(Self {
            kind: kind(connection, &message),
            programs: programs(&message).map(Program::read).collect(),
            bare: !link.ethernet,
            state: link.state,
            mtu: link.mtu,
            channels: ethtool::channels(name).ok(),
            rx_queues: link::rx_queues(link).unwrap_or(1),
            cpus: nr_cpus()
                .ok()
                .and_then(|cpus| cpus.try_into().ok())
                .unwrap_or(1),
            lro,
            gro_hw,
            rx_vlan,
            hashes_ports: hashes_ports.collect(),
            features: Features::of(link.index).ok(),
            master,
            driver,
            version,
            wanted,
            name: name.clone(),
        })
    }

    /// The MTU that it will have while fanout runs.
    #[must_use]
    pub fn planned_mtu(&self) -> u32 {
        self.wanted.mtu.unwrap_or(self.mtu)
    }

    /// The RX queues that it will have while fanout runs.
    #[must_use]
    pub fn planned_queues(&self) -> u32 {
        self.wanted.channels.unwrap_or(self.rx_queues)
    }

    /// The command that gives it `count` channels.
    #[must_use]
    pub fn with_channels(&self, count: u32) -> String {
        let name = &self.name;
        match self.channels {
            Some(Channels {
                max_combined: 0, ..
            }) => format!("ethtool -L {name} rx {count} tx {count}"),
            _ => format!("ethtool -L {name} combined {count}"),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "\"{name}\" ")?;
        }
        write!(f, "(id {})", self.id)?;
        match &self.holder {
            Some((process, _)) => write!(f, " of {process}"),
            None => Ok(()),
        }
    }
}

impl Program {
    fn read((mode, id): (&'static str, u32)) -> Self {
        let name = loaded_programs()
            .filter_map(Result::ok)
            .find(|program| program.id() == id)
            .and_then(|program| program.name_as_str().map(ToOwned::to_owned));
        Self {
            id,
            name,
            mode,
            holder: Process::with_program(id),
        }
    }

    /// The command that takes it off `interface`: one that a process keeps attached goes with that.
    #[must_use]
    pub fn removal(&self, interface: &str) -> String {
        match &self.holder {
            Some((process, true)) => format!("kill {}", process.id),
            _ => format!("ip link set dev {interface} {} off", self.mode),
        }
    }

    /// The first on an interface.
    #[must_use]
    pub fn on(index: IfIndex, connection: &mut Connection) -> Option<Self> {
        let message = describe(connection, index, None).ok()??;
        programs(&message).next().map(Self::read)
    }
}

/// Mode and number of each XDP program.
fn programs(message: &LinkMessage) -> impl Iterator<Item = (&'static str, u32)> {
    let xdp = value(message, libc::IFLA_XDP);
    let numbers = attributes(xdp).filter_map(|(kind, id)| {
        let mode = match kind {
            IFLA_XDP_DRV_PROG_ID => "xdpdrv",
            IFLA_XDP_SKB_PROG_ID => "xdpgeneric",
            IFLA_XDP_HW_PROG_ID => "xdpoffload",
            _ => return None,
        };
        Some((mode, u32_in(id)?))
    });
    numbers.filter(|&(_, id)| id != 0)
}

/// `namespace`: where the number counts, if not here.
fn describe(
    connection: &mut Connection,
    index: IfIndex,
    namespace: Option<u32>,
) -> Result<Option<LinkMessage>, Refusal> {
    let mut attributes = Attributes::default();
    if let Some(namespace) = namespace {
        attributes = attributes.with(libc::IFLA_TARGET_NETNSID, namespace.to_ne_bytes());
    }
    link::describe(connection, index, attributes)
}

fn kind(connection: &mut Connection, message: &LinkMessage) -> Kind {
    let data = link::info(value(message, libc::IFLA_LINKINFO), libc::IFLA_INFO_DATA);
    match kind_name(message).as_str() {
        "" => Kind::Card,
        "veth" => Kind::Veth(peer(connection, message)),
        "vlan" => {
            let parent = number(message, libc::IFLA_LINK);
            let parent = parent
                .and_then(|parent| describe(connection, IfIndex(parent), None).ok().flatten())
                .map(|parent| text(&parent, libc::IFLA_IFNAME));
            Kind::Vlan(parent.unwrap_or_default(), link::vlan(data).unwrap_or(0))
        }
        "bond" => {
            let mut mode = attributes(data).filter(|&(kind, _)| kind == IFLA_BOND_MODE);
            let mode = mode.find_map(|(_, mode)| mode.first().copied());
            Kind::Bond(mode.unwrap_or_default())
        }
        other => Kind::Other(other.to_owned()),
    }
}

/// The other end of a veth, in whichever namespace.
fn peer(connection: &mut Connection, message: &LinkMessage) -> Option<Peer> {
    let index = IfIndex(number(message, libc::IFLA_LINK)?);
    let namespace = number(message, libc::IFLA_LINK_NETNSID);
    let peer = describe(connection, index, namespace).ok()??;
    let name = text(&peer, libc::IFLA_IFNAME);
    let here = namespace.is_none();
    let used = here
        .then(|| ethtool::channels(&name).ok())
        .flatten()
        .map(|channels| channels.tx_count + channels.combined_count);
    Some(Peer {
        here,
        mtu: number(&peer, libc::IFLA_MTU)?,
        tx_queues: used.or_else(|| number(&peer, libc::IFLA_NUM_TX_QUEUES))?,
        name,
    })
}

fn kind_name(message: &LinkMessage) -> String {
    let info = value(message, libc::IFLA_LINKINFO);
    text_in(link::info(info, libc::IFLA_INFO_KIND))
}

fn value(message: &LinkMessage, wanted: u16) -> &[u8] {
    let mut found = message
        .attributes
        .iter()
        .filter(|&(kind, _)| kind == wanted);
    found.next().map(|(_, value)| value).unwrap_or_default()
}

fn number(message: &LinkMessage, wanted: u16) -> Option<u32> {
    u32_in(value(message, wanted))
}

fn text(message: &LinkMessage, wanted: u16) -> String {
    text_in(value(message, wanted))
}
