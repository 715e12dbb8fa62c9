//! A [`View`] for a terminal of 80 columns.

use std::fmt::Write as _;

use super::view::{Count, Downstream, Listener, Named, Queue, View};
use crate::xsk::umem::FRAMES;

/// Cells of a bar.
const BAR: usize = 20;
/// Columns of a name.
const NAME: usize = 20;
/// A queue with more of a listener's datagrams than this, in percent, is said to be hot.
const HOT: u64 = 90;

/// `now` is the time, in seconds since the epoch.
pub(super) fn table(view: &View, now: u64) -> String {
    let mut text = String::new();
    let up = duration(now.saturating_sub(view.started));
    let _ = write!(text, "fanout {}, up {up}; ", view.version);
    let ago = duration(now.saturating_sub(view.last_reload));
    let _ = if view.last_reload_successful {
        writeln!(text, "config read {ago} ago")
    } else {
        writeln!(
            text,
            "the last reload was REFUSED (see the log), config of {ago} ago"
        )
    };
    for listener in &view.listeners {
        text.push('\n');
        self::listener(&mut text, listener);
    }
    if !view.queues.is_empty() {
        text.push('\n');
    }
    for queue in &view.queues {
        self::queue(&mut text, queue);
    }
    text
}

fn listener(text: &mut String, listener: &Listener) {
    let Listener {
        name,
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
    reasons(text, "passed to the kernel", &listener.passed);
}

fn row(text: &mut String, name: &str, count: Count, more: &str) {
    let (rate, total) = (grouped(count.rate), grouped(count.total));
    let line = format!("  {:<NAME$} {rate:>10}/s {total:>15}  {more}", short(name));
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
            text.push_str("    nearly all on one queue: one sender, or RSS does not hash ports (fanout check)\n");
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
    for Named { name, count } in losses {
        row(text, "lost:", *count, name);
    }
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

fn short(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    let begin: String = name.chars().take(NAME - 1).collect();
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
