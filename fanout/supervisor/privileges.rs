//! What the process may still do once everything is set up.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

/// Keeps what running and another config need and gives up all else, for this thread and those it starts from
/// now on: `CAP_NET_ADMIN` for neighbours, `CAP_NET_RAW` for sockets on interfaces that routes move to,
/// `CAP_BPF` for the maps (before Linux 5.8 it was part of `CAP_SYS_ADMIN`), `CAP_DAC_OVERRIDE` for a
/// metrics directory that is another user's; and for what a reload may ask for, `CAP_PERFMON` to load the
/// programs, `CAP_IPC_LOCK` for packet memory and `CAP_NET_BIND_SERVICE` for ports below 1024.
///
/// # Errors
/// As capset(2).
pub(super) fn drop_unneeded() -> Result<(), CapsError> {
    let held = caps::read(None, CapSet::Permitted)?;
    let bpf = if caps::runtime::thread_all_supported().contains(&Capability::CAP_BPF) {
        Capability::CAP_BPF
    } else {
        Capability::CAP_SYS_ADMIN
    };
    let needed = CapsHashSet::from([
        Capability::CAP_NET_ADMIN,
        Capability::CAP_NET_RAW,
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_PERFMON,
        Capability::CAP_IPC_LOCK,
        Capability::CAP_NET_BIND_SERVICE,
        bpf,
    ]);
    let kept = held.intersection(&needed).copied().collect();
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}
