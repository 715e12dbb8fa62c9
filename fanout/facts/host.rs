//! The kernel, and what this process may do.

use std::{fs, net::SocketAddr, path::PathBuf};

use caps::{CapSet, Capability, CapsHashSet};

use super::process::Process;
use crate::{
    config::{Config, Mode, Source},
    sys, userspace,
};

/// This host, and what the config needs of it.
#[derive(Clone, Debug)]
pub struct Host {
    /// What `uname -r` says.
    pub release: String,
    /// Whether its BPF programs are compiled; `None`: it does not say.
    pub jit: Option<bool>,
    /// Whether the kernel describes its types.
    pub btf: bool,
    /// Whether AF_XDP sockets can be had; `None`: this process may not try.
    pub xdp_sockets: Option<bool>,
    /// What this process may do.
    pub capabilities: CapsHashSet,
    /// How many bytes it may pin.
    pub memlock: u64,
    /// How many files it may open.
    pub file_limit: u64,
    /// The first port that everybody may bind.
    pub unprivileged_port: u16,
    /// This program's file.
    pub program: PathBuf,
    /// The process that moves interrupts between CPUs.
    pub irqbalance: Option<Process>,
    /// What the config needs.
    pub needs: Needs,
}

/// What is needed of the host for a config.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Needs {
    /// Listeners by AF_XDP sockets.
    pub af_xdp: bool,
    /// Listeners that the XDP program forwards for.
    pub xdp: bool,
    /// Listeners that the TC program forwards for.
    pub tc: bool,
    /// Listeners of userspace mode that keep the source address.
    pub raw_sockets: bool,
    /// The lowest port that userspace mode binds.
    pub lowest_port: Option<u16>,
    /// Sockets that userspace mode opens.
    pub sockets: u64,
    /// An MTU or channels to set.
    pub tuning: bool,
    /// RX queues with an AF_XDP socket, of all interfaces.
    pub queues: u32,
}

impl Needs {
    /// Of `config`, with `queues` RX queues.
    #[must_use]
    pub fn of(config: &Config, queues: u32) -> Self {
        let has = |mode| {
            config
                .listeners
                .iter()
                .any(|listener| listener.mode == mode)
        };
        let userspace = || {
            let listeners = config.listeners.iter();
            listeners.filter(|listener| listener.mode == Mode::Userspace)
        };
        let ports = userspace().flat_map(|listener| listener.binds.iter().map(SocketAddr::port));
        Self {
            af_xdp: has(Mode::AfXdp),
            xdp: has(Mode::Xdp),
            tc: has(Mode::TcEbpf),
            raw_sockets: userspace().any(|listener| listener.source == Source::Keep),
            lowest_port: ports.min(),
            sockets: userspace()
                .map(|listener| userspace::sockets(listener, listener.downstreams.len()))
                .sum(),
            tuning: (config.interfaces.iter())
                .any(|interface| interface.mtu.is_some() || interface.channels.is_some()),
            queues,
        }
    }

    /// Whether eBPF programs are loaded.
    #[must_use]
    pub fn programs(&self) -> bool {
        self.af_xdp || self.xdp || self.tc
    }
}

impl Host {
    /// Looks at it.
    #[must_use]
    pub fn read(needs: Needs) -> Self {
        let capabilities = caps::read(None, CapSet::Permitted).unwrap_or_default();
        let may_try = capabilities.contains(&Capability::CAP_NET_RAW);
        let setting = |name: &str| {
            let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
            text.trim().parse::<u16>().ok()
        };
        Self {
            release: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            jit: setting("net/core/bpf_jit_enable").map(|value| value != 0),
            btf: fs::exists("/sys/kernel/btf/vmlinux").unwrap_or_default(),
            xdp_sockets: may_try.then(|| sys::xdp::open().is_ok()),
            memlock: sys::process::memlock_limit().unwrap_or(u64::MAX),
            file_limit: sys::process::file_limit().unwrap_or(u64::MAX),
            unprivileged_port: setting("net/ipv4/ip_unprivileged_port_start").unwrap_or(1024),
            program: std::env::current_exe().unwrap_or_else(|_| "fanout".into()),
            irqbalance: Process::all().find(|process| process.name == "irqbalance"),
            capabilities,
            needs,
        }
    }
}
