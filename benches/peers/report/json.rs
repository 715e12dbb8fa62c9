//! The same figures for programs; what was not measured is null.

use super::{Report, Row};

pub(super) fn of(report: &Report) -> String {
    let rows: Vec<_> = report.rows.iter().map(object).collect();
    let missing: Vec<_> = report
        .missing
        .iter()
        .map(|(name, _)| format!("{name:?}"))
        .collect();
    let ground = report.ground.as_ref();
    format!(
        "{{\n  \"machine\": {:?},\n  \"rounds\": {},\n  \"ground\": {},\n  \"af_xdp_to_ground\": {},\n  \
         \"missing\": [{}],\n  \"contenders\": [\n{}\n  ]\n}}\n",
        report.machine,
        report.rounds,
        number(ground.map(|ground| ground.rate)),
        number(ground.map(|ground| ground.share)),
        missing.join(", "),
        rows.join(",\n")
    )
}

fn object(row: &Row) -> String {
    let latency = |i: usize| number(row.latency.map(|latency| latency[i]));
    let fields = [
        ("flood_per_second", number(Some(row.flood))),
        ("sent_per_second", number(Some(row.offered))),
        ("generator_bound", row.is_bounded_by_generator().to_string()),
        ("loss_free_per_second", number(row.loss_free)),
        ("cpu_nanoseconds", number(row.cpu)),
        ("p50_nanoseconds", latency(0)),
        ("p99_nanoseconds", latency(1)),
        ("p999_nanoseconds", latency(2)),
        ("to_nftables", number(row.ratio)),
    ];
    let fields = fields
        .map(|(name, value)| format!(", \"{name}\": {value}"))
        .concat();
    format!("    {{\"name\": {:?}{fields}}}", row.name)
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| format!("{value:.3}"))
}
