//! What is forwarded, by what table.

use std::{hint::black_box, net::SocketAddr, ops::Range, sync::Arc};

use fanout::{
    balance::Cursors,
    forward::{self, Egress, EthernetHeader, Listener, NextHop, Table, Verdict},
};
use fanout_ebpf::abi::{BindKey, Policy};

use crate::frame::Frame;

/// Datagrams of a batch, as a worker's.
pub const LEN: usize = 64;
const PAYLOAD: [u8; 64] = [0x5a; 64];
/// Where the kernel leaves a packet in its chunk (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;
const MACS: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];

/// One way to forward.
#[derive(Debug)]
pub struct Case {
    ipv6: bool,
    rewrite: bool,
    wildcard: bool,
}

/// All of them.
pub const CASES: &[Case] = &[
    Case::new(false, false, false),
    Case::new(false, false, true),
    Case::new(false, true, false),
    Case::new(false, true, true),
    Case::new(true, false, false),
    Case::new(true, false, true),
    Case::new(true, true, false),
    Case::new(true, true, true),
];

impl Case {
    const fn new(ipv6: bool, rewrite: bool, wildcard: bool) -> Self {
        Self {
            ipv6,
            rewrite,
            wildcard,
        }
    }

    /// For the table.
    pub fn name(&self) -> String {
        let choose = |second, names: [&'static str; 2]| names[usize::from(second)];
        format!(
            "{}, source {}, {} bind",
            choose(self.ipv6, ["IPv4", "IPv6"]),
            choose(self.rewrite, ["kept", "rewritten"]),
            choose(self.wildcard, ["exact", "wildcard"])
        )
    }

    fn addresses(&self) -> Addresses {
        let [sender, bind, any, own, receivers] = if self.ipv6 {
            [
                "[fd00:31::50]:40000",
                "[fd00:31::10]:514",
                "[::]:514",
                "[fd00:60::1]:0",
                "[fd00:60::2X]:5514",
            ]
        } else {
            [
                "172.31.25.50:40000",
                "172.31.25.10:514",
                "0.0.0.0:514",
                "10.60.0.1:0",
                "10.60.0.2X:5514",
            ]
        };
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        Addresses {
            sender: parse(sender),
            target: parse(bind),
            bind: parse(if self.wildcard { any } else { bind }),
            source: self.rewrite.then(|| parse(own).ip()),
            receivers: ["1", "2", "3"].map(|digit| parse(&receivers.replace('X', digit))),
        }
    }
}

struct Addresses {
    sender: SocketAddr,
    target: SocketAddr,
    bind: SocketAddr,
    source: Option<std::net::IpAddr>,
    receivers: [SocketAddr; 3],
}

/// The frames, and the table that they are forwarded by.
#[derive(Debug)]
pub struct Batch {
    chunks: Vec<Vec<u8>>,
    packet: Range<usize>,
    /// What the frames begin with before they are forwarded.
    headers: Vec<u8>,
    table: Table,
    cursors: Cursors,
}

impl Batch {
    pub fn new(case: &Case) -> Self {
        let addresses = case.addresses();
        let frame =
            Frame::new(MACS[0], MACS[1], addresses.sender, addresses.target).bytes(&PAYLOAD);
        let chunk = [&[0; HEADROOM], &*frame].concat();
        let hop = |destination: SocketAddr| NextHop {
            destination,
            source: addresses.source,
            egress: Egress::Port(0),
            mtu: 1500,
            ethernet: EthernetHeader::new(MACS[1], MACS[2], None, case.ipv6),
            counters: Arc::default(),
        };
        let hops = addresses.receivers.map(|receiver| (1, hop(receiver)));
        let listener = Listener::new(0, Policy::RoundRobin, hops.into(), Arc::default());
        Self {
            packet: HEADROOM..chunk.len(),
            chunks: vec![chunk; LEN],
            headers: frame[..frame.len() - PAYLOAD.len()].to_vec(),
            table: Table::new(
                vec![(BindKey::new(addresses.bind, None), 0)],
                vec![listener],
            ),
            cursors: Cursors::default(),
        }
    }

    /// Makes the frames what they were.
    #[inline(never)]
    pub fn put_back(&mut self) {
        for chunk in &mut self.chunks {
            chunk[HEADROOM..][..self.headers.len()].copy_from_slice(&self.headers);
        }
        black_box(&mut self.chunks);
    }

    /// Makes them what they were, and forwards each.
    #[inline(never)]
    pub fn forward(&mut self) {
        self.put_back();
        let mut batch = forward::Batch::new(&self.table, &mut self.cursors);
        for chunk in &mut self.chunks {
            let verdict = batch.forward(chunk, self.packet.clone());
            assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
            black_box(verdict);
        }
    }
}
