//! The kernel's news of links, addresses, routes and neighbours: whether something changed that
//! may matter, not what. What is true now, [`neighbor`](crate::neighbor) asks for itself.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_packet_core::NetlinkPayload;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use crate::{neighbor::Resolver, netlink};

const GROUPS: [libc::c_uint; 9] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_NEXTHOP,
];

/// A subscription to the news.
#[derive(Debug)]
pub struct Events(Socket);

impl Events {
    /// Subscribes, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// As socket(2).
    pub fn subscribe() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in GROUPS {
            match socket.add_membership(group) {
                // A group that this kernel does not have yet (next hop objects: Linux 5.3).
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                result => result?,
            }
        }
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Reads all news there are. Says whether `resolver` should look again: not for neighbours that
    /// it does not use, nor for routes to elsewhere.
    #[must_use]
    pub fn drain(&self, resolver: &mut Resolver) -> bool {
        let mut changed = false;
        loop {
            match self.0.recv_from_full() {
                Ok((datagram, _)) => {
                    for message in netlink::messages(&datagram) {
                        changed |= match message.map(|message| message.payload) {
                            Ok(NetlinkPayload::InnerMessage(news)) => resolver.note(news),
                            // Next hop objects, or newer than this program.
                            _ => true,
                        };
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                // There was more news than the socket holds: some are lost.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(_) => return true,
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
