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

    /// The `N` words of two bytes at `offset`, each as it lies there; `None` if the frame ends before.
    #[must_use]
    #[inline]
    pub fn words<const N: usize>(self, offset: usize) -> Option<[u16; N]> {
        if !self.has(offset + 2 * N) {
            return None;
        }
        // SAFETY: these bytes lie before `end` (an address plus the lengths of one packet does not wrap).
        Some(unsafe { self.words_unchecked(offset) })
    }

    /// The same without a look at the frame's end.
    ///
    /// # Safety
    ///
    /// They lie before it.
    #[inline]
    unsafe fn words_unchecked<const N: usize>(self, offset: usize) -> [u16; N] {
        let field: *const [u16; N] = self.skip(offset).start.cast();
        if IN_KERNEL {
            // SAFETY: `new`'s caller promised that what lies before the end is readable, and here these bytes are
            // at an even address.
            return unsafe { field.read() };
        }
        // SAFETY: as above, and at any address.
        unsafe { field.read_unaligned() }
    }

    /// Changes the words at `offset`.
    ///
    /// # Safety
    ///
    /// They lie before the frame's end, and it is a [`FrameMut`]'s.
    #[inline]
    unsafe fn write_unchecked<const N: usize>(self, offset: usize, words: [u16; N]) {
        let field: *mut [u16; N] = self.skip(offset).start.cast_mut().cast();
        if IN_KERNEL {
            // SAFETY: the caller of `FrameMut::new` promised that what lies before the end is writable and nobody
            // else's, and here these bytes are at an even address.
            unsafe { field.write(words) };
        } else {
            // SAFETY: as above, and at any address.
            unsafe { field.write_unaligned(words) };
        }
    }

    /// The byte at `offset`; `None` if the frame ends before.
    #[must_use]
    #[inline]
    pub fn byte(self, offset: usize) -> Option<u8> {
        if !self.has(offset + 1) {
            return None;
        }
        // SAFETY: it lies before `end`, and `new`'s caller promised that such are readable.
        Some(unsafe { self.skip(offset).start.read() })
    }

    /// The big-endian number at `offset`.
    #[inline]
    pub(crate) fn u16(self, offset: usize) -> Option<u16> {
        self.words(offset).map(|[word]| u16::from_be(word))
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

impl<'a> FrameMut<'a> {
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

    /// Its length in bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        // Only on the pointers themselves the verifier allows arithmetic that gives a number.
        self.0.end.addr() - self.0.start.addr()
    }

    /// The first `LEN` bytes; `None` if there are less.
    #[inline]
    pub(crate) fn into_head<const LEN: usize>(self) -> Option<Head<'a, LEN>> {
        self.0.has(LEN).then_some(Head(self.0))
    }

    /// Changes the words at `offset`; `None`, and nothing changes, if the frame ends before their end.
    #[inline]
    pub fn write<const N: usize>(&mut self, offset: usize, words: [u16; N]) -> Option<()> {
        if !self.0.has(offset + 2 * N) {
            return None;
        }
        // SAFETY: these bytes lie before `end`, and `new`'s caller promised that they are nobody else's.
        unsafe { self.0.write_unchecked(offset, words) };
        Some(())
    }
}

/// The first `LEN` bytes of a frame that may be changed, which were found to be there: no further check.
#[derive(Debug)]
pub(crate) struct Head<'a, const LEN: usize>(Frame<'a>);

impl<const LEN: usize> Head<'_, LEN> {
    /// The words at byte `AT`, each as it lies there.
    #[inline]
    pub(crate) fn words<const AT: usize, const N: usize>(&self) -> [u16; N] {
        const { assert!(AT + 2 * N <= LEN) };
        // SAFETY: these bytes are of those that were found.
        unsafe { self.0.words_unchecked(AT) }
    }

    /// Changes the words at byte `AT`.
    #[inline]
    pub(crate) fn write<const AT: usize, const N: usize>(&mut self, words: [u16; N]) {
        const { assert!(AT + 2 * N <= LEN) };
        // SAFETY: these bytes are of those that were found, and they are a `FrameMut`'s.
        unsafe { self.0.write_unchecked(AT, words) };
    }
}

impl<'a> From<&'a mut [u8]> for FrameMut<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        let limits = bytes.as_mut_ptr_range();
        // SAFETY: they are the limits of a slice that is borrowed for `'a`, and by nobody else.
        unsafe { Self::new(limits.start, limits.end) }
    }
}
