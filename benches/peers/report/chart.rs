//! The same figures as an SVG: for each contender a bar of what it delivers under flood and, in it, one of
//! its highest rate without a loss; on a scale of powers of ten.

use super::{Report, Row};

const TITLE: &str =
    "Datagrams a second: delivered under flood (light), highest rate without a loss (dark)";
const WIDTH: f64 = 760.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 56.0;
const STEP: f64 = 30.0;
const BAR: f64 = 18.0;
/// The marks of the scale, as powers of ten.
const SCALE: [(i32, &str); 4] = [
    (4, "10,000"),
    (5, "100,000"),
    (6, "1 million"),
    (7, "10 million"),
];
/// Light and dark, of fanout and of the others.
const COLOURS: [[&str; 2]; 2] = [["#9ecbff", "#0969da"], ["#d0d7de", "#6e7781"]];
const FAINT: &str = "#57606a";

pub(super) fn of(report: &Report) -> String {
    let bottom = TOP + STEP * report.rows.len() as f64;
    let height = bottom + 32.0;
    let mut parts = vec![
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\" fill=\"#24292f\">"
        ),
        "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>".to_owned(),
        text(16.0, 22.0, "font-weight=\"bold\"", TITLE),
        text(16.0, 41.0, &format!("fill=\"{FAINT}\""), &report.machine),
    ];
    for (power, label) in SCALE {
        let x = x(10f64.powi(power));
        parts.push(format!(
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#d0d7de\"/>"
        ));
        let style = format!("text-anchor=\"middle\" fill=\"{FAINT}\"");
        parts.push(text(x, bottom + 18.0, &style, label));
    }
    for (row, place) in report.rows.iter().zip(0..) {
        parts.extend(bars(row, TOP + STEP * f64::from(place)));
    }
    parts.push("</svg>\n".to_owned());
    parts.join("\n")
}

/// What stands in the step that begins at `y`.
fn bars(row: &Row, y: f64) -> Vec<String> {
    let [light, dark] = COLOURS[usize::from(!row.ours)];
    let middle = y + STEP / 2.0;
    let bar = |value: f64, height: f64, colour: &str| {
        let (y, width) = (middle - height / 2.0, x(value) - LEFT);
        format!(
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        )
    };
    let value = format!("{:.2} M", row.flood / 1e6);
    let mut parts = vec![
        text(LEFT - 8.0, middle + 4.5, "text-anchor=\"end\"", row.name),
        bar(row.flood, BAR, light),
        text(x(row.flood) + 6.0, middle + 4.5, "", &value),
    ];
    parts.extend(row.loss_free.map(|rate| bar(rate, BAR / 3.0, dark)));
    parts
}

fn x(value: f64) -> f64 {
    let (low, high) = (f64::from(SCALE[0].0), f64::from(SCALE[3].0));
    let share = (value.max(1.0).log10() - low) / (high - low);
    LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

fn text(x: f64, y: f64, style: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{text}</text>")
}
