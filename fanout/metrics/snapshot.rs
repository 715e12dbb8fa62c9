//! What is shown, as plain numbers: wherever a mode counts (in its workers, in BPF maps), it ends up
//! here. Names are borrowed from the config.

use std::{net::SocketAddr, time::SystemTime};

use fanout_ebpf::abi::{self, PassReason};

use super::{DownstreamCounters, DropReason, ListenerCounters, Traffic};
use crate::{config, link::Losses};

/// All counts of the process.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    /// When the process started.
    pub started: SystemTime,
    /// How the last reading of the config went.
    pub reload: Reload,
    /// In the order of the config.
    pub listeners: Vec<ListenerSample<'a>>,
    /// Of all interfaces.
    pub queues: Vec<QueueSample<'a>>,
    /// With listeners that eBPF programs serve.
    pub interfaces: Vec<InterfaceSample<'a>>,
    /// Of all interfaces with listeners that redirect.
    pub redirects: Vec<RedirectSample<'a>>,
}

/// How the last reading of the config went; the one at the start counts as the first.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// Whether the config was taken over.
    pub successful: bool,
    /// When one was taken over last.
    pub last_success: SystemTime,
}

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerSample<'a> {
    /// `[listener NAME]`.
    pub name: &'a str,
    /// Whether it is in the config, and not just what it counted when it was.
    pub is_served: bool,
    /// The config's word for it.
    pub mode: &'a str,
    /// The kernel's name of it.
    pub interface: &'a str,
    /// How the program is attached: `native`, `skb`, or `none`.
    pub xdp: &'a str,
    /// Whether all its sockets are in zero-copy mode.
    pub zero_copy: bool,
    /// By RX queue.
    pub received: Vec<(u32, Totals)>,
    /// By [`DropReason`].
    pub dropped: [u64; DropReason::COUNT],
    /// By [`PassReason`].
    pub passed: [u64; PassReason::COUNT],
    /// In the order of the config.
    pub downstreams: Vec<DownstreamSample<'a>>,
    /// In the order of the downstreams that they are of.
    pub members: Vec<MemberSample<'a>>,
}

impl<'a> ListenerSample<'a> {
    /// A listener that has counted nothing, on no interface.
    #[must_use]
    pub fn of(listener: &'a config::Listener) -> Self {
        Self {
            mode: listener.mode.name(),
            is_served: true,
            ..Self::gone(&listener.name)
        }
    }

    /// One that is no more.
    #[must_use]
    pub fn gone(name: &'a str) -> Self {
        Self {
            name,
            is_served: false,
            mode: "",
            interface: "",
            xdp: "none",
            zero_copy: false,
            received: Vec::new(),
            dropped: Default::default(),
            passed: Default::default(),
            downstreams: Vec::new(),
            members: Vec::new(),
        }
    }

    /// Takes the counts of the workers, one for each RX queue from 0.
    pub fn count_workers<'c>(&mut self, workers: impl IntoIterator<Item = &'c ListenerCounters>) {
        self.received.clear();
        self.dropped = Default::default();
        for (queue, worker) in (0..).zip(workers) {
            self.received.push((queue, Totals::of([&worker.received])));
            for (total, reason) in self.dropped.iter_mut().zip(DropReason::ALL) {
                *total += worker.dropped(reason);
            }
        }
    }

    /// Takes datagrams that the kernel dropped before worker number `queue` saw them.
    pub fn count_unseen(&mut self, queue: usize, reason: DropReason, count: u64) {
        self.received[queue].1.packets += count;
        self.dropped[reason as usize] += count;
    }
}

/// One downstream of a listener.
#[derive(Clone, Debug)]
pub struct DownstreamSample<'a> {
    /// `downstream.NAME`.
    pub name: &'a str,
    /// Handed to the kernel's transmit path.
    pub forwarded: Totals,
}

/// One address of a downstream. One that is configured no more has none.
#[derive(Clone, Copy, Debug)]
pub struct MemberSample<'a> {
    /// `downstream.NAME`.
    pub downstream: &'a str,
    /// Where datagrams go.
    pub address: SocketAddr,
    /// Whether they go there now.
    pub is_up: bool,
}

/// What an interface lost before its programs saw it.
#[derive(Clone, Debug)]
pub struct InterfaceSample<'a> {
    /// The kernel's name of it.
    pub name: &'a str,
    /// As the kernel counts.
    pub losses: Losses,
}

/// What left an interface by another one, or by itself, without a worker.
#[derive(Clone, Debug)]
pub struct RedirectSample<'a> {
    /// Where it came in, by the kernel's name.
    pub interface: &'a str,
    /// Where it was to leave, by the kernel's name.
    pub egress: &'a str,
    /// Frames that the kernel then dropped.
    pub failed: u64,
}

/// One AF_XDP socket's RX queue and its UMEM.
#[derive(Clone, Debug)]
pub struct QueueSample<'a> {
    /// The kernel's name of the interface.
    pub interface: &'a str,
    /// The RX queue.
    pub queue: u32,
    /// What the kernel counts of the socket.
    pub statistics: XskStatistics,
    /// Frames of the worker's UMEM that are in no ring.
    pub umem_free_frames: u64,
}

/// `struct xdp_statistics` of `linux/if_xdp.h`, as the option `XDP_STATISTICS` gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XskStatistics {
    /// Dropped for another reason than invalid descriptors.
    pub rx_dropped: u64,
    /// Dropped for an invalid fill descriptor.
    pub rx_invalid_descs: u64,
    /// Not sent for an invalid TX descriptor.
    pub tx_invalid_descs: u64,
    /// Dropped because the RX ring was full.
    pub rx_ring_full: u64,
    /// Found the fill ring empty.
    pub rx_fill_ring_empty_descs: u64,
    /// Found the TX ring empty.
    pub tx_ring_empty_descs: u64,
}

/// Packets and the sum of their IP lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Datagrams.
    pub packets: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
}

impl From<abi::Traffic> for Totals {
    fn from(abi::Traffic { packets, bytes }: abi::Traffic) -> Self {
        Self { packets, bytes }
    }
}

impl Totals {
    /// Adds others.
    pub const fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }

    /// What one downstream's workers forwarded.
    #[must_use]
    pub fn forwarded<'c>(workers: impl IntoIterator<Item = &'c DownstreamCounters>) -> Self {
        Self::of(workers.into_iter().map(|worker| &worker.forwarded))
    }

    fn of<'t>(traffic: impl IntoIterator<Item = &'t Traffic>) -> Self {
        let mut totals = Self::default();
        for traffic in traffic {
            totals.packets += traffic.packets.read();
            totals.bytes += traffic.bytes.read();
        }
        totals
    }
}
