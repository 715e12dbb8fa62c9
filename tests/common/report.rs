//! What `fanout check` printed, read back.

use std::process::Output;

use nanoserde::DeJson;

/// All of it.
#[derive(Debug)]
pub struct Report {
    /// As it was printed.
    pub text: String,
    /// In their order.
    pub findings: Vec<Finding>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, DeJson)]
pub struct Finding {
    /// ok, warn or fail.
    pub level: String,
    /// What it is about.
    pub subject: String,
    /// The rule's name.
    pub rule: String,
    /// What it means.
    pub meaning: String,
    /// The command that mends it.
    #[nserde(rename = "run")]
    pub command: Option<String>,
    /// The key of the config that mends it.
    pub set: Option<String>,
}

#[derive(DeJson)]
struct Document {
    worst: String,
    findings: Vec<Finding>,
}

impl Report {
    /// Reads the text: a subject, and below it a line a finding, with more lines further in.
    pub fn of(output: &Output) -> Self {
        const FURTHER_IN: &str = "                        ";
        let text = String::from_utf8(output.stdout.clone()).expect("text");
        let mut findings: Vec<Finding> = Vec::new();
        let mut subject = "";
        for line in text.lines() {
            if let Some(more) = line.strip_prefix(FURTHER_IN) {
                let last = findings.last_mut().expect("a finding");
                if let Some(command) = more.strip_prefix("$ ") {
                    last.command = Some(command.to_owned());
                } else if let Some(key) = more.strip_prefix("> ") {
                    last.set = Some(key.to_owned());
                } else {
                    last.meaning += " ";
                    last.meaning += more;
                }
            } else if let Some(finding) = line.strip_prefix("  ") {
                let (level, rest) = finding.split_once(' ').expect("a level");
                let (rule, meaning) = rest.trim_start().split_once(' ').expect("a rule");
                findings.push(Finding {
                    level: level.to_owned(),
                    subject: subject.to_owned(),
                    rule: rule.to_owned(),
                    meaning: meaning.trim_start().to_owned(),
                    command: None,
                    set: None,
                });
            } else {
                subject = line;
            }
        }
        assert!(!findings.is_empty(), "{output:?}");
        Self { text, findings }
    }

    /// Reads what `--json` printed.
    pub fn of_json(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).expect("text");
        let document = Document::deserialize_json(&text).expect("JSON");
        let Document { worst, findings } = document;
        let is_worst = |finding: &Finding| finding.level == worst;
        assert!(findings.iter().any(is_worst), "{worst}: {text}");
        Self { text, findings }
    }

    /// What a rule says: of several things, of the first that is not ok.
    pub fn finding(&self, rule: &str) -> Finding {
        let first = || self.findings.iter().find(|finding| finding.rule == rule);
        let finding = self.broken(rule).or_else(|| first().cloned());
        finding.unwrap_or_else(|| panic!("nothing of {rule}:\n{}", self.text))
    }

    /// The first thing that is not ok by a rule.
    pub fn broken(&self, rule: &str) -> Option<Finding> {
        let is_broken = |finding: &&Finding| finding.rule == rule && finding.level != "ok";
        self.findings.iter().find(is_broken).cloned()
    }
}
