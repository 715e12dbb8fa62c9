//! Memory that the kernel shares with us, unmapped when dropped.
#![expect(unsafe_code, reason = "mmap(2) and the pointers it gives")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::{self, NonNull},
};

/// One mapping.
#[derive(Debug)]
pub(super) struct Mmap {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; `Mmap` hands out raw pointers only.
unsafe impl Send for Mmap {}
// SAFETY: as above.
unsafe impl Sync for Mmap {}

impl Mmap {
    /// `len` bytes of zeroed memory, in huge pages where the system has them: fewer faults at the
    /// start and fewer TLB misses later.
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        let memory = Self::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
        // SAFETY: advice on the mapping just made; it changes no content.
        unsafe { libc::madvise(memory.start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        Ok(memory)
    }

    /// The first `len` bytes of what `fd` offers at `offset`.
    pub(super) fn shared(fd: BorrowedFd<'_>, len: usize, offset: libc::off_t) -> io::Result<Self> {
        Self::new(
            len,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd.as_raw_fd(),
            offset,
        )
    }

    fn new(
        len: usize,
        flags: libc::c_int,
        fd: libc::c_int,
        offset: libc::off_t,
    ) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the address, so no existing mapping is touched.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// A pointer to `count` consecutive `T` that begin `offset` bytes into the mapping.
    ///
    /// # Errors
    /// `EINVAL` if they would not lie within the mapping, or not be aligned.
    pub(super) fn array<T>(&self, offset: usize, count: usize) -> io::Result<NonNull<T>> {
        let end = count
            .checked_mul(size_of::<T>())
            .and_then(|size| offset.checked_add(size));
        if end.is_none_or(|end| end > self.len) || !offset.is_multiple_of(align_of::<T>()) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: `offset` is at most `len`, checked above, and mappings are page-aligned.
        Ok(unsafe { self.start.add(offset) }.cast())
    }
}

impl Drop for Mmap {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made; whoever got a pointer into it owns the `Mmap`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
