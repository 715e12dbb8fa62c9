//! The ways that fanout can be told to forward by, for tests that hold in each.

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// More keys of each listener.
    pub keys: &'static str,
    /// More sections of the config.
    pub sections: &'static str,
    /// Who takes turns by itself: a CPU that runs an eBPF program, else the worker of a queue.
    pub turns_by_cpu: bool,
    /// Whether a partial checksum is left for the kernel, and then the network device, to complete.
    pub keeps_partial: bool,
}

/// By AF_XDP sockets: the default.
pub const AF_XDP: Mode = Mode {
    keys: "",
    sections: "",
    turns_by_cpu: false,
    keeps_partial: false,
};

/// By the XDP program, in the driver.
pub const XDP: Mode = Mode {
    keys: "mode = xdp\n",
    sections: "",
    turns_by_cpu: true,
    keeps_partial: false,
};

/// By the XDP program, after the driver.
pub const XDP_SKB: Mode = Mode {
    sections: "\n[interface ens5]\nxdp = skb\n",
    keeps_partial: true,
    ..XDP
};

/// By the TC program.
pub const TC: Mode = Mode {
    keys: "mode = tc_ebpf\n",
    sections: "",
    turns_by_cpu: true,
    keeps_partial: true,
};

/// By sockets: one worker, so that there is one turn.
pub const USERSPACE: Mode = Mode {
    keys: "mode = userspace\nworkers = 1\n",
    ..AF_XDP
};
