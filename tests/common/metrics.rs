//! The metrics file, read back.

use std::collections::BTreeMap;

/// One line of the exposition text.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Family.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// All of a file.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// As it was read.
    pub text: String,
    samples: Vec<Sample>,
}

impl Metrics {
    /// Reads exposition text; a line that is not is an error of the program.
    pub fn parse(text: String) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let samples =
            lines.map(|line| sample(line).unwrap_or_else(|| panic!("bad sample: {line}")));
        Self {
            samples: samples.collect(),
            text,
        }
    }

    /// The samples of a family that carry all of `labels`.
    pub fn samples<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a Sample> {
        let carries = |sample: &Sample, (label, value): (&str, &str)| {
            sample.labels.get(label).is_some_and(|v| v == value)
        };
        self.samples
            .iter()
            .filter(move |s| s.name == name && labels.iter().all(|&label| carries(s, label)))
    }

    /// Their sum; that there is none is an error.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        assert!(
            self.samples(name, labels).next().is_some(),
            "no {name} with {labels:?} in\n{}",
            self.text
        );
        self.samples(name, labels).map(|s| s.value as u64).sum()
    }

    /// `fanout_received_packets_total` of a listener.
    pub fn received(&self, listener: &str) -> u64 {
        self.sum("fanout_received_packets_total", &[("listener", listener)])
    }

    /// `fanout_forwarded_packets_total` of a listener.
    pub fn forwarded(&self, listener: &str) -> u64 {
        self.sum("fanout_forwarded_packets_total", &[("listener", listener)])
    }

    /// `fanout_dropped_packets_total` of a listener.
    pub fn dropped(&self, listener: &str) -> u64 {
        self.sum("fanout_dropped_packets_total", &[("listener", listener)])
    }

    /// `fanout_passed_packets_total` of a listener for one reason.
    pub fn passed(&self, listener: &str, reason: &str) -> u64 {
        let labels = [("listener", listener), ("reason", reason)];
        self.sum("fanout_passed_packets_total", &labels)
    }

    /// `fanout_umem_free_frames` of all queues.
    pub fn free_frames(&self) -> u64 {
        self.sum("fanout_umem_free_frames", &[])
    }
}

/// `name{label="value",…} number`, or without labels. Values with escapes are not needed here.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, rest)) => (name, rest.strip_suffix('}')?),
    };
    let pair = |text: &str| {
        let (label, value) = text.split_once("=\"")?;
        Some((label.to_owned(), value.strip_suffix('"')?.to_owned()))
    };
    let labels = labels
        .split_terminator(',')
        .map(pair)
        .collect::<Option<_>>()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}
