//! Reads a section key by key. What it was asked for is what the section may hold: whatever is left
//! over at the end is unknown.

use super::{
    Mode,
    error::Errors,
    ini::{Entry, Section},
    nearest::nearest,
    value,
};

/// Stands for the name in a key such as `downstream.NAME`.
const NAME: &str = "NAME";

/// One section being read.
#[derive(Debug)]
pub(super) struct Keys<'a> {
    section: &'a Section<'a>,
    errors: &'a mut Errors,
    known: Vec<&'static str>,
    /// Of a listener; `None` if it is not known.
    mode: Option<Mode>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(section: &'a Section<'a>, errors: &'a mut Errors) -> Self {
        Self {
            section,
            errors,
            known: Vec::new(),
            mode: None,
        }
    }

    /// Reads `mode`, which decides what [`value_in`](Self::value_in) takes. `None` if it is wrong:
    /// nobody knows then what else may stand in the section.
    pub(super) fn mode(&mut self) -> Option<Mode> {
        let given = self.value("mode", value::choice);
        let is_given = self.section.entry("mode").is_some();
        self.mode = if is_given {
            given
        } else {
            Some(Mode::default())
        };
        self.mode
    }

    /// The value of `key`; `None` if it is not given, or wrong, which is reported.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.known.push(key);
        let entry = self.section.entry(key)?;
        self.judge(entry, entry.value, parse)
    }

    /// The same, where only listeners of `modes` take `key`.
    pub(super) fn value_in<T>(
        &mut self,
        modes: &[Mode],
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match self.mode {
            Some(mode) if !modes.contains(&mode) && self.section.entry(key).is_some() => {
                self.known.push(key);
                let words: Vec<_> = modes.iter().map(|mode| mode.name()).collect();
                let what = format!("not for mode {}, only {}", mode.name(), words.join(", "));
                self.errors.add_key(self.section, key, &what);
                None
            }
            _ => self.value(key, parse),
        }
    }

    /// The same as [`value`](Self::value), where `key` must be given.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.must_have(key);
        self.value(key, parse)
    }

    /// The good ones of the comma-separated values of `key`, which must be given.
    pub(super) fn required_list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        self.must_have(key);
        self.known.push(key);
        let Some(entry) = self.section.entry(key) else {
            return Vec::new();
        };
        let items = entry.value.split(',').map(str::trim);
        items
            .filter_map(|item| self.judge(entry, item, &parse))
            .collect()
    }

    /// The good ones of all keys of the pattern `prefix.NAME`.
    pub(super) fn named<T>(
        &mut self,
        pattern: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<(String, T)> {
        self.known.push(pattern);
        (self.section.entries.iter())
            .filter_map(|entry| Some((entry, name_in(pattern, entry.key)?)))
            .filter_map(|(entry, name)| {
                let name = self.judge(entry, name, value::name);
                let value = self.judge(entry, entry.value, &parse);
                Some((name?, value?))
            })
            .collect()
    }

    /// The same, of which there must be one.
    pub(super) fn required_named<T>(
        &mut self,
        pattern: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<(String, T)> {
        let mut keys = self.section.entries.iter().map(|entry| entry.key);
        if !keys.any(|key| name_in(pattern, key).is_some()) {
            self.errors
                .add_key(self.section, pattern, "missing, at least one is needed");
        }
        self.named(pattern, parse)
    }

    /// Reports that `key` is wrong.
    pub(super) fn refuse(&mut self, key: &str, what: &str) {
        self.errors.add_key(self.section, key, what);
    }

    /// Whether a key is given, be it right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.section.entry(key).is_some()
    }

    /// Reports whatever was not asked for.
    pub(super) fn finish(self) {
        let Self {
            section,
            errors,
            known,
            ..
        } = self;
        let is_known = |entry: &&Entry<'_>| {
            (known.iter()).any(|&key| key == entry.key || name_in(key, entry.key).is_some())
        };
        for entry in section.entries.iter().filter(|entry| !is_known(entry)) {
            // `downstraem.a` is as near to `downstream.NAME` as `downstraem` is to `downstream`.
            let stem = entry.key.split('.').next().unwrap_or_default();
            let stems = known.iter().map(|&key| {
                let stem = key.strip_suffix(NAME).unwrap_or(key).trim_end_matches('.');
                (stem, key)
            });
            let what = match nearest(stem, stems) {
                Some(key) => format!("unknown key, did you mean {key}?"),
                None => "unknown key".to_owned(),
            };
            errors.add_key(section, entry.key, &what);
        }
    }

    fn must_have(&mut self, key: &str) {
        if self.section.entry(key).is_none() {
            self.errors.add_key(self.section, key, "missing");
        }
    }

    /// `text`, a part of `entry`, as `parse` reads it.
    fn judge<T>(
        &mut self,
        entry: &Entry<'_>,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let mut what = if text.is_empty() {
            "is empty".to_owned()
        } else {
            match parse(text) {
                Ok(value) => return Some(value),
                Err(what) => what,
            }
        };
        if [" ;", " #", "\t;", "\t#"]
            .iter()
            .any(|&mark| text.contains(mark))
        {
            what.push_str(" (a comment needs a line of its own)");
        }
        let what = format!("{}: {what}", entry.key.escape_debug());
        self.errors.add_line(entry.line, Some(self.section), &what);
        None
    }
}

/// The name in `key`, if `pattern` is one of a name and `key` fits it.
fn name_in<'k>(pattern: &str, key: &'k str) -> Option<&'k str> {
    key.strip_prefix(pattern.strip_suffix(NAME)?)
}
