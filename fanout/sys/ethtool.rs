//! What ethtool(8) does by its ioctl (`linux/ethtool.h`).

use std::io;

use super::netdev::{Command, ethtool};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GRXFH: u32 = 0x29;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_SCHANNELS: u32 = 0x3d;

/// `struct ethtool_channels`: how many queues a device may have and has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    cmd: u32,
    /// Most that only receive.
    pub max_rx: u32,
    /// Most that only transmit.
    pub max_tx: u32,
    /// Most of other kinds.
    pub max_other: u32,
    /// Most that do both.
    pub max_combined: u32,
    /// Those that only receive, now.
    pub rx_count: u32,
    /// Those that only transmit, now.
    pub tx_count: u32,
    /// Those of other kinds, now.
    pub other_count: u32,
    /// Those that do both, now.
    pub combined_count: u32,
}
const _: () = assert!(size_of::<Channels>() == 36);
// SAFETY: the struct of these two commands.
unsafe impl Command for Channels {}

impl Channels {
    /// How many receive.
    #[must_use]
    pub fn receiving(&self) -> u32 {
        self.rx_count + self.combined_count
    }

    /// How many can be made to receive.
    #[must_use]
    pub fn max_receiving(&self) -> u32 {
        if self.max_combined > 0 {
            self.max_combined
        } else {
            self.max_rx
        }
    }

    /// The same device with `count` that receive and as many that transmit.
    #[must_use]
    pub fn with(mut self, count: u32) -> Self {
        if self.max_combined > 0 {
            self.combined_count = count;
            (self.rx_count, self.tx_count) = (0, 0);
        } else {
            (self.rx_count, self.tx_count) = (count, count);
        }
        self
    }
}

/// The channels of an interface.
///
/// # Errors
/// `EOPNOTSUPP` if its driver has none to speak of, `ENODEV` if there is no such interface.
pub fn channels(interface: &str) -> io::Result<Channels> {
    let mut channels = Channels {
        cmd: ETHTOOL_GCHANNELS,
        ..Channels::default()
    };
    ethtool(interface, &mut channels)?;
    Ok(channels)
}

/// Changes their numbers. Many drivers take the link down and up for that. Needs `CAP_NET_ADMIN`.
///
/// # Errors
/// `EINVAL` for more than there can be, or fewer than AF_XDP sockets or an XDP program need.
pub fn set_channels(interface: &str, channels: Channels) -> io::Result<()> {
    let mut channels = Channels {
        cmd: ETHTOOL_SCHANNELS,
        ..channels
    };
    ethtool(interface, &mut channels)
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    rest: [u8; 128],
}
const _: () = assert!(size_of::<DriverInfo>() == 196);
// SAFETY: the struct of this command.
unsafe impl Command for DriverInfo {}

/// The name and the version of an interface's driver. One that comes with the kernel has the kernel's version.
///
/// # Errors
/// `EOPNOTSUPP` if it does not say.
pub fn driver(interface: &str) -> io::Result<(String, String)> {
    let mut info = DriverInfo {
        cmd: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        version: [0; 32],
        rest: [0; 128],
    };
    ethtool(interface, &mut info)?;
    Ok((text(&info.driver), text(&info.version)))
}

/// `struct ethtool_rxnfc`, as far as this command uses it.
#[repr(C)]
struct RxFlowHash {
    cmd: u32,
    flow_type: u32,
    data: u64,
    rest: [u64; 22],
}
const _: () = assert!(size_of::<RxFlowHash>() == 192);
// SAFETY: the struct of this command.
unsafe impl Command for RxFlowHash {}

/// What a card chooses the queue of, in a way for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Flow {
    /// UDP over IPv4 (`UDP_V4_FLOW`).
    Udp4 = 0x02,
    /// UDP over IPv6 (`UDP_V6_FLOW`).
    Udp6 = 0x06,
}

impl Flow {
    /// ethtool(8)'s word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp4 => "udp4",
            Self::Udp6 => "udp6",
        }
    }
}

/// Whether the ports of `flow` have a say in which queue a datagram comes by.
///
/// # Errors
/// `EOPNOTSUPP` if the driver does not say, `Unsupported` if it says that nothing has a say.
pub fn hashes_ports(interface: &str, flow: Flow) -> io::Result<bool> {
    /// `RXH_L4_B_0_1` and `RXH_L4_B_2_3`.
    const PORTS: u64 = 1 << 6 | 1 << 7;
    let mut hash = RxFlowHash {
        cmd: ETHTOOL_GRXFH,
        flow_type: flow as u32,
        data: 0,
        rest: [0; 22],
    };
    ethtool(interface, &mut hash)?;
    // virtio_net without RSS of its own: the host chooses, by what it likes.
    if hash.data == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(hash.data & PORTS == PORTS)
}

/// Offloads that there is room for: more than kernels have.
const MAX_FEATURES: usize = 256;
const ETH_GSTRING_LEN: usize = 32;
/// The set of strings that are the names of offloads.
const ETH_SS_FEATURES: u32 = 4;

/// `struct ethtool_sset_info` for one set.
#[repr(C)]
struct SetInfo {
    cmd: u32,
    reserved: u32,
    mask: u64,
    count: [u32; 2],
}
const _: () = assert!(size_of::<SetInfo>() == 24);
// SAFETY: the struct of this command; it answers with one number for each bit of the mask.
unsafe impl Command for SetInfo {}

/// `struct ethtool_gstrings`.
#[repr(C)]
struct Strings {
    cmd: u32,
    set: u32,
    len: u32,
    data: [[u8; ETH_GSTRING_LEN]; MAX_FEATURES],
}
// SAFETY: the struct of this command, made only where the set has no more strings than it has room for.
unsafe impl Command for Strings {}

/// `struct ethtool_get_features_block`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FeatureBits {
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}

/// `struct ethtool_gfeatures`.
#[repr(C)]
struct Features {
    cmd: u32,
    size: u32,
    blocks: [FeatureBits; MAX_FEATURES / 32],
}
const _: () = assert!(size_of::<Features>() == 8 + MAX_FEATURES / 8 * 4);
// SAFETY: the struct of this command, which fills at most `size` blocks.
unsafe impl Command for Features {}

/// An offload of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// Whether it is on.
    pub on: bool,
    /// Whether nobody can change that.
    pub fixed: bool,
}

/// The offloads called `names` (`ethtool -k`); `None`: this kernel has none of that name.
///
/// # Errors
/// Those of the ioctl.
pub fn offloads<const N: usize>(
    interface: &str,
    names: [&str; N],
) -> io::Result<[Option<Offload>; N]> {
    let mut info = SetInfo {
        cmd: ETHTOOL_GSSET_INFO,
        reserved: 0,
        mask: 1 << ETH_SS_FEATURES,
        count: [0; 2],
    };
    ethtool(interface, &mut info)?;
    let [count, _] = info.count;
    if count as usize > MAX_FEATURES {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut strings = Strings {
        cmd: ETHTOOL_GSTRINGS,
        set: ETH_SS_FEATURES,
        len: count,
        data: [[0; ETH_GSTRING_LEN]; MAX_FEATURES],
    };
    ethtool(interface, &mut strings)?;
    let mut features = Features {
        cmd: ETHTOOL_GFEATURES,
        size: count.div_ceil(32),
        blocks: [FeatureBits::default(); MAX_FEATURES / 32],
    };
    ethtool(interface, &mut features)?;
    Ok(names.map(|name| {
        let place = strings.data.iter().position(|data| text(data) == name)?;
        let block = features.blocks.get(place / 32)?;
        let has = |bits: u32| bits & 1 << (place % 32) != 0;
        Some(Offload {
            on: has(block.active),
            fixed: !has(block.available) || has(block.never_changed),
        })
    }))
}

/// What stands before the first zero.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
