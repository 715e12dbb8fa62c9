//! Sockets of any family: options, waiting, raw IP.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use super::check;

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
    let mut entries = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    // Rounded up, so that a short wait is not a spin.
    let milliseconds = timeout
        .as_nanos()
        .div_ceil(1_000_000)
        .try_into()
        .unwrap_or(libc::c_int::MAX);
    // SAFETY: `entries` is an array of N pollfd.
    let result = unsafe { libc::poll(entries.as_mut_ptr(), N as libc::nfds_t, milliseconds) };
    match check(result) {
        Ok(_) => Ok(entries.map(|entry| entry.revents != 0)),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
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
        let _ = messages.push(libc::mmsghdr {
            msg_hdr: message(address, buffer),
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

fn message(address: &mut SockAddr, buffer: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: a msghdr is integers and pointers; zero is valid for each (and for musl's padding,
    // which the kernel reads as the upper half of a length).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut address.address).cast();
    message.msg_namelen = address.len;
    message.msg_iov = buffer;
    message.msg_iovlen = 1;
    message
}

/// A socket address in the kernel's form.
struct SockAddr {
    address: Address,
    len: libc::socklen_t,
}

#[repr(C)]
union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl SockAddr {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "address families and sizes are small"
    )]
    fn new(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self {
                address: Address {
                    v4: libc::sockaddr_in {
                        sin_family: libc::AF_INET as libc::sa_family_t,
                        sin_port: v4.port().to_be(),
                        sin_addr: libc::in_addr {
                            s_addr: u32::from(*v4.ip()).to_be(),
                        },
                        sin_zero: [0; 8],
                    },
                },
                len: size_of::<libc::sockaddr_in>() as libc::socklen_t,
            },
            SocketAddr::V6(v6) => Self {
                address: Address {
                    v6: libc::sockaddr_in6 {
                        sin6_family: libc::AF_INET6 as libc::sa_family_t,
                        sin6_port: v6.port().to_be(),
                        sin6_flowinfo: v6.flowinfo(),
                        sin6_addr: libc::in6_addr {
                            s6_addr: v6.ip().octets(),
                        },
                        sin6_scope_id: v6.scope_id(),
                    },
                },
                len: size_of::<libc::sockaddr_in6>() as libc::socklen_t,
            },
        }
    }
}
