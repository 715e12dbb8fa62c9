//! Findings as text for people and as JSON for machines.

use nanoserde::SerJson;

use super::{Finding, worst};
use crate::rules::{Level, Mend};

/// Columns that a line may fill.
const WIDTH: usize = 98;
/// Where what a rule says begins.
const INDENT: usize = 24;

/// A line a finding, those about the same thing together: how bad it is, the rule's name, what it means; and on a
/// line of its own the command (`$`) or the key of the config (`>`) that mends it.
#[must_use]
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut subject = "";
    for finding in findings {
        if finding.subject != subject {
            subject = &finding.subject;
            text += subject;
            text.push('\n');
        }
        let verdict = &finding.verdict;
        let level = verdict.level.name();
        let head = format!("  {level:<4}  {:<14}  ", finding.rule);
        wrap(&mut text, &head, &verdict.meaning);
        // Not wrapped: it is to be copied.
        let mend = match &verdict.mend {
            Some(Mend::Run(command)) => format!("$ {command}"),
            Some(Mend::Set(key)) => format!("> {key}"),
            None => continue,
        };
        indent(&mut text);
        text += &mend;
        text.push('\n');
    }
    let count = |level| {
        let levels = findings.iter().map(|finding| finding.verdict.level);
        levels.filter(|&found| found == level).count()
    };
    let [ok, warn, fail] = [Level::Ok, Level::Warn, Level::Fail].map(count);
    text + &format!("{ok} ok, {warn} warn, {fail} fail\n")
}

/// Adds `words` behind `head`, and under them what has no room in the line.
fn wrap(text: &mut String, head: &str, words: &str) {
    *text += head;
    let mut column = INDENT;
    for (n, word) in words.split(' ').enumerate() {
        if n > 0 && column + 1 + word.len() > WIDTH {
            text.push('\n');
            indent(text);
            column = INDENT;
        } else if n > 0 {
            text.push(' ');
            column += 1;
        }
        *text += word;
        column += word.len();
    }
    text.push('\n');
}

fn indent(text: &mut String) {
    text.extend([' '; INDENT]);
}

#[derive(SerJson)]
struct Document {
    worst: String,
    findings: Vec<Entry>,
}

#[derive(SerJson)]
struct Entry {
    level: String,
    subject: String,
    rule: String,
    meaning: String,
    /// A command for a shell.
    run: Option<String>,
    /// A key of the config.
    set: Option<String>,
}

/// The same findings in an object.
#[must_use]
pub fn json(findings: &[Finding]) -> String {
    let entry = |finding: &Finding| {
        let verdict = &finding.verdict;
        let (run, set) = match &verdict.mend {
            Some(Mend::Run(command)) => (Some(command.clone()), None),
            Some(Mend::Set(key)) => (None, Some(key.clone())),
            None => (None, None),
        };
        Entry {
            level: verdict.level.name().to_owned(),
            subject: finding.subject.clone(),
            rule: finding.rule.to_owned(),
            meaning: verdict.meaning.clone(),
            run,
            set,
        }
    };
    let document = Document {
        worst: worst(findings).name().to_owned(),
        findings: findings.iter().map(entry).collect(),
    };
    document.serialize_json() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Verdict;

    fn findings() -> [Finding; 3] {
        let long = "word ".repeat(40);
        let about = |subject: &str, level, meaning: &str, mend| Finding {
            subject: subject.to_owned(),
            rule: "mtu",
            verdict: Verdict {
                level,
                meaning: meaning.trim().to_owned(),
                mend,
            },
        };
        let run = Mend::Run("ip link \"x\"".to_owned());
        let set = Mend::Set("xdp = skb".to_owned());
        [
            about("host", Level::Ok, "fine", None),
            about("interface ens5", Level::Warn, &long, Some(run)),
            about("interface ens5", Level::Fail, "bad", Some(set)),
        ]
    }

    #[test]
    fn text_is_aligned_and_within_its_columns() {
        let text = text(&findings());
        assert!(text.is_ascii());
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "host");
        assert_eq!(lines[1], "  ok    mtu             fine");
        assert_eq!(lines[2], "interface ens5");
        assert!(lines[3].starts_with("  warn  mtu             word word"));
        assert!(lines[4].starts_with("                        word"));
        assert_eq!(lines[6], "                        $ ip link \"x\"");
        assert_eq!(lines[7], "  fail  mtu             bad");
        assert_eq!(lines[8], "                        > xdp = skb");
        assert_eq!(lines[9], "1 ok, 1 warn, 1 fail");
    }

    #[test]
    fn json_holds_the_same() {
        let json = json(&findings());
        let begin = r#"{"worst":"fail","findings":[{"level":"ok","subject":"host","rule":"mtu","meaning":"fine""#;
        assert!(json.starts_with(begin), "{json}");
        assert!(json.contains(r#""run":"ip link \"x\"""#), "{json}");
        assert!(json.contains(r#""set":"xdp = skb""#), "{json}");
    }
}
