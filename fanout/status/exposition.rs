//! Prometheus' text format (version 0.0.4), as [`render`](crate::metrics::render) writes it → samples.

use std::borrow::Cow;

/// One line: a family's name, labels, and a number without its fraction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample<'t> {
    /// All before the number, as it stands there: what tells one series from another.
    pub(super) series: &'t str,
    pub(super) family: &'t str,
    labels: &'t str,
    pub(super) value: u64,
}

impl<'t> Sample<'t> {
    /// A label's value; nothing if it has no such label.
    pub(super) fn label(&self, name: &str) -> Cow<'t, str> {
        let mut rest = self.labels;
        while let Some((label, quoted)) = rest.split_once("=\"") {
            let Some(end) = end_of(quoted) else { break };
            if label == name {
                return unescaped(&quoted[..end]);
            }
            rest = quoted[end + 1..].trim_start_matches(',');
        }
        Cow::default()
    }
}

/// Where the quote is that ends a label's value. In it stand `\\`, `\"` and `\n` for what they look like.
fn end_of(quoted: &str) -> Option<usize> {
    let mut is_escaped = false;
    quoted.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut plain = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => break,
            },
            other => other,
        });
    }
    Cow::Owned(plain)
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
        Some((family, rest)) => (family, rest.strip_suffix('}')?),
        None => (series, ""),
    };
    Some(Sample {
        series,
        family,
        labels,
        value: whole.parse().ok()?,
    })
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
