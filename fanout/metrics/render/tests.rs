//! The whole text of one snapshot, and what must hold for any.

use std::{collections::HashSet, time::Duration};

use super::{
    super::{DownstreamCounters, DownstreamSample, ListenerCounters, MemberSample, Reload},
    *,
};

fn totals(packets: u64, bytes: u64) -> Totals {
    Totals { packets, bytes }
}

fn snapshot() -> Snapshot<'static> {
    let started = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
    Snapshot {
        started,
        reload: Reload {
            successful: true,
            last_success: started + Duration::from_secs(1),
        },
        listeners: vec![
            ListenerSample {
                is_served: true,
                name: "syslog",
                mode: "af_xdp",
                interface: "ens5",
                xdp: "native",
                zero_copy: true,
                received: vec![(0, totals(7, 700)), (1, totals(3, 300))],
                dropped: [1, 2, 3, 4, 5],
                passed: [1, 2, 3, 4, 5, 6, 7, 8, 9],
                downstreams: vec![
                    DownstreamSample {
                        name: "vector-1",
                        forwarded: totals(u64::MAX, 0),
                    },
                    DownstreamSample {
                        name: "removed",
                        forwarded: totals(5, 500),
                    },
                ],
                members: vec![MemberSample {
                    downstream: "vector-1",
                    address: "10.42.0.21:5514".parse().unwrap(),
                    is_up: true,
                }],
            },
            ListenerSample {
                is_served: true,
                name: "odd",
                mode: "af_xdp",
                interface: "a\"b\\c\nd",
                xdp: "skb",
                zero_copy: false,
                received: vec![(0, Totals::default())],
                dropped: [0; DropReason::COUNT],
                passed: [0; PassReason::COUNT],
                downstreams: vec![DownstreamSample {
                    name: "v6",
                    forwarded: Totals::default(),
                }],
                members: vec![MemberSample {
                    downstream: "v6",
                    address: "[fd00::1]:514".parse().unwrap(),
                    is_up: false,
                }],
            },
        ],
        queues: vec![QueueSample {
            interface: "ens5",
            queue: 1,
            statistics: XskStatistics {
                rx_dropped: 1,
                rx_invalid_descs: 2,
                tx_invalid_descs: 3,
                rx_ring_full: 4,
                rx_fill_ring_empty_descs: 5,
                tx_ring_empty_descs: 6,
            },
            umem_free_frames: 8192,
        }],
        interfaces: vec![InterfaceSample {
            name: "ens5",
            losses: Losses {
                missed: 7,
                dropped: 8,
            },
        }],
        redirects: vec![RedirectSample {
            interface: "ens5",
            egress: "ens6",
            failed: 3,
        }],
    }
}

fn text(snapshot: &Snapshot<'_>) -> String {
    let mut text = "what was there before".to_owned();
    render(snapshot, &mut text);
    text
}

#[test]
fn golden() {
    let version = env!("CARGO_PKG_VERSION");
    let expected = include_str!("golden.prom").replace("VERSION", version);
    for (line, (is, must)) in text(&snapshot()).lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, must, "line {}", line + 1);
    }
    assert_eq!(text(&snapshot()), expected);
}

/// A family is announced once, then come its samples, each of another series.
#[test]
fn families_and_series_are_unique() {
    let text = text(&snapshot());
    let (mut announced, mut series) = (HashSet::new(), HashSet::new());
    let mut family = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            (family, _) = help.split_once(' ').unwrap();
            assert!(announced.insert(family), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let counts = family.ends_with("_total");
            let kind_of_name = if counts { "counter" } else { "gauge" };
            assert_eq!(kind, format!("{family} {kind_of_name}"));
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(name.split('{').next(), Some(family));
            assert!(series.insert(name), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert_eq!(announced.len(), 22);
}

#[test]
fn a_process_without_listeners_and_a_clock_before_the_epoch() {
    let text = text(&Snapshot {
        started: UNIX_EPOCH - Duration::from_secs(5),
        listeners: Vec::new(),
        queues: Vec::new(),
        interfaces: Vec::new(),
        redirects: Vec::new(),
        ..snapshot()
    });
    assert!(
        text.contains("\nfanout_start_time_seconds 0.000\n"),
        "{text}"
    );
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(samples.count(), 4);
}

/// The largest that a config can ask for: each series there once, with its own number.
#[test]
fn listeners_64_with_1024_downstreams() {
    let names: Vec<_> = (0..1024).map(|n| format!("d{n}")).collect();
    let listener = |of: u64| ListenerSample {
        is_served: true,
        downstreams: (0..)
            .zip(&names)
            .map(|(number, name)| DownstreamSample {
                name,
                forwarded: totals(of * 1024 + number, 0),
            })
            .collect(),
        members: (0..1024)
            .map(|number| MemberSample {
                downstream: &names[number],
                address: "10.0.0.1:1".parse().unwrap(),
                is_up: true,
            })
            .collect(),
        ..ListenerSample::gone(&names[usize::try_from(of).unwrap()])
    };
    let text = text(&Snapshot {
        listeners: (0..64).map(listener).collect(),
        ..snapshot()
    });
    let of = |family: &str| -> Vec<_> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(family));
        lines.collect()
    };
    let forwarded = of("fanout_forwarded_packets_total{");
    assert_eq!(forwarded.len(), 65_536);
    for (number, line) in forwarded.into_iter().enumerate() {
        let (listener, downstream) = (number / 1024, number % 1024);
        let expected = format!("listener=\"d{listener}\",downstream=\"d{downstream}\"}} {number}");
        assert_eq!(line, expected);
    }
    assert_eq!(of("fanout_forwarded_bytes_total{").len(), 65_536);
    assert_eq!(of("fanout_downstream_up{").len(), 65_536);
}

#[test]
fn counts_of_workers() {
    let workers: [ListenerCounters; 3] = Default::default();
    workers[0].received.count(100);
    workers[2].received.count(50);
    workers[2].received.count(50);
    workers[0].count_drop(DropReason::TxFull);
    workers[2].count_drop(DropReason::TxFull);
    workers[1].count_drop(DropReason::NoDownstream);
    let mut listener = snapshot().listeners.swap_remove(0);
    listener.count_workers(&workers);
    assert_eq!(
        listener.received,
        [(0, totals(1, 100)), (1, totals(0, 0)), (2, totals(2, 100))]
    );
    assert_eq!(listener.dropped, [1, 0, 2, 0, 0]);

    let workers: [DownstreamCounters; 2] = Default::default();
    workers[0].forwarded.count(60);
    workers[1].forwarded.count(40);
    assert_eq!(Totals::forwarded(&workers), totals(2, 100));
}
