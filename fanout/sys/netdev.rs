//! The ethtool ioctl (`linux/ethtool.h`, ethtool(8)).

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use super::{check, socket};

const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_channels`: how many queues a device may have and has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
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

/// The channels of an interface.
///
/// # Errors
/// `EOPNOTSUPP` if its driver has none to speak of, `ENODEV` if there is no such interface.
pub fn channels(interface: &str) -> io::Result<Channels> {
    let mut channels = Channels {
        cmd: ETHTOOL_GCHANNELS,
        ..Channels::default()
    };
    // SAFETY: an ifreq is integers, bytes and a union of those and a pointer; zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte less than there is room for, so that it ends in 0.
    let room = request.ifr_name.len() - 1;
    if interface.len() > room {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    let any_socket = socket::open(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    #[allow(
        clippy::cast_possible_wrap,
        clippy::cast_possible_truncation,
        reason = "musl's type differs"
    )]
    let code = libc::SIOCETHTOOL as _;
    // SAFETY: for this command the kernel writes a struct ethtool_channels to `ifru_data`.
    check(unsafe { libc::ioctl(any_socket.as_fd().as_raw_fd(), code, &raw mut request) })?;
    Ok(channels)
}
