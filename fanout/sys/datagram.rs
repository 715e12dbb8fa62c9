//! Datagrams in batches: recvmmsg(2) and sendmmsg(2), with what the kernel merges (`UDP_GRO`) and cuts
//! (`UDP_SEGMENT`): udp(7).

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use super::{
    address::SockAddr,
    socket::message,
    udp::{UDP_GRO, UDP_SEGMENT},
};

/// More than the largest UDP payload, alone or merged: nothing is ever cut short.
pub const LARGEST: usize = 1 << 16;
/// From buffer to buffer: not a power of two, or all would begin in the same few lines of each cache.
const STRIDE: usize = LARGEST + 128;

/// One control message with a number in it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct Control {
    header: libc::cmsghdr,
    data: [u8; 8],
}
const _: () = {
    // SAFETY: a computation.
    let offset = unsafe { libc::CMSG_LEN(0) };
    assert!(std::mem::offset_of!(Control, data) == offset as usize);
};

impl Control {
    fn empty() -> Self {
        // SAFETY: integers; zero is valid.
        unsafe { std::mem::zeroed() }
    }

    /// Says to cut a message into datagrams of `size`.
    fn segment(size: u16) -> Self {
        let mut control = Self::empty();
        // SAFETY: a computation, for two bytes.
        control.header.cmsg_len = unsafe { libc::CMSG_LEN(2) } as _;
        control.header.cmsg_level = libc::SOL_UDP;
        control.header.cmsg_type = UDP_SEGMENT;
        let [first, second] = size.to_ne_bytes();
        control.data = [first, second, 0, 0, 0, 0, 0, 0];
        control
    }

    /// The size of the datagrams that were merged, if it says so.
    fn merged(&self) -> Option<usize> {
        let is_gro = self.header.cmsg_level == libc::SOL_UDP && self.header.cmsg_type == UDP_GRO;
        let [a, b, c, d, ..] = self.data;
        let size = usize::try_from(i32::from_ne_bytes([a, b, c, d])).ok();
        size.filter(|&size| is_gro && size > 0)
    }
}

/// Room for what one recvmmsg(2) takes: N messages of any size.
#[derive(Debug)]
pub struct Inbound<const N: usize> {
    bytes: Vec<u8>,
    sources: Option<Box<[SockAddr; N]>>,
    controls: [Control; N],
    /// Of the messages that the last call took.
    lengths: heapless::Vec<usize, N>,
}

/// A message that was received.
#[derive(Debug)]
pub struct Received<'a> {
    /// One datagram's payload, or those of several, one after the other.
    pub bytes: &'a [u8],
    /// The size of each of several; the last may be shorter.
    pub segment: Option<usize>,
}

impl<const N: usize> Inbound<N> {
    /// Room; the kernel gives the memory when it is first used. `with_sources` if it matters who sent.
    #[must_use]
    pub fn new(with_sources: bool) -> Self {
        Self {
            bytes: vec![0; N * STRIDE],
            sources: with_sources.then(|| Box::new([SockAddr::room(); N])),
            controls: [Control::empty(); N],
            lengths: heapless::Vec::new(),
        }
    }

    /// Takes what there is, and does not wait. Returns how many messages.
    ///
    /// # Errors
    /// `EAGAIN` if there is none.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.lengths.clear();
        // None of the pushes can fail: there are N of each.
        let mut buffers: heapless::Vec<libc::iovec, N> = heapless::Vec::new();
        for buffer in self.bytes.chunks_exact_mut(STRIDE) {
            let _ = buffers.push(libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: LARGEST,
            });
        }
        let mut messages: heapless::Vec<libc::mmsghdr, N> = heapless::Vec::new();
        for (buffer, control) in buffers.iter_mut().zip(&mut self.controls) {
            control.header.cmsg_level = 0;
            let mut header = message(buffer, 1);
            header.msg_control = (&raw mut *control).cast();
            header.msg_controllen = size_of::<Control>() as _;
            let _ = messages.push(libc::mmsghdr {
                msg_hdr: header,
                msg_len: 0,
            });
        }
        for (message, source) in messages
            .iter_mut()
            .zip(self.sources.iter_mut().flat_map(|s| s.iter_mut()))
        {
            message.msg_hdr.msg_namelen = SockAddr::ROOM;
            message.msg_hdr.msg_name = source.as_mut_ptr();
        }
        // Not libc's function: musl's counts in another type and has no use here.
        // SAFETY: each of the messages points to a buffer, a control message and perhaps an address of
        // the lengths given, which live until the call returns and nobody else looks at meanwhile.
        let received = unsafe {
            libc::syscall(
                libc::SYS_recvmmsg,
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len(),
                libc::MSG_DONTWAIT,
                std::ptr::null_mut::<libc::timespec>(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        self.lengths.extend(
            messages
                .iter()
                .take(received)
                .map(|message| message.msg_len as usize),
        );
        Ok(received)
    }

    /// The messages of the last call.
    pub fn messages(&self) -> impl Iterator<Item = Received<'_>> {
        let buffers = self.bytes.chunks_exact(STRIDE).zip(&self.controls);
        let messages = buffers.zip(&self.lengths);
        messages.map(|((buffer, control), &length)| Received {
            bytes: buffer.get(..length).unwrap_or_default(),
            segment: control.merged(),
        })
    }

    /// Who sent the message with this number; `None` if that was not asked for.
    #[must_use]
    pub fn source(&self, message: usize) -> Option<SocketAddr> {
        self.sources.as_ref()?.get(message)?.address()
    }
}

/// A message to send by a connected socket.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its bytes, in pieces.
    pub parts: &'a [IoSlice<'a>],
    /// Cut into datagrams of this size; the last may be shorter. `None`: one datagram.
    pub segment: Option<u16>,
}

/// Sends each message, in order, in one system call.
///
/// # Errors
/// That of the first message, if it can't be sent; else how many were sent.
pub fn send<const N: usize>(
    socket: BorrowedFd<'_>,
    messages: &heapless::Vec<Message<'_>, N>,
) -> io::Result<usize> {
    let mut controls: heapless::Vec<Control, N> = heapless::Vec::new();
    for message in messages {
        let control = message
            .segment
            .map_or_else(Control::empty, Control::segment);
        // There is room: `messages` holds N at most.
        let _ = controls.push(control);
    }
    let mut headers: heapless::Vec<libc::mmsghdr, N> = heapless::Vec::new();
    for (from, control) in messages.iter().zip(&mut controls) {
        // An IoSlice is an iovec, as std promises; the kernel only reads those of a sender.
        let parts = from.parts.as_ptr().cast_mut().cast();
        let mut header = message(parts, from.parts.len());
        if from.segment.is_some() {
            header.msg_control = (&raw mut *control).cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        let _ = headers.push(libc::mmsghdr {
            msg_hdr: header,
            msg_len: 0,
        });
    }
    // Not libc's function: musl's sends one message a call.
    // SAFETY: each of the headers points to the parts of a message and a control message, which live
    // until the call returns; the kernel only reads what they point to.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_sendmmsg,
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            headers.len(),
            0,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
