//! Frames that a program redirected and that the kernel then dropped: it says so by tracepoints only
//! (`include/trace/events/xdp.h`). Each instance counts those of its own interface.
#![expect(
    clippy::needless_pass_by_value,
    reason = "what the macro calls the programs with"
)]

use aya_ebpf::{
    bindings::xdp_action::XDP_TX, helpers::bpf_probe_read_kernel, macros::raw_tracepoint,
    programs::RawTracePointContext,
};

use crate::{FAILED, INTERFACE};

/// `struct net_device` of the kernel.
type NetDevice = *const u8;

/// `from_dev, to_dev, sent, drops, err`: the driver of `to_dev` took some frames and not the others.
#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
fn fanout_xmit(ctx: RawTracePointContext) -> Option<()> {
    // Runs for every handful of frames, and nearly always there is nothing to count.
    let drops: i32 = ctx.arg(3);
    let drops = u64::try_from(drops).ok().filter(|&drops| drops > 0)?;
    is_own(ctx.arg(0))?;
    count(ifindex(ctx.arg(1))?, drops)
}

/// `dev, xdp, tgt, err, map_type, map_id, index`: a frame of `dev` was not even queued for `index`.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
fn fanout_redirect(ctx: RawTracePointContext) -> Option<()> {
    is_own(ctx.arg(0))?;
    count(ctx.arg(6), 1)
}

/// The same up to Linux 5.11: `dev, xdp, tgt, err, map, index`. That refuses one that reads further.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
fn fanout_redirect_old(ctx: RawTracePointContext) -> Option<()> {
    is_own(ctx.arg(0))?;
    count(ctx.arg(5), 1)
}

/// `dev, xdp, act`: sending back by `dev` failed; in skb mode, sending by any interface `dev`.
#[raw_tracepoint(tracepoint = "xdp_exception")]
fn fanout_exception(ctx: RawTracePointContext) -> Option<()> {
    let action: u32 = ctx.arg(2);
    let egress = ifindex(ctx.arg(0))?;
    let interface = INTERFACE.get(0)?;
    if action != XDP_TX || (interface.skb_mode == 0 && egress != interface.ifindex) {
        return None;
    }
    count(egress, 1)
}

/// Whether it is the interface that this instance is for.
#[inline]
fn is_own(device: NetDevice) -> Option<()> {
    (ifindex(device)? == INTERFACE.get(0)?.ifindex).then_some(())
}

#[inline]
fn ifindex(device: NetDevice) -> Option<u32> {
    let offset = INTERFACE.get(0)?.ifindex_offset as usize;
    // SAFETY: the helper reads what can be read, and fails at all else.
    unsafe { bpf_probe_read_kernel(device.wrapping_add(offset).cast()) }.ok()
}

/// Nothing but the interfaces that user space put there.
#[inline]
fn count(egress: u32, frames: u64) -> Option<()> {
    let counter = FAILED.get_ptr_mut(egress)?;
    // SAFETY: the entry of this CPU. An interrupt that counts between reading and writing it would be lost,
    // but all of these tracepoints are hit by one softirq.
    unsafe { *counter += frames };
    Some(())
}
