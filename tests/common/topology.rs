//! The networks that the tests run in: a sender, the host that runs fanout, and receivers. Each has
//! IPv4 and IPv6, and the veth pairs keep the offloads that the kernel gives them.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{fanout::wait_for, mode::Mode, namespace::Namespace};

/// The interface that fanout listens on, in the host's namespace.
pub const INTERFACE: &str = "ens5";
/// The interface of the sender and of each receiver.
pub const ETH0: &str = "eth0";
/// What fanout listens on.
pub const PORT: u16 = 514;
/// What the receivers listen on.
pub const RECEIVER_PORT: u16 = 5514;
/// MAC address of [`INTERFACE`].
pub const HOST_MAC: &str = "02:fa:00:00:00:05";

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An address of each family.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

impl Addresses {
    fn new(v4: [u8; 4], net: u16, id: u16) -> Self {
        let v6 = Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, id);
        Self { v4: v4.into(), v6 }
    }

    /// The one of `family`.
    pub fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

/// A namespace with an address, behind its `eth0`.
#[derive(Debug)]
pub struct Machine {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its addresses.
    pub addresses: Addresses,
}

/// A network to test in.
#[derive(Debug)]
pub struct Topology {
    /// Sends to [`Topology::vip`].
    pub sender: Machine,
    /// Runs fanout on [`INTERFACE`].
    pub host: Namespace,
    /// The downstreams.
    pub receivers: Vec<Machine>,
    /// Where fanout listens.
    pub vip: Addresses,
    /// A bridge between machines, in a namespace of its own.
    pub switch: Option<Namespace>,
}

/// What differs from test to test.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Receivers, at most 9.
    pub receivers: u8,
    /// RX queues of [`INTERFACE`], and TX queues of its peer, if they are made for the topology.
    pub queues: u8,
    /// What [`INTERFACE`] and its peer are.
    pub cable: Cable,
}

/// An interface of the host and the one at the other end.
#[derive(Clone, Copy, Debug)]
pub enum Cable {
    /// A veth pair, made for the topology.
    Veth,
    /// Two network cards that see each other, by their names in the namespace that the test runs in.
    Cards(&'static str, &'static str),
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            receivers: 3,
            queues: 1,
            cable: Cable::Veth,
        }
    }
}

/// One segment: frames come in and go out by the same interface. Needs `ethtool`.
///
/// ```text
///  sender           switch                 host
///  eth0 ───────────┤ br0 ├──────────────── ens5 ◀ fanout
///  172.31.25.50      │ │ │                 172.31.25.10
///                receivers eth0
///                172.31.25.21 …
/// ```
pub fn same_interface(shape: Shape) -> Topology {
    let (host, switch, sender) = (host(), switch(), Namespace::new("sender"));
    connect(&host, &switch, "up0", shape);
    if matches!(shape.cable, Cable::Veth) {
        // Where the kernel forwards a tag beside the frame, as a veth would, no XDP program can see it.
        switch.run("ethtool", &["-K", "up0", "txvlan", "off"]);
    }
    switch.ip("link set up0 master br0 up");
    let vip = host_address();
    host.ip(&up(INTERFACE, vip));
    let sender = machine(sender, &switch, "br0", sender_address(), None);
    let receivers = (1..=shape.receivers)
        .map(|i| {
            let addresses = Addresses::new([172, 31, 25, 20 + i], NET, 0x20 + u16::from(i));
            machine(
                Namespace::new(&format!("receiver{i}")),
                &switch,
                "br0",
                addresses,
                None,
            )
        })
        .collect();
    let network = Topology {
        sender,
        host,
        receivers,
        vip,
        switch: Some(switch),
    };
    network.settle();
    network
}

/// Two segments: frames come in by one interface and go out by another.
///
/// ```text
///  sender                    host                       switch
///  eth0 ─────────── ens5 ◀ fanout    ens6 ────────────┤ br0 ├
///  172.31.25.50     172.31.25.10     10.60.0.1          │ │ │
///                                                   receivers eth0
///                                                   10.60.0.21 …
/// ```
pub fn other_interface(shape: Shape) -> Topology {
    let (host, switch) = (host(), switch());
    let vip = host_address();
    let sender = wire_sender(&host, shape);
    host.ip(&up(INTERFACE, vip));
    let gateway = Addresses::new([10, 60, 0, 1], 60, 1);
    let queues = format!("numtxqueues {0} numrxqueues {0}", shape.queues);
    host.ip(&format!(
        "link add ens6 {queues} type veth peer name up0 {queues} netns {}",
        switch.name()
    ));
    switch.ip("link set up0 master br0 up");
    host.ip(&up("ens6", gateway));
    let receivers = pods(&switch, "br0", [10, 60, 0], 60, gateway, shape);
    let network = Topology {
        sender,
        host,
        receivers,
        vip,
        switch: Some(switch),
    };
    network.settle();
    network
}

/// The k3s node: the VIP is nobody's, the sender knows it by the node's MAC (as MetalLB's ARP answer
/// says), and the pods are behind a bridge on the node.
///
/// ```text
///  sender                         host
///  eth0 ─────────── ens5 ◀ fanout        cni0 10.42.0.1
///  172.31.25.50     172.31.25.10          │ │ │
///  VIP 172.31.25.200 is at ens5's MAC    pods eth0
///                                        10.42.0.21 …
/// ```
pub fn k3s(shape: Shape) -> Topology {
    let host = host();
    let sender = wire_sender(&host, shape);
    host.ip(&up(INTERFACE, host_address()));
    let vip = Addresses::new([172, 31, 25, 200], NET, 0x200);
    for ip in [IpAddr::from(vip.v4), vip.v6.into()] {
        sender.namespace.ip(&format!(
            "neigh add {ip} lladdr {HOST_MAC} dev {ETH0} nud permanent"
        ));
    }
    let gateway = Addresses::new([10, 42, 0, 1], 42, 1);
    bridge(&host, "cni0");
    host.ip(&up("cni0", gateway));
    let receivers = pods(&host, "cni0", [10, 42, 0], 42, gateway, shape);
    let network = Topology {
        sender,
        host,
        receivers,
        vip,
        switch: None,
    };
    network.settle();
    network
}

impl Topology {
    /// Has the veth between host and switch take redirected frames: it does while its other end has GRO on.
    /// Needs `ethtool`.
    pub fn with_gro(self) -> Self {
        self.gro("on");
        self
    }

    /// GRO at the switch's end, on or off.
    pub fn gro(&self, state: &str) {
        let switch = self.switch.as_ref().expect("a switch");
        switch.run("ethtool", &["-K", "up0", "gro", state]);
    }

    /// Waits until all links carry: the kernel looks at new ones once a second.
    fn settle(&self) {
        let machines = [&self.sender]
            .into_iter()
            .chain(&self.receivers)
            .map(|m| &m.namespace);
        for namespace in machines.chain(&self.switch).chain([&self.host]) {
            let settled = || {
                !namespace
                    .run("ip", &["-br", "link", "show", "up"])
                    .contains(" DOWN ")
            };
            wait_for(|| settled().then_some(())).expect("links come up");
        }
    }

    /// Where the sender sends to.
    pub fn target(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.vip.of(family), PORT)
    }

    /// Where receiver `i` listens.
    pub fn downstream(&self, i: usize, family: Family) -> SocketAddr {
        SocketAddr::new(self.receivers[i].addresses.of(family), RECEIVER_PORT)
    }

    /// Where all receivers listen.
    pub fn downstreams(&self, family: Family) -> Vec<(&Namespace, SocketAddr)> {
        let receivers = self.receivers.iter().zip(0..);
        receivers
            .map(|(receiver, i)| (&receiver.namespace, self.downstream(i, family)))
            .collect()
    }

    /// A `[listener NAME]` on [`INTERFACE`] that binds `bind`, with all receivers as downstreams
    /// `receiver-1` and so on.
    pub fn listener(&self, name: &str, bind: &str, family: Family) -> String {
        let mut text = format!("\n[listener {name}]\ninterface = {INTERFACE}\nbind = {bind}\n");
        for i in 0..self.receivers.len() {
            let address = self.downstream(i, family);
            writeln!(text, "downstream.receiver-{} = {address}", i + 1).expect("a string grows");
        }
        text
    }

    /// The usual config, in a mode.
    pub fn config_in(&self, mode: &Mode, family: Family) -> String {
        self.config(family) + mode.keys + mode.sections
    }

    /// The usual config: one listener called `syslog` on the VIP.
    pub fn config(&self, family: Family) -> String {
        self.listener("syslog", &self.target(family).to_string(), family)
    }
}

/// The subnet of sender and host in IPv6: `fd00:31::/64`.
const NET: u16 = 0x31;

fn sender_address() -> Addresses {
    Addresses::new([172, 31, 25, 50], NET, 0x50)
}

/// The address of [`INTERFACE`].
pub fn host_address() -> Addresses {
    Addresses::new([172, 31, 25, 10], NET, 0x10)
}

/// It does not forward: fanout must not depend on that.
fn host() -> Namespace {
    let host = Namespace::new("host");
    host.sysctl("net/ipv4/ip_forward", "0");
    host
}

fn switch() -> Namespace {
    let switch = Namespace::new("switch");
    bridge(&switch, "br0");
    switch
}

fn bridge(namespace: &Namespace, name: &str) {
    namespace.ip(&format!(
        "link add {name} type bridge mcast_snooping 0\nlink set {name} up"
    ));
    // Not to run every frame past hooks that no rule of ours stands in.
    namespace.sysctl("net/bridge/bridge-nf-call-iptables", "0");
    namespace.sysctl("net/bridge/bridge-nf-call-ip6tables", "0");
}

fn wire_sender(host: &Namespace, shape: Shape) -> Machine {
    let namespace = Namespace::new("sender");
    connect(host, &namespace, ETH0, shape);
    let addresses = sender_address();
    namespace.ip(&up(ETH0, addresses));
    Machine {
        namespace,
        addresses,
    }
}

fn pods(
    namespace: &Namespace,
    bridge: &str,
    subnet: [u8; 3],
    net: u16,
    gateway: Addresses,
    shape: Shape,
) -> Vec<Machine> {
    let [a, b, c] = subnet;
    let pod = |i: u8| {
        let addresses = Addresses::new([a, b, c, 20 + i], net, 0x20 + u16::from(i));
        let pod = Namespace::new(&format!("receiver{i}"));
        machine(pod, namespace, bridge, addresses, Some(gateway))
    };
    (1..=shape.receivers).map(pod).collect()
}

/// Plugs a namespace into a bridge: `eth0` there, `vethN` here.
fn machine(
    namespace: Namespace,
    at: &Namespace,
    bridge: &str,
    addresses: Addresses,
    gateway: Option<Addresses>,
) -> Machine {
    let port = format!("veth{}", addresses.v4.octets()[3]);
    at.ip(&format!(
        "link add {port} type veth peer name {ETH0} netns {}\nlink set {port} master {bridge} up",
        namespace.name()
    ));
    namespace.ip(&up(ETH0, addresses));
    if let Some(Addresses { v4, v6 }) = gateway {
        namespace.ip(&format!(
            "route add default via {v4}\nroute add default via {v6}"
        ));
    }
    Machine {
        namespace,
        addresses,
    }
}

/// Connects [`INTERFACE`] of `host` with `peer` in the namespace `there`.
fn connect(host: &Namespace, there: &Namespace, peer: &str, shape: Shape) {
    match shape.cable {
        Cable::Veth => {
            let queues = format!("numtxqueues {0} numrxqueues {0}", shape.queues);
            host.ip(&format!(
                "link add {INTERFACE} {queues} type veth peer name {peer} {queues} netns {}",
                there.name()
            ));
        }
        Cable::Cards(here, other) => {
            host.adopt(here, INTERFACE);
            there.adopt(other, peer);
        }
    }
    host.ip(&format!("link set {INTERFACE} address {HOST_MAC}"));
}

fn up(interface: &str, Addresses { v4, v6 }: Addresses) -> String {
    format!(
        "addr add {v4}/20 dev {interface}\naddr add {v6}/64 dev {interface} nodad\nlink set {interface} up"
    )
}
