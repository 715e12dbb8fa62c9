//! The eBPF object: maps, license, panic handler. One module for each program.
//!
//! Every interface that fanout serves has an instance of its own of the whole object.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "the kernel's interface is pointers and link sections"
)]

mod binds;
mod failed;
mod tc;
mod turn;
mod xdp;

use aya_ebpf::{
    bindings::{BPF_F_INNER_MAP, BPF_F_NO_PREALLOC},
    btf_maps,
    macros::{btf_map, map},
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, ProgramArray, XskMap},
};
use fanout_ebpf::abi::{
    self, Bind, BindKey, Interface, Last, ListenerCounts, MAX_SLOTS, NextHop, Traffic,
};

/// Each bind also stands under [`abi::ANY_VLAN`], and a reload adds the new ones before it removes the old.
/// Entries are allocated one by one: no memory is held for the many that are never used, and a removed
/// one is not used again while a program looks at it.
#[map]
static BINDS: HashMap<BindKey, Bind> =
    HashMap::with_max_entries(abi::MAX_BINDS * 2 * 2, BPF_F_NO_PREALLOC);

#[map]
static XSKS: XskMap = XskMap::with_max_entries(abi::MAX_QUEUES, 0);

#[map]
static PASSED: PerCpuArray<u64> = PerCpuArray::with_max_entries(abi::PASSED_ENTRIES, 0);

#[map]
static LAST: PerCpuArray<Last> = PerCpuArray::with_max_entries(1, 0);

#[map]
static INTERFACE: Array<Interface> = Array::with_max_entries(1, 0);

/// [`NextHop`]s. One turn is as many as any: user space replaces the inner arrays by such as it needs. Those
/// have no BTF, and up to Linux 6.1 a map whose BTF says that its values are structs is not of their kind.
#[btf_map]
static TURNS: btf_maps::ArrayOfMaps<
    btf_maps::Array<[u64; NextHop::SIZE / 8], 1, { BPF_F_INNER_MAP as usize }>,
    MAX_SLOTS,
> = btf_maps::ArrayOfMaps::new();

#[map]
static COUNTS: PerCpuArray<ListenerCounts> = PerCpuArray::with_max_entries(abi::COUNTS_ENTRIES, 0);

/// User space says how many.
#[map]
static FORWARDED: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(1, 0);

/// Allocated as a whole: those who write to it trace the kernel, which may be allocating just then. Linux 5.10
/// warns of anything else.
#[map]
static FAILED: PerCpuHashMap<u32, u64> = PerCpuHashMap::with_max_entries(abi::MAX_EGRESSES, 0);

/// What the stub of a clsact filter calls: [`tc`]'s program.
#[map]
static TC_PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
