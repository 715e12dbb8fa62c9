//! Sockets for ICMP echo: icmp(7), raw(7). The standard library's type for whatever sends and receives datagrams
//! serves for them too. They don't block.

use std::{io, net::UdpSocket, os::fd::AsFd};

use super::socket::{self, Plain};

/// `linux/icmp.h`, `linux/icmpv6.h`; not in `libc` for Linux.
const SOL_RAW: libc::c_int = 255;
const ICMP_FILTER: libc::c_int = 1;
const ICMPV6_FILTER: libc::c_int = 1;
const ICMP_ECHOREPLY: u32 = 0;
const ICMPV6_ECHO_REPLY: usize = 129;

// SAFETY: integers.
unsafe impl Plain for [u32; 8] {}

/// An ICMP socket: it sends echo requests under an identifier of its own, and gets the replies to those. Takes a
/// group in the range of `net.ipv4.ping_group_range`, for IPv6 too.
///
/// # Errors
/// `EACCES` if the process has none.
pub fn ping(ipv6: bool) -> io::Result<UdpSocket> {
    let (family, protocol) = ends(ipv6);
    let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK;
    Ok(socket::open(family, kind, protocol)?.into())
}

/// A raw socket that gets every process's echo replies, those of IPv4 behind their IP headers. Needs `CAP_NET_RAW`.
///
/// # Errors
/// `EPERM`.
pub fn raw(ipv6: bool) -> io::Result<UdpSocket> {
    let (family, protocol) = ends(ipv6);
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK;
    let fd = socket::open(family, kind, protocol)?;
    // Set bits are types that stay out.
    if ipv6 {
        let mut filter = [u32::MAX; 8];
        filter[ICMPV6_ECHO_REPLY / 32] &= !(1 << (ICMPV6_ECHO_REPLY % 32));
        socket::set(fd.as_fd(), libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &filter)?;
    } else {
        let filter = !(1u32 << ICMP_ECHOREPLY);
        socket::set(fd.as_fd(), SOL_RAW, ICMP_FILTER, &filter)?;
    }
    Ok(fd.into())
}

fn ends(ipv6: bool) -> (libc::c_int, libc::c_int) {
    if ipv6 {
        (libc::AF_INET6, libc::IPPROTO_ICMPV6)
    } else {
        (libc::AF_INET, libc::IPPROTO_ICMP)
    }
}
