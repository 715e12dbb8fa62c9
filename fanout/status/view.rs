//! Two readings of the metrics → what a person wants to know: totals, and rates between the two.
#![allow(
    unreachable_pub,
    missing_docs,
    reason = "the derive knows no other fields than pub ones, and the names are the metrics'"
)]

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

impl View {
    /// Of `text`; `before` was read as many milliseconds before.
    pub(super) fn new(text: &str, before: &str, milliseconds: u64) -> Self {
        let before: Vec<_> = samples(before).collect();
        let mut view = Self::default();
        // Both readings list mostly the same, in the same order.
        let mut place = 0;
        for sample in samples(text) {
            let same = |old: &Sample<'_>| sample.is(old);
            let ahead = before.iter().skip(place).position(same).map(|n| place + n);
            let old = ahead.or_else(|| before.iter().position(same));
            place = old.map_or(place, |old| old + 1);
            let was = old.map_or(sample.value, |old| before[old].value);
            let since = sample.value.saturating_sub(was);
            let count = Count {
                total: sample.value,
                rate: (1000 * since).checked_div(milliseconds).unwrap_or_default(),
            };
            view.take(&sample, count);
        }
        view
    }

    fn take(&mut self, sample: &Sample<'_>, count: Count) {
        let named = |label: &str| Named {
            name: sample.label(label).to_owned(),
            count,
        };
        match sample.family {
            "fanout_build_info" => sample.label("version").clone_into(&mut self.version),
            "fanout_start_time_seconds" => self.started = sample.value,
            "fanout_config_last_reload_successful" => {
                self.last_reload_successful = sample.value == 1;
            }
            "fanout_config_last_reload_success_timestamp_seconds" => {
                self.last_reload = sample.value;
            }
            "fanout_listener_info" => {
                let [mode, interface, xdp] =
                    ["mode", "interface", "xdp"].map(|label| sample.label(label).to_owned());
                let zero_copy = sample.label("zero_copy") == "true";
                let listener = self.listener(sample);
                (listener.mode, listener.interface, listener.xdp) = (mode, interface, xdp);
                listener.zero_copy = zero_copy;
            }
            "fanout_received_packets_total" => {
                let listener = self.listener(sample);
                listener.received.total += count.total;
                listener.received.rate += count.rate;
                listener.by_queue.push(named("queue"));
            }
            "fanout_forwarded_packets_total" => self.downstream(sample).forwarded = count,
            "fanout_downstream_up" => {
                let address = Address {
                    address: sample.label("address").to_owned(),
                    up: sample.value == 1,
                };
                self.downstream(sample).addresses.push(address);
            }
            "fanout_dropped_packets_total" if count.total > 0 => {
                self.listener(sample).dropped.push(named("reason"));
            }
            "fanout_passed_packets_total" if count.total > 0 => {
                self.listener(sample).passed.push(named("reason"));
            }
            "fanout_umem_free_frames" => self.queue(sample).free_frames = sample.value,
            family => {
                let loss = family.strip_prefix("fanout_xsk_");
                let loss = loss.and_then(|loss| loss.strip_suffix("_total"));
                if let Some(loss) = loss.filter(|loss| loss.starts_with("rx_") && count.total > 0) {
                    let name = loss.to_owned();
                    self.queue(sample).losses.push(Named { name, count });
                }
            }
        }
    }

    fn listener(&mut self, sample: &Sample<'_>) -> &mut Listener {
        let name = sample.label("listener");
        find(
            &mut self.listeners,
            |l| l.name == name,
            || Listener {
                name: name.to_owned(),
                ..Listener::default()
            },
        )
    }

    fn downstream(&mut self, sample: &Sample<'_>) -> &mut Downstream {
        let name = sample.label("downstream");
        let downstreams = &mut self.listener(sample).downstreams;
        find(
            downstreams,
            |d| d.name == name,
            || Downstream {
                name: name.to_owned(),
                ..Downstream::default()
            },
        )
    }

    fn queue(&mut self, sample: &Sample<'_>) -> &mut Queue {
        let [interface, queue] = ["interface", "queue"].map(|label| sample.label(label));
        find(
            &mut self.queues,
            |q| q.interface == interface && q.number == queue,
            || Queue {
                interface: interface.to_owned(),
                number: queue.to_owned(),
                ..Queue::default()
            },
        )
    }
}

/// The one that it is, or a new one at the end.
fn find<T>(all: &mut Vec<T>, is: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let place = all.iter().position(is).unwrap_or_else(|| {
        all.push(new());
        all.len() - 1
    });
    &mut all[place]
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
            ("rx_ring_full", 4),
            ("rx_fill_ring_empty_descs", 5),
        ];
        assert_eq!(named(&queue.losses), pairs(&losses));
    }

    #[test]
    fn a_first_reading_has_no_rates() {
        let now = text(10, 10, 0);
        let view = View::new(&now, "", 1000);
        assert_eq!(view.listeners[0].received.rate, 0);
        assert_eq!(view.listeners[0].received.total, 15);
    }
}
