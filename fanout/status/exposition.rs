//! Prometheus' text format (version 0.0.4), as [`render`](crate::metrics::render) writes it → samples.

/// One line: a family's name, labels, and a number without its fraction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample<'t> {
    pub(super) family: &'t str,
    labels: Vec<(&'t str, String)>,
    pub(super) value: u64,
}

impl Sample<'_> {
    /// Whether both are of one series.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.family, &self.labels) == (other.family, &other.labels)
    }

    /// A label's value; nothing if it has no such label.
    pub(super) fn label(&self, name: &str) -> &str {
        let label = self.labels.iter().find(|(label, _)| *label == name);
        label.map_or("", |(_, value)| value)
    }
}

/// All samples, in their order. What is none is left out.
pub(super) fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (series, value) = line.rsplit_once(' ')?;
    let whole = value.split('.').next()?;
    let (family, labels) = match series.split_once('{') {
        Some((family, rest)) => (family, labels(rest.strip_suffix('}')?)?),
        None => (series, Vec::new()),
    };
    Some(Sample {
        family,
        labels,
        value: whole.parse().ok()?,
    })
}

/// `name="value",…`; in a value stand `\\`, `\"` and `\n` for what they look like.
fn labels(mut rest: &str) -> Option<Vec<(&str, String)>> {
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = quoted.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(match chars.next()? {
                    'n' => '\n',
                    other => other,
                }),
                other => value.push(other),
            }
        }
        labels.push((name, value));
        rest = chars.as_str().trim_start_matches(',');
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read() {
        let text = "# HELP a_total Text\n# TYPE a_total counter\n\
                    a_total{listener=\"x\",reason=\"a \\\"b\\\" \\\\ c\\nd,e=f\"} 12\nstart 1795.123\nbad{ 1\n";
        let found: Vec<_> = samples(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].family, found[0].value), ("a_total", 12));
        assert_eq!(found[0].label("listener"), "x");
        assert_eq!(found[0].label("reason"), "a \"b\" \\ c\nd,e=f");
        assert_eq!(found[0].label("queue"), "");
        assert_eq!((found[1].family, found[1].value), ("start", 1795));
    }
}
