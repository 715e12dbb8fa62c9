//! Packets of several datagrams: a local sender's `UDP_SEGMENT` passes a veth uncut, and a device merges what
//! it receives (GRO). Each goes to one receiver as a whole, datagrams are counted, and nothing is lost.

use std::{
    net::{IpAddr, UdpSocket},
    os::fd::AsFd,
    time::Instant,
};

use super::{COUNT, dropped, receivers, start};
use crate::{
    common::{
        delivery::{self, Delivery},
        flight::Flight,
        payload::{self, Label},
        sender::{Pace, Sent, Traffic},
        sys,
        topology::{self, Family, INTERFACE, Shape, Topology},
    },
    forwarding,
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test("tc::merged_by_the_sender", by_the_sender);
    suite.test_with("tc::merged_by_the_device", &["ethtool"], by_the_device);
    suite.test("tc::merged_too_large", too_large);
}

/// Datagrams of one send.
const BURST: u32 = 8;
/// Payload of the last one.
const LAST: usize = 40;

fn by_the_sender() {
    let network = topology::k3s(Shape::default());
    for (family, headers) in [(Family::V4, 28), (Family::V6, 48)] {
        let fanout = start(&network, family, "");
        let delivery = send(&network, family, 101);
        delivery.assert_complete();
        delivery.assert_source_kept();
        let bursts = COUNT / BURST;
        let torn = (0..bursts).find(|&burst| takers(&delivery, burst) != 1);
        assert_eq!(torn, None, "not one packet");
        let counts: Vec<_> = delivery.received.iter().map(|r| r.count).collect();
        let fair = u64::from(COUNT / 3);
        let even = counts
            .iter()
            .all(|n| n.abs_diff(fair) <= 4 * u64::from(BURST));
        assert!(even, "{counts:?}");
        forwarding::assert_counted(&fanout, &delivery);
        let of_burst = BURST * headers + (BURST - 1) * 101 + LAST as u32;
        let metrics = fanout.metrics();
        for name in [
            "fanout_received_bytes_total",
            "fanout_forwarded_bytes_total",
        ] {
            let counted = metrics.sum(name, &[("listener", "syslog")]);
            assert_eq!(counted, u64::from(bursts * of_burst), "{name}");
        }
        fanout.stop();
    }
}

/// How many receivers got datagrams of a burst.
fn takers(delivery: &Delivery, burst: u32) -> usize {
    let sequences = burst * BURST..(burst + 1) * BURST;
    let mut takers: Vec<_> = sequences
        .flat_map(|sequence| delivery.takers(0, sequence))
        .collect();
    takers.sort_unstable();
    takers.dedup();
    takers.len()
}

/// Sends [`COUNT`] datagrams of `size` bytes in bursts.
fn send(network: &Topology, family: Family, size: usize) -> Delivery {
    let to = receivers(network, family);
    delivery::with(&to, |flight| {
        let sender = &network.sender.namespace;
        sender.enter(|| send_bursts(network, family, size, flight))
    })
}

fn send_bursts(network: &Topology, family: Family, size: usize, flight: &Flight) -> Sent {
    let any: IpAddr = match family {
        Family::V4 => [0, 0, 0, 0].into(),
        Family::V6 => [0u16; 8].into(),
    };
    let socket = UdpSocket::bind((any, 0)).expect("bind");
    socket.connect(network.target(family)).expect("connect");
    let (level, segment) = (libc::SOL_UDP, libc::UDP_SEGMENT);
    let value = i32::try_from(size).expect("a segment");
    sys::set_option(socket.as_fd(), level, segment, value).expect("UDP_SEGMENT");
    let (start, mut pace) = (Instant::now(), Pace::new(60_000));
    let (mut all, mut datagram) = (Vec::new(), Vec::new());
    for burst in 0..COUNT / BURST {
        flight.wait();
        pace.wait(BURST);
        all.clear();
        for i in 0..BURST {
            let length = if i == BURST - 1 { LAST } else { size };
            let sequence = burst * BURST + i;
            let label = Label { flow: 0, sequence };
            payload::write(label, &(length..=length), &mut datagram);
            all.extend(&datagram);
        }
        assert_eq!(socket.send(&all).expect("send"), all.len());
        flight.send(BURST);
        pace.sent(BURST);
    }
    Sent {
        flows: vec![COUNT],
        sources: vec![socket.local_addr().expect("bound")],
        elapsed: start.elapsed(),
    }
}

/// What is merged on the way is cut again for the receivers, each datagram as it was.
fn by_the_device() {
    let network = topology::k3s(Shape::default());
    let arguments = ["-K", INTERFACE, "gro", "on", "rx-udp-gro-forwarding", "on"];
    network.host.run("ethtool", &arguments);
    // A veth polls for each packet: it has to wait for the next one.
    let path = format!("/sys/class/net/{INTERFACE}/gro_flush_timeout");
    let wait = format!("echo 1000000 >{path}");
    network.host.run("sh", &["-c", &wait]);
    for family in [Family::V4, Family::V6] {
        let fanout = start(&network, family, "");
        let traffic = Traffic {
            sizes: 100..=100,
            rate: 30_000,
            ..Traffic::new(network.target(family), COUNT)
        };
        let delivery = delivery::of(&network, family, &traffic);
        delivery.assert_complete();
        delivery.assert_source_kept();
        let neighbours = 1..COUNT;
        let together = neighbours
            .filter(|&sequence| {
                let taker = |sequence| delivery.takers(0, sequence).next();
                taker(sequence) == taker(sequence - 1)
            })
            .count();
        assert!(together > 100, "hardly anything was merged: {together}");
        forwarding::assert_counted(&fanout, &delivery);
        fanout.stop();
    }
}

/// It is the datagrams' own size that has to fit, not that of the packet they are merged in.
fn too_large() {
    let network = topology::k3s(Shape::default());
    network.host.ip("link set cni0 mtu 900");
    let fanout = start(&network, Family::V4, "max_packet_size = 1000\n");
    send(&network, Family::V4, 900 - 28).assert_complete();
    assert_eq!(send(&network, Family::V4, 901 - 28).arrived(), 0);
    let metrics = fanout.metrics_at_rest("syslog", 2 * u64::from(COUNT));
    let too_big = dropped(&metrics, "too_big");
    assert_eq!(too_big, COUNT.into(), "{}", metrics.text);
    assert_eq!(send(&network, Family::V4, 1001 - 28).arrived(), 0);
    let passed = fanout.metrics().passed("syslog", "too_big");
    assert_eq!(passed, u64::from(COUNT / BURST), "packets for the kernel");
    fanout.stop();
}
