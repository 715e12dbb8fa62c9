//! The ways as the kernel has them now, for those who only look: nothing is asked for, kept or given back.

use std::{collections::HashMap, net::IpAddr};

use netlink_packet_route::neighbour::NeighbourState;

use super::{
    Path, Unreachable,
    entry::{self, Entry},
    next_hop, path, route, usable,
};
use crate::{
    link::Links,
    netlink::{Connection, Refusal},
};

/// The way to a destination.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// It; its MAC address is zero where the next hop has not answered.
    pub path: Result<Path, Unreachable>,
    /// How the next hop is known; `None`: nobody needs to.
    pub neighbor: Option<Neighbor>,
}

/// What the kernel knows of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbor {
    /// Nothing: nobody has sent there of late.
    Unknown,
    /// It is being asked for.
    Asked,
    /// Its MAC address.
    Answered,
    /// That it did not answer.
    Failed,
}

impl From<Option<&Entry>> for Neighbor {
    fn from(entry: Option<&Entry>) -> Self {
        match entry {
            Some(entry) if entry.mac.is_some() => Self::Answered,
            Some(entry) if entry.state == NeighbourState::Failed => Self::Failed,
            Some(entry) if entry.state == NeighbourState::Incomplete => Self::Asked,
            _ => Self::Unknown,
        }
    }
}

/// The way to each destination.
///
/// # Errors
/// The kernel's, if it can't say anything at all.
pub fn survey(
    connection: &mut Connection,
    links: &Links,
    destinations: &[IpAddr],
) -> Result<HashMap<IpAddr, Surveyed>, Refusal> {
    let entries = entry::all(connection)?;
    let surveyed = destinations.iter().map(|&to| {
        let route = route::look_up(connection, to);
        let way = usable(links, &route);
        let hop = way.as_ref().ok().and_then(|&way| next_hop(way, to));
        let entry = hop.map(|hop| entries.get(&hop));
        let mac = entry.map(|entry| entry.and_then(|entry| entry.mac).unwrap_or_default());
        let surveyed = Surveyed {
            path: way.map(|way| path(to, way, mac)),
            neighbor: entry.map(Neighbor::from),
        };
        (to, surveyed)
    });
    Ok(surveyed.collect())
}
