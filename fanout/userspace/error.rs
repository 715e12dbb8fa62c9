//! What keeps a listener from listening, and what mends it.

use std::{fmt, io, net::SocketAddr};

use crate::rules::Verdict;

/// What went wrong, with the listener's name.
#[derive(Debug)]
pub enum Error {
    /// More sockets than the process may open files.
    TooManySockets(Verdict),
    /// An address can't be bound.
    Bind(String, SocketAddr, io::Error),
    /// No raw socket, which `source = keep` needs.
    Keep(String, io::Error),
    /// Another system call, and what it was to do.
    Io(String, &'static str, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManySockets(verdict) => f.write_str(&verdict.meaning),
            Self::Bind(listener, bind, error) => {
                write!(f, "listener {listener}: can't bind {bind}: {error}")?;
                let port = bind.port();
                match error.raw_os_error() {
                    Some(libc::EADDRINUSE) => write!(
                        f,
                        "; another program, or another fanout, has it: 'ss -ulpn sport = :{port}' says which"
                    ),
                    Some(libc::EADDRNOTAVAIL) => f.write_str(
                        "; the address is not this host's: give it to an interface, or take mode = af_xdp",
                    ),
                    Some(libc::EACCES) => write!(
                        f,
                        "; grant CAP_NET_BIND_SERVICE, or set net.ipv4.ip_unprivileged_port_start to {port} or less"
                    ),
                    _ => Ok(()),
                }
            }
            Self::Keep(listener, error) => write!(
                f,
                "listener {listener}: source = keep needs a raw socket: {error}; \
                 grant CAP_NET_RAW, or set source = rewrite"
            ),
            Self::Io(listener, what, error) => write!(f, "listener {listener}: {what}: {error}"),
        }
    }
}
