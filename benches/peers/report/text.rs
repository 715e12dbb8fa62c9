//! The table, for people.

use super::{Report, Row};

const HEADER: [&str; 8] = [
    "flood/s",
    "loss-free/s",
    "CPU ns",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "× nftables",
    "sent/s",
];
const NAME: usize = 17;
const CELL: usize = 13;

pub(super) fn of(report: &Report) -> String {
    let titles = HEADER.map(|title| format!("{title:>CELL$}")).concat();
    let mut lines = vec![
        format!("{}; medians of {} rounds", report.machine, report.rounds),
        String::new(),
        format!("{:NAME$}{titles}", ""),
    ];
    lines.extend(report.rows.iter().map(line));
    let missing = report.missing.iter();
    lines.extend(missing.map(|(name, program)| format!("{name:NAME$}missing: no {program}")));
    lines.push(
        "* took all that the generator, on the same CPU, could send: that was the limit".to_owned(),
    );
    if let Some(ground) = &report.ground {
        lines.push(format!(
            "fanout's own ground, 1 / (1 / rx_only + 1 / tx_only): {}/s; af_xdp delivers {:.2} of it",
            thousands(ground.rate),
            ground.share
        ));
    }
    lines.join("\n") + "\n"
}

fn line(row: &Row) -> String {
    let whole = |value: Option<f64>| value.map(thousands);
    let latency = |i: usize| {
        row.latency
            .map(|latency| format!("{:.1}", latency[i] / 1e3))
    };
    let star = if row.is_bounded_by_generator() {
        " *"
    } else {
        ""
    };
    let cells = [
        whole(Some(row.flood)),
        whole(row.loss_free),
        whole(row.cpu),
        latency(0),
        latency(1),
        latency(2),
        row.ratio.map(|ratio| format!("{ratio:.2}")),
        whole(Some(row.offered)),
    ];
    let cells = cells.map(|cell| format!("{:>CELL$}", cell.unwrap_or_else(|| "–".to_owned())));
    format!("{:NAME$}{}{star}", row.name, cells.concat())
}

/// `1234567.8` → `1,234,568`.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
