//! A growing text in Prometheus' exposition format: families, samples, labels. Without `fmt` where there may be
//! 200,000 of something: a sample would take twice as long.

use std::{fmt::Write as _, mem, net::SocketAddr};

use Value::{Address, Number, Text};

/// A label and its value.
pub(super) type Label<'v> = (&'static str, Value<'v>);

/// Of a label.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'v> {
    Text(&'v str),
    Number(u32),
    Address(SocketAddr),
}

/// The text so far, and the family that samples belong to.
pub(super) struct Page<'t> {
    pub(super) text: &'t mut String,
    pub(super) family: &'static str,
}

impl Page<'_> {
    pub(super) fn counter(&mut self, family: &'static str, help: &str) {
        self.begin(family, "counter", help);
    }

    pub(super) fn gauge(&mut self, family: &'static str, help: &str) {
        self.begin(family, "gauge", help);
    }

    fn begin(&mut self, family: &'static str, kind: &str, help: &str) {
        self.family = family;
        let parts = ["# HELP ", family, " ", help, "\n# TYPE ", family, " ", kind];
        self.text.extend(parts);
        self.text.push('\n');
    }

    pub(super) fn sample(&mut self, labels: &[Label<'_>], value: u64) {
        open(self.text, self.family, labels);
        close(self.text, labels.len(), value);
    }

    /// Samples that have `labels` (one at least) in common, and behind them values of their own for labels of these
    /// `names`.
    pub(super) fn samples<'v, const N: usize>(
        &mut self,
        labels: &[Label<'_>],
        names: [&str; N],
        rows: impl IntoIterator<Item = ([Value<'v>; N], u64)>,
    ) {
        let mut common = String::new();
        open(&mut common, self.family, labels);
        let before = names.map(|name| format!("{}\",{name}=\"", mem::take(&mut common)));
        for (values, number) in rows {
            for (before, value) in before.iter().zip(values) {
                self.text.push_str(before);
                label(self.text, value);
            }
            close(self.text, N, number);
        }
    }

    /// One with no labels and a fraction: not as a float, or code to print one would be in the binary for this alone.
    pub(super) fn sample_of_milliseconds(&mut self, seconds: u64, milliseconds: u32) {
        let _ = writeln!(self.text, "{} {seconds}.{milliseconds:03}", self.family);
    }
}

/// The start of a sample, up to the last label's closing quote.
fn open(text: &mut String, family: &str, labels: &[Label<'_>]) {
    text.push_str(family);
    let mut before = "{";
    for &(name, value) in labels {
        text.extend([before, name, "=\""]);
        label(text, value);
        before = "\",";
    }
}

/// Its end, after so many labels.
fn close(text: &mut String, labels: usize, value: u64) {
    let mut end = Backwards::default();
    end.byte(b'\n');
    end.number(value);
    end.byte(b' ');
    if labels > 0 {
        end.byte(b'}');
        end.byte(b'"');
    }
    text.push_str(end.text());
}

fn label(text: &mut String, value: Value<'_>) {
    match value {
        Text(value) => escaped(text, value),
        Number(number) => {
            let mut digits = Backwards::default();
            digits.number(number.into());
            text.push_str(digits.text());
        }
        Address(SocketAddr::V4(address)) => {
            let [a, b, c, d] = address.ip().octets();
            let mut digits = Backwards::default();
            digits.number(address.port().into());
            for (after, byte) in [(b':', d), (b'.', c), (b'.', b), (b'.', a)] {
                digits.byte(after);
                digits.number(byte.into());
            }
            text.push_str(digits.text());
        }
        // A String takes whatever it is given.
        Address(address) => drop(write!(text, "{address}")),
    }
}

/// An interface's name may hold nearly anything.
fn escaped(text: &mut String, value: &str) {
    if !value
        .bytes()
        .any(|byte| matches!(byte, b'\\' | b'"' | b'\n'))
    {
        return text.push_str(value);
    }
    for c in value.chars() {
        match c {
            '\\' => text.push_str(r"\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str(r"\n"),
            _ => text.push(c),
        }
    }
}

/// A few characters, the last first, as the digits of a number come: many a small copy costs more than the rest.
#[derive(Default)]
struct Backwards {
    /// The longest is the end of a sample, `"} 18446744073709551615` and a newline.
    bytes: [u8; 24],
    len: usize,
}

impl Backwards {
    fn byte(&mut self, byte: u8) {
        self.len += 1;
        let at = self.bytes.len() - self.len;
        self.bytes[at] = byte;
    }

    fn number(&mut self, mut number: u64) {
        while number > 9 {
            self.byte(digit(number));
            number /= 10;
        }
        self.byte(digit(number));
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.bytes[self.bytes.len() - self.len..]).unwrap_or_default()
    }
}

#[allow(clippy::cast_possible_truncation, reason = "below 10")]
fn digit(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_are_as_they_are_displayed() {
        let mut text = String::new();
        let mut page = Page {
            text: &mut text,
            family: "a",
        };
        let edges = (0..20).map(|n| 10_u64.pow(n)).flat_map(|n| [n - 1, n]);
        let numbers: Vec<_> = edges.chain([u64::MAX]).collect();
        let addresses = ["0.0.0.0:0", "255.10.9.100:65535", "[fd00::1]:514"];
        for address in addresses {
            let address = address.parse().unwrap();
            for &number in &numbers {
                page.sample(&[("of", Address(address)), ("q", Number(42))], number);
            }
        }
        let mut lines = text.lines();
        for address in addresses {
            for number in &numbers {
                let expected = format!("a{{of=\"{address}\",q=\"42\"}} {number}");
                assert_eq!(lines.next(), Some(&expected[..]));
            }
        }
        assert_eq!(lines.next(), None);
    }
}
