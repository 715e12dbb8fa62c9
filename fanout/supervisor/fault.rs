//! What ends an instance, in words for its operator.

use std::fmt;

use crate::{
    in_kernel::Refused, interface, netlink::Refusal, rules::interface::NO_ETHERNET, tuned,
    userspace,
};

/// What kept it from running, or stopped it.
#[derive(Debug)]
pub enum Fault {
    /// An interface that the config names and the host has not.
    NoInterface(String),
    /// An interface whose packets the programs can't read.
    NoEthernet(String),
    /// An interface could not be set up.
    Interface(interface::Error),
    /// An interface does not take the MTU or the channels that the config gives it.
    Tuned(tuned::Error),
    /// A listener in userspace mode could not be set up.
    Userspace(userspace::Error),
    /// An interface forwards no more.
    Stopped(String),
    /// A listener's downstreams can't be probed.
    Health(String, std::io::Error),
    /// A downstream can't be sent to in its listener's mode.
    Refused(Refused),
    /// The kernel's netlink.
    Netlink(Refusal),
    /// Another system call, and what it was to do.
    Io(&'static str, std::io::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInterface(name) => {
                write!(
                    f,
                    "interface {name} does not exist; 'ip link' lists those of this host"
                )
            }
            Self::NoEthernet(name) => {
                write!(f, "interface {name}: {NO_ETHERNET}: mode = userspace")
            }
            Self::Interface(error) => error.fmt(f),
            Self::Tuned(error) => error.fmt(f),
            Self::Userspace(error) => error.fmt(f),
            Self::Stopped(why) => why.fmt(f),
            Self::Refused(refused) => {
                let reason = &refused.reason;
                write!(
                    f,
                    "downstream can't be sent to {refused} reason=\"{reason}\""
                )
            }
            Self::Health(listener, error) => write!(
                f,
                "listener {listener}: can't probe its downstreams: {error}; health = icmp takes CAP_NET_RAW, or a \
                 group in the range of net.ipv4.ping_group_range"
            ),
            Self::Netlink(refusal) => write!(f, "netlink: {refusal}"),
            Self::Io(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl From<interface::Error> for Fault {
    fn from(error: interface::Error) -> Self {
        Self::Interface(error)
    }
}

impl From<tuned::Error> for Fault {
    fn from(error: tuned::Error) -> Self {
        Self::Tuned(error)
    }
}

impl From<userspace::Error> for Fault {
    fn from(error: userspace::Error) -> Self {
        Self::Userspace(error)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Netlink(refusal)
    }
}
