//! What ethtool(8) does by its ioctl (`linux/ethtool.h`).

use std::io;

use super::netdev::{Command, ethtool};

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
