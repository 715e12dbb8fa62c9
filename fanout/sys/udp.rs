//! UDP sockets and their options: udp(7), socket(7).

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use super::{
    address::SockAddr,
    check,
    socket::{self, Plain},
};

/// `linux/udp.h`; not in `libc` for Linux.
pub(super) const UDP_SEGMENT: libc::c_int = 103;
pub(super) const UDP_GRO: libc::c_int = 104;

// SAFETY: bytes.
unsafe impl Plain for [u8; libc::IFNAMSIZ] {}
// SAFETY: integers.
unsafe impl Plain for [u32; MEMINFO] {}

/// Words of `SO_MEMINFO` (`linux/sock_diag.h`), the last of which is wanted.
const MEMINFO: usize = libc::SK_MEMINFO_DROPS as usize + 1;

/// A UDP socket that takes one address family, not bound.
///
/// # Errors
/// As socket(2).
pub fn open(ipv6: bool) -> io::Result<OwnedFd> {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    let fd = socket::open(family, libc::SOCK_DGRAM, 0)?;
    if ipv6 {
        let yes: libc::c_int = 1;
        socket::set(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &yes)?;
    }
    Ok(fd)
}

/// bind(2).
///
/// # Errors
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`.
pub fn bind(fd: BorrowedFd<'_>, to: SocketAddr) -> io::Result<()> {
    let to = SockAddr::new(to);
    // SAFETY: `to` holds an address of its length.
    check(unsafe { libc::bind(fd.as_raw_fd(), to.as_ptr(), to.len) })?;
    Ok(())
}

/// connect(2), for a datagram or raw socket: where it sends.
///
/// # Errors
/// `ENETUNREACH` and others if there is no route.
pub fn connect(fd: BorrowedFd<'_>, to: SocketAddr) -> io::Result<()> {
    let to = SockAddr::new(to);
    // SAFETY: `to` holds an address of its length.
    check(unsafe { libc::connect(fd.as_raw_fd(), to.as_ptr(), to.len) })?;
    Ok(())
}

/// Lets other sockets of this user bind the same address and port, and share what comes.
///
/// # Errors
/// As setsockopt(2).
pub fn share_port(fd: BorrowedFd<'_>) -> io::Result<()> {
    let yes: libc::c_int = 1;
    socket::set(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, &yes)
}

/// Takes only what comes by one interface. Needs `CAP_NET_RAW` before Linux 5.7.
///
/// # Errors
/// `ENODEV` if there is no such interface.
pub fn bind_to_interface(fd: BorrowedFd<'_>, interface: &str) -> io::Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from;
    }
    socket::set(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &name)
}

/// Gives the socket room for `bytes` of what was received and not read. False if the host allows less
/// (`net.core.rmem_max`), which it then has.
///
/// # Errors
/// As setsockopt(2).
pub fn make_receive_room(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<bool> {
    make_room(fd, bytes, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF)
}

/// The same for what is sent and has not left yet (`net.core.wmem_max`).
///
/// # Errors
/// As setsockopt(2).
pub fn make_send_room(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<bool> {
    make_room(fd, bytes, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)
}

fn make_room(
    fd: BorrowedFd<'_>,
    bytes: u32,
    force: libc::c_int,
    ask: libc::c_int,
) -> io::Result<bool> {
    if socket::set(fd, libc::SOL_SOCKET, force, &bytes).is_ok() {
        return Ok(true);
    }
    socket::set(fd, libc::SOL_SOCKET, ask, &bytes)?;
    // The kernel keeps books of twice as much.
    let granted: u32 = socket::get(fd, libc::SOL_SOCKET, ask)?;
    Ok(granted / 2 >= bytes)
}

/// How long a call that sends waits for room.
///
/// # Errors
/// As setsockopt(2).
pub fn limit_send_wait(fd: BorrowedFd<'_>, milliseconds: u32) -> io::Result<()> {
    let wait = libc::timeval {
        tv_sec: 0,
        tv_usec: (milliseconds * 1000).into(),
    };
    socket::set(fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &wait)
}
// SAFETY: two integers of the same size.
unsafe impl Plain for libc::timeval {}

/// Has the kernel hand over datagrams of one flow and one size as one message.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 5.0.
pub fn merge_received(fd: BorrowedFd<'_>) -> io::Result<()> {
    let yes: libc::c_int = 1;
    socket::set(fd, libc::SOL_UDP, UDP_GRO, &yes)
}

/// Keeps what is answered to the datagrams sent (ICMP) for [`answers`]; else a call that sends several
/// can lose it.
///
/// # Errors
/// As setsockopt(2).
pub fn keep_answers(fd: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    let yes: libc::c_int = 1;
    let (level, name) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
    } else {
        (libc::IPPROTO_IP, libc::IP_RECVERR)
    };
    socket::set(fd, level, name, &yes)
}

/// Takes the answers that came, as errors, each with the address that the datagram went to.
pub fn answers(fd: BorrowedFd<'_>) -> impl Iterator<Item = (Option<SocketAddr>, io::Error)> {
    std::iter::from_fn(move || next_answer(fd).ok())
}

/// A control message of `IP_RECVERR` or `IPV6_RECVERR` (ip(7)).
#[repr(C, align(8))]
struct Answer {
    header: libc::cmsghdr,
    error: libc::sock_extended_err,
    offender: libc::sockaddr_in6,
}

fn next_answer(fd: BorrowedFd<'_>) -> io::Result<(Option<SocketAddr>, io::Error)> {
    // SAFETY: integers; zero is valid.
    let mut answer: Answer = unsafe { std::mem::zeroed() };
    let mut to = SockAddr::room();
    let mut message = socket::message(std::ptr::null_mut(), 0);
    message.msg_name = to.as_mut_ptr();
    message.msg_namelen = to.len;
    message.msg_control = (&raw mut answer).cast();
    message.msg_controllen = size_of::<Answer>() as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: `message` points to an answer and an address of the lengths given, and to no buffer.
    let received = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    let error = io::Error::from_raw_os_error(answer.error.ee_errno.cast_signed());
    Ok((to.address(), error))
}

/// Whether messages with a `segment` can be sent.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 4.18.
pub fn can_segment(fd: BorrowedFd<'_>) -> io::Result<()> {
    socket::get::<libc::c_int>(fd, libc::SOL_UDP, UDP_SEGMENT).map(drop)
}

/// How many messages the kernel could not put into the socket, modulo 2³²: what `SO_RXQ_OVFL` adds to
/// the messages that follow, and here to be had when none follow. A merged message counts as one.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 4.12.
pub fn dropped(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let words: [u32; MEMINFO] = socket::get(fd, libc::SOL_SOCKET, libc::SO_MEMINFO)?;
    let [.., drops] = words;
    Ok(drops)
}
