//! Who is measured. One more is one more line of [`ALL`].

use std::{env, panic::resume_unwind, thread};

use fanout::sys::process::pin_to_cpu;

use super::{
    bpf::{Attached, Kind, Program},
    network::{self, EGRESS, Layout, Network},
    programs, relay, rings,
};
use crate::common::{
    fanout::Fanout,
    nftables,
    topology::{Family, INTERFACE, PORT},
};

/// The CPU of what a contender does in threads of its own. What it does in the kernel's receive path runs on
/// the generator's CPU, because a veth's NAPI runs where its frames were sent.
pub const CPU: usize = 1;

/// How much of the work a contender does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// It receives, and forwards nothing.
    Receive,
    /// It transmits, and receives nothing.
    Transmit,
}

/// A way to spread datagrams, or a part of one.
pub struct Contender {
    /// As `--only` and the table name it.
    pub name: &'static str,
    /// Whether it is fanout.
    pub ours: bool,
    /// What it does.
    pub part: Part,
    /// Where it runs.
    pub layout: Layout,
    /// The program that it needs.
    pub needs: Option<&'static str>,
    start: fn(&Network) -> Box<dyn Running>,
}

/// The network of most: one queue, and the sink of most.
pub const STRAIGHT: Layout = Layout {
    sink: Kind::Tc,
    queues: 1,
    spread: false,
    bridge: false,
};

/// All of them.
pub const ALL: &[Contender] = &[
    Contender::fanout("af_xdp", |network| af_xdp(network, "always")),
    Contender::fanout("af_xdp_adaptive", |network| af_xdp(network, "adaptive")),
    Contender::fanout("xdp", |network| fanout(network, "", "xdp")).with_xdp_sink(),
    Contender::fanout("tc_ebpf", |network| fanout(network, "", "tc_ebpf")).with_xdp_sink(),
    Contender::fanout("userspace", |network| fanout(network, "", "userspace")),
    Contender::new("nftables", nftables)
        .needing("nft")
        .with_xdp_sink(),
    Contender::new("nginx", relay::nginx).needing("nginx"),
    Contender::new("socat", relay::socat).needing("socat"),
    Contender::new("xdp_redirect", bare_redirect).with_xdp_sink(),
    Contender::new("rx_only", rings::rx_only).that_only(Part::Receive),
    Contender::new("tx_only", rings::tx_only).that_only(Part::Transmit),
    // What another queue costs, whose worker shares the CPU.
    Contender::fanout("1_queue", |network| af_xdp(network, "adaptive")).spread_over(1),
    Contender::fanout("2_queues", |network| af_xdp(network, "adaptive")).spread_over(2),
    Contender::fanout("4_queues", |network| af_xdp(network, "adaptive")).spread_over(4),
    // Two workers into a bridge of one queue, which only one of them gets: the other has a raw socket.
    Contender::fanout("2_queues_bridge", |network| af_xdp(network, "adaptive"))
        .spread_over(2)
        .into_bridge(),
    Contender::new("nftables_bridge", nftables)
        .needing("nft")
        .spread_over(2)
        .into_bridge(),
];

impl Contender {
    const fn new(name: &'static str, start: fn(&Network) -> Box<dyn Running>) -> Self {
        Self {
            name,
            ours: false,
            part: Part::Whole,
            layout: STRAIGHT,
            needs: None,
            start,
        }
    }

    const fn fanout(name: &'static str, start: fn(&Network) -> Box<dyn Running>) -> Self {
        Self {
            ours: true,
            ..Self::new(name, start)
        }
    }

    const fn that_only(mut self, part: Part) -> Self {
        self.part = part;
        self
    }

    const fn with_xdp_sink(mut self) -> Self {
        self.layout.sink = Kind::Xdp;
        self
    }

    const fn spread_over(mut self, queues: u8) -> Self {
        self.layout.queues = queues;
        self.layout.spread = true;
        self
    }

    const fn into_bridge(mut self) -> Self {
        self.layout.bridge = true;
        self
    }

    const fn needing(mut self, program: &'static str) -> Self {
        self.needs = Some(program);
        self
    }

    /// Whether the program that it needs is in the path.
    pub fn is_there(&self) -> bool {
        let path = env::var_os("PATH").unwrap_or_default();
        self.needs.is_none_or(|program| {
            env::split_paths(&path).any(|folder| folder.join(program).is_file())
        })
    }

    /// Starts it; it runs until the guard is dropped.
    pub fn start(&self, network: &Network) -> Box<dyn Running> {
        (self.start)(network)
    }
}

/// A contender at work.
pub trait Running {
    /// Datagrams that it has delivered.
    fn delivered(&self, network: &Network) -> u64 {
        network.sink.count()
    }

    /// What it knows of those that it has not, a name and a number a line.
    fn drops(&self) -> String {
        String::new()
    }
}

/// fanout, by its binary and a config.
impl Running for Fanout {
    fn drops(&self) -> String {
        let text = self.metrics().text;
        let lines = text.lines().filter(|line| {
            let counts = line.contains("_total{") && !line.contains("_bytes_");
            counts && !line.ends_with(" 0")
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// With its worker on [`CPU`].
fn af_xdp(network: &Network, busy_poll: &str) -> Box<dyn Running> {
    let interface = format!("[interface {INTERFACE}]\ncpus = {CPU}\nbusy_poll = {busy_poll}\n");
    fanout(network, &interface, "af_xdp")
}

/// By the config's `[interface]` section and its listener's mode. It may use no CPU but [`CPU`], as whoever starts it
/// may not: else userspace has another worker beside the generator, which may be the one that gets the flow.
fn fanout(network: &Network, interface: &str, mode: &str) -> Box<dyn Running> {
    let listener = network.topology.config(Family::V4);
    let config = format!("{interface}{listener}mode = {mode}\n");
    let start = || {
        pin_to_cpu(CPU).expect("CPU 1");
        Fanout::start(&network.topology.host, &config)
    };
    let started = thread::scope(|scope| scope.spawn(start).join());
    Box::new(started.unwrap_or_else(|panic| resume_unwind(panic)))
}

/// One that the kernel runs: it goes with the network.
impl Running for () {}

/// No connection is tracked, and each datagram takes the next number.
fn nftables(network: &Network) -> Box<dyn Running> {
    nftables::spread(&network.topology, Family::V4, None);
    Box::new(())
}

/// The least that an XDP program can do: all go to the first receiver, with headers that are constants.
fn bare_redirect(network: &Network) -> Box<dyn Running> {
    let host = &network.topology.host;
    let egress = network::ifindex(host, EGRESS);
    let code = programs::bare_redirect(PORT, &network.outgoing_frame(), egress);
    let program = Program::load(Kind::Xdp, &code).unwrap_or_else(|e| panic!("xdp_redirect: {e}"));
    Box::new(network::attach(&program, host, INTERFACE))
}

impl Running for Attached {}
