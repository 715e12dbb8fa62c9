//! Where the contenders run: a sender, the host, and three receivers behind another interface of the host.
//!
//! ```text
//!  sender                       host                          switch
//!  eth0 ──────────────── ens5 ◀ contender  ens6 ────────────── up0 ◀ sink, br0 …
//!  ▲ live frames         172.31.25.10:514                      receivers 10.60.0.21:5514 …
//! ```
//!
//! The sink sits where the receivers' datagrams come out of the host, so that no contender pays for a bridge
//! and a second veth; the receivers themselves answer ARP.

use std::net::SocketAddr;

use fanout::{
    link::{Link, Links},
    netlink::Connection,
};

use super::{
    bpf::{Attached, Kind, Program},
    generator::PAYLOAD,
    sink::Sink,
};
use crate::common::{
    frame::{Frame, mac},
    namespace::Namespace,
    topology::{self, ETH0, Family, INTERFACE, Shape, Topology},
};

/// The interface by which the host reaches the receivers, and its other end.
pub const EGRESS: &str = "ens6";
const UPLINK: &str = "up0";

/// The network of one contender.
#[derive(Debug)]
pub struct Network {
    pub topology: Topology,
    pub sink: Sink,
}

/// What differs between the networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Which sink.
    pub sink: Kind,
    /// Queues of the host's interfaces. More than one of them get traffic only if it is `spread`.
    pub queues: u8,
    /// Whether the traffic is spread over the queues, by skbs: that takes the generator longer.
    pub spread: bool,
    /// Whether the receivers are behind a bridge on the host, as on a k3s node. It has one queue.
    pub bridge: bool,
}

impl Network {
    /// Makes it.
    pub fn new(layout: Layout) -> Self {
        let shape = Shape {
            queues: layout.queues,
            ..Shape::default()
        };
        let topology = if layout.bridge {
            topology::k3s(shape)
        } else {
            topology::other_interface(shape)
        };
        // XDP can send to a veth only if its other end polls: with GRO it does, program or not.
        topology
            .host
            .run("ethtool", &["-K", INTERFACE, "gro", "on"]);
        let uplinks = topology.switch.iter().map(|switch| (switch, UPLINK));
        let receivers = topology
            .receivers
            .iter()
            .map(|receiver| (&receiver.namespace, ETH0));
        let sink = if layout.bridge {
            Sink::new(receivers, layout.sink)
        } else {
            Sink::new(uplinks, layout.sink)
        };
        Self { topology, sink }
    }

    /// The address and port of each receiver.
    pub fn receivers(&self) -> impl Iterator<Item = SocketAddr> {
        (0..self.topology.receivers.len()).map(|i| self.topology.downstream(i, Family::V4))
    }

    /// A datagram as a contender sends it to the first receiver.
    pub fn outgoing_frame(&self) -> Vec<u8> {
        let receiver = &self.topology.receivers[0].namespace;
        let [from, to] = [(&self.topology.host, EGRESS), (receiver, ETH0)]
            .map(|(namespace, name)| mac(&namespace.interface(name, "address")));
        let source = SocketAddr::new(self.topology.sender.addresses.of(Family::V4), 40_000);
        let destination = self.topology.downstream(0, Family::V4);
        Frame::new(from, to, source, destination).bytes(&[0; PAYLOAD])
    }
}

/// An interface in this thread's network namespace.
pub fn link(name: &str) -> Link {
    let mut connection = Connection::open().expect("netlink");
    let links = Links::read(&mut connection).expect("the links");
    links.by_name(name).expect("the interface").clone()
}

/// The index of an interface in a namespace.
pub fn ifindex(namespace: &Namespace, name: &str) -> u32 {
    namespace.enter(|| link(name).index.0)
}

/// Attaches a program to an interface in a namespace.
pub fn attach(program: &Program, namespace: &Namespace, interface: &str) -> Attached {
    let ifindex = ifindex(namespace, interface);
    let attached = namespace.enter(|| program.attach(ifindex));
    attached.unwrap_or_else(|e| panic!("a program on {interface}: {e}"))
}
