//! The processor's count of instructions: `perf_event_open(2)`. Virtual machines often have none.
#![allow(unsafe_code, reason = "libc is the only way to this call")]

use std::{
    fs::File,
    io::{self, Read},
    os::fd::FromRawFd,
};

// linux/perf_event.h
const PERF_TYPE_HARDWARE: u32 = 0;
const PERF_COUNT_HW_INSTRUCTIONS: u64 = 1;
const EXCLUDE_KERNEL_AND_HYPERVISOR: u64 = 1 << 5 | 1 << 6;

/// `struct perf_event_attr` as it first was, `PERF_ATTR_SIZE_VER0`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}
const _: () = assert!(size_of::<Attributes>() == 64);

/// Instructions of this thread in user space.
#[derive(Debug)]
pub struct Counter(File);

impl Counter {
    /// Starts to count.
    pub fn open() -> io::Result<Self> {
        let attributes = Attributes {
            kind: PERF_TYPE_HARDWARE,
            size: size_of::<Attributes>() as u32,
            config: PERF_COUNT_HW_INSTRUCTIONS,
            flags: EXCLUDE_KERNEL_AND_HYPERVISOR,
            ..Attributes::default()
        };
        let (this_thread, any_cpu, no_group, no_flags) = (0, -1, -1, 0);
        // SAFETY: `attributes` is as long as it says, and the kernel only reads it.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                this_thread,
                any_cpu,
                no_group,
                no_flags,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made `fd`; nobody else has it.
        Ok(Self(unsafe { File::from_raw_fd(fd as i32) }))
    }

    /// How many by now.
    pub fn read(&self) -> u64 {
        let mut count = [0; 8];
        (&self.0).read_exact(&mut count).expect("a counter");
        u64::from_ne_bytes(count)
    }
}
