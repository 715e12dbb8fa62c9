//! Network interfaces, as the kernel describes them now.

use std::{fmt, io};

use netlink_packet_route::{
    AddressFamily,
    link::{LinkFlags, LinkHeader, LinkLayerType},
};

use crate::{
    netlink::{Attributes, Connection, Described, Message, Refusal, attributes, text_in, u32_in},
    sys,
};

/// What the kernel tells of an interface (`RTM_NEWLINK`).
pub(crate) type LinkMessage = Described<LinkHeader>;

// linux/if_link.h, linux/if_ether.h
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const ETH_P_8021AD_BE: [u8; 2] = 0x88a8_u16.to_be_bytes();

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
    /// Whether its frames have an Ethernet header.
    pub ethernet: bool,
    /// The same, and others are found by ARP or neighbour discovery.
    pub neighbors: bool,
    /// Largest IP packet it sends, in bytes.
    pub mtu: u32,
    /// Whether packets can come and go.
    pub state: State,
    /// The interface it tags frames for, if it is a VLAN device.
    pub vlan: Option<Vlan>,
    /// Whether it is one end of a veth pair.
    pub veth: bool,
    /// RX queues that the driver allocated; it may use fewer.
    pub allocated_rx_queues: u32,
}

/// Whether packets can come by an interface, and go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It is not set up.
    #[default]
    Down,
    /// It is, but has no carrier, or is not operational (RFC 2863).
    NoCarrier,
    /// They can.
    Up,
}

impl From<LinkFlags> for State {
    fn from(flags: LinkFlags) -> Self {
        if !flags.contains(LinkFlags::Up) {
            Self::Down
        } else if flags.contains(LinkFlags::LowerUp | LinkFlags::Running) {
            Self::Up
        } else {
            Self::NoCarrier
        }
    }
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
        let without = libc::RTEXT_FILTER_SKIP_STATS.to_ne_bytes();
        let request = LinkMessage {
            attributes: Attributes::default().with(libc::IFLA_EXT_MASK, without),
            ..LinkMessage::default()
        };
        let answers = connection.dump(Message::GetLink(request))?;
        let links = answers.iter().filter_map(|answer| match answer {
            Message::NewLink(message) => Some(Link::from(message)),
            _ => None,
        });
        Ok(links.collect())
    }

    /// Whether what `news` says of an interface is known already. News of a bridge's port tell
    /// nothing of the interface.
    pub(crate) fn know(&self, news: &LinkMessage) -> bool {
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

impl From<&LinkMessage> for Link {
    fn from(LinkMessage { header, attributes }: &LinkMessage) -> Self {
        let mut link = Self {
            index: IfIndex(header.index),
            name: String::new(),
            mac: [0; 6],
            ethernet: matches!(
                header.link_layer_type,
                LinkLayerType::Ether | LinkLayerType::Loopback
            ),
            neighbors: header.link_layer_type == LinkLayerType::Ether
                && !header
                    .flags
                    .intersects(LinkFlags::Noarp | LinkFlags::Loopback),
            mtu: 0,
            state: State::from(header.flags),
            vlan: None,
            veth: false,
            allocated_rx_queues: 1,
        };
        let (mut parent, mut vlan_id, mut elsewhere) = (None, None, false);
        for (kind, value) in attributes.iter() {
            match kind {
                libc::IFLA_IFNAME => link.name = text_in(value),
                libc::IFLA_MTU => link.mtu = u32_in(value).unwrap_or_default(),
                libc::IFLA_ADDRESS => link.mac = value.try_into().unwrap_or_default(),
                libc::IFLA_NUM_RX_QUEUES => {
                    link.allocated_rx_queues = u32_in(value).unwrap_or(1);
                }
                libc::IFLA_LINK => parent = u32_in(value).map(IfIndex),
                // The parent is in another network namespace, and its number counts there.
                libc::IFLA_LINK_NETNSID => elsewhere = true,
                libc::IFLA_LINKINFO => match text_in(info(value, libc::IFLA_INFO_KIND)).as_str() {
                    "vlan" => vlan_id = vlan(info(value, libc::IFLA_INFO_DATA)),
                    "veth" => link.veth = true,
                    _ => {}
                },
                _ => {}
            }
        }
        let parent = parent.filter(|_| !elsewhere);
        link.vlan = parent.zip(vlan_id).map(|(parent, id)| Vlan { parent, id });
        link
    }
}

/// The value of one of a link's informations; nothing if it has none of that kind.
pub(crate) fn info(link_info: &[u8], wanted: u16) -> &[u8] {
    let found = attributes(link_info).find(|&(kind, _)| kind == wanted);
    found.map(|(_, value)| value).unwrap_or_default()
}

/// The id of an 802.1Q device; one of 802.1ad has another tag and counts as any other interface.
pub(crate) fn vlan(data: &[u8]) -> Option<u16> {
    if attributes(data).any(|(kind, value)| kind == IFLA_VLAN_PROTOCOL && value == ETH_P_8021AD_BE)
    {
        return None;
    }
    let (_, id) = attributes(data).find(|&(kind, _)| kind == IFLA_VLAN_ID)?;
    id.first_chunk().copied().map(u16::from_ne_bytes)
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

// Places in that struct, all of whose fields are 64 bits.
const RX_DROPPED: usize = 6;
const RX_MISSED_ERRORS: usize = 15;

impl Losses {
    /// Asks the kernel; `None` if it does not say.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(connection: &mut Connection, index: IfIndex) -> Result<Option<Self>, Refusal> {
        let link = describe(connection, index, Attributes::default())?;
        Ok(link.and_then(|link| {
            let mut attributes = link.attributes.iter();
            let (_, statistics) = attributes.find(|&(kind, _)| kind == libc::IFLA_STATS64)?;
            let (counters, _) = statistics.as_chunks();
            let counter = |index: usize| counters.get(index).copied().map(u64::from_ne_bytes);
            Some(Self {
                missed: counter(RX_MISSED_ERRORS)?,
                dropped: counter(RX_DROPPED)?,
            })
        }))
    }
}

/// All that the kernel tells of one interface; `attributes` say more of which one.
///
/// # Errors
/// The kernel's.
pub(crate) fn describe(
    connection: &mut Connection,
    IfIndex(index): IfIndex,
    attributes: Attributes,
) -> Result<Option<LinkMessage>, Refusal> {
    let mut request = LinkMessage {
        attributes,
        ..LinkMessage::default()
    };
    request.header.index = index;
    let answers = connection.get(Message::GetLink(request))?;
    Ok(answers.into_iter().find_map(|answer| match answer {
        Message::NewLink(link) => Some(link),
        _ => None,
    }))
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
