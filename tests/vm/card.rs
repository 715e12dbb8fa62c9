//! What is expected of a network card: the host says it, the guest checks it.

use std::fmt;

/// What a card and its driver can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its queues, if they can be chosen and traffic spreads over them.
    pub queues: Option<u8>,
    /// Whether the driver adds queues for the XDP program.
    pub grows: bool,
    /// Whether the XDP program runs in the driver.
    pub native: bool,
    /// Whether the driver has zero copy.
    pub zero_copy: bool,
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            queues,
            grows,
            native,
            zero_copy,
        } = self;
        let queues = queues.unwrap_or(0);
        write!(f, "{queues} {grows} {native} {zero_copy}")
    }
}

impl Card {
    /// From the words that it displays as.
    pub fn parse(words: &[String]) -> Self {
        let [queues, grows, native, zero_copy] = words else {
            panic!("not a card: {words:?}");
        };
        let flag = |word: &String| word.parse().expect("true or false");
        Self {
            queues: queues.parse().ok().filter(|&queues| queues > 0),
            grows: flag(grows),
            native: flag(native),
            zero_copy: flag(zero_copy),
        }
    }
}
