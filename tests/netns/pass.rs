//! What is not fanout's reaches the kernel as it would without fanout, and is counted where it carries a
//! listener's address and port.

use std::net::{SocketAddr, UdpSocket};

use cases::{
    Case,
    Counted::{As, Either, Not},
    FROM,
};

use crate::{
    common::{
        delivery,
        fanout::{Fanout, wait_for},
        metrics::Metrics,
        mode::{AF_XDP, Mode},
        sender::Traffic,
        topology::{self, ETH0, Family, INTERFACE, PORT, Shape, Topology},
        wire::{Capture, Wire},
    },
    harness::Suite,
};

mod cases;

pub fn register(suite: &mut Suite) {
    suite.test("pass::frames", || {
        frames_reach_the_kernel(&topology::other_interface(Shape::default()), &AF_XDP);
    });
    suite.test_with("pass::protocols", &["ping"], protocols_work);
}

/// Of every case.
pub fn frames_reach_the_kernel(network: &Topology, mode: &Mode) {
    frames_reach(network, INTERFACE, mode);
}

/// The same, where `interface` of the host receives what comes behind the program.
pub fn frames_reach(network: &Topology, interface: &str, mode: &Mode) {
    let cases = cases::all(network);
    let wire = Wire::open(&network.sender.namespace, ETH0);
    let capture = Capture::start(&network.host, interface);
    let ours = |frame: &[u8]| frame[6..12] == FROM;
    for case in &cases {
        assert!(wire.send(&case.frame), "{}: not sent", case.name);
    }
    let before = capture.frames(cases.len(), ours);
    assert_eq!(
        before.len(),
        cases.len(),
        "without fanout the kernel sees each once"
    );

    let v4 = network.listener("four", &network.target(Family::V4).to_string(), Family::V4);
    let v6 = network.listener("six", &network.target(Family::V6).to_string(), Family::V6);
    let Mode { keys, sections, .. } = mode;
    let config = format!("{v4}max_packet_size = 1000\n{keys}{v6}{keys}{sections}");
    let fanout = Fanout::start(&network.host, &config);
    let mut counts = fanout.metrics();
    for (case, before) in cases.iter().zip(before) {
        assert!(wire.send(&case.frame), "{}: not sent", case.name);
        let after = capture.frames(1, ours);
        assert_eq!(after, [before], "{}: not as without fanout", case.name);
        counts = check_counted(&fanout, case, &counts);
    }
    // And it does take what is its own: the cases above were not passed for lack of a program.
    for (listener, family) in [("four", Family::V4), ("six", Family::V6)] {
        assert_eq!(counts.received(listener), 0, "{}", counts.text);
        let delivery = delivery::of(network, family, &Traffic::new(network.target(family), 30));
        delivery.assert_perfect_in(mode);
    }
    fanout.stop();
}

/// Waits until the case is counted as it should be, and not otherwise.
fn check_counted(fanout: &Fanout, case: &Case, before: &Metrics) -> Metrics {
    let expected = match case.counted {
        As(listener, reason) => before.passed(listener, reason) + 1,
        Not | Either => 0,
    };
    let now = match case.counted {
        As(listener, reason) => wait_for(|| {
            let now = fanout.metrics();
            (now.passed(listener, reason) == expected).then_some(now)
        }),
        Not | Either => Some(fanout.metrics()),
    };
    let now =
        now.unwrap_or_else(|| panic!("{}: not counted: {}", case.name, fanout.metrics().text));
    let all = |metrics: &Metrics| metrics.sum("fanout_passed_packets_total", &[]);
    let more = all(&now) - all(before);
    match case.counted {
        As(..) => assert_eq!(more, 1, "{}: counted twice: {}", case.name, now.text),
        Not => assert_eq!(more, 0, "{}: counted: {}", case.name, now.text),
        Either => assert!(more <= 1, "{}: counted twice: {}", case.name, now.text),
    }
    now
}

/// ARP, neighbour discovery, ping, TCP to the same port, UDP to another port, and datagrams in fragments.
fn protocols_work() {
    let network = topology::other_interface(Shape::default());
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    let sender = &network.sender.namespace;
    sender.ip(&format!("neigh flush dev {ETH0}"));
    for family in [Family::V4, Family::V6] {
        let vip = network.vip.of(family).to_string();
        sender.run("ping", &["-c", "2", "-i", "0.2", "-W", "5", &vip]);
    }
    let (vip, other) = (
        network.target(Family::V4),
        SocketAddr::new(network.vip.v4.into(), PORT + 1),
    );
    tcp_connects(&network, vip);
    kernel_receives(&network, other, 1400);
    kernel_receives(&network, vip, 4000); // Three fragments.
    fanout.stop();
}

fn tcp_connects(network: &Topology, address: SocketAddr) {
    let listener = network
        .host
        .enter(|| std::net::TcpListener::bind(address))
        .expect("listen");
    let server = std::thread::spawn(move || listener.accept().map(|(_, peer)| peer.ip()));
    network
        .sender
        .namespace
        .enter(|| std::net::TcpStream::connect(address))
        .expect("connect");
    let peer = server.join().expect("the server").expect("accept");
    assert_eq!(peer, network.sender.addresses.of(Family::V4));
}

fn kernel_receives(network: &Topology, address: SocketAddr, length: usize) {
    let socket = network
        .host
        .enter(|| UdpSocket::bind(address))
        .expect("bind");
    socket
        .set_read_timeout(Some(crate::common::fanout::PATIENCE))
        .expect("timeout");
    let payload = vec![b'f'; length];
    network.sender.namespace.enter(|| {
        let sender = UdpSocket::bind("0.0.0.0:0").expect("bind");
        sender.send_to(&payload, address).expect("send");
    });
    let mut buffer = vec![0; 8192];
    let got = socket
        .recv(&mut buffer)
        .unwrap_or_else(|e| panic!("{length} bytes to {address}: {e}"));
    assert_eq!(buffer[..got], payload);
}
