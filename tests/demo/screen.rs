//! What the demo prints: plain text where the output is a file, colours and a moving bar on a terminal.

use std::io::{self, IsTerminal, Write};

const WIDTH: u64 = 40;
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const PLAIN: &str = "\x1b[0m";
/// Back to the line's start, and clear it.
const AGAIN: &str = "\r\x1b[2K";

/// Standard output.
#[derive(Debug)]
pub struct Screen {
    terminal: bool,
    colours: bool,
}

impl Screen {
    /// Looks what standard output is.
    pub fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none();
        Self { terminal, colours }
    }

    /// A heading.
    pub fn title(&self, text: &str) {
        println!("\n{}", self.paint(BOLD, text));
    }

    /// Somebody else's text, indented.
    pub fn quote(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("    {}", self.paint(DIM, line));
        }
    }

    /// A row of the table.
    pub fn row(&self, name: &str, value: &str, remark: &str) {
        let remark = self.paint(DIM, remark);
        let line = format!(
            "    {name:<18}{}  {remark}",
            self.paint(BOLD, &format!("{value:>12}"))
        );
        println!("{}", line.trim_end());
    }

    /// A progress bar over `whole` datagrams.
    pub fn bar(&self, whole: u64) -> Bar<'_> {
        Bar {
            screen: self,
            whole,
            quarters: 0,
        }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colours && !text.is_empty() {
            format!("{style}{text}{PLAIN}")
        } else {
            text.to_owned()
        }
    }
}

/// Moves on a terminal; elsewhere a line for each quarter.
#[derive(Debug)]
pub struct Bar<'s> {
    screen: &'s Screen,
    whole: u64,
    quarters: u64,
}

impl Bar<'_> {
    /// Shows how many were sent and how many arrived.
    pub fn show(&mut self, sent: u64, arrived: u64) {
        let percent = sent * 100 / self.whole.max(1);
        let text = format!(
            "{percent:>3} %  {} sent, {} arrived",
            thousands(sent),
            thousands(arrived)
        );
        if self.screen.terminal {
            let full = usize::try_from(sent * WIDTH / self.whole.max(1)).unwrap_or_default();
            let bar = self.screen.paint(GREEN, &"█".repeat(full));
            let rest = self
                .screen
                .paint(DIM, &"░".repeat(WIDTH as usize - full.min(WIDTH as usize)));
            print!("{AGAIN}    {bar}{rest} {text}");
            let _ = io::stdout().flush();
        } else if percent / 25 > self.quarters {
            self.quarters = percent / 25;
            println!("    {text}");
        }
    }

    /// Ends its line.
    pub fn end(self) {
        if self.screen.terminal {
            println!();
        }
    }
}

/// `1234567` → `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
