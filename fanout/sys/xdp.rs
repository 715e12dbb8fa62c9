//! The calls that AF_XDP sockets need: `linux/if_xdp.h`, `Documentation/networking/af_xdp.rst`.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use super::{check, socket};

pub use libc::{xdp_desc, xdp_mmap_offsets, xdp_statistics};

/// Descriptors that one `sendto` sends in copy mode (Linux 6.17); not in `libc` yet.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

const _: () = assert!(size_of::<libc::xdp_umem_reg>() == 32);
const _: () = assert!(size_of::<libc::sockaddr_xdp>() == 16);
const _: () = assert!(size_of::<xdp_desc>() == 16);
const _: () = assert!(size_of::<xdp_mmap_offsets>() == 128);
const _: () = assert!(size_of::<xdp_statistics>() == 48);

/// One of a socket's four rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// User space hands free frames to the kernel.
    Fill,
    /// The kernel hands sent frames back.
    Completion,
    /// The kernel hands received frames over.
    Rx,
    /// User space hands frames to send over.
    Tx,
}

impl Ring {
    /// Where `mmap` finds it.
    #[must_use]
    pub const fn page_offset(self) -> libc::off_t {
        #[expect(clippy::cast_possible_wrap, reason = "0x1_8000_0000 at most")]
        match self {
            Self::Fill => libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t,
            Self::Completion => libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t,
            Self::Rx => libc::XDP_PGOFF_RX_RING,
            Self::Tx => libc::XDP_PGOFF_TX_RING,
        }
    }

    const fn option(self) -> libc::c_int {
        match self {
            Self::Fill => libc::XDP_UMEM_FILL_RING,
            Self::Completion => libc::XDP_UMEM_COMPLETION_RING,
            Self::Rx => libc::XDP_RX_RING,
            Self::Tx => libc::XDP_TX_RING,
        }
    }
}

/// A new AF_XDP socket. Needs `CAP_NET_RAW`.
///
/// # Errors
/// As socket(2).
pub fn open() -> io::Result<OwnedFd> {
    socket::open(libc::AF_XDP, libc::SOCK_RAW, 0)
}

/// Registers `len` bytes at `address` as the socket's UMEM.
///
/// The kernel pins and from then on reads and writes that memory: the caller keeps it mapped while
/// the socket or any socket that shares the UMEM lives.
///
/// # Errors
/// `ENOBUFS` if `RLIMIT_MEMLOCK` is too low and `CAP_IPC_LOCK` is missing.
pub fn register_umem(
    fd: BorrowedFd<'_>,
    address: u64,
    len: u64,
    chunk_size: u32,
) -> io::Result<()> {
    let umem = libc::xdp_umem_reg {
        addr: address,
        len,
        chunk_size,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    socket::set(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &umem)
}

/// Creates a ring of `entries`, a power of two.
///
/// # Errors
/// As setsockopt(2).
pub fn create_ring(fd: BorrowedFd<'_>, ring: Ring, entries: u32) -> io::Result<()> {
    socket::set(fd, libc::SOL_XDP, ring.option(), &entries)
}

/// Where the rings' indices and entries lie in their mappings.
///
/// # Errors
/// `EINVAL` before Linux 5.4, whose rings have no flags.
pub fn mmap_offsets(fd: BorrowedFd<'_>) -> io::Result<xdp_mmap_offsets> {
    socket::get(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)
}

/// How the kernel is asked to move frames.
#[derive(Clone, Copy, Debug)]
pub enum Bind<'fd> {
    /// The kernel copies between the UMEM and its own buffers.
    Copy,
    /// The driver's DMA reads and writes the UMEM.
    ZeroCopy,
    /// As the socket does whose UMEM this one shares.
    Shared(BorrowedFd<'fd>),
}

/// Binds the socket to one queue.
///
/// # Errors
/// `EBUSY` if the queue has a socket with another UMEM, `EOPNOTSUPP` if the driver can't zero-copy.
pub fn bind(fd: BorrowedFd<'_>, ifindex: u32, queue_id: u32, how: Bind<'_>) -> io::Result<()> {
    let (flags, umem_fd) = match how {
        Bind::Copy => (libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP, 0),
        Bind::ZeroCopy => (libc::XDP_ZEROCOPY | libc::XDP_USE_NEED_WAKEUP, 0),
        Bind::Shared(umem) => (libc::XDP_SHARED_UMEM, umem.as_raw_fd().cast_unsigned()),
    };
    let address = libc::sockaddr_xdp {
        #[expect(clippy::cast_possible_truncation, reason = "44")]
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue_id,
        sxdp_shared_umem_fd: umem_fd,
    };
    #[expect(clippy::cast_possible_truncation, reason = "16")]
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is a whole sockaddr_xdp of `len` bytes that outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(())
}

/// Whether the bound socket really is zero-copy.
///
/// # Errors
/// As getsockopt(2).
pub fn is_zero_copy(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let options: u32 = socket::get(fd, libc::SOL_XDP, libc::XDP_OPTIONS)?;
    Ok(options & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// The socket's six counters; they start at 0 with the socket.
///
/// # Errors
/// As getsockopt(2).
pub fn statistics(fd: BorrowedFd<'_>) -> io::Result<xdp_statistics> {
    socket::get(fd, libc::SOL_XDP, libc::XDP_STATISTICS)
}

/// How many descriptors one `sendto` may send in copy mode (32 by default).
///
/// # Errors
/// `ENOPROTOOPT` before Linux 6.17.
pub fn set_tx_budget(fd: BorrowedFd<'_>, budget: u32) -> io::Result<()> {
    socket::set(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget)
}

/// Asks for busy polling: of `budget` packets and for at most `microseconds`, preferred over interrupts.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 5.11, `EPERM` without `CAP_NET_ADMIN`.
pub fn set_busy_poll(fd: BorrowedFd<'_>, microseconds: u32, budget: u32) -> io::Result<()> {
    socket::set(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, &1u32)?;
    socket::set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, &microseconds)?;
    socket::set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, &budget)
}

/// Tells the kernel to look at the TX ring. Never blocks.
///
/// # Errors
/// `EAGAIN`: more is left than one call sends; `EBUSY`: a descriptor was consumed and its packet
/// dropped; `ENOBUFS`: no memory for an skb; `ENETDOWN`.
pub fn wake_tx(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no buffer and no address are passed.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            std::ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null(),
            0,
        )
    };
    if sent == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Tells the kernel to look at the fill ring and, where busy polling is on, to poll the driver. Never blocks.
///
/// # Errors
/// `EAGAIN`, `ENETDOWN`.
pub fn wake_rx(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no buffer and no address are passed.
    let received = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            std::ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    if received == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
