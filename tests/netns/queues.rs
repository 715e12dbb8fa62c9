//! Two receive queues: two workers, one egress that has only one.

use crate::{
    common::{
        delivery,
        fanout::Fanout,
        sender::Traffic,
        topology::{self, Family, Shape},
    },
    harness::{self, Suite},
};

pub fn register(suite: &mut Suite) {
    suite.test("queues::two_into_one_bridge", two_into_one_bridge);
}

/// So many flows that both queues get some, whatever the hash.
const FLOWS: u32 = 64;

fn two_into_one_bridge() {
    let network = topology::k3s(Shape {
        queues: 2,
        ..Shape::default()
    });
    for family in [Family::V4, Family::V6] {
        let fanout = Fanout::start(&network.host, &network.config(family));
        assert!(
            fanout.wait_for_log(" ready ").contains("workers=2"),
            "{}",
            fanout.log()
        );
        let traffic = Traffic {
            flows: FLOWS,
            ..Traffic::new(network.target(family), harness::count(50_000, 1_000_000))
        };
        let delivery = delivery::of(&network, family, &traffic);
        delivery.assert_whole();
        delivery.assert_source_kept();
        let metrics = fanout.metrics_at_rest("syslog", delivery.sent.count());
        assert_eq!(metrics.dropped("syslog"), 0, "{}", metrics.text);
        for queue in ["0", "1"] {
            let labels = [("listener", "syslog"), ("queue", queue)];
            let received = metrics.sum("fanout_received_packets_total", &labels);
            assert!(received > 0, "queue {queue} got nothing: {}", metrics.text);
        }
        // Each worker takes turns by itself.
        let counts = delivery.received.iter().map(|r| r.count);
        let (least, most) = (counts.clone().min(), counts.max());
        assert!(
            most.zip(least).is_some_and(|(m, l)| m - l <= 2),
            "not even: {delivery}"
        );
        fanout.stop();
    }
}
