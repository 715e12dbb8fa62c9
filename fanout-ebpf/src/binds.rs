//! Whose a packet is, and what is counted of packets that are left to the kernel.

use fanout_ebpf::{
    abi::{self, Bind, BindKey, Interface, Last, PassReason, Policy, Way},
    parse::Flow,
    plain::Plain,
};

use crate::{BINDS, INTERFACE, LAST, PASSED};

/// A packet's listener.
pub(crate) struct Found {
    pub(crate) bind: Bind,
    pub(crate) interface: &'static Interface,
    /// Only the tag keeps the packet from it.
    other_vlan: bool,
}

impl Found {
    /// Looks for it.
    #[inline]
    pub(crate) fn of(flow: &Flow) -> Option<Self> {
        let interface = INTERFACE.get(0)?;
        let last = LAST.get_ptr_mut(0)?;
        // SAFETY: the entry of this CPU, on which no other program that looks at it interrupts this one.
        let last = unsafe { &mut *last };
        if last.binds == interface.binds && last.key == flow.key {
            return Some(Self {
                bind: last.bind,
                interface,
                other_vlan: false,
            });
        }
        let (bind, other_vlan) = match lookup(&flow.key, interface) {
            Some(bind) => (*bind, false),
            None => (*lookup_other_vlan(&flow.key, interface)?, true),
        };
        if !other_vlan {
            *last = Last {
                key: flow.key,
                binds: interface.binds,
                bind,
                plain: short_way(bind).then(|| flow.key.plain()).flatten(),
            };
        }
        Some(Self {
            bind,
            interface,
            other_vlan,
        })
    }

    /// Why the listener does not take the packet; `largest` is the length of its largest datagram.
    #[inline]
    pub(crate) fn refusal(&self, flow: &Flow, largest: usize) -> Option<PassReason> {
        if flow.mac != self.interface.mac {
            Some(PassReason::OtherMac)
        } else if self.other_vlan {
            Some(PassReason::OtherVlan)
        } else if flow.irregular.is_some() {
            flow.irregular
        } else {
            (largest > self.bind.max_packet_size as usize).then_some(PassReason::TooBig)
        }
    }

    /// Counts the packet as left to the kernel.
    #[inline]
    pub(crate) fn count_passed(&self, reason: PassReason) {
        if let Some(counter) = PASSED.get_ptr_mut(abi::passed_index(self.bind.listener, reason)) {
            // SAFETY: the entry of this CPU, on which no other program that counts interrupts this one.
            unsafe { *counter += 1 };
        }
    }
}

/// The listener of the CPU's last datagram, if another one to it takes the short way.
pub(crate) struct LastPlain {
    last: &'static Last,
    interface: &'static Interface,
}

impl LastPlain {
    /// Looks for it.
    #[inline]
    pub(crate) fn get() -> Option<Self> {
        let last = LAST.get(0)?;
        let interface = INTERFACE.get(0)?;
        (last.plain.is_some() && last.binds == interface.binds).then_some(Self { last, interface })
    }

    /// Its bind, if the datagram goes there and is one that the listener takes.
    #[inline]
    pub(crate) fn bind_of(&self, datagram: &Plain<'_>) -> Option<&'static Bind> {
        let bind = &self.last.bind;
        (datagram.destination() == self.last.plain
            && datagram.mac() == self.interface.mac
            && datagram.ip_len <= bind.max_packet_size as usize)
            .then_some(bind)
    }
}

/// Whether a listener's [`Plain`] datagrams take the XDP program's short way.
#[inline]
fn short_way(bind: Bind) -> bool {
    match bind.way {
        Way::AfXdp => true,
        Way::Xdp => bind.policy == Policy::RoundRobin,
        Way::Tc => false,
    }
}

/// The bind of a destination: its own, else the wildcard's.
#[inline]
fn lookup(key: &BindKey, interface: &Interface) -> Option<&'static Bind> {
    bind(key).or_else(|| {
        (interface.any_wildcard != 0)
            .then(|| bind(&key.wildcard()))
            .flatten()
    })
}

/// The bind that a destination would have with another tag, or with none.
#[inline]
fn lookup_other_vlan(key: &BindKey, interface: &Interface) -> Option<&'static Bind> {
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
