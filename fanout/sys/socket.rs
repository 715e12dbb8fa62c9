//! Sockets of any family: options, waiting, raw IP.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use super::{address::SockAddr, check};

/// A type that setsockopt(2) and getsockopt(2) may read and write as bytes.
///
/// # Safety
/// Implementors have no padding and no invalid bit pattern.
pub(super) unsafe trait Plain: Copy {}
// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for libc::c_int {}
// SAFETY: eight u32 and u64 in 32 bytes (asserted where it is used): no padding.
unsafe impl Plain for libc::xdp_umem_reg {}
// SAFETY: sixteen u64.
unsafe impl Plain for libc::xdp_mmap_offsets {}
// SAFETY: six u64.
unsafe impl Plain for libc::xdp_statistics {}

/// A new socket, close-on-exec.
pub(super) fn open(
    family: libc::c_int,
    kind: libc::c_int,
    protocol: libc::c_int,
) -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel has just made `fd`; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// setsockopt(2).
pub(super) fn set<T: Plain>(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "options are small structs")]
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is `len` readable bytes without padding (`Plain`).
    check(unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const *value).cast(), len)
    })?;
    Ok(())
}

/// getsockopt(2); an answer shorter than `T` is `EINVAL`.
pub(super) fn get<T: Plain>(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    #[expect(clippy::cast_possible_truncation, reason = "options are small structs")]
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is `len` writable bytes.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    if (len as usize) < size_of::<T>() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: zeroed, then written by the kernel; every bit pattern is valid (`Plain`).
    Ok(unsafe { value.assume_init() })
}

/// Waits until one of `fds` can be read, or for `timeout`. Says which can.
///
/// # Errors
/// As poll(2); a signal is not an error but an empty answer.
pub fn wait_readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    timeout: Duration,
) -> io::Result<[bool; N]> {
    let mut entries = fds.map(entry);
    poll(&mut entries, timeout)?;
    Ok(entries.map(|entry| entry.revents != 0))
}

/// File descriptors to wait for together, however many.
#[derive(Debug)]
pub struct PollSet(Vec<libc::pollfd>);

impl PollSet {
    /// Of these, which should stay open as long as it is used.
    #[must_use]
    pub fn new<'f>(fds: impl Iterator<Item = BorrowedFd<'f>>) -> Self {
        Self(fds.map(entry).collect())
    }

    /// Waits until one can be read, or for `timeout`. Says of each, in their order, whether it can.
    ///
    /// # Errors
    /// As [`wait_readable`].
    pub fn wait(&mut self, timeout: Duration) -> io::Result<impl Iterator<Item = bool>> {
        poll(&mut self.0, timeout)?;
        Ok(self.0.iter().map(|entry| entry.revents != 0))
    }
}

fn entry(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    }
}

fn poll(entries: &mut [libc::pollfd], timeout: Duration) -> io::Result<()> {
    // Rounded up, so that a short wait is not a spin.
    let milliseconds = timeout
        .as_nanos()
        .div_ceil(1_000_000)
        .try_into()
        .unwrap_or(libc::c_int::MAX);
    let (first, count) = (entries.as_mut_ptr(), entries.len() as libc::nfds_t);
    // SAFETY: `entries` is an array of `count` pollfd.
    match check(unsafe { libc::poll(first, count, milliseconds) }) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {
            for entry in entries {
                entry.revents = 0;
            }
            Ok(())
        }
        Err(e) => Err(e),
    }
}

/// A raw socket whose sender writes the IP header itself (`IP_HDRINCL`, raw(7)); the kernel routes.
/// Needs `CAP_NET_RAW`.
///
/// # Errors
/// As socket(2).
pub fn raw_ip(ipv6: bool) -> io::Result<OwnedFd> {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    // IPPROTO_RAW implies IP_HDRINCL for IPv4 and, since Linux 4.5, IPV6_HDRINCL for IPv6.
    open(
        family,
        libc::SOCK_RAW | libc::SOCK_NONBLOCK,
        libc::IPPROTO_RAW,
    )
}

/// Sends each packet to its address, in order, in one system call.
///
/// # Errors
/// That of the first packet, if it can't be sent; else how many were sent.
pub fn send_packets<const N: usize>(
    fd: BorrowedFd<'_>,
    packets: &heapless::Vec<(&[u8], IpAddr), N>,
) -> io::Result<usize> {
    // None of the pushes can fail: `packets` holds N at most.
    let mut addresses: heapless::Vec<SockAddr, N> = heapless::Vec::new();
    let mut buffers: heapless::Vec<libc::iovec, N> = heapless::Vec::new();
    for (bytes, to) in packets {
        let _ = addresses.push(SockAddr::new(SocketAddr::new(*to, 0)));
        let _ = buffers.push(libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        });
    }
    let mut messages: heapless::Vec<libc::mmsghdr, N> = heapless::Vec::new();
    for (address, buffer) in addresses.iter_mut().zip(&mut buffers) {
        let mut header = message(buffer, 1);
        header.msg_name = address.as_mut_ptr();
        header.msg_namelen = address.len;
        let _ = messages.push(libc::mmsghdr {
            msg_hdr: header,
            msg_len: 0,
        });
    }
    // Not libc's function: musl's sends one message a call.
    // SAFETY: each of the messages points to one address and one iovec above, which live until the
    // call returns; the kernel only reads what they point to.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_sendmmsg,
            fd.as_raw_fd(),
            messages.as_mut_ptr(),
            messages.len(),
            libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// A message of `parts` pieces, to wherever the socket is connected to.
pub(super) fn message(first: *mut libc::iovec, parts: usize) -> libc::msghdr {
    // SAFETY: a msghdr is integers and pointers; zero is valid for each (and for musl's padding,
    // which the kernel reads as the upper half of a length).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = first;
    message.msg_iovlen = parts as _;
    message
}
