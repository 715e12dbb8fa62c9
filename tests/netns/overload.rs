//! More than a worker can take: what is lost is counted where it is lost, no frame is, and afterwards all
//! is as before.

use std::time::Instant;

use crate::{
    common::{
        delivery,
        fanout::Fanout,
        metrics::Metrics,
        sender::Traffic,
        topology::{self, ETH0, Family, Shape, Topology},
    },
    harness::Suite,
};

pub fn register(suite: &mut Suite) {
    suite.test("overload::every_loss_is_counted", every_loss_is_counted);
}

/// A worker's frames, all of which wait for packets while it has none.
const FRAMES: u64 = 8192;
/// Those of them that may still be on their way through the receivers' kernels.
const UNDER_WAY: u64 = 256;

/// A worker that does not run at all takes nothing, at any rate.
fn every_loss_is_counted() {
    let network = topology::k3s(Shape::default());
    let fanout = Fanout::start(&network.host, &network.config(Family::V4));
    let burst = Traffic::new(network.target(Family::V4), 3 * FRAMES as u32);
    for round in 1..=3 {
        let (before, refused) = (fanout.metrics(), refused(&network));
        fanout.signal(libc::SIGSTOP);
        let sent = burst.send(&network.sender.namespace).count();
        fanout.signal(libc::SIGCONT);
        let start = Instant::now();
        let refused = self::refused(&network) - refused;
        let received = |now: &Metrics| now.received("syslog") - before.received("syslog");
        let dropped = |now: &Metrics| dropped_by_socket(now) - dropped_by_socket(&before);
        let after = fanout.metrics_when("syslog", |now| {
            received(now) + dropped(now) + refused == sent
        });
        println!("round {round}: at rest after {:?}", start.elapsed());
        let (received, dropped) = (received(&after), dropped(&after));
        // On a veth those are also the interface's.
        let interface = |metrics: &Metrics| metrics.sum("fanout_interface_rx_dropped_total", &[]);
        assert_eq!(interface(&after) - interface(&before), dropped);
        // All frames waited for packets, so none is lost, whatever the rounds before did with them.
        assert!(
            (FRAMES - UNDER_WAY..=FRAMES).contains(&received),
            "round {round}: {received} frames, {dropped} dropped\n{}",
            after.text
        );
        let traffic = Traffic::new(network.target(Family::V4), 5_000);
        delivery::of(&network, Family::V4, &traffic).assert_perfect();
    }
    fanout.stop();
}

/// By the kernel, for want of a frame or of room in the RX ring.
fn dropped_by_socket(metrics: &Metrics) -> u64 {
    ["rx_dropped", "rx_ring_full"]
        .map(|name| metrics.sum(&format!("fanout_xsk_{name}_total"), &[]))
        .into_iter()
        .sum()
}

/// What found no room in the ring of the sender's veth.
fn refused(network: &Topology) -> u64 {
    let count = network
        .sender
        .namespace
        .interface(ETH0, "statistics/tx_dropped");
    count.parse().expect("a count")
}
