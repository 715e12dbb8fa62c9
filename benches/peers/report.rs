//! What was measured, as medians of the rounds, for people, programs and the README.

mod chart;
mod json;
mod text;

use std::{fs, io, path::Path};

use super::{contender::Contender, measure::Sample};

/// What the others are compared with.
const STANDARD: &str = "nftables";
/// Under flood as much as this of what was sent was delivered: the generator was the limit.
const ALL: f64 = 0.99;

/// All that is told.
#[derive(Debug)]
pub struct Report {
    /// CPU, number of CPUs, kernel.
    machine: String,
    rounds: usize,
    rows: Vec<Row>,
    /// Who could not run, and for want of what.
    missing: Vec<(&'static str, &'static str)>,
    ground: Option<Ground>,
}

/// One contender.
#[derive(Debug)]
struct Row {
    name: &'static str,
    /// fanout, in one of its modes.
    ours: bool,
    /// Datagrams a second, and so on: see [`Sample`].
    flood: f64,
    offered: f64,
    loss_free: Option<f64>,
    cpu: Option<f64>,
    latency: Option<[f64; 3]>,
    /// `flood` over that of [`STANDARD`].
    ratio: Option<f64>,
}

impl Row {
    /// Whether it delivered all that the generator could send beside it.
    fn is_bounded_by_generator(&self) -> bool {
        self.offered > 0.0 && self.flood >= self.offered * ALL
    }
}

/// What fanout's rings allow on this machine.
#[derive(Debug)]
struct Ground {
    /// 1 / (1 / `rx_only` + 1 / `tx_only`), in datagrams a second.
    rate: f64,
    /// What `af_xdp` reaches of it.
    share: f64,
}

impl Report {
    /// The medians of each contender's samples.
    pub fn new(
        samples: &[(&Contender, Vec<Sample>)],
        missing: Vec<(&'static str, &'static str)>,
    ) -> Self {
        let rows: Vec<_> = samples
            .iter()
            .map(|(contender, samples)| row(contender, samples))
            .collect();
        let flood = |name: &str| Some(rows.iter().find(|row| row.name == name)?.flood);
        let ground = || {
            let rate = 1.0 / (1.0 / flood("rx_only")? + 1.0 / flood("tx_only")?);
            let share = flood("af_xdp")? / rate;
            Some(Ground { rate, share })
        };
        let (ground, standard) = (ground(), flood(STANDARD));
        let with_ratio = |row: Row| Row {
            ratio: standard.map(|standard| row.flood / standard),
            ..row
        };
        Self {
            machine: machine(),
            rounds: samples
                .iter()
                .map(|(_, samples)| samples.len())
                .max()
                .unwrap_or_default(),
            rows: rows.into_iter().map(with_ratio).collect(),
            missing,
            ground,
        }
    }

    /// The table.
    pub fn text(&self) -> String {
        text::of(self)
    }

    /// Writes `peers.txt`, `peers.json` and `peers.svg`.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for (file, content) in [
            ("peers.txt", self.text()),
            ("peers.json", json::of(self)),
            ("peers.svg", chart::of(self)),
        ] {
            fs::write(folder.join(file), content)?;
        }
        Ok(())
    }
}

fn row(contender: &Contender, samples: &[Sample]) -> Row {
    let of =
        |value: &dyn Fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(value).collect());
    let latency = |i: usize| of(&|sample| Some(sample.latency?[i]));
    Row {
        name: contender.name,
        ours: contender.ours,
        flood: of(&|sample| Some(sample.flood)).unwrap_or_default(),
        offered: of(&|sample| Some(sample.offered)).unwrap_or_default(),
        loss_free: of(&|sample| sample.loss_free),
        cpu: of(&|sample| sample.cpu),
        latency: latency(0)
            .zip(latency(1))
            .zip(latency(2))
            .map(|((a, b), c)| [a, b, c]),
        ratio: None,
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let models = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name"));
    let model = models
        .clone()
        .next()
        .unwrap_or_default()
        .trim_start_matches([' ', '\t', ':']);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{} × {model}, Linux {}", models.count(), kernel.trim())
}
