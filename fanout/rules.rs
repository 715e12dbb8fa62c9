//! What facts mean, and what mends them: the tables that `fanout check` goes through, and that explain why a start
//! failed. A rule is a name and a function from facts to a verdict; what drivers ask for is in
//! [`driver::DRIVERS`].
#![allow(
    clippy::unnecessary_wraps,
    reason = "a rule that always applies has the type of one that does not"
)]

pub mod driver;
pub mod host;
pub mod interface;
pub mod listener;
pub mod native;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but slower or otherwise than one may think.
    Warn,
    /// It does not work.
    Fail,
}

impl Level {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How bad it is.
    pub level: Level,
    /// What it is, and what that means.
    pub meaning: String,
    /// What mends it.
    pub mend: Option<Mend>,
}

/// What mends something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// A command, for a shell.
    Run(String),
    /// A key of the config.
    Set(String),
}

impl Verdict {
    fn new(level: Level, meaning: impl Into<String>) -> Self {
        Self {
            level,
            meaning: meaning.into(),
            mend: None,
        }
    }

    fn ok(meaning: impl Into<String>) -> Self {
        Self::new(Level::Ok, meaning)
    }

    fn warn(meaning: impl Into<String>) -> Self {
        Self::new(Level::Warn, meaning)
    }

    fn fail(meaning: impl Into<String>) -> Self {
        Self::new(Level::Fail, meaning)
    }

    fn run(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(Mend::Run(command.into()));
        self
    }

    fn set(mut self, key: impl Into<String>) -> Self {
        self.mend = Some(Mend::Set(key.into()));
        self
    }
}

/// One rule about facts of the kind `F`.
pub struct Rule<F: 'static> {
    /// Its name, which stays the same: scripts go by it.
    pub name: &'static str,
    /// What it says of the facts; `None`: it does not apply to them.
    pub judge: fn(&F) -> Option<Verdict>,
}

/// What all rules of a table say, with their names.
pub fn judge<F>(
    table: &'static [Rule<F>],
    facts: &F,
) -> impl Iterator<Item = (&'static str, Verdict)> {
    let judged = table
        .iter()
        .map(move |rule| (rule.name, (rule.judge)(facts)));
    judged.filter_map(|(name, verdict)| Some((name, verdict?)))
}

#[cfg(test)]
mod tests;
