//! The TC program, on an interface's ingress: it rewrites a datagram of a `tc_ebpf` listener and has the kernel
//! send it to the next hop, or lets it go up if the downstream is on this host. All else it lets pass untouched.
//!
//! It sees packets as the kernel's stack does: several datagrams merged into one packet (GSO), which go to one
//! downstream; tags beside the frame; data that is not in the linear part; checksums of which the kernel
//! knows more than the field says. So what the kernel knows is left right too: UDP checksums are changed
//! by its own helpers.
//!
//! Linux 5.10 (`bpf_redirect_neigh` with a next hop), `net/core/filter.c`.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "lengths within one packet, 16-bit fields that the context shows as 32 bits, and results of calls"
)]

use core::ptr;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        __sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC,
        bpf_redir_neigh,
    },
    helpers::{
        bpf_csum_update, bpf_l4_csum_replace, bpf_redirect_neigh, bpf_skb_change_tail,
        bpf_skb_pull_data, bpf_skb_vlan_pop,
    },
    macros::classifier,
    programs::TcContext,
};
use fanout_ebpf::{
    abi::{Bind, DropReason, Egress, NextHop, Way},
    checksum::Sum,
    frame::{Frame, FrameMut},
    parse::{
        ETH_P_8021Q, ETH_P_IPV6, ETHERNET_LEN, Flow, IPV4_LEN, IPV6_LEN, UDP_LEN, VLAN_VID_MASK,
        parse,
    },
    rewrite::{self, Due},
    size::Size,
};

use crate::{
    TC_PROGRAM,
    binds::Found,
    turn::{self, Turn},
};

/// A field of the packet's context.
macro_rules! field {
    ($ctx:expr, $field:ident) => {{
        // SAFETY: the kernel's context, each access to which the kernel checks at the load.
        unsafe { (*$ctx.skb.skb).$field }
    }};
}

/// Where the checksum is in a UDP header.
const UDP_CHECKSUM: u32 = 6;

/// Bytes that are made readable where the headers are not.
const PULLED: usize = 128;

#[classifier]
#[expect(
    clippy::needless_pass_by_value,
    reason = "what the macro calls it with"
)]
fn fanout_tc(ctx: TcContext) -> i32 {
    decide(&ctx).unwrap_or(TC_ACT_UNSPEC)
}

/// What a filter of clsact runs. The kernel empties the array when the process that filled it ends: from
/// then on there is nothing to call.
#[classifier]
#[expect(
    clippy::needless_pass_by_value,
    reason = "what the macro calls it with"
)]
fn fanout_tc_stub(ctx: TcContext) -> i32 {
    // SAFETY: nothing here needs to be dropped.
    unsafe { TC_PROGRAM.tail_call(&ctx, 0) };
    TC_ACT_UNSPEC
}

/// The action for a packet. `None`: it is not a listener's, or not for this program.
#[inline]
fn decide(ctx: &TcContext) -> Option<i32> {
    let (flow, size) = look(ctx)?;
    let found = Found::of(&flow)?;
    if found.bind.way != Way::Tc {
        return None;
    }
    if let Some(reason) = found.refusal(&flow, size.largest) {
        found.count_passed(reason);
        return None;
    }
    forward(ctx, &flow, size, found.bind)
}

/// Whose the packet is, with the tag that the kernel keeps beside the frame, and what is in it.
#[inline]
fn look(ctx: &TcContext) -> Option<(Flow, Size)> {
    let len = ctx.len() as usize;
    let headers = ETHERNET_LEN + UDP_LEN + if is_ipv6(ctx) { IPV6_LEN } else { IPV4_LEN };
    // Not for headers that are refused anyway: packets of all protocols come by here.
    if ctx.data_end() - ctx.data() < headers && headers <= len {
        // SAFETY: a call of the kernel with its own context.
        unsafe { bpf_skb_pull_data(skb(ctx), len.min(PULLED) as u32) };
    }
    let (start, end) = (ctx.data(), ctx.data_end());
    let beyond = len.saturating_sub(end - start);
    // SAFETY: the kernel keeps `data` to `data_end` readable while the program runs.
    let frame = unsafe { Frame::new(start as *const u8, end as *const u8) }.with_beyond(beyond);
    let mut flow = parse(frame)?;
    if field!(ctx, vlan_present) != 0 {
        if flow.ip != ETHERNET_LEN || field!(ctx, vlan_proto) as u16 != ETH_P_8021Q.to_be() {
            return None;
        }
        flow.key.vlan = field!(ctx, vlan_tci) as u16 & VLAN_VID_MASK;
    }
    let size = Size::new(&flow, field!(ctx, gso_size) as usize);
    Some((flow, size))
}

#[inline]
fn is_ipv6(ctx: &TcContext) -> bool {
    field!(ctx, protocol) == u32::from(ETH_P_IPV6.to_be())
}

/// Has the kernel send a datagram to the next hop whose turn it is, or drops and counts it.
#[inline]
fn forward(ctx: &TcContext, flow: &Flow, size: Size, bind: Bind) -> Option<i32> {
    let Bind {
        listener, policy, ..
    } = bind;
    // What the driver recorded is one more than the queue's number.
    let queue = field!(ctx, queue_mapping).saturating_sub(1);
    let turn = Turn::of(listener)?;
    turn.count_received(queue, size);
    // SAFETY: the kernel keeps `data` to `data_end` readable while the program runs.
    let frame = unsafe { Frame::new(ctx.data() as *const u8, ctx.data_end() as *const u8) };
    let place = turn::place(policy, flow, frame);
    let rewritten = turn.next(listener, place, size).and_then(|hop| {
        rewrite(ctx, flow, hop).ok_or(DropReason::SendFailed)?;
        Ok(hop)
    });
    Some(match rewritten {
        Ok(hop) => {
            turn::count_forwarded(hop, size);
            leave(hop)
        }
        Err(reason) => {
            turn.count_drop(reason, size);
            TC_ACT_SHOT
        }
    })
}

/// Makes the packet the one that leaves, but for the MAC addresses: untagged and without padding.
#[inline]
fn rewrite(ctx: &TcContext, flow: &Flow, hop: &NextHop) -> Option<()> {
    if flow.ip != ETHERNET_LEN || field!(ctx, vlan_present) != 0 {
        // SAFETY: a call of the kernel with its own context.
        succeeds(unsafe { bpf_skb_vlan_pop(skb(ctx)) })?;
    }
    let len = ETHERNET_LEN + flow.ip_len;
    if ctx.len() as usize > len {
        // SAFETY: a call of the kernel with its own context.
        succeeds(unsafe { bpf_skb_change_tail(skb(ctx), len as u32, 0) })?;
    }
    // SAFETY: the kernel keeps `data` to `data_end` readable and writable while the program runs, and no other
    // pointer into the packet is used any more.
    let frame = unsafe { FrameMut::new(ctx.data() as *mut u8, ctx.data_end() as *mut u8) };
    let due = rewrite::redirect_unsummed(frame.skip(ETHERNET_LEN), hop)?;
    settle(ctx, hop, due)
}

/// Changes the checksum in the UDP header, and the sum of the whole packet where the kernel has one.
#[inline]
fn settle(ctx: &TcContext, hop: &NextHop, due: Due) -> Option<()> {
    let at = ETHERNET_LEN as u32 + u32::from(hop.ip_header_len) + UDP_CHECKSUM;
    let (pseudo, zero) = (u64::from(BPF_F_PSEUDO_HDR), u64::from(BPF_F_MARK_MANGLED_0));
    // SAFETY: a call of the kernel with its own context.
    succeeds(unsafe { bpf_l4_csum_replace(skb(ctx), at, 0, due.addresses.into(), pseudo | zero) })?;
    // SAFETY: a call of the kernel with its own context.
    succeeds(unsafe { bpf_l4_csum_replace(skb(ctx), at, 0, due.port.into(), zero) })?;
    if update_sum(ctx, Sum::default()) {
        update_sum(ctx, due.packet.plus(ethernet(ctx, hop)?));
    }
    Some(())
}

/// Adds to the sum of the whole packet (`CHECKSUM_COMPLETE`); says if there is one.
#[inline]
fn update_sum(ctx: &TcContext, change: Sum) -> bool {
    let change = u16::from_ne_bytes(change.fold());
    // SAFETY: a call of the kernel with its own context.
    unsafe { bpf_csum_update(skb(ctx), change.into()) >= 0 }
}

/// What the Ethernet header will change the sum by. The kernel adds that of the received one when it redirects;
/// a device that passes the packet on within the host takes away that of the new one, loopback nothing.
#[inline]
fn ethernet(ctx: &TcContext, hop: &NextHop) -> Option<Sum> {
    // SAFETY: the kernel keeps `data` to `data_end` readable while the program runs.
    let frame = unsafe { Frame::new(ctx.data() as *const u8, ctx.data_end() as *const u8) };
    let received = Sum::default().words::<{ ETHERNET_LEN / 2 }>(frame.words(0)?);
    let [sent @ .., _, _] = hop.header;
    let sent = Sum::default().words(sent);
    Some(match hop.egress {
        Egress::Local => Sum::default(),
        Egress::Loopback => Sum::default().minus(received),
        _ => sent.minus(received),
    })
}

/// `struct bpf_redir_neigh`, with bytes for its union.
#[repr(C, align(4))]
struct Neighbor {
    family: u32,
    address: [u8; 16],
}
const _: () = assert!(size_of::<Neighbor>() == size_of::<bpf_redir_neigh>());

/// The action for a rewritten packet.
#[inline]
fn leave(hop: &NextHop) -> i32 {
    match hop.egress {
        Egress::Local => TC_ACT_UNSPEC,
        // Without a next hop the kernel looks up the route by itself, and the packet comes in with it.
        // SAFETY: a call of the kernel, which reads nothing of the null pointer.
        Egress::Loopback => unsafe {
            bpf_redirect_neigh(hop.ifindex, ptr::null_mut(), 0, 0) as i32
        },
        _ => {
            let mut neighbor = Neighbor {
                family: hop.gateway_family.into(),
                address: hop.gateway,
            };
            let (params, len) = ((&raw mut neighbor).cast(), size_of::<Neighbor>() as i32);
            // SAFETY: a call of the kernel, which reads `len` bytes of `neighbor`.
            unsafe { bpf_redirect_neigh(hop.ifindex, params, len, 0) as i32 }
        }
    }
}

#[inline]
fn skb(ctx: &TcContext) -> *mut __sk_buff {
    ctx.as_ptr().cast()
}

#[inline]
fn succeeds(result: i64) -> Option<()> {
    (result == 0).then_some(())
}
