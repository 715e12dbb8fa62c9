//! Whether the sockets of an interface may be zero-copy.

use crate::{bpf::Mode, config::ZeroCopy};

/// What to ask the driver for, or why zero copy, if `wanted` insists on it, can't be had. `before` is
/// how many RX queues the interface had without the program, `queues` how many it has with it.
///
/// A driver that adds queues for the program (`virtio_net`) takes them away with it. If the process is
/// killed, that is before the driver has let go of the sockets on them, and then it never does: it
/// takes no such order for a queue that is not there (`virtnet_xsk_pool_disable`), goes on with freed
/// memory, and the kernel crashes (seen on Linux 6.16 and 6.18). Copying needs nothing of the driver.
pub(super) fn choose(
    interface: &str,
    wanted: ZeroCopy,
    mode: Mode,
    before: u32,
    queues: u32,
) -> Result<ZeroCopy, String> {
    match mode {
        Mode::Native if queues <= before => Ok(wanted),
        _ if wanted != ZeroCopy::On => Ok(ZeroCopy::Off),
        Mode::Native => Err(format!(
            "its driver went from {before} to {queues} queues for the XDP program and takes them away \
             with it; as many channels beforehand mend that: ethtool -L {interface} combined {queues}"
        )),
        Mode::Skb => Err("the XDP program runs in skb mode".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_in_the_driver_and_only_on_queues_that_stay() {
        for (wanted, mode, before, queues, chosen) in [
            (ZeroCopy::Auto, Mode::Native, 4, 4, Some(ZeroCopy::Auto)),
            (ZeroCopy::Auto, Mode::Native, 2, 4, Some(ZeroCopy::Off)),
            (ZeroCopy::Auto, Mode::Skb, 4, 4, Some(ZeroCopy::Off)),
            (ZeroCopy::On, Mode::Native, 8, 4, Some(ZeroCopy::On)),
            (ZeroCopy::On, Mode::Native, 2, 4, None),
            (ZeroCopy::On, Mode::Skb, 4, 4, None),
            (ZeroCopy::Off, Mode::Skb, 2, 4, Some(ZeroCopy::Off)),
        ] {
            let what = format!("{wanted:?} {mode} {before} {queues}");
            let choice = choose("ens5", wanted, mode, before, queues);
            assert_eq!(choice.ok(), chosen, "{what}");
        }
    }
}
