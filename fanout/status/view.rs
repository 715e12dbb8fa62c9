//! Two readings of the metrics → what a person wants to know: totals, and rates between the two.
#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the derive knows no other fields than pub ones, and the names are the metrics'"
)]

use std::{borrow::Cow, collections::HashMap};

use nanoserde::SerJson;

use super::exposition::{Sample, samples};

/// What the running instance counts.
#[derive(Clone, Debug, Default, SerJson)]
pub struct View {
    pub version: String,
    /// Seconds since the epoch.
    pub started: u64,
    pub last_reload_successful: bool,
    /// Seconds since the epoch.
    pub last_reload: u64,
    pub listeners: Vec<Listener>,
    pub queues: Vec<Queue>,
    pub interfaces: Vec<Interface>,
    pub redirects: Vec<Redirect>,
}

#[derive(Clone, Debug, Default, SerJson)]
pub struct Listener {
    pub name: String,
    /// Empty for one that is no longer in the config.
    pub mode: String,
    pub interface: String,
    pub xdp: String,
    pub zero_copy: bool,
    pub received: Count,
    /// By RX queue, or worker.
    pub by_queue: Vec<Named>,
    pub downstreams: Vec<Downstream>,
    pub dropped: Vec<Named>,
    pub passed: Vec<Named>,
}

#[derive(Clone, Debug, Default, SerJson)]
pub struct Downstream {
    pub name: String,
    pub forwarded: Count,
    pub addresses: Vec<Address>,
}

#[derive(Clone, Debug, SerJson)]
pub struct Address {
    pub address: String,
    pub up: bool,
}

/// Datagrams.
#[derive(Clone, Copy, Debug, Default, SerJson)]
pub struct Count {
    pub total: u64,
    /// A second, of late.
    pub rate: u64,
}

#[derive(Clone, Debug, SerJson)]
pub struct Named {
    pub name: String,
    pub count: Count,
}

#[derive(Clone, Debug, Default, SerJson)]
pub struct Queue {
    pub interface: String,
    pub number: String,
    pub free_frames: u64,
    /// What its socket lost, by the kernel's name.
    pub losses: Vec<Named>,
}

#[derive(Clone, Debug, Default, SerJson)]
pub struct Interface {
    pub name: String,
    /// What it lost before fanout's programs saw it, by the kernel's name.
    pub losses: Vec<Named>,
}

#[derive(Clone, Debug, SerJson)]
pub struct Redirect {
    pub interface: String,
    pub egress: String,
    /// Of what counts as forwarded.
    pub failed: Count,
}

impl View {
    /// Of `text`; `before` was read as many milliseconds before.
    pub(super) fn new(text: &str, before: &str, milliseconds: u64) -> Self {
        let before = samples(before).map(|sample| (sample.series, sample.value));
        let before: HashMap<_, _> = before.collect();
        let mut reading = Reading::default();
        for sample in samples(text) {
            let was = before.get(sample.series).copied();
            let since = sample.value.saturating_sub(was.unwrap_or(sample.value));
            let count = Count {
                total: sample.value,
                rate: (1000 * since).checked_div(milliseconds).unwrap_or_default(),
            };
            reading.take(&sample, count);
        }
        reading.view
    }
}

/// A view that is not yet whole.
#[derive(Default)]
struct Reading<'t> {
    view: View,
    /// By its listener's place and its name, where a downstream is among that listener's.
    downstreams: HashMap<(usize, Cow<'t, str>), usize>,
}

impl<'t> Reading<'t> {
    fn take(&mut self, sample: &Sample<'t>, count: Count) {
        let text = |label: &str| sample.label(label).into_owned();
        let named = |name: String| Named { name, count };
        let view = &mut self.view;
        match sample.family {
            "fanout_build_info" => view.version = text("version"),
            "fanout_start_time_seconds" => view.started = sample.value,
            "fanout_config_last_reload_successful" => {
                view.last_reload_successful = sample.value == 1;
            }
            "fanout_config_last_reload_success_timestamp_seconds" => {
                view.last_reload = sample.value;
            }
            "fanout_listener_info" => {
                let listener = view.listener(sample);
                listener.mode = text("mode");
                listener.interface = text("interface");
                listener.xdp = text("xdp");
                listener.zero_copy = sample.label("zero_copy") == "true";
            }
            "fanout_received_packets_total" => {
                let listener = view.listener(sample);
                listener.received.total += count.total;
                listener.received.rate += count.rate;
                listener.by_queue.push(named(text("queue")));
            }
            "fanout_forwarded_packets_total" => self.downstream(sample).forwarded = count,
            "fanout_downstream_up" => {
                let address = Address {
                    address: text("address"),
                    up: sample.value == 1,
                };
                self.downstream(sample).addresses.push(address);
            }
            "fanout_dropped_packets_total" if count.total > 0 => {
                view.listener(sample).dropped.push(named(text("reason")));
            }
            "fanout_passed_packets_total" if count.total > 0 => {
                view.listener(sample).passed.push(named(text("reason")));
            }
            "fanout_umem_free_frames" => view.queue(sample).free_frames = sample.value,
            "fanout_redirect_failed_packets_total" => view.redirects.push(Redirect {
                interface: text("interface"),
                egress: text("egress"),
                failed: count,
            }),
            family => {
                let of = |prefix| family.strip_prefix(prefix)?.strip_suffix("_total");
                if let Some(loss) = of("fanout_interface_") {
                    let losses = &mut view.interface(sample).losses;
                    losses.push(named(loss.to_owned()));
                } else if let Some(loss) = of("fanout_xsk_")
                    // With nothing to send, nothing is lost.
                    && loss != "tx_ring_empty_descs"
                {
                    view.queue(sample).losses.push(named(loss.to_owned()));
                }
            }
        }
    }

    /// There may be 65,536: what is asked for each must not look at all.
    fn downstream(&mut self, sample: &Sample<'t>) -> &mut Downstream {
        let listener = self.view.listener_place(sample);
        let name = sample.label("downstream");
        let all = &mut self.view.listeners[listener].downstreams;
        let place = self.downstreams.entry((listener, name));
        let place = *place.or_insert_with_key(|(_, name)| {
            all.push(Downstream {
                name: name.clone().into_owned(),
                ..Downstream::default()
            });
            all.len() - 1
        });
        &mut all[place]
    }
}

impl View {
    fn listener(&mut self, sample: &Sample<'_>) -> &mut Listener {
        let place = self.listener_place(sample);
        &mut self.listeners[place]
    }

    fn listener_place(&mut self, sample: &Sample<'_>) -> usize {
        let name = sample.label("listener");
        let new = || Listener {
            name: name.clone().into_owned(),
            ..Listener::default()
        };
        place(&mut self.listeners, |l| l.name == name, new)
    }

    fn queue(&mut self, sample: &Sample<'_>) -> &mut Queue {
        let [interface, queue] = ["interface", "queue"].map(|label| sample.label(label));
        let new = || Queue {
            interface: interface.clone().into_owned(),
            number: queue.clone().into_owned(),
            ..Queue::default()
        };
        let is = |q: &Queue| q.interface == interface && q.number == queue;
        let place = place(&mut self.queues, is, new);
        &mut self.queues[place]
    }

    fn interface(&mut self, sample: &Sample<'_>) -> &mut Interface {
        let name = sample.label("interface");
        let new = || Interface {
            name: name.clone().into_owned(),
            ..Interface::default()
        };
        let place = place(&mut self.interfaces, |i| i.name == name, new);
        &mut self.interfaces[place]
    }
}

/// Of the one that it is, or of a new one at the end.
fn place<T>(all: &mut Vec<T>, is: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> usize {
    all.iter().position(is).unwrap_or_else(|| {
        all.push(new());
        all.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(received: u64, forwarded: u64, dropped: u64) -> String {
        format!(
            "fanout_build_info{{version=\"1.2\"}} 1\nfanout_start_time_seconds 7.5\n\
             fanout_config_last_reload_successful 1\n\
             fanout_listener_info{{listener=\"a\",mode=\"af_xdp\",interface=\"ens5\",xdp=\"native\",zero_copy=\"false\"}} 1\n\
             fanout_received_packets_total{{listener=\"a\",queue=\"0\"}} {received}\n\
             fanout_received_packets_total{{listener=\"a\",queue=\"1\"}} 5\n\
             fanout_forwarded_packets_total{{listener=\"a\",downstream=\"x\"}} {forwarded}\n\
             fanout_dropped_packets_total{{listener=\"a\",reason=\"tx_full\"}} {dropped}\n\
             fanout_dropped_packets_total{{listener=\"a\",reason=\"too_big\"}} 0\n\
             fanout_downstream_up{{listener=\"a\",downstream=\"x\",address=\"10.0.0.1:1\"}} 1\n\
             fanout_xsk_rx_ring_full_total{{interface=\"ens5\",queue=\"0\"}} 3\n\
             fanout_interface_rx_missed_total{{interface=\"ens5\"}} 0\n\
             fanout_xsk_tx_ring_empty_descs_total{{interface=\"ens5\",queue=\"0\"}} 3\n\
             fanout_umem_free_frames{{interface=\"ens5\",queue=\"0\"}} 42\n"
        )
    }

    #[test]
    fn totals_and_rates() {
        let view = View::new(&text(1500, 1400, 100), &text(500, 400, 100), 2000);
        let [listener] = &view.listeners[..] else {
            panic!("{view:?}")
        };
        assert_eq!(
            (listener.received.total, listener.received.rate),
            (1505, 500)
        );
        assert_eq!(listener.by_queue[0].count.rate, 500);
        assert_eq!(listener.by_queue[1].count.rate, 0);
        assert_eq!(listener.downstreams[0].forwarded.rate, 500);
        assert!(listener.downstreams[0].addresses[0].up);
        assert_eq!(listener.dropped.len(), 1);
        assert_eq!(
            (
                listener.dropped[0].count.total,
                listener.dropped[0].count.rate
            ),
            (100, 0)
        );
        assert_eq!(view.queues[0].losses.len(), 1);
        assert_eq!((view.queues[0].free_frames, view.started), (42, 7));
    }

    /// What `render` writes is read: its own test holds it to this text.
    #[test]
    fn what_is_rendered_is_read() {
        let view = View::new(include_str!("../metrics/render/golden.prom"), "", 1000);
        let named = |of: &[Named]| -> Vec<_> {
            let pairs = of.iter().map(|of| (of.name.clone(), of.count.total));
            pairs.collect()
        };
        let pairs = |all: &[(&str, u64)]| -> Vec<_> {
            let pairs = all.iter().map(|&(name, total)| (name.to_owned(), total));
            pairs.collect()
        };
        assert_eq!(
            (&view.version[..], view.started),
            ("VERSION", 1_700_000_000)
        );
        assert!(view.last_reload_successful);
        assert_eq!(view.last_reload, 1_700_000_001);
        let [syslog, odd] = &view.listeners[..] else {
            panic!("{view:?}")
        };
        let words = [&syslog.name, &syslog.mode, &syslog.interface, &syslog.xdp];
        assert_eq!(words, ["syslog", "af_xdp", "ens5", "native"]);
        assert!(syslog.zero_copy && !odd.zero_copy);
        assert_eq!(odd.interface, "a\"b\\c\nd");
        assert_eq!(syslog.received.total, 10);
        assert_eq!(named(&syslog.by_queue), pairs(&[("0", 7), ("1", 3)]));
        let [vector, removed] = &syslog.downstreams[..] else {
            panic!("{syslog:?}")
        };
        assert_eq!(vector.forwarded.total, u64::MAX);
        assert_eq!(vector.addresses[0].address, "10.42.0.21:5514");
        assert!(vector.addresses[0].up && !odd.downstreams[0].addresses[0].up);
        assert_eq!((&removed.name[..], removed.forwarded.total), ("removed", 5));
        assert!(removed.addresses.is_empty());
        assert_eq!(syslog.dropped.len(), 5);
        assert_eq!(named(&syslog.dropped)[..1], pairs(&[("no_downstream", 1)]));
        assert_eq!(syslog.passed.len(), 9);
        assert_eq!(named(&syslog.passed)[..1], pairs(&[("other_mac", 1)]));
        let [queue] = &view.queues[..] else {
            panic!("{view:?}")
        };
        assert_eq!((&queue.interface[..], &queue.number[..]), ("ens5", "1"));
        assert_eq!(queue.free_frames, 8192);
        let losses = [
            ("rx_dropped", 1),
            ("rx_invalid_descs", 2),
            ("tx_invalid_descs", 3),
            ("rx_ring_full", 4),
            ("rx_fill_ring_empty_descs", 5),
        ];
        assert_eq!(named(&queue.losses), pairs(&losses));
        let [interface] = &view.interfaces[..] else {
            panic!("{view:?}")
        };
        assert_eq!(interface.name, "ens5");
        let losses = [("rx_missed", 7), ("rx_dropped", 8)];
        assert_eq!(named(&interface.losses), pairs(&losses));
        let [redirect] = &view.redirects[..] else {
            panic!("{view:?}")
        };
        assert_eq!(
            (&redirect.interface[..], &redirect.egress[..]),
            ("ens5", "ens6")
        );
        assert_eq!(redirect.failed.total, 3);
    }

    /// Machines get the zeros too, or they could not tell them from an older version.
    #[test]
    fn losses_that_never_happened_are_in_the_json() {
        let json = View::new(&text(1, 1, 0), "", 1000).serialize_json();
        let zero = r#"{"name":"rx_missed","count":{"total":0,"rate":0}}"#;
        assert!(json.contains(zero), "{json}");
    }

    #[test]
    fn a_first_reading_has_no_rates() {
        let now = text(10, 10, 0);
        let view = View::new(&now, "", 1000);
        assert_eq!(view.listeners[0].received.rate, 0);
        assert_eq!(view.listeners[0].received.total, 15);
    }
}
