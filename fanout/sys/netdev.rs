//! The ioctls of one network device (netdevice(7)).

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use super::{check, socket};

/// Of the type that libc gives ioctl(2): musl's is another than glibc's.
#[cfg(target_env = "musl")]
type Code = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Code = libc::c_ulong;

// Their constants have the type of neither, or of one.
#[allow(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::unnecessary_cast,
    reason = "0x89xx"
)]
mod code {
    use super::Code;

    pub(super) const SIOCGIFMTU: Code = libc::SIOCGIFMTU as Code;
    pub(super) const SIOCSIFMTU: Code = libc::SIOCSIFMTU as Code;
    pub(super) const SIOCETHTOOL: Code = libc::SIOCETHTOOL as Code;
}

/// The MTU of an interface.
///
/// # Errors
/// `ENODEV` if there is no such interface.
pub fn mtu(interface: &str) -> io::Result<u32> {
    let mut request = request(interface)?;
    // SAFETY: for this command the kernel writes the number in the union.
    unsafe { control(code::SIOCGIFMTU, &mut request) }?;
    // SAFETY: the kernel has just written this field; any bits are an integer.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Changes it. Some drivers take the link down and up for that. Needs `CAP_NET_ADMIN`.
///
/// # Errors
/// `EINVAL` if the driver does not take it, also because of an XDP program.
pub fn set_mtu(interface: &str, mtu: u32) -> io::Result<()> {
    let mut request = request(interface)?;
    let mtu = mtu.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    request.ifr_ifru.ifru_mtu = mtu;
    // SAFETY: for this command the kernel reads the number in the union.
    unsafe { control(code::SIOCSIFMTU, &mut request) }
}

/// A struct of `linux/ethtool.h`.
///
/// # Safety
/// Its first field is the number of an ethtool command, and the kernel reads and writes no more for that command
/// than the struct holds.
pub(super) unsafe trait Command {}

/// Has the kernel carry out an ethtool command.
pub(super) fn ethtool(interface: &str, command: &mut impl Command) -> io::Result<()> {
    let mut request = request(interface)?;
    request.ifr_ifru.ifru_data = (&raw mut *command).cast();
    // SAFETY: `ifru_data` points to what the command needs (`Command`), and it outlives the call.
    unsafe { control(code::SIOCETHTOOL, &mut request) }
}

fn request(interface: &str) -> io::Result<libc::ifreq> {
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
    Ok(request)
}

/// # Safety
/// `request` holds what the command `code` takes.
unsafe fn control(code: Code, request: &mut libc::ifreq) -> io::Result<()> {
    let any_socket = socket::open(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: the caller's word.
    check(unsafe { libc::ioctl(any_socket.as_fd().as_raw_fd(), code, &raw mut *request) })?;
    Ok(())
}
