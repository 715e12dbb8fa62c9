//! What is wrong with a config, one line each: `FILE:LINE: [section] key: what`.

use std::fmt;

use super::ini::Section;

/// One thing that is wrong, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: String,
    line: Option<u32>,
    what: String,
}

impl ConfigError {
    /// `line` counts from 1; `None` is the file as a whole.
    pub(super) fn new(file: &str, line: Option<u32>, what: &str) -> Self {
        Self {
            file: file.to_owned(),
            line,
            what: what.to_owned(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what } = self;
        match line {
            Some(line) => write!(f, "{file}:{line}: {what}"),
            None => write!(f, "{file}: {what}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// All errors of one file.
#[derive(Debug)]
pub(super) struct Errors {
    file: String,
    list: Vec<ConfigError>,
}

impl Errors {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            list: Vec::new(),
        }
    }

    /// `value` if nothing is wrong.
    pub(super) fn or<T>(mut self, value: T) -> Result<T, Vec<ConfigError>> {
        if self.list.is_empty() {
            return Ok(value);
        }
        // Stable, and what concerns the file as a whole comes last.
        self.list
            .sort_by_key(|error| error.line.unwrap_or(u32::MAX));
        Err(self.list)
    }

    /// Of the file as a whole.
    pub(super) fn add_file(&mut self, what: &str) {
        self.list.push(ConfigError::new(&self.file, None, what));
    }

    /// Of a line, in a section if there is one by then.
    pub(super) fn add_line(&mut self, line: u32, section: Option<&Section<'_>>, what: &str) {
        let error = match section {
            Some(section) => format!("{section} {what}"),
            None => what.to_owned(),
        };
        let error = ConfigError::new(&self.file, Some(line), &error);
        self.list.push(error);
    }

    /// Of a section as a whole.
    pub(super) fn add_section(&mut self, section: &Section<'_>, what: &str) {
        self.add_line(section.line, Some(section), what);
    }

    /// Of a key; of the section's line if the key is not there.
    pub(super) fn add_key(&mut self, section: &Section<'_>, key: &str, what: &str) {
        let line = section.entry(key).map_or(section.line, |entry| entry.line);
        let what = format!("{}: {what}", key.escape_debug());
        self.add_line(line, Some(section), &what);
    }

    /// Of a section as a whole, but not an error.
    pub(super) fn warning(&self, section: &Section<'_>, what: &str) -> ConfigError {
        ConfigError::new(&self.file, Some(section.line), &format!("{section} {what}"))
    }
}
