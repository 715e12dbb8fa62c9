//! What drivers ask for before they take an XDP program that does not know of fragments, as fanout's doesn't.
//!
//! From the drivers' sources of Linux 5.10 to 6.18, and the ENA driver's own releases.

use crate::facts::interface::Interface;

/// What is known of a driver.
#[derive(Debug)]
pub struct Driver {
    /// Its name, as `ethtool -i` shows it.
    pub name: &'static str,
    /// The largest MTU with a program; `None`: not known.
    pub max_mtu: Option<u32>,
    /// How many channels may be in use.
    pub channels: Channels,
    /// Whether it refuses while `lro` or `rx-gro-hw` is on; others turn them off themselves.
    pub merging: Merging,
    /// The network that drops packets whose source address is not the sender's own, and what stops it.
    pub checks_sources: Option<(&'static str, &'static str)>,
}

/// How many channels a driver may use with a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// All.
    Any,
    /// At most half of its maximum, until this version of the driver, where that is not the kernel's.
    Half((u32, u32)),
    /// All; but it adds one for each CPU if it can have as many, and takes them away with the program.
    Added,
}

/// What becomes of a program while the card merges packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merging {
    /// It is taken.
    Fine,
    /// It is refused.
    Refused,
    /// It is refused if the card can't be told to stop.
    RefusedIfFixed,
}

static NONE: Driver = UNKNOWN;
const UNKNOWN: Driver = Driver {
    name: "",
    max_mtu: None,
    channels: Channels::Any,
    merging: Merging::Fine,
    checks_sources: None,
};

/// A page without headroom (256) and `skb_shared_info` (320).
const PAGE: u32 = 4096 - 256 - 320;
/// The header of a frame, a tag, the frame check sequence.
const ETH_HLEN: u32 = 14;
const VLAN_HLEN: u32 = 4;
const ETH_FCS_LEN: u32 = 4;
/// The Intel drivers' larger buffers hold 3072 bytes, with two tags.
const INTEL: Driver = Driver {
    max_mtu: Some(3072 - ETH_HLEN - ETH_FCS_LEN - 2 * VLAN_HLEN),
    ..UNKNOWN
};

/// One entry a driver.
pub static DRIVERS: [Driver; 9] = [
    Driver {
        name: "ena",
        // ENA_XDP_MAX_MTU, ena_xdp_legal_queue_count
        max_mtu: Some(PAGE - ETH_HLEN - ETH_FCS_LEN - VLAN_HLEN),
        channels: Channels::Half((2, 17)),
        checks_sources: Some(("AWS", "the instance's source/destination check is off")),
        ..UNKNOWN
    },
    Driver {
        name: "virtio_net",
        // virtnet_xdp_set
        max_mtu: Some(PAGE - ETH_HLEN),
        channels: Channels::Added,
        merging: Merging::RefusedIfFixed,
        ..UNKNOWN
    },
    Driver {
        name: "mlx5_core",
        // mlx5e_xdp_max_mtu, mlx5e_xdp_allowed
        max_mtu: Some(PAGE - ETH_HLEN - ETH_FCS_LEN - VLAN_HLEN),
        merging: Merging::Refused,
        ..UNKNOWN
    },
    Driver {
        name: "ixgbe",
        // ixgbe_max_xdp_frame_size, ixgbe_xdp_setup
        merging: Merging::Refused,
        ..INTEL
    },
    Driver {
        name: "i40e",
        ..INTEL
    },
    Driver {
        name: "ice",
        ..INTEL
    },
    Driver {
        name: "igb",
        ..INTEL
    },
    Driver {
        name: "hv_netvsc",
        checks_sources: Some(("Azure", "IP forwarding is on for the network interface")),
        ..UNKNOWN
    },
    Driver {
        name: "gve",
        checks_sources: Some(("Google Cloud", "the instance may forward (canIpForward)")),
        ..UNKNOWN
    },
];

/// The most that the other end of a veth may send (`veth_xdp_set`).
pub const VETH_PEER_MTU: u32 = PAGE - ETH_HLEN;

/// The modes in which a bond takes a program natively (`bond_xdp_check`): balance-rr, active-backup, balance-xor
/// and 802.3ad.
pub const BOND_MODES: [u8; 4] = [0, 1, 2, 4];

/// What is known of the driver called `name`.
#[must_use]
pub fn named(name: &str) -> &'static Driver {
    let mut known = DRIVERS.iter();
    known.find(|driver| driver.name == name).unwrap_or(&NONE)
}

impl Driver {
    /// The most channels that `interface` may use, if that is less than it can.
    #[must_use]
    pub fn most_channels(&self, interface: &Interface) -> Option<u32> {
        let Channels::Half(until) = self.channels else {
            return None;
        };
        // A driver that came with the kernel has the kernel's version, which is greater.
        let version = version(&interface.version);
        let is_lifted = version.0 == until.0 && version >= until;
        let max = interface.channels?.max_receiving();
        (!is_lifted).then_some((max / 2).max(1))
    }

    /// How many channels `interface` would have with those that are added for a program; `None`: none are.
    #[must_use]
    pub fn with_added_channels(&self, interface: &Interface) -> Option<u32> {
        let max = interface.channels?.max_receiving();
        let with = interface.planned_queues() + interface.cpus;
        (self.channels == Channels::Added && with <= max).then_some(with)
    }

    /// Whether `interface` can't have those channels, which it should.
    #[must_use]
    pub fn lacks_channels(&self, interface: &Interface) -> bool {
        let adds = self.channels == Channels::Added && interface.channels.is_some();
        adds && self.with_added_channels(interface).is_none()
    }
}

/// Major and minor: `2.13.0g` is (2, 13).
pub(super) fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    (number(), number())
}
