//! Network interfaces, as the kernel describes them now.

use std::{fmt, io};

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        InfoData, InfoKind, InfoVlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
        LinkLayerType, LinkMessage, VlanProtocol,
    },
};

use crate::{
    netlink::{Connection, Refusal},
    sys,
};

/// The kernel's number of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfIndex(pub u32);

/// The number of a queue of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u32);

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// Its MAC address, zero if it has none.
    pub mac: [u8; 6],
    /// Whether its frames have an Ethernet header, and others are found by ARP or neighbour discovery.
    pub neighbors: bool,
    /// Largest IP packet it sends, in bytes.
    pub mtu: u32,
    /// Whether it is set up, has a carrier, and is operational (RFC 2863).
    pub up: bool,
    /// The interface it tags frames for, if it is a VLAN device.
    pub vlan: Option<Vlan>,
    /// Whether it is one end of a veth pair.
    pub veth: bool,
    /// RX queues that the driver allocated; it may use fewer.
    pub allocated_rx_queues: u32,
}

/// What a VLAN device stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// The interface that carries the tagged frames.
    pub parent: IfIndex,
    /// The VLAN id.
    pub id: u16,
}

/// All interfaces of this network namespace at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links(Vec<Link>);

impl Links {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(connection: &mut Connection) -> Result<Self, Refusal> {
        let mut request = LinkMessage::default();
        let without = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
        request.attributes.push(without);
        let answers = connection.dump(RouteNetlinkMessage::GetLink(request))?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(Link::from(message)),
            _ => None,
        });
        Ok(links.collect())
    }

    /// Whether what `news` says of an interface is known already. News of a bridge's port tell
    /// nothing of the interface.
    pub(crate) fn know(&self, news: LinkMessage) -> bool {
        if news.header.interface_family == AddressFamily::Bridge {
            return true;
        }
        let link = Link::from(news);
        self.by_index(link.index) == Some(&link)
    }

    /// The interface with this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.0.iter().find(|link| link.name == name)
    }

    /// The interface with this number.
    #[must_use]
    pub fn by_index(&self, index: IfIndex) -> Option<&Link> {
        self.0.iter().find(|link| link.index == index)
    }
}

impl FromIterator<Link> for Links {
    fn from_iter<I: IntoIterator<Item = Link>>(links: I) -> Self {
        Self(links.into_iter().collect())
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let LinkMessage {
            header, attributes, ..
        } = message;
        let mut link = Self {
            index: IfIndex(header.index),
            name: String::new(),
            mac: [0; 6],
            neighbors: header.link_layer_type == LinkLayerType::Ether
                && !header
                    .flags
                    .intersects(LinkFlags::Noarp | LinkFlags::Loopback),
            mtu: 0,
            up: header
                .flags
                .contains(LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running),
            vlan: None,
            veth: false,
            allocated_rx_queues: 1,
        };
        let (mut parent, mut vlan_id, mut elsewhere) = (None, None, false);
        for attribute in attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(mac) => link.mac = mac.try_into().unwrap_or_default(),
                LinkAttribute::NumRxQueues(queues) => link.allocated_rx_queues = queues,
                LinkAttribute::Link(index) => parent = Some(IfIndex(index)),
                // The parent is in another network namespace, and its number counts there.
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::LinkInfo(info) => {
                    vlan_id = vlan(&info);
                    link.veth = info.contains(&LinkInfo::Kind(InfoKind::Veth));
                }
                _ => {}
            }
        }
        let parent = parent.filter(|_| !elsewhere);
        link.vlan = parent.zip(vlan_id).map(|(parent, id)| Vlan { parent, id });
        link
    }
}

/// The id of an 802.1Q device; one of 802.1ad has another tag and counts as any other interface.
fn vlan(info: &[LinkInfo]) -> Option<u16> {
    let is_vlan = info.contains(&LinkInfo::Kind(InfoKind::Vlan));
    let data = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) if is_vlan => Some(data),
        _ => None,
    })?;
    if data.contains(&InfoVlan::Protocol(VlanProtocol::Ieee8021Ad)) {
        return None;
    }
    data.iter().find_map(|info| match info {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}

/// Packets that an interface lost on the way in (`struct rtnl_link_stats64` of `linux/if_link.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// The card had no room for them (`rx_missed_errors`).
    pub missed: u64,
    /// Its driver or the kernel dropped them (`rx_dropped`); with some drivers also those that the card
    /// had no room for, or that a redirect failed for.
    pub dropped: u64,
}

impl Losses {
    /// Asks the kernel; `None` if it does not say.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(
        connection: &mut Connection,
        IfIndex(index): IfIndex,
    ) -> Result<Option<Self>, Refusal> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        let answers = connection.get(RouteNetlinkMessage::GetLink(request))?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link.attributes),
            _ => None,
        });
        let statistics = links.flatten().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(statistics) => Some(statistics),
            _ => None,
        });
        Ok(statistics.map(|statistics| Self {
            missed: statistics.rx_missed_errors,
            dropped: statistics.rx_dropped,
        }))
    }
}

/// How many RX queues `link` uses now.
///
/// # Errors
/// Those of the ioctl, but for "not supported": a driver without channels uses what it allocated.
pub fn rx_queues(link: &Link) -> io::Result<u32> {
    match sys::ethtool::channels(&link.name) {
        Ok(channels) => Ok(channels.receiving().max(1)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Ok(link.allocated_rx_queues)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
