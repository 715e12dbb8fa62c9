//! Routes and next hops: for each destination, the way the kernel would take.
//!
//! [`Resolver::resolve`] only asks; [`Resolver::refresh`] is what makes the kernel resolve next
//! hops. What has changed since is [`events`](crate::events)' to notice.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::IpAddr,
    time::Duration,
};

use self::{
    entry::{Entry, NextHop},
    route::Route,
    unmanaged::Unmanaged,
    watch::Watch,
};
use crate::{
    link::{IfIndex, Link, Links, Losses, State},
    netlink::{Connection, Message, Refusal},
};

mod entry;
mod route;
mod survey;
mod unmanaged;
mod watch;

pub use self::survey::{Neighbor, Surveyed, survey};

/// The way to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// By which interface.
    pub link: Link,
    /// The MAC address of the next hop; `None` if the kernel has to send: to a local address, into
    /// a tunnel, or where there are no MAC addresses.
    pub mac: Option<[u8; 6]>,
    /// Whose MAC address that is: the router, or the destination itself.
    pub next_hop: IpAddr,
    /// Whether the destination is an address of this host.
    pub local: bool,
    /// Whether the route encapsulates (MPLS, segment routing, IP in IP).
    pub encapsulated: bool,
    /// Largest IP packet that goes this way.
    pub mtu: u32,
    /// The source address that the kernel would choose.
    pub source: Option<IpAddr>,
}

/// Why there is no way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The kernel has no route, in its words.
    NoRoute(String),
    /// The route's interface is down, or gone.
    LinkDown(String),
    /// It is set up, and has no carrier.
    NoCarrier(String),
    /// The next hop, on this interface, has not answered (yet).
    NoNeighbor(IpAddr, String),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute(words) => write!(f, "no route: {words}"),
            Self::LinkDown(name) => write!(f, "interface {name} is down"),
            Self::NoCarrier(name) => write!(f, "interface {name} has no carrier"),
            Self::NoNeighbor(next_hop, name) => write!(f, "{next_hop} does not answer on {name}"),
        }
    }
}

/// The ways to the downstreams, by their addresses.
pub type Paths = HashMap<IpAddr, Result<Path, Unreachable>>;

/// Asks the kernel for ways, and keeps their next hops resolved.
#[derive(Debug)]
pub struct Resolver {
    connection: Connection,
    links: Links,
    destinations: HashSet<IpAddr>,
    /// Of those, the ones whose next hops the kernel finds itself when it sends.
    left_to_kernel: HashSet<IpAddr>,
    watch: Watch,
    unmanaged: Unmanaged,
}

impl Resolver {
    /// Opens it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// As socket(2), or the kernel's.
    pub fn new() -> Result<Self, Refusal> {
        let mut connection = Connection::open()?;
        let links = Links::read(&mut connection)?;
        Ok(Self {
            connection,
            links,
            destinations: HashSet::new(),
            left_to_kernel: HashSet::new(),
            watch: Watch::default(),
            unmanaged: Unmanaged::default(),
        })
    }

    /// From the next [`resolve`](Self::resolve) on, next hops on the way to `destinations` are neither
    /// kept nor needed: only sockets send there. Their MAC addresses are told where they are known, and
    /// there is no way where the kernel has found that nobody answers.
    pub fn leave_to_kernel(&mut self, destinations: HashSet<IpAddr>) {
        self.left_to_kernel = destinations;
    }

    /// The interfaces, as they were at the last [`resolve`](Self::resolve).
    #[must_use]
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// An interface as it is now.
    ///
    /// # Errors
    /// The kernel's, if it can't say anything at all.
    pub fn look_at(&mut self, name: &str) -> Result<Option<Link>, Refusal> {
        let links = Links::read(&mut self.connection)?;
        Ok(links.by_name(name).cloned())
    }

    /// What an interface lost on the way in; `None` if the kernel does not say.
    pub fn losses(&mut self, index: IfIndex) -> Option<Losses> {
        Losses::read(&mut self.connection, index).ok().flatten()
    }

    /// The way to each destination, in their order. From now on their next hops are the ones in
    /// use. Changes nothing on the host: those that are not known stay so until a
    /// [`refresh`](Self::refresh).
    ///
    /// # Errors
    /// The kernel's, if it can't say anything at all.
    pub fn resolve(
        &mut self,
        destinations: &[IpAddr],
    ) -> Result<Vec<Result<Path, Unreachable>>, Refusal> {
        self.links = Links::read(&mut self.connection)?;
        let entries = entry::all(&mut self.connection)?;
        self.destinations = destinations.iter().copied().collect();
        let routes: HashMap<_, _> = self
            .destinations
            .iter()
            .map(|&to| (to, route::look_up(&mut self.connection, to)))
            .collect();
        let (mut used, mut unmanaged) = (HashSet::new(), HashSet::new());
        for (&to, route) in &routes {
            let hop = usable(&self.links, route).ok();
            let hop = hop.and_then(|usable| next_hop(usable, to));
            if self.left_to_kernel.contains(&to) {
                unmanaged.extend(hop);
            } else {
                used.extend(hop);
            }
        }
        self.watch.replace(used.into_iter(), &entries);
        self.unmanaged.replace(unmanaged, &entries);
        let paths = destinations.iter().map(|&to| match routes.get(&to) {
            Some(route) => {
                let usable = usable(&self.links, route)?;
                let mac = match next_hop(usable, to) {
                    None => None,
                    Some(hop) => {
                        let (mac, is_needed) = if self.left_to_kernel.contains(&to) {
                            let entry = entries.get(&hop);
                            let mac = entry.and_then(|entry| entry.mac);
                            (mac, self.unmanaged.has_failed(hop))
                        } else {
                            (self.watch.mac(hop), true)
                        };
                        if is_needed && mac.is_none() {
                            let (_, address) = hop;
                            let link = usable.0.name.clone();
                            return Err(Unreachable::NoNeighbor(address, link));
                        }
                        mac
                    }
                };
                Ok(path(to, usable, mac))
            }
            None => Err(Unreachable::NoRoute(String::new())),
        });
        Ok(paths.collect())
    }

    /// Has the kernel resolve the next hops that are not known, and verify those that are. To be
    /// called right after [`resolve`](Self::resolve), and then again after the returned time at the
    /// latest. News should be drained before, so that it knows what they say.
    pub fn refresh(&mut self) -> Duration {
        let managed = self.watch.refresh(&mut self.connection);
        let unmanaged = self.unmanaged.refresh();
        unmanaged.map_or(managed, |unmanaged| unmanaged.min(managed))
    }

    /// Takes the kernel's news, and says whether the last [`resolve`](Self::resolve) would now have
    /// another result.
    pub(crate) fn note(&mut self, news: Message) -> bool {
        let (entry, gone) = match news {
            Message::NewNeighbor(entry) => (entry, false),
            Message::DelNeighbor(entry) => (entry, true),
            Message::NewLink(link) => return !self.links.know(&link),
            Message::NewRoute(route) | Message::DelRoute(route) => {
                return self
                    .destinations
                    .iter()
                    .any(|&to| route::covers(&route, to));
            }
            // Interfaces that go, addresses that come and go, rules.
            _ => return true,
        };
        entry::next_hop(&entry).is_some_and(|next_hop| {
            let entry = (!gone).then(|| Entry::from(entry));
            let unmanaged = self.unmanaged.note(next_hop, entry);
            self.watch.note(next_hop, entry) || unmanaged
        })
    }
}

impl Drop for Resolver {
    /// Leaves ordinary neighbour entries behind.
    fn drop(&mut self) {
        self.watch.release(&mut self.connection);
    }
}

/// A route whose interface is up.
type Usable<'a> = (&'a Link, &'a Route);

fn usable<'a>(
    links: &'a Links,
    route: &'a Result<Route, String>,
) -> Result<Usable<'a>, Unreachable> {
    let route = route
        .as_ref()
        .map_err(|words| Unreachable::NoRoute(words.clone()))?;
    let IfIndex(number) = route.interface;
    let Some(link) = links.by_index(route.interface) else {
        return Err(Unreachable::LinkDown(format!("number {number}")));
    };
    match link.state {
        State::Up => Ok((link, route)),
        State::NoCarrier => Err(Unreachable::NoCarrier(link.name.clone())),
        State::Down => Err(Unreachable::LinkDown(link.name.clone())),
    }
}

/// Whose MAC address is needed; `None` if nobody's is.
fn next_hop((link, route): Usable<'_>, destination: IpAddr) -> Option<NextHop> {
    let address = route.gateway.unwrap_or(destination);
    (link.neighbors && !route.is_kernel_only()).then_some((link.index, address))
}

fn path(to: IpAddr, (link, route): Usable<'_>, mac: Option<[u8; 6]>) -> Path {
    Path {
        link: link.clone(),
        mac,
        next_hop: route.gateway.unwrap_or(to),
        local: route.local,
        encapsulated: route.encapsulated,
        mtu: route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu)),
        source: route.source,
    }
}
