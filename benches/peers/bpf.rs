//! bpf(2) as far as the bench needs it: one-value array maps in shared memory, programs, links, and
//! `BPF_PROG_TEST_RUN` with live frames. Needs Linux 6.6 (`BPF_TCX_INGRESS`).
#![allow(unsafe_code, reason = "libc is the only way to these calls")]

use std::{
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::thread::JoinHandleExt,
    },
    ptr::{self, NonNull},
    sync::atomic::AtomicU64,
    thread::JoinHandle,
};

// linux/bpf.h
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// What a program is for, and so what it is given and may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `BPF_PROG_TYPE_XDP`, attached natively.
    Xdp,
    /// `BPF_PROG_TYPE_SCHED_CLS`, attached to ingress.
    Tc,
}

impl Kind {
    const fn program_type(self) -> u32 {
        match self {
            Self::Tc => 3,
            Self::Xdp => 6,
        }
    }

    /// `BPF_XDP`, `BPF_TCX_INGRESS`.
    const fn attach_type(self) -> u32 {
        match self {
            Self::Xdp => 37,
            Self::Tc => 46,
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::Xdp => XDP_FLAGS_DRV_MODE,
            Self::Tc => 0,
        }
    }
}

/// Words that programs and this process share: the only value of an array map, mapped.
#[derive(Debug)]
pub struct Words {
    map: OwnedFd,
    start: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the memory is mapped until the drop, and all that is done with it is atomic.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// So many, all 0.
    pub fn new(len: usize) -> io::Result<Self> {
        #[repr(C)]
        struct Attributes {
            map_type: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
            map_flags: u32,
        }
        let bytes = len * size_of::<u64>();
        let map = open(
            BPF_MAP_CREATE,
            &mut Attributes {
                map_type: BPF_MAP_TYPE_ARRAY,
                key_size: size_of::<u32>() as u32,
                value_size: bytes as u32,
                max_entries: 1,
                map_flags: BPF_F_MMAPABLE,
            },
        )?;
        let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, map.as_raw_fd());
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { map, start, len })
    }

    /// The map, as [`Code::map_value`](super::asm::Code::map_value) wants it.
    pub fn map(&self) -> i32 {
        self.map.as_raw_fd()
    }
}

impl std::ops::Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `len` words are mapped until the drop, and nobody writes them but atomically.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no borrow outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * size_of::<u64>()) };
    }
}

/// A loaded program.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    kind: Kind,
}

/// What keeps a program attached.
#[derive(Debug)]
pub struct Attached(#[allow(dead_code, reason = "kept open, not read")] OwnedFd);

impl Program {
    /// Loads it; the verifier's words are in the error.
    pub fn load(kind: Kind, code: &[u64]) -> io::Result<Self> {
        #[repr(C)]
        struct Attributes {
            prog_type: u32,
            insn_cnt: u32,
            insns: u64,
            license: u64,
            log_level: u32,
            log_size: u32,
            log_buf: u64,
            kern_version: u32,
            prog_flags: u32,
        }
        let mut log = vec![0u8; 1 << 16];
        let mut attributes = Attributes {
            prog_type: kind.program_type(),
            insn_cnt: code.len() as u32,
            insns: code.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            log_level: 1,
            log_size: log.len() as u32,
            log_buf: log.as_mut_ptr() as u64,
            kern_version: 0,
            prog_flags: 0,
        };
        let fd = open(BPF_PROG_LOAD, &mut attributes).map_err(|error| {
            let words = String::from_utf8_lossy(&log);
            io::Error::other(format!("{error}: {}", words.trim_end_matches('\0')))
        })?;
        Ok(Self { fd, kind })
    }

    /// Attaches it to the interface with this index in this thread's network namespace.
    pub fn attach(&self, ifindex: u32) -> io::Result<Attached> {
        #[repr(C)]
        struct Attributes {
            prog_fd: u32,
            target_ifindex: u32,
            attach_type: u32,
            flags: u32,
        }
        let mut attributes = Attributes {
            prog_fd: self.fd.as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type: self.kind.attach_type(),
            flags: self.kind.flags(),
        };
        Ok(Attached(open(BPF_LINK_CREATE, &mut attributes)?))
    }

    /// Runs an XDP program on live frames, `batch` (1 to 256) at a time, until a signal comes: what it redirects
    /// is sent, what it drops is gone.
    pub fn run(&self, frame: &[u8], batch: u32) -> io::Result<()> {
        #[repr(C)]
        struct Attributes {
            prog_fd: u32,
            retval: u32,
            data_size_in: u32,
            data_size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
            ctx_size_in: u32,
            ctx_size_out: u32,
            ctx_in: u64,
            ctx_out: u64,
            flags: u32,
            cpu: u32,
            batch_size: u32,
            /// To a multiple of 8 without a hole.
            end: u32,
        }
        let mut attributes = Attributes {
            prog_fd: self.fd.as_raw_fd() as u32,
            retval: 0,
            data_size_in: frame.len() as u32,
            data_size_out: 0,
            data_in: frame.as_ptr() as u64,
            data_out: 0,
            repeat: u32::MAX,
            duration: 0,
            ctx_size_in: 0,
            ctx_size_out: 0,
            ctx_in: 0,
            ctx_out: 0,
            flags: BPF_F_TEST_XDP_LIVE_FRAMES,
            cpu: 0,
            batch_size: batch,
            end: 0,
        };
        match call(BPF_PROG_TEST_RUN, &mut attributes) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

fn open<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: these commands return a descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `attributes` begins as the `union bpf_attr` of `command`; the kernel takes what lies behind it as 0.
fn call<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    let (pointer, size) = (ptr::from_mut(attributes), size_of::<T>());
    // SAFETY: `attributes` is `size` bytes without holes, to read and to write, and the addresses in it are
    // those of buffers of the given lengths that the callers keep until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size) };
    i32::try_from(result)
        .ok()
        .filter(|&result| result >= 0)
        .ok_or_else(io::Error::last_os_error)
}

/// The signal that ends [`Program::run`].
const WAKE: libc::c_int = libc::SIGURG;

/// Makes [`interrupt`] do nothing but end a system call.
pub fn note_interrupts() {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler = nothing as extern "C" fn(libc::c_int);
    // SAFETY: zero is a valid sigaction: no flags, so that calls are not restarted, and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: `action` is a whole sigaction, and its handler does nothing.
    unsafe { libc::sigaction(WAKE, &raw const action, ptr::null_mut()) };
}

/// Ends the system call that the thread is in.
pub fn interrupt<T>(thread: &JoinHandle<T>) {
    // SAFETY: the thread has not been joined, so the kernel's name for it is still its own.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), WAKE) };
}
