//! [`Snapshot`] → text in Prometheus' exposition format, version 0.0.4.
//!
//! `node_exporter` skips the whole file for one bad line or any timestamp, and refuses two help
//! texts for one family: so each family is written in one place, and the text depends on the
//! snapshot alone.

use std::time::{SystemTime, UNIX_EPOCH};

use fanout_ebpf::abi::PassReason;

use super::{
    DropReason,
    page::{
        Label, Page,
        Value::{Address, Number, Text},
    },
    snapshot::{
        InterfaceSample, ListenerSample, QueueSample, RedirectSample, Snapshot, Totals,
        XskStatistics,
    },
};
use crate::link::Losses;

/// Puts the exposition of `snapshot` into `text`, in place of what is there.
pub fn render(snapshot: &Snapshot<'_>, text: &mut String) {
    text.clear();
    let mut page = Page { text, family: "" };
    process(snapshot, &mut page);
    listeners(&snapshot.listeners, &mut page);
    queues(&snapshot.queues, &mut page);
    interfaces(&snapshot.interfaces, &mut page);
    redirects(&snapshot.redirects, &mut page);
}

fn process(snapshot: &Snapshot<'_>, page: &mut Page<'_>) {
    page.gauge(
        "fanout_build_info",
        "The running fanout's version; always 1.",
    );
    page.sample(&[("version", Text(env!("CARGO_PKG_VERSION")))], 1);
    page.gauge(
        "fanout_start_time_seconds",
        "When fanout started, in seconds since the epoch.",
    );
    time(snapshot.started, page);
    page.gauge(
        "fanout_config_last_reload_successful",
        "1 if the last config was taken over, 0 if it was refused and the one before is in force.",
    );
    page.sample(&[], snapshot.reload.successful.into());
    page.gauge(
        "fanout_config_last_reload_success_timestamp_seconds",
        "When a config was last taken over, in seconds since the epoch.",
    );
    time(snapshot.reload.last_success, page);
}

/// Since the epoch, to the millisecond.
fn time(time: SystemTime, page: &mut Page<'_>) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    page.sample_of_milliseconds(since.as_secs(), since.subsec_millis());
}

fn listeners(listeners: &[ListenerSample<'_>], page: &mut Page<'_>) {
    page.gauge(
        "fanout_listener_info",
        "How a listener works; always 1. xdp is how its program is attached: native, skb or none.",
    );
    for listener in listeners.iter().filter(|listener| listener.is_served) {
        let zero_copy = if listener.zero_copy { "true" } else { "false" };
        let labels: [Label<'_>; 5] = [
            ("listener", Text(listener.name)),
            ("mode", Text(listener.mode)),
            ("interface", Text(listener.interface)),
            ("xdp", Text(listener.xdp)),
            ("zero_copy", Text(zero_copy)),
        ];
        page.sample(&labels, 1);
    }
    received(listeners, page);
    forwarded(listeners, page);
    reasons(
        listeners,
        "fanout_dropped_packets_total",
        "Datagrams that a listener received and could not forward.",
        |listener| listener.dropped,
        &DropReason::ALL.map(DropReason::name),
        page,
    );
    reasons(
        listeners,
        "fanout_passed_packets_total",
        "Packets to a listener's address and port that were left to the kernel.",
        |listener| listener.passed,
        &PassReason::ALL.map(PassReason::name),
        page,
    );
    page.gauge(
        "fanout_downstream_up",
        "1 if datagrams go to this address of a downstream, 0 if it is out of turn: no route, no neighbour, probes that failed, or it refused.",
    );
    for listener in listeners {
        let members = listener.members.iter().map(|member| {
            let values = [Text(member.downstream), Address(member.address)];
            (values, member.is_up.into())
        });
        page.samples(&of(listener), ["downstream", "address"], members);
    }
}

fn received(listeners: &[ListenerSample<'_>], page: &mut Page<'_>) {
    let packets = "Datagrams that came to a listener, by RX queue of its interface, in userspace mode by worker.";
    let bytes = "Bytes of the IP packets that came to a listener, by RX queue of its interface, in userspace mode by worker.";
    let families: [Family; 2] = [
        ("fanout_received_packets_total", packets, |t| t.packets),
        ("fanout_received_bytes_total", bytes, |t| t.bytes),
    ];
    for (name, help, value) in families {
        page.counter(name, help);
        for listener in listeners {
            let queues = listener.received.iter();
            let queues = queues.map(|(queue, totals)| ([Number(*queue)], value(totals)));
            page.samples(&of(listener), ["queue"], queues);
        }
    }
}

fn forwarded(listeners: &[ListenerSample<'_>], page: &mut Page<'_>) {
    let packets = "Datagrams that the kernel took for sending to a downstream.";
    let bytes = "Bytes of the IP packets that the kernel took for sending to a downstream.";
    let families: [Family; 2] = [
        ("fanout_forwarded_packets_total", packets, |t| t.packets),
        ("fanout_forwarded_bytes_total", bytes, |t| t.bytes),
    ];
    for (name, help, value) in families {
        page.counter(name, help);
        for listener in listeners {
            let downstreams = listener.downstreams.iter();
            let downstreams = downstreams.map(|d| ([Text(d.name)], value(&d.forwarded)));
            page.samples(&of(listener), ["downstream"], downstreams);
        }
    }
}

/// Every reason of every listener, also those that never happened.
fn reasons<const N: usize>(
    listeners: &[ListenerSample<'_>],
    family: &'static str,
    help: &str,
    counts: impl Fn(&ListenerSample<'_>) -> [u64; N],
    names: &[&'static str; N],
    page: &mut Page<'_>,
) {
    page.counter(family, help);
    for listener in listeners {
        let counts = names.iter().zip(counts(listener));
        let counts = counts.map(|(name, count)| ([Text(name)], count));
        page.samples(&of(listener), ["reason"], counts);
    }
}

fn of<'l>(listener: &'l ListenerSample<'_>) -> [Label<'l>; 1] {
    [("listener", Text(listener.name))]
}

fn queues(queues: &[QueueSample<'_>], page: &mut Page<'_>) {
    for (name, help, value) in XSK {
        page.counter(name, help);
        for queue in queues {
            page.sample(&queue_labels(queue), value(&queue.statistics));
        }
    }
    page.gauge(
        "fanout_umem_free_frames",
        "Frames of a worker's packet memory that are in no ring.",
    );
    for queue in queues {
        page.sample(&queue_labels(queue), queue.umem_free_frames);
    }
}

fn interfaces(interfaces: &[InterfaceSample<'_>], page: &mut Page<'_>) {
    let missed =
        "Packets that the interface had no room for: lost before fanout's program saw them.";
    let dropped = "Packets that the interface's driver or the kernel dropped; with some drivers also those that \
                   it had no room for, or that an AF_XDP socket had none for.";
    let families: [LossFamily<'_>; 2] = [
        ("fanout_interface_rx_missed_total", missed, |l| l.missed),
        ("fanout_interface_rx_dropped_total", dropped, |l| l.dropped),
    ];
    for (name, help, value) in families {
        page.counter(name, help);
        for interface in interfaces {
            page.sample(
                &[("interface", Text(interface.name))],
                value(&interface.losses),
            );
        }
    }
}

fn redirects(redirects: &[RedirectSample<'_>], page: &mut Page<'_>) {
    page.counter(
        "fanout_redirect_failed_packets_total",
        "Datagrams counted as forwarded in mode xdp that the kernel then did not send by the egress.",
    );
    for redirect in redirects {
        let labels: [Label<'_>; 2] = [
            ("interface", Text(redirect.interface)),
            ("egress", Text(redirect.egress)),
        ];
        page.sample(&labels, redirect.failed);
    }
}

fn queue_labels<'q>(queue: &'q QueueSample<'_>) -> [Label<'q>; 2] {
    [
        ("interface", Text(queue.interface)),
        ("queue", Number(queue.queue)),
    ]
}

type XskFamily = (&'static str, &'static str, fn(&XskStatistics) -> u64);

const XSK: [XskFamily; 6] = [
    (
        "fanout_xsk_rx_dropped_total",
        "Packets that the kernel dropped on the way into an AF_XDP socket.",
        |xsk| xsk.rx_dropped,
    ),
    (
        "fanout_xsk_rx_invalid_descs_total",
        "Fill ring descriptors that the kernel found invalid: a bug.",
        |xsk| xsk.rx_invalid_descs,
    ),
    (
        "fanout_xsk_tx_invalid_descs_total",
        "TX ring descriptors that the kernel found invalid: a bug.",
        |xsk| xsk.tx_invalid_descs,
    ),
    (
        "fanout_xsk_rx_ring_full_total",
        "Packets that the kernel dropped because the worker was too slow to empty the RX ring.",
        |xsk| xsk.rx_ring_full,
    ),
    (
        "fanout_xsk_rx_fill_ring_empty_descs_total",
        "Times that the kernel found no free frame for a packet in the fill ring.",
        |xsk| xsk.rx_fill_ring_empty_descs,
    ),
    (
        "fanout_xsk_tx_ring_empty_descs_total",
        "Times that the kernel found nothing to send in the TX ring.",
        |xsk| xsk.tx_ring_empty_descs,
    ),
];

type LossFamily<'h> = (&'static str, &'h str, fn(&Losses) -> u64);
type Family = (&'static str, &'static str, fn(&Totals) -> u64);

#[cfg(test)]
mod tests;
