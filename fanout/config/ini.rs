//! INI text → sections of `key = value`, each with its line. Knows no section and no key by name.
//!
//! `ini_core` cuts the lines. What it leaves open is decided here: `#` comments as well as `;`,
//! white space around everything, an indented comment, a byte order mark, CRLF. After a bad header
//! it reads on as if the header were right, so that one slip does not bring a dozen errors.

use std::{collections::HashMap, fmt};

use ini_core::{Item, Parser};

use super::error::Errors;

/// `[kind name]` and what follows it.
#[derive(Debug)]
pub(super) struct Section<'t> {
    pub(super) kind: &'t str,
    pub(super) name: Option<&'t str>,
    pub(super) line: u32,
    pub(super) entries: Vec<Entry<'t>>,
}

/// `key = value`
#[derive(Debug)]
pub(super) struct Entry<'t> {
    pub(super) key: &'t str,
    pub(super) value: &'t str,
    pub(super) line: u32,
}

impl Section<'_> {
    pub(super) fn entry(&self, key: &str) -> Option<&Entry<'_>> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

impl fmt::Display for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.escape_debug();
        match self.name {
            Some(name) => write!(f, "[{kind} {}]", name.escape_debug()),
            None => write!(f, "[{kind}]"),
        }
    }
}

/// The sections of `text`, in its order. A section given twice becomes one, a key given twice
/// keeps its first value; both are errors.
pub(super) fn sections<'t>(text: &'t str, errors: &mut Errors) -> Vec<Section<'t>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut outline = Outline::default();
    let mut parser = Parser::new(text);
    loop {
        // Before `next`: at the end of a text without a last newline, the parser counts no line.
        let line = parser.line() + 1;
        let Some(item) = parser.next() else {
            return outline.sections;
        };
        match item {
            Item::Section(header) => outline.open(line, header, errors),
            Item::Error(header) => outline.open_bad(line, header, errors),
            Item::Property(key, value) => {
                outline.add(line, key.trim(), value.map(str::trim), errors);
            }
            Item::SectionEnd | Item::Comment(_) | Item::Blank => {}
        }
    }
}

#[derive(Default)]
struct Outline<'t> {
    sections: Vec<Section<'t>>,
    /// Index of the section that lines belong to now.
    current: Option<usize>,
    /// Kind and name → index.
    headers: HashMap<(&'t str, Option<&'t str>), usize>,
    /// Section index and key → line.
    keys: HashMap<(usize, &'t str), u32>,
}

impl<'t> Outline<'t> {
    fn open(&mut self, line: u32, header: &'t str, errors: &mut Errors) {
        let header = header.trim();
        let (kind, name) = match header.split_once(char::is_whitespace) {
            Some((kind, name)) => (kind, Some(name.trim())),
            None => (header, None),
        };
        let index = *self.headers.entry((kind, name)).or_insert_with(|| {
            self.sections.push(Section {
                kind,
                name,
                line,
                entries: Vec::new(),
            });
            self.sections.len() - 1
        });
        let section = &self.sections[index];
        if section.line != line {
            let what = format!("given twice, first on line {}", section.line);
            errors.add_line(line, Some(section), &what);
        }
        self.current = Some(index);
    }

    /// A line that begins with `[` but does not end with `]`.
    fn open_bad(&mut self, line: u32, header: &'t str, errors: &mut Errors) {
        let inner = header.trim().trim_start_matches('[');
        if let Some(inner) = inner.strip_suffix(']') {
            // Only white space behind it, which nobody sees.
            return self.open(line, inner, errors);
        }
        let what = format!("{:?} is not a section: no ] at its end", header.trim());
        errors.add_line(line, None, &what);
        let inner = inner.split_once(']').map_or(inner, |(inner, _)| inner);
        self.open(line, inner, errors);
    }

    fn add(&mut self, line: u32, key: &'t str, value: Option<&'t str>, errors: &mut Errors) {
        let blank = key.is_empty() && value.is_none();
        if blank || key.starts_with([';', '#']) {
            return;
        }
        let section = self.current.map(|index| &self.sections[index]);
        let (Some(value), false) = (value, key.is_empty()) else {
            let text = value.map_or(key.to_owned(), |value| format!("{key}= {value}"));
            let what = if key.starts_with('[') {
                format!("{text:?}: a section begins at the start of its line")
            } else {
                format!("{text:?} is neither a [section] nor key = value")
            };
            return errors.add_line(line, section, &what);
        };
        let Some(index) = self.current else {
            let what = format!("{}: stands before any [section]", key.escape_debug());
            return errors.add_line(line, None, &what);
        };
        let first = *self.keys.entry((index, key)).or_insert(line);
        if first != line {
            let key = key.escape_debug();
            let what = format!("{key}: given twice, first on line {first}");
            return errors.add_line(line, section, &what);
        }
        self.sections[index]
            .entries
            .push(Entry { key, value, line });
    }
}
