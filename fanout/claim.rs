//! Names that one living process holds in a network namespace.
//!
//! A claim is an abstract Unix socket (unix(7)) that nobody sends to: the kernel lets one process have the
//! name, in the network namespace of the interfaces, and gives it back when that process ends, however it
//! ends. No file is left behind, and no privilege is needed to ask.

use std::{
    fs,
    io::{self, ErrorKind},
    net,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use crate::link::IfIndex;

/// The name of what is sent to `bind` by an interface, with a tag or without one.
#[must_use]
pub fn name(IfIndex(interface): IfIndex, vlan: Option<u16>, bind: net::SocketAddr) -> String {
    format!("fanout:{interface}:{}:{bind}", vlan.unwrap_or_default())
}

/// Whether a living process has `name`, without asking for it.
#[must_use]
pub fn is_held(name: &str) -> bool {
    let sockets = fs::read_to_string("/proc/self/net/unix").unwrap_or_default();
    // The path comes last, with an @ for the zero that an abstract one begins with.
    let wanted = format!(" @{name}");
    sockets.lines().any(|line| line.ends_with(&wanted))
}

/// A name that is this process's as long as this lives.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "held, not used")] UnixDatagram);

impl Claim {
    /// Claims `name`. `None`: a living process has it, this one or another.
    ///
    /// # Errors
    /// As socket(2) and bind(2); also if the name is longer than a socket's can be.
    pub fn on(name: &str) -> io::Result<Option<Self>> {
        let address = SocketAddr::from_abstract_name(name)?;
        match UnixDatagram::bind_addr(&address) {
            Ok(socket) => Ok(Some(Self(socket))),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_held_once_and_until_it_is_dropped() {
        let name = format!("fanout-test-{}", std::process::id());
        let claim = Claim::on(&name).unwrap();
        assert!(claim.is_some());
        assert!(Claim::on(&name).unwrap().is_none());
        assert!(is_held(&name));
        assert!(!is_held(&name[1..]));
        drop(claim);
        assert!(!is_held(&name));
        assert!(Claim::on(&name).unwrap().is_some());
    }
}
