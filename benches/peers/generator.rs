//! The sender: live frames out of the sender's namespace, as fast as one core makes them or at a pace.
//!
//! At a pace it spins: frames that are too early are made and dropped. So CPU 0 never idles, and what a
//! contender takes of it shows as spins that the generator misses.

use std::{
    net::SocketAddr,
    ops::Sub,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{JoinHandle, sleep},
    time::Duration,
};

use fanout::sys::process::pin_to_cpu;

use super::{
    bpf::{self, Attached, Kind, Program, Words},
    network::{self, Layout, Network},
    programs,
};
use crate::common::{
    frame::{Frame, mac},
    topology::{ETH0, Family, HOST_MAC},
};

/// The CPU that makes the traffic.
pub const CPU: usize = 0;
/// Frames made at a time: the kernel's default; at a pace less, because a frame leaves with its batch only.
const BATCH: u32 = 64;
const PACED_BATCH: u32 = 8;
/// Frames that it may send at once to make up for a pause.
const BEHIND: u64 = 64;

/// Bytes of the datagrams' payload.
pub const PAYLOAD: usize = 64;

/// What sends. One thread runs at a time.
#[derive(Debug)]
pub struct Generator {
    program: Arc<Program>,
    words: Arc<Words>,
    frame: Arc<[u8]>,
    _spread: Option<Spread>,
}

/// A veth pair of the sender's. XDP sends to the queue that has the number of the CPU; what goes through
/// this pair becomes skbs, to which a program gives a queue each.
const SPREAD: [&str; 2] = ["gen0", "gen1"];

/// What spreads frames over queues.
#[derive(Debug)]
struct Spread(#[allow(dead_code, reason = "kept attached, not read")] Attached);

impl Spread {
    fn new(network: &Network, queues: u8, words: &Words) -> Self {
        let namespace = &network.topology.sender.namespace;
        let [first, second] = SPREAD;
        namespace.ip(&format!(
            "link add {first} type veth peer name {second}\nlink set {first} up\nlink set {second} up"
        ));
        namespace.run("ethtool", &["-K", second, "gro", "on"]);
        let code = programs::spread(queues, network::ifindex(namespace, ETH0), words);
        let program = Program::load(Kind::Tc, &code).unwrap_or_else(|e| panic!("spread: {e}"));
        Self(network::attach(&program, namespace, second))
    }
}

/// What was sent by now.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// Frames that were made too early, and not sent.
    pub spun: u64,
}

impl Sub for Sent {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            frames: self.frames - before.frames,
            spun: self.spun - before.spun,
        }
    }
}

impl Generator {
    /// Sends to where the contenders listen.
    pub fn new(network: &Network, layout: Layout) -> Self {
        let topology = &network.topology;
        let sender = &topology.sender;
        let from = SocketAddr::new(sender.addresses.of(Family::V4), 40_000);
        let from_mac = mac(&sender.namespace.interface(ETH0, "address"));
        let frame = Frame::new(from_mac, mac(HOST_MAC), from, topology.target(Family::V4));
        let frame = frame.bytes(&[0; PAYLOAD]);
        let words = Words::new(programs::GENERATOR_WORDS).expect("a map");
        let spread = layout
            .spread
            .then(|| Spread::new(network, layout.queues, &words));
        let first = if layout.spread { SPREAD[0] } else { ETH0 };
        let first = network::ifindex(&sender.namespace, first);
        let program = Program::load(Kind::Xdp, &programs::generator(&frame, first, &words));
        Self {
            program: Arc::new(program.unwrap_or_else(|e| panic!("generator: {e}"))),
            words: Arc::new(words),
            frame: frame.into(),
            _spread: spread,
        }
    }

    /// Sends `rate` datagrams a second, `None` for as many as it can, until the guard is dropped.
    pub fn start(&self, network: &Network, rate: Option<f64>) -> Running {
        let interval = rate.map_or(0, |rate| (256e9 / rate) as u64);
        self.words[programs::INTERVAL].store(interval, Relaxed);
        self.words[programs::LAG].store(interval * BEHIND, Relaxed);
        self.words[programs::DUE].store(0, Relaxed);
        let batch = if rate.is_some() { PACED_BATCH } else { BATCH };
        let (program, frame) = (self.program.clone(), self.frame.clone());
        let thread = network.topology.sender.namespace.spawn(move || {
            pin_to_cpu(CPU).expect("CPU 0");
            program.run(&frame, batch).expect("live frames");
        });
        Running(Some(thread))
    }

    /// What was sent since it was made.
    pub fn sent(&self) -> Sent {
        Sent {
            frames: self.words[programs::SENT].load(Relaxed),
            spun: self.words[programs::SPUN].load(Relaxed),
        }
    }
}

/// A generator that sends; it ends when this is dropped.
#[derive(Debug)]
pub struct Running(Option<JoinHandle<()>>);

impl Drop for Running {
    fn drop(&mut self) {
        let Some(thread) = self.0.take() else { return };
        // More than once: the first may come before the call that it is to end.
        while !thread.is_finished() {
            bpf::interrupt(&thread);
            sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }
}
