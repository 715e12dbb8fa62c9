//! The system calls that std does not offer, as safe functions; the only unsafe code of the tests.
#![allow(unsafe_code, reason = "libc is the only way to these calls")]

use std::{
    fs::File,
    io,
    mem::{self, size_of_val},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command},
    ptr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// Most messages of one [`send_batch`] or [`receive_batch`].
pub const BATCH: usize = 32;
/// Length of a `sockaddr_in6`, the longest address [`receive_batch`] stores.
pub const ADDRESS: usize = size_of::<libc::sockaddr_in6>();

/// Moves the calling thread, and what it spawns, into the network namespace behind `file`.
pub fn enter_network_namespace(file: &File) -> io::Result<()> {
    // SAFETY: setns reads no memory of ours, and `file` is open for the call.
    check(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) })?;
    Ok(())
}

/// Sets a socket option whose value is an int.
pub fn set_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: libc::c_int,
) -> io::Result<()> {
    let (fd, length) = (socket.as_raw_fd(), size_of_val(&value) as libc::socklen_t);
    // SAFETY: the kernel reads `length` bytes of `value`, which lives until it returns.
    check(unsafe { libc::setsockopt(fd, level, name, ptr::from_ref(&value).cast(), length) })?;
    Ok(())
}

/// Sends the first [`BATCH`] of `datagrams` on a connected socket; returns how many went out.
pub fn send_batch<D: AsRef<[u8]>>(socket: BorrowedFd<'_>, datagrams: &[D]) -> io::Result<usize> {
    let mut iovecs = [EMPTY_IOVEC; BATCH];
    let mut headers = [EMPTY_HEADER; BATCH];
    let count = datagrams.len().min(BATCH);
    for ((header, iovec), datagram) in headers.iter_mut().zip(&mut iovecs).zip(datagrams) {
        iovec.iov_base = datagram.as_ref().as_ptr().cast_mut().cast();
        iovec.iov_len = datagram.as_ref().len();
        header.msg_hdr.msg_iov = iovec;
        header.msg_hdr.msg_iovlen = 1;
    }
    let (fd, headers) = (socket.as_raw_fd(), headers.as_mut_ptr());
    // SAFETY: `count` headers point at one live iovec each, and those at live datagrams, only read.
    let sent = check(unsafe { libc::sendmmsg(fd, headers, count as u32, 0) })?;
    Ok(sent as usize)
}

/// Receives into `buffers` and stores each length and raw source address; returns how many came.
/// Blocks for the first one as long as the socket's timeout allows.
pub fn receive_batch<const N: usize>(
    socket: BorrowedFd<'_>,
    buffers: &mut [[u8; N]],
    lengths: &mut [usize; BATCH],
    addresses: &mut [[u8; ADDRESS]; BATCH],
) -> io::Result<usize> {
    let mut iovecs = [EMPTY_IOVEC; BATCH];
    let mut headers = [EMPTY_HEADER; BATCH];
    let count = buffers.len().min(BATCH);
    for (i, buffer) in buffers.iter_mut().take(count).enumerate() {
        iovecs[i].iov_base = buffer.as_mut_ptr().cast();
        iovecs[i].iov_len = N;
        let header = &mut headers[i].msg_hdr;
        header.msg_iov = &raw mut iovecs[i];
        header.msg_iovlen = 1;
        header.msg_name = addresses[i].as_mut_ptr().cast();
        header.msg_namelen = ADDRESS as u32;
    }
    let (fd, head, count) = (socket.as_raw_fd(), headers.as_mut_ptr(), count as u32);
    let (flags, no_timeout) = (libc::MSG_WAITFORONE, ptr::null_mut());
    // SAFETY: `count` headers point at buffers of the lengths given that live until the call returns.
    let received = check(unsafe { libc::recvmmsg(fd, head, count, flags, no_timeout) })? as usize;
    for (length, header) in lengths.iter_mut().zip(&headers[..received]) {
        *length = header.msg_len as usize;
    }
    Ok(received)
}

/// A raw `AF_PACKET` socket on the interface with this index: it receives frames of `protocol`, none if 0.
pub fn packet_socket(protocol: u16, ifindex: i32) -> io::Result<OwnedFd> {
    let (protocol_be, flags) = (protocol.to_be(), libc::SOCK_RAW | libc::SOCK_CLOEXEC);
    // SAFETY: socket reads no memory of ours.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, flags, 0) })?;
    // SAFETY: the kernel just gave us `fd`, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol_be,
        sll_ifindex: ifindex,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `address`, which lives until it returns.
    check(unsafe { libc::bind(fd, ptr::from_ref(&address).cast(), length) })?;
    Ok(socket)
}

/// Lets `command` run as on a kernel that has no TCX: bpf(2) refuses to create a link with EINVAL.
pub fn without_tcx(command: &mut Command) -> &mut Command {
    const BPF_LINK_CREATE: u32 = 28;
    const NUMBER: u32 = mem::offset_of!(libc::seccomp_data, nr) as u32;
    // The lower half of the first argument, on a little-endian machine.
    const FIRST: u32 = mem::offset_of!(libc::seccomp_data, args) as u32;
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let filter = [
        step(LOAD, NUMBER, 0, 0),
        step(JUMP, libc::SYS_bpf as u32, 0, 3),
        step(LOAD, FIRST, 0, 0),
        step(JUMP, BPF_LINK_CREATE, 0, 1),
        step(RETURN, refuse, 0, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let install = move || {
        let mut filter = filter;
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        let (mode, program) = (libc::SECCOMP_MODE_FILTER, &raw const program);
        // SAFETY: the kernel copies `len` steps of the live `filter`.
        check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, program) })?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(install) }
}

/// Sends `signal` to a child that has not been waited for, so the id can't be anyone else's.
pub fn signal(child: &Child, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: kill touches no memory.
    check(unsafe { libc::kill(pid, signal) })?;
    Ok(())
}

/// Sends a signal to one thread of this process.
pub fn signal_thread(thread: i32, signal: i32) -> io::Result<()> {
    // SAFETY: getpid takes nothing and can't fail.
    let process = unsafe { libc::getpid() };
    // SAFETY: tgkill touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
    check(result as i32)?;
    Ok(())
}

/// The effective user id.
pub fn effective_user() -> u32 {
    // SAFETY: geteuid can't fail and touches no memory.
    unsafe { libc::geteuid() }
}

/// Ticks in a second, the unit of CPU times in `/proc/PID/stat`.
pub fn clock_ticks() -> u64 {
    // SAFETY: sysconf touches no memory.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100)
}

/// Set once the user pressed Ctrl-C or the process was asked to end, after [`note_interrupts`].
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes SIGINT, SIGTERM and SIGHUP set [`INTERRUPTED`] instead of ending the process, so that guards still drop.
pub fn note_interrupts() {
    extern "C" fn note(_: libc::c_int) {
        INTERRUPTED.store(true, Relaxed);
    }
    let handler = note as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

const EMPTY_IOVEC: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

const EMPTY_HEADER: libc::mmsghdr = libc::mmsghdr {
    msg_hdr: libc::msghdr {
        msg_name: ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    },
    msg_len: 0,
};

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// `union bpf_attr` of `BPF_PROG_LOAD` (`linux/bpf.h`), up to the program's name.
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log: [u32; 4],
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// Loads an XDP program of that name which passes everything.
pub fn load_xdp_pass(name: &str) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    // `r0 = XDP_PASS`, `exit`
    let code: [u64; 2] = [0x2_0000_00b7, 0x95];
    let mut load = ProgramLoad {
        kind: BPF_PROG_TYPE_XDP,
        instructions: 2,
        code: code.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log: [0; 4],
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
    };
    load.name[..name.len()].copy_from_slice(name.as_bytes());
    let (attributes, len) = (&raw mut load, size_of_val(&load));
    // SAFETY: `load` has two instructions and a C string, which outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, attributes, len) };
    let fd = i32::try_from(fd).ok().filter(|&fd| fd >= 0);
    let fd = fd.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made it; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
