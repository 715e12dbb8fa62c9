//! Names that one living process holds in a network namespace.
//!
//! A claim is an abstract Unix socket (unix(7)) that nobody sends to: the kernel lets one process have the
//! name, in the network namespace of the interfaces, and gives it back when that process ends, however it
//! ends. No file is left behind, and no privilege is needed to ask.

use std::{
    io::{self, ErrorKind},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

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
        drop(claim);
        assert!(Claim::on(&name).unwrap().is_some());
    }
}
