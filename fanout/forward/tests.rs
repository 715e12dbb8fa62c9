//! The fixtures of the tests beside this file: one table for all of them, and a frame in a chunk.

mod golden;
mod mutated;
mod packet;
mod recomputed;
mod verdicts;

use std::ops::Range;

use fanout_ebpf::abi::{BindKey, Policy};

use super::*;

const CHUNK: usize = 4096;
/// Where the kernel leaves a packet in its chunk (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;
const MTU: usize = 1500;

const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const NEXT_HOP_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];

/// A chunk of other bytes with a frame in it.
struct Chunk {
    bytes: Vec<u8>,
    frame: Range<usize>,
}

impl Chunk {
    fn new(frame: &[u8]) -> Self {
        Self::with_headroom(frame, HEADROOM)
    }

    fn with_headroom(frame: &[u8], headroom: usize) -> Self {
        let mut bytes = vec![0xa5; CHUNK];
        let frame_at = headroom..headroom + frame.len();
        bytes[frame_at.clone()].copy_from_slice(frame);
        Self {
            bytes,
            frame: frame_at,
        }
    }

    /// Forwards it by a table with this one next hop. `None` if the verdict is another one.
    fn forward_to(&mut self, next_hop: NextHop) -> Option<&[u8]> {
        let table = table(vec![next_hop]);
        match self.verdict(&table) {
            Verdict::Forward { packet, .. } => Some(&self.bytes[packet]),
            Verdict::Replicate { .. } | Verdict::Drop { .. } | Verdict::NotOurs => None,
        }
    }

    fn verdict<'t>(&mut self, table: &'t Table) -> Verdict<'t> {
        let mut cursors = Cursors::default();
        Batch::new(table, &mut cursors).forward(&mut self.bytes, self.frame.clone())
    }
}

/// One listener with an address of each family, untagged and with the tag 7.
fn table(next_hops: Vec<NextHop>) -> Table {
    let binds = ["172.31.25.200:514", "[2001:db8::25]:514"]
        .iter()
        .flat_map(|bind| [None, Some(7)].map(|vlan| (key(bind, vlan), 0)))
        .collect();
    Table::new(binds, vec![listener(next_hops)])
}

fn key(bind: &str, vlan: Option<u16>) -> BindKey {
    BindKey::new(bind.parse().unwrap(), vlan)
}

fn listener(next_hops: Vec<NextHop>) -> Listener {
    let next_hops = next_hops.into_iter().map(|next_hop| (1, next_hop));
    Listener::new(
        0,
        Policy::RoundRobin,
        next_hops.collect(),
        std::sync::Arc::default(),
    )
}

/// With its source kept and without a tag.
fn next_hop(destination: &str) -> NextHop {
    let destination: std::net::SocketAddr = destination.parse().unwrap();
    NextHop {
        destination,
        source: None,
        egress: Egress::Port(0),
        mtu: MTU,
        ethernet: EthernetHeader::new(OUR_MAC, NEXT_HOP_MAC, None, destination.is_ipv6()),
        counters: std::sync::Arc::default(),
    }
}

fn tagged(next_hop: NextHop, vlan: u16) -> NextHop {
    let ipv6 = next_hop.destination.is_ipv6();
    NextHop {
        ethernet: EthernetHeader::new(OUR_MAC, NEXT_HOP_MAC, Some(vlan), ipv6),
        ..next_hop
    }
}

fn from(next_hop: NextHop, source: &str) -> NextHop {
    NextHop {
        source: Some(source.parse().unwrap()),
        ..next_hop
    }
}
