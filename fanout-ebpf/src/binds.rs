//! Whose a packet is, and what is counted of packets that are left to the kernel.

use fanout_ebpf::abi::{self, Bind, BindKey, Interface, PassReason};

use crate::{BINDS, PASSED};

/// The bind of a destination: its own, else the wildcard's.
#[inline]
pub(crate) fn lookup(key: &BindKey, interface: Interface) -> Option<&'static Bind> {
    bind(key).or_else(|| {
        (interface.any_wildcard != 0)
            .then(|| bind(&key.wildcard()))
            .flatten()
    })
}

/// The bind that a destination would have with another tag, or with none.
#[inline]
pub(crate) fn lookup_other_vlan(key: &BindKey, interface: Interface) -> Option<&'static Bind> {
    (key.vlan != 0 || interface.any_tagged != 0)
        .then(|| lookup(&key.any_vlan(), interface))
        .flatten()
}

#[inline]
fn bind(key: &BindKey) -> Option<&'static Bind> {
    // SAFETY: the kernel frees a removed entry only after the programs that may see it have ended, and
    // user space replaces entries as a whole.
    unsafe { BINDS.get(key) }
}

/// Counts a packet of a listener that is left to the kernel.
#[inline]
pub(crate) fn count_passed(listener: u32, reason: PassReason) {
    if let Some(counter) = PASSED.get_ptr_mut(abi::passed_index(listener, reason)) {
        // SAFETY: the entry of this CPU, on which no other XDP program interrupts this one.
        unsafe { *counter += 1 };
    }
}
