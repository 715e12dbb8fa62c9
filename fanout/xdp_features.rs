//! What interfaces can do with XDP, and which take frames that an XDP program redirects to them: generic
//! netlink's family `netdev` (Linux 6.3, `Documentation/netlink/specs/netdev.yaml`).

use std::{collections::HashMap, io};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

use crate::{
    link::IfIndex,
    netlink::{attributes, u32_in},
};

// linux/netlink.h, linux/genetlink.h, linux/netdev.h
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS: u16 = 4;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_REDIRECT: u64 = 2;
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;
const NETDEV_XDP_ACT_XSK_ZEROCOPY: u64 = 8;

/// `struct nlmsghdr` and `struct genlmsghdr`.
const HEADERS: usize = 16 + 4;

/// What an interface can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    actions: u64,
    /// Frames that one zero-copy packet may fill; `None`: the kernel does not say (before Linux 6.6).
    pub zero_copy_segments: Option<u32>,
}

impl Features {
    /// Asks the kernel.
    ///
    /// # Errors
    /// If it does not say: before Linux 6.3.
    pub fn of(interface: IfIndex) -> io::Result<Self> {
        let mut netdev = Netdev::open()?;
        let answer = netdev.ask(
            netdev.family,
            NETDEV_CMD_DEV_GET,
            (NETDEV_A_DEV_IFINDEX, &interface.0.to_ne_bytes()),
        )?;
        let features = value(&answer, NETDEV_A_DEV_XDP_FEATURES)?;
        let features = features.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
        let segments = value(&answer, NETDEV_A_DEV_XDP_ZC_MAX_SEGS);
        Ok(Self {
            actions: u64::from_ne_bytes(*features),
            zero_copy_segments: segments.ok().and_then(u32_in),
        })
    }

    /// Those of an interface that a test makes up.
    #[cfg(test)]
    pub(crate) fn new(native: bool, zero_copy: bool) -> Self {
        let native = u64::from(native) * (NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT);
        let zero_copy = u64::from(zero_copy) * NETDEV_XDP_ACT_XSK_ZEROCOPY;
        Self {
            actions: native | zero_copy,
            zero_copy_segments: None,
        }
    }

    /// Whether its driver runs XDP programs, and redirects what they say.
    #[must_use]
    pub fn native(&self) -> bool {
        const NEEDED: u64 = NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT;
        self.actions & NEEDED == NEEDED
    }

    /// Whether it takes redirected frames.
    #[must_use]
    pub fn takes_redirects(&self) -> bool {
        self.actions & NETDEV_XDP_ACT_NDO_XMIT != 0
    }

    /// Whether AF_XDP sockets can share memory with it.
    #[must_use]
    pub fn zero_copy(&self) -> bool {
        self.actions & NETDEV_XDP_ACT_XSK_ZEROCOPY != 0
    }
}

/// What the kernel said, as long as it is not [forgotten](Self::forget).
#[derive(Debug, Default)]
pub struct XdpFeatures {
    known: HashMap<IfIndex, Option<bool>>,
}

impl XdpFeatures {
    /// Whether `interface` takes redirected frames. `None`: the kernel does not say.
    pub fn takes_redirects(&mut self, interface: IfIndex) -> Option<bool> {
        *self
            .known
            .entry(interface)
            .or_insert_with(|| takes_redirects(interface))
    }

    /// Asks again when next asked.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Whether the kernel would now say something else of an interface that it was asked of.
    #[must_use]
    pub fn changed(&self) -> bool {
        let mut known = self.known.iter();
        known.any(|(&interface, &said)| takes_redirects(interface) != said)
    }
}

fn takes_redirects(interface: IfIndex) -> Option<bool> {
    let features = Features::of(interface).ok()?;
    Some(features.takes_redirects())
}

/// The attribute `wanted` of an answer.
fn value(answer: &[u8], wanted: u16) -> io::Result<&[u8]> {
    let mut found = attributes(answer.get(HEADERS..).unwrap_or_default());
    let found = found.find(|&(kind, _)| kind == wanted);
    let (_, value) = found.ok_or(io::ErrorKind::InvalidData)?;
    Ok(value)
}

/// A socket of generic netlink, and the number that the family has got in this kernel.
struct Netdev {
    socket: Socket,
    family: u16,
}

impl Netdev {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let mut netdev = Self { socket, family: 0 };
        let name = (CTRL_ATTR_FAMILY_NAME, b"netdev\0".as_slice());
        let answer = netdev.ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, name)?;
        let id = value(&answer, CTRL_ATTR_FAMILY_ID)?.first_chunk();
        netdev.family = u16::from_ne_bytes(*id.ok_or(io::ErrorKind::InvalidData)?);
        Ok(netdev)
    }

    /// What `command` answers to one attribute.
    fn ask(
        &mut self,
        family: u16,
        command: u8,
        (kind, value): (u16, &[u8]),
    ) -> io::Result<Vec<u8>> {
        let attribute = 4 + value.len();
        let total = HEADERS + attribute.next_multiple_of(4);
        let size = |len: usize| u16::try_from(len).map_err(|_| io::ErrorKind::InvalidInput);
        let mut request = Vec::with_capacity(total);
        request.extend(u32::from(size(total)?).to_ne_bytes());
        request.extend(family.to_ne_bytes());
        request.extend(NLM_F_REQUEST.to_ne_bytes());
        // Sequence number and port: one question, one answer.
        request.extend([0; 8]);
        request.extend([command, 1, 0, 0]);
        request.extend(size(attribute)?.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(value);
        request.resize(total, 0);
        self.socket.send(&request, 0)?;

        let (answer, _) = self.socket.recv_from_full()?;
        let field = |at| answer.get(at..).and_then(<[u8]>::first_chunk::<2>);
        if field(4).is_none_or(|kind| u16::from_ne_bytes(*kind) == NLMSG_ERROR) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(answer)
    }
}
