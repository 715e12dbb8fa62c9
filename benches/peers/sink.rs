//! Where the datagrams end: counted, timed and dropped where they come out of the host.
//!
//! A veth takes both what the kernel sends (skbs) and what XDP redirects (frames), but turns one into the
//! other if the program at its end wants it so: a frame becomes an skb for a TC program, and an skb
//! that lacks the headroom is copied for an XDP program. A NIC does neither. So that nobody pays for the sink,
//! each contender has the one that it is faster with. Measured on 6.18, in million datagrams a second:
//!
//! | | TC | XDP |
//! |---|---|---|
//! | transmit only, AF_XDP (skbs without headroom) | 2.25 | 1.68 |
//! | nftables (skbs with headroom) | 1.10 | 1.13 |
//! | XDP redirect (frames) | 3.8 | 8.4 |

use std::sync::atomic::Ordering::Relaxed;

use super::{
    bpf::{Attached, Kind, Program, Words},
    network, programs,
};
use crate::common::{namespace::Namespace, topology::RECEIVER_PORT};

/// The sink of a network.
#[derive(Debug)]
pub struct Sink {
    words: Words,
    _attached: Vec<Attached>,
}

impl Sink {
    /// Attaches it to each of these interfaces.
    pub fn new<'n>(places: impl Iterator<Item = (&'n Namespace, &'n str)>, kind: Kind) -> Self {
        let words = Words::new(programs::SINK_WORDS).expect("a map");
        let program = Program::load(kind, &programs::sink(kind, RECEIVER_PORT, &words));
        let program = program.unwrap_or_else(|e| panic!("sink: {e}"));
        let attach = |(namespace, interface)| network::attach(&program, namespace, interface);
        Self {
            _attached: places.map(attach).collect(),
            words,
        }
    }

    /// Datagrams so far.
    pub fn count(&self) -> u64 {
        self.read(0..programs::RECEIVERS).iter().sum()
    }

    /// How many of them took how many times [`programs::LATENCY_STEP`] nanoseconds.
    pub fn latencies(&self) -> Vec<u64> {
        self.read(programs::RECEIVERS..programs::SINK_WORDS)
    }

    fn read(&self, words: std::ops::Range<usize>) -> Vec<u64> {
        self.words[words]
            .iter()
            .map(|word| word.load(Relaxed))
            .collect()
    }
}
