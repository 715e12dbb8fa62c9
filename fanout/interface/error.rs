//! What keeps an interface from forwarding, in words for its operator.

use std::{fmt, io, net::SocketAddr};

use crate::{bpf, xsk::umem};

/// What kept an interface from forwarding.
#[derive(Debug)]
pub enum Error {
    /// An eBPF program.
    Program(bpf::Error),
    /// The limit on pinned memory is too low for the UMEMs of this interface.
    Memory(String),
    /// The config insists on zero copy for this interface, and why it can't be had.
    ZeroCopy(String, String),
    /// More downstreams than the programs' maps can count.
    Full(String),
    /// Another instance has a bind on this interface.
    Taken(String, SocketAddr),
    /// A system call, what it was to do, and on which interface.
    Io(&'static str, String, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(error) => error.fmt(f),
            Self::Taken(interface, bind) => write!(
                f,
                "interface {interface}: another fanout takes what is sent to {bind}; one has to go, \
                 or bind another address or port"
            ),
            Self::Full(interface) => write!(
                f,
                "interface {interface}: more downstreams than there was room made for at the start; restart \
                 fanout to take this config"
            ),
            Self::Io(what, interface, error) => write!(f, "interface {interface}: {what}: {error}"),
            Self::Memory(interface) => write!(
                f,
                "interface {interface}: the kernel refuses to pin {} MiB for each queue; \
                 raise the limit (LimitMEMLOCK=, ulimit -l) or grant CAP_IPC_LOCK",
                umem::SIZE >> 20
            ),
            Self::ZeroCopy(interface, why) => {
                write!(
                    f,
                    "interface {interface}: zero_copy = on can't be had: {why}"
                )
            }
        }
    }
}

impl From<bpf::Error> for Error {
    fn from(error: bpf::Error) -> Self {
        Self::Program(error)
    }
}
