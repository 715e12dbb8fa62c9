//! Attaching an XDP program: by `bpf_link` only, never in another's place, and with the kernel's own
//! words when it will not.

use std::{
    fmt,
    os::fd::{AsFd, AsRawFd, RawFd},
};

use aya::programs::{ProgramError, XdpMode, links::FdLink};
use netlink_packet_route::link::LinkHeader;

use super::{Error, Programs, os_error};
use crate::{
    config,
    facts::interface::{Interface, Program, Wanted},
    link::{IfIndex, Links},
    netlink::{Attributes, Connection, Described, Message, Refusal},
    rules::native,
};

// linux/if_link.h
const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1 << 0;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before there is an skb.
    Native,
    /// In the kernel's generic path.
    Skb,
}

impl Mode {
    /// The value of the metrics' `xdp` label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Skb => "skb",
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::Native => XDP_FLAGS_DRV_MODE,
            Self::Skb => XDP_FLAGS_SKB_MODE,
        }
    }
}

impl From<Mode> for XdpMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Native => Self::Driver,
            Mode::Skb => Self::Skb,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Attached {
    /// How it runs.
    pub mode: Mode,
    /// Why not natively, though that was tried: the kernel's words, and what mends it.
    pub why_not_native: Option<String>,
}

pub(super) fn attach(programs: &mut Programs, wanted: config::Xdp) -> Result<Attached, Error> {
    let mut why_not_native = None;
    if wanted != config::Xdp::Skb {
        match attach_in(programs, Mode::Native) {
            Ok(()) => {
                return Ok(Attached {
                    mode: Mode::Native,
                    why_not_native,
                });
            }
            Err(Error::Attach { reason, .. }) if wanted == config::Xdp::Auto => {
                why_not_native = Some(reason);
            }
            Err(error) => return Err(error),
        }
    }
    attach_in(programs, Mode::Skb)?;
    Ok(Attached {
        mode: Mode::Skb,
        why_not_native,
    })
}

fn attach_in(programs: &mut Programs, mode: Mode) -> Result<(), Error> {
    let interface = programs.interface.clone();
    let cause = match link(programs, mode) {
        Ok(Some(link)) => {
            programs.link = Some(link);
            return Ok(());
        }
        Ok(None) => return Err(Error::OldKernel(interface)),
        Err(cause) => cause,
    };
    let mut connection = Connection::open().ok();
    let occupant = connection
        .as_mut()
        .and_then(|c| Program::on(programs.ifindex, c));
    if let Some(program) = occupant {
        return Err(Error::Occupied { interface, program });
    }
    let words = connection
        .as_mut()
        .and_then(|c| words(programs, c, mode))
        .unwrap_or_else(|| match os_error(&cause) {
            Some(cause) => cause.to_string(),
            None => cause.to_string(),
        });
    let explained = connection
        .filter(|_| mode == Mode::Native)
        .and_then(|mut c| explain(programs.ifindex, &mut c, &words));
    let reason = explained.map_or_else(|| words.clone(), |why| format!("{words}; {why}"));
    Err(Error::Attach {
        interface,
        mode,
        reason,
    })
}

/// Attaches by `bpf_link`; `None`: the kernel has none for XDP.
fn link(programs: &mut Programs, mode: Mode) -> Result<Option<FdLink>, ProgramError> {
    let ifindex = programs.ifindex;
    let xdp = programs.xdp()?;
    let id = xdp.attach_to_if_index(ifindex.0, mode.into())?;
    let link = FdLink::try_from(xdp.take_link(id)?).ok();
    if link.is_none()
        && let Ok(mut connection) = Connection::open()
    {
        // On EINVAL the library tries netlink too, and what that attaches outlives the process.
        let _ = set_by_netlink(&mut connection, ifindex, DETACH, mode.flags());
    }
    Ok(link)
}

/// What the rules that `fanout check` goes by say of it.
fn explain(ifindex: IfIndex, connection: &mut Connection, words: &str) -> Option<String> {
    let links = Links::read(connection).ok()?;
    let link = links.by_index(ifindex)?;
    let interface = Interface::read(connection, link, Wanted::default()).ok()?;
    native::explain(&interface, words)
}

/// Why the kernel will not attach, in its own words: `bpf_link` has none, so netlink is asked to do the
/// same.
fn words(programs: &mut Programs, connection: &mut Connection, mode: Mode) -> Option<String> {
    let ifindex = programs.ifindex;
    let program = programs.xdp().ok()?.fd().ok()?.as_fd().as_raw_fd();
    let flags = mode.flags();
    let flags_to_try = flags | XDP_FLAGS_UPDATE_IF_NOEXIST;
    if let Err(refusal) = set_by_netlink(connection, ifindex, program, flags_to_try) {
        return refusal.words.is_some().then(|| refusal.to_string());
    }
    // It changed its mind. This one would outlive the process.
    let _ = set_by_netlink(connection, ifindex, DETACH, flags);
    None
}

/// Instead of a program's descriptor: take off the one that is there.
const DETACH: RawFd = -1;

fn set_by_netlink(
    connection: &mut Connection,
    ifindex: IfIndex,
    program: RawFd,
    flags: u32,
) -> Result<(), Refusal> {
    let xdp = Attributes::default()
        .with(IFLA_XDP_FD, program.to_ne_bytes())
        .with(IFLA_XDP_FLAGS, flags.to_ne_bytes());
    let mut message = Described::<LinkHeader>::default();
    message.header.index = ifindex.0;
    message.attributes = Attributes::default().with_nested(libc::IFLA_XDP, xdp);
    connection.change(Message::SetLink(message), 0)
}
