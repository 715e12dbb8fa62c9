//! Which interfaces take frames that an XDP program redirects to them: generic netlink's family `netdev`
//! (Linux 6.3, `Documentation/netlink/specs/netdev.yaml`).

use std::{collections::HashMap, io};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

use crate::{link::IfIndex, netlink::attributes};

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
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;

/// `struct nlmsghdr` and `struct genlmsghdr`.
const HEADERS: usize = 16 + 4;

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
            .or_insert_with(|| ask(interface).ok())
    }

    /// Asks again when next asked.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Whether the kernel would now say something else of an interface that it was asked of.
    #[must_use]
    pub fn changed(&self) -> bool {
        let mut known = self.known.iter();
        known.any(|(&interface, &said)| ask(interface).ok() != said)
    }
}

fn ask(interface: IfIndex) -> io::Result<bool> {
    let mut netdev = Netdev::open()?;
    let features = netdev.get(
        netdev.family,
        NETDEV_CMD_DEV_GET,
        (NETDEV_A_DEV_IFINDEX, &interface.0.to_ne_bytes()),
        NETDEV_A_DEV_XDP_FEATURES,
    )?;
    let features: [u8; 8] = features
        .try_into()
        .map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(u64::from_ne_bytes(features) & NETDEV_XDP_ACT_NDO_XMIT != 0)
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
        let id = netdev.get(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, name, CTRL_ATTR_FAMILY_ID)?;
        let id: [u8; 2] = id.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        netdev.family = u16::from_ne_bytes(id);
        Ok(netdev)
    }

    /// The attribute `wanted` of what `command` answers to one attribute.
    fn get(
        &mut self,
        family: u16,
        command: u8,
        (kind, value): (u16, &[u8]),
        wanted: u16,
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
        let mut found = attributes(answer.get(HEADERS..).unwrap_or_default());
        let found = found.find(|&(kind, _)| kind == wanted);
        let (_, value) = found.ok_or(io::ErrorKind::InvalidData)?;
        Ok(value.to_vec())
    }
}
