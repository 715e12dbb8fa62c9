//! The process: signals, CPUs, capabilities.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use super::check;

/// A file descriptor that yields the signals that the process got, instead of their interrupting it.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks `signals` in this thread, and in those it starts from now on, and reads them here instead.
    ///
    /// # Errors
    /// As signalfd(2).
    pub fn new(signals: &[libc::c_int]) -> io::Result<Self> {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: `set` is a sigset_t to write.
        check(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
        // SAFETY: sigemptyset has just initialised it.
        let mut set: libc::sigset_t = unsafe { set.assume_init() };
        for &signal in signals {
            // SAFETY: `set` is an initialised sigset_t.
            check(unsafe { libc::sigaddset(&raw mut set, signal) })?;
        }
        // SAFETY: `set` is an initialised sigset_t; the old one is not asked for.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: `set` is an initialised sigset_t.
        let fd = check(unsafe {
            libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        })?;
        // SAFETY: the kernel has just made `fd`; nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that came, if any.
    #[must_use]
    pub fn next(&self) -> Option<libc::c_int> {
        // SAFETY: a signalfd_siginfo is integers; zero is valid.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let len = size_of_val(&info);
        // SAFETY: `info` is `len` writable bytes.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), len) };
        (usize::try_from(read) == Ok(len)).then_some(info.ssi_signo.cast_signed())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The CPUs that the calling thread may run on, ascending.
///
/// # Errors
/// As `sched_getaffinity(2)`.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a cpu_set_t is an array of integers; zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable for its size.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) })?;
    let bits = 8 * size_of_val(&set);
    // SAFETY: `cpu` is below the number of bits of `set`.
    Ok((0..bits)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Pins the calling thread to one CPU.
///
/// # Errors
/// `EINVAL` if there is no such CPU, or not for this process.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    // SAFETY: a cpu_set_t is an array of integers; zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu >= 8 * size_of_val(&set) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: `cpu` is below the number of bits of `set`.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is readable for its size.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) })?;
    Ok(())
}

/// Lifts the limit on memory that this process may pin, which the UMEMs count against.
///
/// # Errors
/// `EPERM` without `CAP_SYS_RESOURCE`. With `CAP_IPC_LOCK` there is no limit anyway.
pub fn lift_memlock_limit() -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is a whole rlimit to read.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) })?;
    Ok(())
}

/// How many bytes this process may pin (`RLIMIT_MEMLOCK`), as long as nobody lifts the limit.
///
/// # Errors
/// As getrlimit(2).
pub fn memlock_limit() -> io::Result<u64> {
    Ok(limit(libc::RLIMIT_MEMLOCK)?.rlim_cur)
}

/// glibc has a type of its own for this.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn limit(resource: Resource) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a whole rlimit to write.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok(limit)
}

/// Whether this process may make files in `folder`.
#[must_use]
pub fn may_write(folder: &CStr) -> bool {
    let mode = libc::W_OK | libc::X_OK;
    // SAFETY: `folder` ends in a zero.
    check(unsafe { libc::faccessat(libc::AT_FDCWD, folder.as_ptr(), mode, libc::AT_EACCESS) })
        .is_ok()
}

/// How many files this process may open, once the limit is [lifted](lift_file_limit).
///
/// # Errors
/// As getrlimit(2).
pub fn file_limit() -> io::Result<u64> {
    Ok(limit(libc::RLIMIT_NOFILE)?.rlim_max)
}

/// Lifts the limit on open files as far as the process may.
///
/// # Errors
/// As setrlimit(2).
pub fn lift_file_limit() -> io::Result<()> {
    let mut limit = limit(libc::RLIMIT_NOFILE)?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a whole rlimit to read.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(())
}

/// Rows of the terminal that standard output is.
///
/// # Errors
/// `ENOTTY` if it is none.
pub fn terminal_rows() -> io::Result<usize> {
    // SAFETY: integers; zero is valid.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: `size` is writable for what the kernel puts there.
    check(unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) })?;
    Ok(size.ws_row.into())
}

/// Gives memory that the heap no longer needs back to the system; glibc's keeps it, musl's does not.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0)
    };
}
