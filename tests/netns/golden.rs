//! Single datagrams through the whole program, compared byte by byte with the frame that must come out.

use std::net::{IpAddr, SocketAddr};

use crate::{
    common::{
        fanout::Fanout,
        frame::{ETHERNET, Frame, mac},
        mode::{AF_XDP, Mode},
        namespace::Namespace,
        topology::{self, ETH0, Family, HOST_MAC, INTERFACE, Shape, Topology},
        wire::{Capture, Wire},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test("golden::other_interface", || {
        every_kind(&topology::other_interface(one()), "ens6", "keep", &AF_XDP);
    });
    suite.test_with("golden::same_interface", &["ethtool"], || {
        every_kind(&topology::same_interface(one()), INTERFACE, "keep", &AF_XDP);
    });
    suite.test("golden::k3s", || {
        every_kind(&topology::k3s(one()), "cni0", "keep", &AF_XDP);
    });
    suite.test("golden::source_rewritten", || {
        every_kind(&topology::k3s(one()), "cni0", "rewrite", &AF_XDP);
    });
}

const VLAN: u16 = 214;
const PAYLOADS: [&[u8]; 4] = [
    b"",
    b"x",
    b"even",
    b"<13>1 2024-02-29T12:00:00Z host app - - - odd?",
];

/// One receiver, so that every datagram goes to it.
pub fn one() -> Shape {
    Shape {
        receivers: 1,
        ..Shape::default()
    }
}

/// Checksums, padding, tags, by IPv4 and IPv6.
pub fn every_kind(network: &Topology, egress: &str, source: &str, mode: &Mode) {
    for family in [Family::V4, Family::V6] {
        let keys = format!("source = {source}\n{}", mode.keys);
        let base = network.config(family) + &keys;
        let vip = network.target(family).to_string();
        let tagged = network.listener("tagged", &vip, family) + &format!("vlan = {VLAN}\n{keys}");
        let fanout = Fanout::start(&network.host, &(base + &tagged + mode.sections));
        let mut path = Path::new(network, family, egress);
        path.keeps_partial = mode.keeps_partial;
        if source == "rewrite" {
            let gateway = egress_address(network, egress, family);
            path.leaves.from.set_ip(gateway);
        }
        for payload in PAYLOADS {
            path.checksums(payload);
            path.padding(payload);
            path.tag(payload);
        }
        let tagged = 2 * PAYLOADS.len() as u64;
        let metrics = fanout.metrics_at_rest("tagged", tagged);
        assert_eq!(metrics.forwarded("tagged"), tagged, "{}", metrics.text);
        fanout.stop();
    }
}

/// The first global address of the egress, which is what the kernel prefers there.
fn egress_address(network: &Topology, egress: &str, family: Family) -> IpAddr {
    let flag = if family == Family::V4 { "-4" } else { "-6" };
    let text = network.host.run(
        "ip",
        &[
            flag, "-br", "addr", "show", "dev", egress, "scope", "global",
        ],
    );
    let address = text
        .split_whitespace()
        .nth(2)
        .and_then(|net| net.split('/').next());
    address.expect("an address").parse().expect("an address")
}

/// From the sender's wire to the receiver's.
struct Path {
    wire: Wire,
    offloading: Wire,
    capture: Capture,
    /// What arrives at the host.
    comes: Frame,
    /// What must leave it.
    leaves: Frame,
    keeps_partial: bool,
}

impl Path {
    fn new(network: &Topology, family: Family, egress: &str) -> Self {
        let (sender, receiver) = (&network.sender, &network.receivers[0]);
        let address = |host: &Namespace, interface| mac(&host.interface(interface, "address"));
        let from = SocketAddr::new(sender.addresses.of(family), 40_000);
        let comes = Frame::new(
            address(&sender.namespace, ETH0),
            mac(HOST_MAC),
            from,
            network.target(family),
        );
        let to = network.downstream(0, family);
        let (out, next_hop) = (
            address(&network.host, egress),
            address(&receiver.namespace, ETH0),
        );
        let mut leaves = Frame::new(out, next_hop, from, to);
        leaves.ttl = comes.ttl - 1;
        Self {
            wire: Wire::open(&sender.namespace, ETH0),
            offloading: Wire::open_with_offload(&sender.namespace, ETH0),
            capture: Capture::start(&receiver.namespace, ETH0),
            comes,
            leaves,
            keeps_partial: false,
        }
    }

    /// A right checksum stays right, a partial one is completed or stays partial, none stays none, a wrong one stays wrong.
    fn checksums(&self, payload: &[u8]) {
        let right = self.leaves.bytes(payload);
        assert!(self.wire.send(&self.comes.bytes(payload)));
        self.expect("right checksum", &right);
        assert!(self.offloading.send(&self.comes.partial(payload)));
        self.expect("partial checksum", &self.completed(payload));

        let (field, field_out) = (self.comes.udp() + 6, self.leaves.udp() + 6);
        if self.comes.to.is_ipv4() {
            let [mut none, mut none_out] = [self.comes.bytes(payload), right.clone()];
            none[field..field + 2].fill(0);
            none_out[field_out..field_out + 2].fill(0);
            assert!(self.wire.send(&none));
            self.expect("no checksum", &none_out);
        }

        let mut wrong = self.comes.bytes(payload);
        wrong[field + 1] ^= 0x10;
        assert!(self.wire.send(&wrong));
        let came = self.receive("wrong checksum");
        assert_ne!(came, right, "a wrong checksum was repaired");
        assert_eq!(came[..field_out], right[..field_out]);
        assert_eq!(came[field_out + 2..], right[field_out + 2..]);
    }

    /// What a partial checksum becomes.
    fn completed(&self, payload: &[u8]) -> Vec<u8> {
        if self.keeps_partial {
            self.leaves.half_summed(payload)
        } else {
            self.leaves.bytes(payload)
        }
    }

    /// What follows the IP packet is not the datagram's.
    fn padding(&self, payload: &[u8]) {
        let mut padded = self.comes.bytes(payload);
        padded.resize(padded.len().max(60) + 3, 0xee);
        assert!(self.wire.send(&padded));
        self.expect("padded", &self.leaves.bytes(payload));
    }

    /// The sender's tag stays on its side.
    fn tag(&mut self, payload: &[u8]) {
        self.comes.vlan = Some(VLAN);
        assert!(self.wire.send(&self.comes.bytes(payload)));
        self.expect("tagged", &self.leaves.bytes(payload));
        assert!(self.offloading.send(&self.comes.partial(payload)));
        self.expect("tagged, partial checksum", &self.completed(payload));
        self.comes.vlan = None;
    }

    fn expect(&self, what: &str, frame: &[u8]) {
        let came = self.receive(what);
        assert_eq!(came, frame, "{what}: not the frame that should come");
    }

    /// The one datagram that comes.
    fn receive(&self, what: &str) -> Vec<u8> {
        let [from, to] = [self.leaves.from_mac, self.leaves.to_mac];
        let ours = |frame: &[u8]| frame[..6] == to && frame[6..12] == from && is_udp(frame);
        let mut frames = self.capture.frames(1, ours);
        assert_eq!(
            frames.len(),
            1,
            "{what}: {} datagrams came: {frames:02x?}",
            frames.len()
        );
        frames.remove(0)
    }
}

/// Neighbour discovery goes the same way.
fn is_udp(frame: &[u8]) -> bool {
    let place = if frame[ETHERNET] >> 4 == 4 { 9 } else { 6 };
    frame[ETHERNET + place] == 17
}
