//! The XDP program of `af_xdp` listeners: a datagram of theirs goes to the AF_XDP socket of its RX queue,
//! all else to the kernel untouched.
//!
//! Without `xdp.frags`: where a frame would take several buffers (jumbo MTU), drivers refuse the native
//! attach, and say so. It changes no byte and drops nothing.

use aya_ebpf::{bindings::xdp_action::XDP_PASS, macros::xdp, programs::XdpContext};
use fanout_ebpf::{
    abi::{self, Bind, BindKey, Interface, PassReason},
    parse::{Frame, parse},
};

use crate::{BINDS, INTERFACE, PASSED, XSKS};

#[xdp]
#[expect(
    clippy::needless_pass_by_value,
    reason = "what the macro calls it with"
)]
fn fanout_xdp(ctx: XdpContext) -> u32 {
    redirect(&ctx).unwrap_or(XDP_PASS)
}

/// The action for a packet. `None`: it is not a listener's.
#[inline]
fn redirect(ctx: &XdpContext) -> Option<u32> {
    // SAFETY: the kernel keeps `data` to `data_end` readable while the program runs.
    let frame = unsafe { Frame::new(ctx.data() as *const u8, ctx.data_end() as *const u8) };
    let flow = parse(frame)?;
    let interface = *INTERFACE.get(0)?;
    let (bind, other_vlan) = match lookup(&flow.key, interface) {
        Some(bind) => (bind, false),
        None => (lookup_other_vlan(&flow.key, interface)?, true),
    };
    let reason = if flow.mac != interface.mac {
        PassReason::OtherMac
    } else if other_vlan {
        PassReason::OtherVlan
    } else if let Some(reason) = flow.irregular {
        reason
    } else if flow.ip_len > bind.max_packet_size as usize {
        PassReason::TooBig
    } else {
        match XSKS.redirect(ctx.rx_queue_index(), u64::from(XDP_PASS)) {
            Ok(action) => return Some(action),
            Err(_) => PassReason::NoSocket,
        }
    };
    count(bind.listener, reason);
    Some(XDP_PASS)
}

/// The bind of a destination: its own, else the wildcard's.
#[inline]
fn lookup(key: &BindKey, interface: Interface) -> Option<&'static Bind> {
    bind(key).or_else(|| {
        (interface.any_wildcard != 0)
            .then(|| bind(&key.wildcard()))
            .flatten()
    })
}

/// The bind that a destination would have with another tag, or with none.
#[inline]
fn lookup_other_vlan(key: &BindKey, interface: Interface) -> Option<&'static Bind> {
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

#[inline]
fn count(listener: u32, reason: PassReason) {
    if let Some(counter) = PASSED.get_ptr_mut(abi::passed_index(listener, reason)) {
        // SAFETY: the entry of this CPU, on which no other XDP program interrupts this one.
        unsafe { *counter += 1 };
    }
}
