//! A [`View`] for a terminal of 80 columns.

use std::fmt::Write as _;

use super::view::{Count, Downstream, Interface, Listener, Named, Queue, Redirect, View};
use crate::xsk::umem::FRAMES;

/// Cells of a bar.
const BAR: usize = 16;
/// Columns of a name in a row.
const NAME: usize = 20;
/// And of a listener's, beside all that is said of it.
const TITLE: usize = 30;
/// A queue with more of a listener's datagrams than this, in percent, is said to be hot.
const HOT: u64 = 90;

/// `now` is the time, in seconds since the epoch.
pub(super) fn table(view: &View, now: u64) -> String {
    let mut text = String::new();
    let up = duration(now.saturating_sub(view.started));
    let ago = duration(now.saturating_sub(view.last_reload));
    let version = &view.version;
    let _ = writeln!(text, "fanout {version}, up {up}; config read {ago} ago");
    if !view.last_reload_successful {
        text.push_str("the last reload was REFUSED (see the log), the config before is in force\n");
    }
    for listener in &view.listeners {
        text.push('\n');
        self::listener(&mut text, listener);
    }
    let mut rest = String::new();
    for queue in &view.queues {
        self::queue(&mut rest, queue);
    }
    for interface in &view.interfaces {
        self::interface(&mut rest, interface);
    }
    for redirect in &view.redirects {
        self::redirect(&mut rest, redirect);
    }
    if !rest.is_empty() {
        text.push('\n');
    }
    text.push_str(&rest);
    text
}

fn listener(text: &mut String, listener: &Listener) {
    let name = short(&listener.name, TITLE);
    let Listener {
        mode,
        interface,
        xdp,
        ..
    } = listener;
    if mode.is_empty() {
        let _ = writeln!(text, "{name}: no longer in the config");
    } else {
        let on = if interface.is_empty() {
            "any interface"
        } else {
            interface
        };
        let _ = write!(text, "{name}: {mode} on {on}");
        if xdp != "none" {
            let _ = write!(text, ", XDP {xdp}");
        }
        if mode == "af_xdp" {
            text.push_str(if listener.zero_copy {
                ", zero copy"
            } else {
                ", copying"
            });
        }
        text.push('\n');
    }
    row(text, "received", listener.received, "");
    queues(text, listener);
    let rates = listener.downstreams.iter().map(|d| d.forwarded.rate);
    let (all_rates, totals) = (
        rates.sum::<u64>(),
        listener
            .downstreams
            .iter()
            .map(|d| d.forwarded.total)
            .sum::<u64>(),
    );
    for downstream in &listener.downstreams {
        // Of what goes now, or if nothing does, of what ever went.
        let share = if all_rates > 0 {
            percent(downstream.forwarded.rate, all_rates)
        } else {
            percent(downstream.forwarded.total, totals)
        };
        let bar = bar(share);
        row(
            text,
            &downstream.name,
            downstream.forwarded,
            &format!("{share:>3} % {bar}"),
        );
        addresses(text, downstream);
    }
    reasons(text, "dropped", &listener.dropped);
    reasons(text, "left to the kernel", &listener.passed);
}

fn row(text: &mut String, name: &str, count: Count, more: &str) {
    let (rate, total) = (grouped(count.rate), grouped(count.total));
    let line = format!(
        "  {:<NAME$} {rate:>10}/s {total:>18}  {more}",
        short(name, NAME)
    );
    let _ = writeln!(text, "{}", line.trim_end());
}

fn queues(text: &mut String, listener: &Listener) {
    if listener.by_queue.len() < 2 {
        return;
    }
    let is_worker = listener.mode == "userspace";
    let word = if is_worker { "worker" } else { "queue" };
    let all = listener.received.rate;
    for Named { name, count } in listener.by_queue.iter().filter(|of| of.count.total > 0) {
        let share = percent(count.rate, all);
        let hot = all > 0 && share > HOT && !is_worker;
        let more = if hot { "HOT" } else { "" };
        row(
            text,
            &format!("  {word} {name}"),
            *count,
            &format!("{share:>3} % {more}"),
        );
        if hot {
            text.push_str(
                "    nearly all on one queue: one sender, or RSS ignores ports (fanout check)\n",
            );
        }
    }
}

fn addresses(text: &mut String, downstream: &Downstream) {
    if downstream.addresses.is_empty() {
        text.push_str("    gone, or its name has no address\n");
    }
    for address in &downstream.addresses {
        let state = if address.up { "up" } else { "DOWN" };
        let _ = writeln!(text, "    {:<4} {}", state, address.address);
    }
}

fn reasons(text: &mut String, what: &str, reasons: &[Named]) {
    for Named { name, count } in reasons {
        row(text, &format!("{what}:"), *count, name);
    }
}

fn queue(text: &mut String, of: &Queue) {
    let Queue {
        interface,
        number,
        free_frames,
        losses,
    } = of;
    let all = FRAMES as u64;
    let (used, all) = (grouped(all.saturating_sub(*free_frames)), grouped(all));
    let _ = writeln!(
        text,
        "{interface} queue {number}: {used} of {all} frames are in rings"
    );
    for Named { name, count } in happened(losses) {
        let sending = name.starts_with("tx_");
        let what = if sending { "not sent:" } else { "lost:" };
        row(text, what, *count, name);
    }
}

/// What no listener could count.
fn interface(text: &mut String, Interface { name, losses }: &Interface) {
    let mut losses = happened(losses).peekable();
    if losses.peek().is_some() {
        let _ = writeln!(text, "{name}: lost before fanout's program saw it");
    }
    for Named { name, count } in losses {
        let by = match &name[..] {
            "rx_missed" => "by the card, no room",
            _ => "by driver or kernel",
        };
        row(text, by, *count, name);
    }
}

/// What the listeners count as forwarded all the same.
fn redirect(text: &mut String, of: &Redirect) {
    let Redirect {
        interface,
        egress,
        failed,
    } = of;
    if failed.total > 0 {
        let _ = writeln!(
            text,
            "{interface} to {egress}: forwarded, but then not sent"
        );
        row(text, "lost:", *failed, "redirect_failed");
    }
}

fn happened(losses: &[Named]) -> impl Iterator<Item = &Named> {
    losses.iter().filter(|loss| loss.count.total > 0)
}

fn percent(part: u64, whole: u64) -> u64 {
    (100 * part + whole / 2)
        .checked_div(whole)
        .unwrap_or_default()
}

fn bar(percent: u64) -> String {
    let cells = (1..=BAR).map(|cell| 100 * cell / BAR);
    cells
        .map(|end| if end as u64 <= percent { '█' } else { '░' })
        .collect()
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn short(name: &str, columns: usize) -> String {
    if name.chars().count() <= columns {
        return name.to_owned();
    }
    let begin: String = name.chars().take(columns - 1).collect();
    begin + "…"
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::view, *};

    fn named(name: &str, total: u64) -> Named {
        let name = name.to_owned();
        let count = Count { total, rate: total };
        Named { name, count }
    }

    /// The longest names, and what years at a million datagrams a second add up to.
    #[test]
    fn fits_80_columns() {
        let years = Count {
            total: 99_999_999_999_999,
            rate: 99_999_999,
        };
        let name = "n".repeat(63);
        let interface = "i".repeat(15);
        let listener = Listener {
            name: name.clone(),
            mode: "af_xdp".to_owned(),
            interface: interface.clone(),
            xdp: "native".to_owned(),
            zero_copy: true,
            received: years,
            by_queue: vec![named("0", 1), named("1023", 99_999_999)],
            downstreams: vec![view::Downstream {
                name: name.clone(),
                forwarded: years,
                addresses: vec![view::Address {
                    address: "[1111:2222:3333:4444:5555:6666:7777:8888]:65535".to_owned(),
                    up: false,
                }],
            }],
            dropped: vec![named("receive_buffer_full", 99_999_999)],
            passed: vec![named("extension_headers", 99_999_999)],
        };
        let view = View {
            version: "10.10.10".to_owned(),
            listeners: vec![
                Listener {
                    mode: "userspace".to_owned(),
                    interface: String::new(),
                    xdp: "none".to_owned(),
                    ..listener.clone()
                },
                Listener {
                    mode: String::new(),
                    ..listener.clone()
                },
                listener,
            ],
            queues: vec![Queue {
                interface: interface.clone(),
                number: "1023".to_owned(),
                free_frames: 0,
                losses: vec![
                    named("rx_fill_ring_empty_descs", 99_999_999),
                    named("rx_ring_full", 0),
                    named("tx_invalid_descs", 1),
                ],
            }],
            interfaces: vec![
                view::Interface {
                    name: interface.clone(),
                    losses: vec![named("rx_missed", 5), named("rx_dropped", 99_999_999)],
                },
                view::Interface {
                    name: "calm".to_owned(),
                    losses: vec![named("rx_missed", 0)],
                },
            ],
            redirects: vec![
                view::Redirect {
                    interface: interface.clone(),
                    egress: interface.clone(),
                    failed: years,
                },
                view::Redirect {
                    interface: interface.clone(),
                    egress: "calm".to_owned(),
                    failed: Count::default(),
                },
            ],
            ..View::default()
        };
        let table = table(&view, 1_800_000_000);
        for line in table.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        for words in [
            ", XDP native, zero copy",
            "left to the kernel:",
            "100 % HOT",
            "nearly all on one queue",
            "DOWN [1111",
            "REFUSED",
            "not sent:                     1/s                  1  tx_invalid_descs\n",
            "iii: lost before fanout's program saw it\n  by the card, no room          5/s",
            "  by driver or kernel  99,999,999/s         99,999,999  rx_dropped\n",
            "iii: forwarded, but then not sent\n  lost:",
        ] {
            assert!(table.contains(words), "no {words:?} in\n{table}");
        }
        for words in ["rx_ring_full", "calm"] {
            assert!(!table.contains(words), "{words:?} in\n{table}");
        }
    }
}
