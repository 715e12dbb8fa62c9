//! A growing text in Prometheus' exposition format: families, samples, labels. Without `fmt` where there may be
//! 200,000 of something: a sample would take twice as long.

use std::{fmt::Write as _, net::SocketAddr};

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
        self.text.push_str(self.family);
        let mut before = "{";
        for &(name, value) in labels {
            self.text.push_str(before);
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.label(value);
            before = "\",";
        }
        self.text
            .push_str(if labels.is_empty() { " " } else { "\"} " });
        self.number(value);
        self.text.push('\n');
    }

    /// One with no labels and a fraction: not as a float, or code to print one would be in the binary for this alone.
    pub(super) fn sample_of_milliseconds(&mut self, seconds: u64, milliseconds: u32) {
        let _ = writeln!(self.text, "{} {seconds}.{milliseconds:03}", self.family);
    }

    fn label(&mut self, value: Value<'_>) {
        match value {
            Text(text) => self.escaped(text),
            Number(number) => self.number(number.into()),
            Address(SocketAddr::V4(address)) => {
                let mut after = "";
                for byte in address.ip().octets() {
                    self.text.push_str(after);
                    self.number(byte.into());
                    after = ".";
                }
                self.text.push(':');
                self.number(address.port().into());
            }
            // A String takes whatever it is given.
            Address(address) => drop(write!(self.text, "{address}")),
        }
    }

    /// An interface's name may hold nearly anything.
    fn escaped(&mut self, text: &str) {
        if !text
            .bytes()
            .any(|byte| matches!(byte, b'\\' | b'"' | b'\n'))
        {
            return self.text.push_str(text);
        }
        for c in text.chars() {
            match c {
                '\\' => self.text.push_str(r"\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str(r"\n"),
                _ => self.text.push(c),
            }
        }
    }

    fn number(&mut self, mut number: u64) {
        let mut digits = [b'0'; 20];
        let mut first = digits.len() - 1;
        while number > 9 {
            digits[first] += digit(number);
            number /= 10;
            first -= 1;
        }
        digits[first] += digit(number);
        let digits = str::from_utf8(&digits[first..]);
        self.text.push_str(digits.unwrap_or_default());
    }
}

#[allow(clippy::cast_possible_truncation, reason = "below 10")]
fn digit(number: u64) -> u8 {
    (number % 10) as u8
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
