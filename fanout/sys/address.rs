//! Socket addresses in the kernel's form.

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

/// An address of IPv4 or IPv6, or room for one.
#[derive(Clone, Copy)]
pub(super) struct SockAddr {
    address: Address,
    /// Of what `address` holds.
    pub(super) len: libc::socklen_t,
}

#[repr(C)]
#[derive(Clone, Copy)]
union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl fmt::Debug for SockAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

impl SockAddr {
    /// Bytes of the longest.
    pub(super) const ROOM: libc::socklen_t = length_of::<Address>();

    #[expect(
        clippy::cast_possible_truncation,
        reason = "address families are small"
    )]
    pub(super) fn new(address: SocketAddr) -> Self {
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
                len: length_of::<libc::sockaddr_in>(),
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
                len: length_of::<libc::sockaddr_in6>(),
            },
        }
    }

    /// Room for the kernel to write one.
    pub(super) fn room() -> Self {
        Self {
            len: Self::ROOM,
            ..Self::new(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0).into())
        }
    }

    /// What it holds, if that is of one of the two families.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        // SAFETY: `new` and `room` initialise as much; any bits are a sockaddr_in.
        let v4 = unsafe { self.address.v4 };
        match libc::c_int::from(v4.sin_family) {
            libc::AF_INET => {
                let ip = u32::from_be(v4.sin_addr.s_addr).into();
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: one of IPv6 is initialised as a whole, by `new`, or by `room` and the kernel.
                let v6 = unsafe { self.address.v6 };
                let ip = v6.sin6_addr.s6_addr.into();
                Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.address).cast()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        (&raw mut self.address).cast()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "addresses are small structs"
)]
const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}
