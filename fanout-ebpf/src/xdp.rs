//! The XDP program. A datagram of an `af_xdp` listener goes to the AF_XDP socket of its RX queue, one of an
//! `xdp` listener to its next hop, all else to the kernel untouched.
//!
//! Without `xdp.frags`: where a frame would take several buffers (jumbo MTU), drivers refuse the native
//! attach, and say so.

use core::hint::black_box;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX},
    helpers::{bpf_csum_diff, bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    macros::xdp,
    programs::XdpContext,
};
use fanout_ebpf::{
    abi::{Bind, DropReason, Egress, Interface, NextHop, PassReason, Way},
    checksum::Sum,
    frame::{Frame, FrameMut},
    parse::{Flow, parse},
    plain::Plain,
    rewrite::{self, Partial, Sums},
    size::Size,
};

use crate::{
    XSKS,
    binds::{Found, LastPlain},
    turn::{self, Turn},
};

#[xdp]
#[expect(
    clippy::needless_pass_by_value,
    reason = "what the macro calls it with"
)]
fn fanout_xdp(ctx: XdpContext) -> u32 {
    plain(&ctx).or_else(|| decide(&ctx)).unwrap_or(XDP_PASS)
}

/// The short way of [`Plain`] datagrams of the listener that had the last one. `None`: it is another packet, or one
/// that takes another way, and nothing has changed.
#[inline]
fn plain(ctx: &XdpContext) -> Option<u32> {
    let last = LastPlain::get()?;
    // SAFETY: the kernel keeps `data` to `data_end` readable and writable while the program runs, for it alone.
    let frame = unsafe { FrameMut::new(ctx.data() as *mut u8, ctx.data_end() as *mut u8) };
    let datagram = Plain::of(frame)?;
    let bind = last.bind_of(&datagram)?;
    match bind.way {
        Way::AfXdp => to_socket(ctx),
        _ => forward_plain(ctx, datagram, bind.listener),
    }
}

/// Sends it to the next hop whose turn it is, by Ethernet without a tag.
#[inline]
fn forward_plain(ctx: &XdpContext, datagram: Plain<'_>, listener: u32) -> Option<u32> {
    let size = Size::one(datagram.ip_len);
    let turn = Turn::of(listener)?;
    let (place, hop) = turn.peek(listener)?;
    let is_ethernet = matches!(hop.egress, Egress::SameInterface | Egress::OtherInterface);
    if !is_ethernet || hop.header_len != 14 || size.largest > hop.mtu as usize {
        return None;
    }
    datagram.redirect(hop)?;
    turn.count_received(ctx.rx_queue_index(), size);
    turn.take(place);
    turn::count_forwarded(hop, size);
    Some(action(hop))
}

/// Hands the packet to the AF_XDP socket of its RX queue, if there is one.
#[inline]
fn to_socket(ctx: &XdpContext) -> Option<u32> {
    XSKS.redirect(ctx.rx_queue_index(), u64::from(XDP_PASS))
        .ok()
}

/// The action for a packet. `None`: it is not a listener's, or not for this program.
#[inline]
fn decide(ctx: &XdpContext) -> Option<u32> {
    // SAFETY: the kernel keeps `data` to `data_end` readable while the program runs.
    let frame = unsafe { Frame::new(ctx.data() as *const u8, ctx.data_end() as *const u8) };
    let flow = parse(frame)?;
    let found = Found::of(&flow)?;
    let reason = match (found.bind.way, found.refusal(&flow, flow.ip_len)) {
        (Way::Tc, _) => return None,
        (_, Some(reason)) => reason,
        (Way::Xdp, None) => return forward(ctx, &flow, &found),
        (Way::AfXdp, None) => match to_socket(ctx) {
            Some(action) => return Some(action),
            None => PassReason::NoSocket,
        },
    };
    found.count_passed(reason);
    Some(XDP_PASS)
}

/// Sends a datagram to the next hop whose turn it is, or drops and counts it.
#[inline]
fn forward(ctx: &XdpContext, flow: &Flow, found: &Found) -> Option<u32> {
    let Bind {
        listener, policy, ..
    } = found.bind;
    let size = Size::one(flow.ip_len);
    let turn = Turn::of(listener)?;
    turn.count_received(ctx.rx_queue_index(), size);
    // SAFETY: the kernel keeps `data` to `data_end` readable while the program runs.
    let frame = unsafe { Frame::new(ctx.data() as *const u8, ctx.data_end() as *const u8) };
    let sent = turn
        .next(listener, turn::place(policy, flow, frame), size)
        .and_then(|hop| send(ctx, flow, found.interface, hop));
    Some(sent.unwrap_or_else(|reason| {
        turn.count_drop(reason, size);
        XDP_DROP
    }))
}

#[inline]
fn send(
    ctx: &XdpContext,
    flow: &Flow,
    interface: &Interface,
    hop: &NextHop,
) -> Result<u32, DropReason> {
    rewrite(ctx, flow, interface, hop).ok_or(DropReason::SendFailed)?;
    turn::count_forwarded(hop, Size::one(flow.ip_len));
    Ok(action(hop))
}

/// The action for a datagram that has become `hop`'s.
#[inline]
fn action(hop: &NextHop) -> u32 {
    match hop.egress {
        Egress::SameInterface => XDP_TX,
        Egress::Local => XDP_PASS,
        // Not by a device map: up to Linux 5.14 no program that has one runs in skb mode. If the interface has
        // vanished, the kernel says so by the tracepoint of failed redirects.
        _ => {
            // SAFETY: a call of the kernel with numbers. It refuses flags, and nothing else.
            unsafe { bpf_redirect(hop.ifindex, 0) };
            XDP_REDIRECT
        }
    }
}

/// Makes the frame the one that leaves.
#[inline]
fn rewrite(ctx: &XdpContext, flow: &Flow, interface: &Interface, hop: &NextHop) -> Option<()> {
    // SAFETY: the kernel keeps `data` to `data_end` readable while the program runs and does not change
    // the packet's limits.
    let frame = unsafe { Frame::new(ctx.data() as *const u8, ctx.data_end() as *const u8) };
    let macs = match hop.egress {
        // The kernel takes it as it came: only a tag goes.
        Egress::Local => Some(frame.words(0)?),
        _ => None,
    };
    fit(ctx, flow, hop)?;
    // SAFETY: as above, also writable, and `frame` is not used any more.
    let frame = unsafe { FrameMut::new(ctx.data() as *mut u8, ctx.data_end() as *mut u8) };
    let partial = if interface.skb_mode == 0 {
        Partial::Complete
    } else {
        Partial::Keep
    };
    rewrite::redirect::<Kernel>(frame, hop, macs, partial)
}

/// Cuts what follows the IP packet, and makes the Ethernet header longer or shorter where a tag comes or
/// goes. All pointers into the packet are void afterwards.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "lengths within one frame"
)]
fn fit(ctx: &XdpContext, flow: &Flow, hop: &NextHop) -> Option<()> {
    // LLVM would rather add the lengths to a pointer, and a length from the packet has no limit that the
    // verifier of Linux 6.1 knows.
    let frame_len = black_box(ctx.data_end() - ctx.data());
    let padding = frame_len - flow.ip - flow.ip_len;
    if padding > 0 {
        // SAFETY: a call of the kernel with its own context.
        let cut = unsafe { bpf_xdp_adjust_tail(ctx.ctx, -(padding as i32)) };
        if cut != 0 {
            return None;
        }
    }
    let header = usize::from(hop.header_len);
    if header != flow.ip {
        // SAFETY: a call of the kernel with its own context.
        let moved = unsafe { bpf_xdp_adjust_head(ctx.ctx, flow.ip as i32 - header as i32) };
        if moved != 0 {
            return None;
        }
    }
    Some(())
}

/// By the kernel's own loop.
struct Kernel;

impl Sums for Kernel {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "512 at most")]
    fn sum<const LEN: usize>(bytes: Frame<'_>) -> Option<Sum> {
        let bytes = bytes.first::<LEN>()?.cast_mut().cast();
        // SAFETY: the kernel reads as many bytes as were found to be there, and none of the null pointer's.
        let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, bytes, LEN as u32, 0) };
        // It is not negative: an error would be, of a length that is not a multiple of four.
        Some(Sum::default().field(sum.to_ne_bytes()))
    }
}
