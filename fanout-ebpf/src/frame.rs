//! The only bounds check and the only access to packet memory, in the kernel and on the host.
//!
//! No word is read unaligned: that costs a few ns a packet, but with the linker's
//! `allows-misaligned-mem-access` the stack is written unaligned too, and the verifier refuses that.
#![expect(
    unsafe_code,
    reason = "the frame is a pair of pointers, as in the kernel"
)]

use core::{hint::black_box, marker::PhantomData};

/// There a frame begins at an even address, and so do its fields of an even size.
const IN_KERNEL: bool = cfg!(target_arch = "bpf");

/// Bytes at an even address: without unaligned words eBPF at least takes two bytes at a time.
#[repr(C, align(2))]
struct Even<T>(T);

/// The bytes of a frame, from its destination MAC address on.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    start: *const u8,
    end: *const u8,
    /// Bytes of the frame that follow and can't be read.
    beyond: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl Frame<'_> {
    /// A frame by its limits, such as `data` and `data_end` of the kernel's `xdp_md`.
    ///
    /// # Safety
    ///
    /// Every byte from `start` up to (not including) `end` is readable as long as the frame is used.
    #[must_use]
    #[inline]
    pub const unsafe fn new(start: *const u8, end: *const u8) -> Self {
        Self {
            start,
            end,
            beyond: 0,
            bytes: PhantomData,
        }
    }

    /// The frame with `beyond` more bytes, which can't be read.
    #[must_use]
    #[inline]
    pub const fn with_beyond(self, beyond: usize) -> Self {
        Self { beyond, ..self }
    }

    /// What follows the first `len` bytes; nothing if there are no more. A new start, not an offset that
    /// is carried along: the verifier must see one pointer compared and read.
    #[inline]
    pub(crate) fn skip(self, len: usize) -> Self {
        Self {
            start: self.start.wrapping_add(len),
            ..self
        }
    }

    /// What follows the first `len` bytes, a number below `LIMIT` (a power of two) that is not constant. The
    /// verifier of Linux 5.10 forgets its limits when it is put on the stack, and LLVM omits a mask that
    /// is of no use in its eyes.
    #[inline]
    #[must_use]
    pub fn skip_variable<const LIMIT: usize>(self, len: usize) -> Self {
        self.skip(black_box(len) & (LIMIT - 1))
    }

    /// Whether `len` bytes can be read. A comparison of pointers: only from such a one does the verifier
    /// learn what may be read.
    #[inline]
    pub(crate) fn has(self, len: usize) -> bool {
        self.skip(len).start <= self.end
    }

    /// Whether there are `len` bytes, a number that is not constant. They need not be readable.
    #[inline]
    pub(crate) fn has_variable(self, len: usize) -> bool {
        let readable = len.saturating_sub(self.beyond);
        self.skip_variable::<0x1_0000>(readable).start <= self.end
    }

    /// Where the first `N` bytes lie; `None` if there are less.
    #[must_use]
    #[inline]
    pub fn first<const N: usize>(self) -> Option<*const [u8; N]> {
        self.has(N).then_some(self.start.cast())
    }

    /// The `N` bytes at `offset`; `None` if the frame ends before.
    #[must_use]
    #[inline]
    pub fn read<const N: usize>(self, offset: usize) -> Option<[u8; N]> {
        if !self.has(offset + N) {
            return None;
        }
        let field = self.skip(offset).start;
        if IN_KERNEL && N.is_multiple_of(2) {
            // SAFETY: these bytes lie before `end` (an address plus the lengths of one packet does not wrap),
            // `new`'s caller promised that such are readable, and here their address is even.
            let Even(bytes) = unsafe { field.cast::<Even<[u8; N]>>().read() };
            return Some(bytes);
        }
        // SAFETY: as above, and bytes need no alignment.
        Some(unsafe { field.cast::<[u8; N]>().read() })
    }

    /// The big-endian number at `offset`.
    #[inline]
    pub(crate) fn u16(self, offset: usize) -> Option<u16> {
        self.read(offset).map(u16::from_be_bytes)
    }
}

impl<'a> From<&'a [u8]> for Frame<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        let limits = bytes.as_ptr_range();
        // SAFETY: they are the limits of a slice that is borrowed for `'a`.
        unsafe { Self::new(limits.start, limits.end) }
    }
}

/// A frame that may be changed.
#[derive(Debug)]
pub struct FrameMut<'a>(Frame<'a>);

impl FrameMut<'_> {
    /// A frame by its limits, such as `data` and `data_end` of the kernel's `xdp_md`.
    ///
    /// # Safety
    ///
    /// Every byte from `start` up to (not including) `end` is readable and writable as long as the frame is
    /// used, and nothing else reads or writes it meanwhile.
    #[must_use]
    #[inline]
    pub const unsafe fn new(start: *mut u8, end: *mut u8) -> Self {
        // SAFETY: this function's caller promises more.
        Self(unsafe { Frame::new(start, end) })
    }

    /// To read it.
    #[inline]
    pub(crate) fn frame(&self) -> Frame<'_> {
        self.0
    }

    /// What follows the first `len` bytes; nothing if there are no more.
    #[must_use]
    #[inline]
    pub fn skip(self, len: usize) -> Self {
        Self(self.0.skip(len))
    }

    /// What follows the first `len` bytes, a number below `LIMIT` (a power of two) that is not constant.
    #[inline]
    pub(crate) fn skip_variable<const LIMIT: usize>(self, len: usize) -> Self {
        Self(self.0.skip_variable::<LIMIT>(len))
    }

    /// Changes the bytes at `offset`; `None`, and nothing changes, if the frame ends before their end.
    #[inline]
    pub fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        if !self.0.has(offset + N) {
            return None;
        }
        let field = self.0.skip(offset).start.cast_mut();
        if IN_KERNEL && N.is_multiple_of(2) {
            // SAFETY: these bytes lie before `end`, `new`'s caller promised that such are writable and nobody
            // else's, and here their address is even.
            unsafe { field.cast::<Even<[u8; N]>>().write(Even(bytes)) };
        } else {
            // SAFETY: as above, and bytes need no alignment.
            unsafe { field.cast::<[u8; N]>().write(bytes) };
        }
        Some(())
    }
}

impl<'a> From<&'a mut [u8]> for FrameMut<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        let limits = bytes.as_mut_ptr_range();
        // SAFETY: they are the limits of a slice that is borrowed for `'a`, and by nobody else.
        unsafe { Self::new(limits.start, limits.end) }
    }
}
