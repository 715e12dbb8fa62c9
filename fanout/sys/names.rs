//! Host names: getaddrinfo(3), which reads `/etc/hosts` and `/etc/resolv.conf` each time and blocks for as long
//! as their options say.

use std::{
    ffi::CStr,
    fmt, io,
    net::{IpAddr, SocketAddr},
    ptr,
};

use super::address::SockAddr;

// `netdb.h`, the same in glibc and musl; not in `libc` for Linux.
const EAI_NONAME: libc::c_int = -2;
const EAI_AGAIN: libc::c_int = -3;
const EAI_FAIL: libc::c_int = -4;
const EAI_NODATA: libc::c_int = -5;
const EAI_ADDRFAMILY: libc::c_int = -9;
const EAI_SYSTEM: libc::c_int = -11;

/// Why a look-up found no address.
#[derive(Debug)]
pub enum NoAddress {
    /// That was the answer: there is no such name, or it has no address of this family.
    None,
    /// No server answered, or one said that it can't now.
    NoAnswer,
    /// A server refused.
    Refused,
    /// A system call failed.
    Io(io::Error),
    /// libc's number for anything else.
    Other(libc::c_int),
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no such name, or none of its addresses is of this family"),
            Self::NoAnswer => f.write_str("no DNS server has an answer now"),
            Self::Refused => f.write_str("the DNS server refuses to answer"),
            Self::Io(error) => error.fmt(f),
            Self::Other(code) => write!(f, "getaddrinfo error {code}"),
        }
    }
}

/// What a list that getaddrinfo made is held by, to be freed.
struct Answers(*mut libc::addrinfo);

impl Drop for Answers {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: getaddrinfo made it, and nobody else frees it.
            unsafe { libc::freeaddrinfo(self.0) };
        }
    }
}

/// The addresses of `host`, all of one family, in libc's order. Blocks.
///
/// # Errors
/// See [`NoAddress`].
pub fn look_up(host: &CStr, ipv6: bool) -> Result<Vec<IpAddr>, NoAddress> {
    // SAFETY: integers and pointers; zero is valid.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    // Or each address comes once for each kind of socket.
    hints.ai_socktype = libc::SOCK_DGRAM;
    let mut answers = Answers(ptr::null_mut());
    // SAFETY: `host` is a C string, `hints` a whole addrinfo to read, and the list is `answers`' to free.
    let code = unsafe {
        libc::getaddrinfo(
            host.as_ptr(),
            ptr::null(),
            &raw const hints,
            &raw mut answers.0,
        )
    };
    match code {
        0 => Ok(addresses(&answers)),
        EAI_NONAME | EAI_NODATA | EAI_ADDRFAMILY => Err(NoAddress::None),
        EAI_AGAIN => Err(NoAddress::NoAnswer),
        EAI_FAIL => Err(NoAddress::Refused),
        EAI_SYSTEM => Err(NoAddress::Io(io::Error::last_os_error())),
        other => Err(NoAddress::Other(other)),
    }
}

fn addresses(answers: &Answers) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut next = answers.0;
    while !next.is_null() {
        // SAFETY: a node of the list, which is not freed before `answers` is.
        let node = unsafe { next.read() };
        let mut address = SockAddr::room();
        let len = node.ai_addrlen.min(SockAddr::ROOM) as usize;
        let to = address.as_mut_ptr().cast::<u8>();
        // SAFETY: the node's address is at least `len` bytes, and so is the room for it.
        unsafe { ptr::copy_nonoverlapping(node.ai_addr.cast::<u8>(), to, len) };
        found.extend(address.address().as_ref().map(SocketAddr::ip));
        next = node.ai_next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_names_too() {
        let found = look_up(c"192.0.2.7", false).unwrap();
        assert_eq!(found, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        let found = look_up(c"fd00::7", true).unwrap();
        assert_eq!(found, ["fd00::7".parse::<IpAddr>().unwrap()]);
    }

    /// Nobody has to be asked for that.
    #[test]
    fn none_of_this_family() {
        for (host, ipv6) in [(c"192.0.2.7", true), (c"fd00::7", false)] {
            let found = look_up(host, ipv6);
            assert!(matches!(found, Err(NoAddress::None)), "{found:?}");
        }
    }
}
