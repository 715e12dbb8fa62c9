//! The UMEM: packet memory in frames of equal size, shared with the kernel.
//!
//! A frame that user space holds is a [`Frame`], a token that can be neither copied nor made up: it
//! is given out at start, given away to the kernel, and taken back from it. Who has each frame is
//! written down, so that an address which the kernel hands back is a frame only if the kernel had it.
//! Free + with the kernel + in hand is [`FRAMES`], always.
#![expect(unsafe_code, reason = "a frame in hand is borrowed as a slice")]

use std::{io, ops::Range, os::fd::BorrowedFd, ptr::NonNull};

use super::mmap::Mmap;
use crate::sys;

/// Frames of one UMEM.
pub const FRAMES: usize = 8192;
/// Bytes of one frame: a page, so that a frame never straddles two.
pub const FRAME_SIZE: usize = 4096;
/// Bytes in front of a received packet that the kernel keeps for XDP programs (`XDP_PACKET_HEADROOM`).
pub const HEADROOM: usize = 256;
/// Bytes that a CPU fetches at a time.
const CACHE_LINE: usize = 64;
/// As many as a small datagram lies in; one alone was of little use.
const HEADER_LINES: usize = 2;
/// Bytes of one UMEM.
pub const SIZE: usize = FRAMES * FRAME_SIZE;

/// A frame that user space owns.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost"]
pub struct Frame(u16);

const _: () = assert!(FRAMES <= u16::MAX as usize + 1);

/// Who has a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// User space, as a [`Frame`].
    User,
    /// The kernel, by the rings of one port.
    Kernel(Port),
}

/// The port by whose rings a frame was given to the kernel: an index into the worker's ports.
pub type Port = u8;

/// The packet memory of one worker.
#[derive(Debug)]
pub struct Umem {
    owners: Box<[Owner]>,
    free: Vec<Frame>,
    start: NonNull<[u8; FRAME_SIZE]>,
    /// Last: `start` points into it.
    _area: Mmap,
}

// SAFETY: `start` points into `area`, which is `Send`; nothing here is tied to a thread.
unsafe impl Send for Umem {}

impl Umem {
    /// Allocates the frames. Their pages come when a socket gets them, as the kernel then pins them all.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn new() -> io::Result<Self> {
        let area = Mmap::anonymous(SIZE)?;
        let start = area.array(0, FRAMES)?;
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        let free = (0..FRAMES).rev().map(|index| Frame(index as u16)).collect();
        Ok(Self {
            owners: vec![Owner::User; FRAMES].into(),
            free,
            start,
            _area: area,
        })
    }

    /// Makes this the UMEM of the socket `fd`.
    ///
    /// # Errors
    /// `ENOBUFS`, see [`sys::xdp::register_umem`].
    pub(super) fn register(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let address = self.start.addr().get() as u64;
        #[expect(clippy::cast_possible_truncation, reason = "4096")]
        let chunk_size = FRAME_SIZE as u32;
        sys::xdp::register_umem(fd, address, SIZE as u64, chunk_size)
    }

    /// How many frames are free.
    #[must_use]
    pub fn free_frames(&self) -> usize {
        self.free.len()
    }

    /// Takes a free frame, the one used last first, as the caches still hold it.
    pub fn take(&mut self) -> Option<Frame> {
        self.free.pop()
    }

    /// Makes a frame free. Never allocates: `free` has room for all.
    pub fn give_back(&mut self, frame: Frame) {
        self.free.push(frame);
    }

    /// Gives a frame to the kernel, by the rings of `port`. Returns its address.
    pub fn lend(&mut self, Frame(index): Frame, port: Port) -> u64 {
        let index = usize::from(index);
        if let Some(owner) = self.owners.get_mut(index) {
            *owner = Owner::Kernel(port);
        }
        (index * FRAME_SIZE) as u64
    }

    /// Takes back the frame that `address` lies in, if the kernel had it by the rings of `port`.
    pub fn reclaim(&mut self, address: u64, port: Port) -> Option<Frame> {
        let index = usize::try_from(address / FRAME_SIZE as u64).ok()?;
        let owner = self.owners.get_mut(index)?;
        if *owner != Owner::Kernel(port) {
            return None;
        }
        *owner = Owner::User;
        u16::try_from(index).ok().map(Frame)
    }

    /// Has the CPU fetch the headers of the packet at `address`, whoever has the frame. A hint: nothing
    /// is read, and an address that is none does no harm.
    #[inline]
    pub fn prefetch(&self, address: u64) {
        let start = self.start.as_ptr().cast::<u8>();
        let packet = start.wrapping_add(usize::try_from(address).unwrap_or_default());
        for line in 0..HEADER_LINES {
            prefetch(packet.wrapping_add(line * CACHE_LINE));
        }
    }

    /// Takes back all frames that the kernel had by the rings of `port`, which are gone.
    pub(super) fn reclaim_all(&mut self, port: Port) {
        for (index, owner) in (0..).zip(&mut self.owners) {
            if *owner == Owner::Kernel(port) {
                *owner = Owner::User;
                self.free.push(Frame(index));
            }
        }
    }

    /// The bytes of a frame.
    #[must_use]
    pub fn bytes(&self, frame: &Frame) -> &[u8; FRAME_SIZE] {
        // SAFETY: a frame's index is below FRAMES, so the pointer stays in `area`.
        let chunk = unsafe { self.start.add(usize::from(frame.0)) };
        // SAFETY: a token is one of a kind, and as long as it exists the kernel does not have the
        // frame (`lend` consumes it); the borrow of `self` keeps `bytes_mut` out.
        unsafe { chunk.as_ref() }
    }

    /// Copies a range of one frame to the same place of another.
    pub fn copy(&mut self, from: &Frame, to: &mut Frame, range: Range<usize>) {
        // SAFETY: a frame's index is below FRAMES, so the pointer stays in `area`.
        let source = unsafe { self.start.add(usize::from(from.0)) };
        // SAFETY: as in `bytes`, and tokens of two frames: `bytes_mut` below is of other memory.
        let source = unsafe { source.as_ref() };
        if let Some(source) = source.get(range.clone())
            && let Some(copy) = self.bytes_mut(to).get_mut(range)
        {
            copy.copy_from_slice(source);
        }
    }

    /// The bytes of a frame, to write.
    #[must_use]
    pub fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8; FRAME_SIZE] {
        // SAFETY: a frame's index is below FRAMES, so the pointer stays in `area`.
        let mut chunk = unsafe { self.start.add(usize::from(frame.0)) };
        // SAFETY: as in `bytes`; the borrow of `self` is exclusive.
        unsafe { chunk.as_mut() }
    }
}

#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction reads nothing and faults at no address; every x86-64 has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    // Stable Rust has it for no other CPU.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Port = 3;

    #[test]
    fn a_lent_frame_comes_back_once_and_from_its_port_only() {
        let mut umem = Umem::new().unwrap();
        let frame = umem.take().unwrap();
        let address = umem.lend(frame, PORT);
        assert!(umem.reclaim(address, PORT + 1).is_none());
        let frame = umem.reclaim(address + 300, PORT).unwrap();
        assert!(umem.reclaim(address, PORT).is_none());
        umem.give_back(frame);
        assert_eq!(umem.free_frames(), FRAMES);
    }

    #[test]
    fn all_frames_of_a_port_come_back_and_no_others() {
        let mut umem = Umem::new().unwrap();
        let [first, second, third] = [(); 3].map(|()| umem.take().unwrap());
        umem.lend(first, PORT);
        umem.lend(second, PORT);
        let other = umem.lend(third, PORT + 1);
        umem.reclaim_all(PORT);
        assert_eq!(umem.free_frames(), FRAMES - 1);
        assert!(umem.reclaim(other, PORT + 1).is_some());
    }

    #[test]
    fn addresses_that_are_no_frame_are_refused() {
        let mut umem = Umem::new().unwrap();
        for address in [0, SIZE as u64, u64::MAX, 1 << 63] {
            assert!(umem.reclaim(address, PORT).is_none(), "{address:#x}");
        }
    }

    #[test]
    fn all_frames_are_distinct_memory_and_writable() {
        let mut umem = Umem::new().unwrap();
        let mut frames: Vec<Frame> = std::iter::from_fn(|| umem.take()).collect();
        assert_eq!(frames.len(), FRAMES);
        for (n, frame) in frames.iter_mut().enumerate() {
            umem.bytes_mut(frame)[..8].copy_from_slice(&n.to_ne_bytes());
        }
        for (n, frame) in frames.iter().enumerate() {
            assert_eq!(umem.bytes(frame)[..8], n.to_ne_bytes());
        }
    }
}
