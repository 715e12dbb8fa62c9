//! One neighbour entry, as the kernel describes it (`RTM_NEWNEIGH`, rtnetlink(7)).

use std::{collections::HashMap, net::IpAddr};

use netlink_packet_route::{
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
        NeighbourState,
    },
    route::RouteProtocol,
};

use crate::{
    link::IfIndex,
    netlink::{Connection, Message, Refusal},
};

/// Marks the entries that fanout has the kernel manage (`NDA_PROTOCOL`): an instance that was
/// killed leaves them so, and the next one knows them again. `ip neigh` shows it as `proto 102`.
pub(super) const OURS: u8 = b'f';

/// A next hop: an address on an interface.
pub(super) type NextHop = (IfIndex, IpAddr);

/// One neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) state: NeighbourState,
    /// The MAC address, while the state says that it is valid.
    pub(super) mac: Option<[u8; 6]>,
    /// The kernel keeps it resolved.
    pub(super) managed: bool,
    /// An instance of fanout had it managed.
    pub(super) marked_ours: bool,
    /// A control plane (a CNI's, a router's) made it.
    learned: bool,
}

impl Entry {
    /// Whether a person or a program decided on it, so that nobody else may.
    pub(super) fn is_somebodys(&self) -> bool {
        let fixed = matches!(
            self.state,
            NeighbourState::Permanent | NeighbourState::Noarp
        );
        fixed || self.learned
    }
}

impl From<NeighbourMessage> for Entry {
    fn from(message: NeighbourMessage) -> Self {
        let state = message.header.state;
        let valid = matches!(
            state,
            NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
                | NeighbourState::Noarp
        );
        let mut entry = Self {
            state,
            mac: None,
            managed: false,
            marked_ours: false,
            learned: message.header.flags.contains(NeighbourFlags::ExtLearned),
        };
        for attribute in message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) if valid => {
                    entry.mac = mac.try_into().ok();
                }
                NeighbourAttribute::ExtFlags(flags) => {
                    entry.managed = flags.contains(NeighbourExtFlags::Managed);
                }
                NeighbourAttribute::Protocol(protocol) => {
                    entry.marked_ours = protocol == RouteProtocol::Other(OURS);
                }
                _ => {}
            }
        }
        entry
    }
}

/// All entries of IPv4 and IPv6.
pub(super) fn all(connection: &mut Connection) -> Result<HashMap<NextHop, Entry>, Refusal> {
    let request = Message::GetNeighbor(NeighbourMessage::default());
    let answers = connection.dump(request)?;
    let entries = answers.into_iter().filter_map(|answer| match answer {
        Message::NewNeighbor(message) => Some((next_hop(&message)?, Entry::from(message))),
        _ => None,
    });
    Ok(entries.collect())
}

/// Whose entry this is; `None` if it is not one of IPv4 or IPv6, such as a bridge's.
pub(super) fn next_hop(message: &NeighbourMessage) -> Option<NextHop> {
    let destination = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(address) => Some(address),
            _ => None,
        })?;
    let address = match destination {
        NeighbourAddress::Inet(v4) => IpAddr::from(*v4),
        NeighbourAddress::Inet6(v6) => IpAddr::from(*v6),
        _ => return None,
    };
    Some((IfIndex(message.header.ifindex), address))
}
