//! Findings as people and programs read them.

use super::finding::{Finding, Severity};
use crate::output::{BAD, FAINT, GOOD, HEADING, WARNING, clean_line, counted, styled};
use serde_json::{Value, json};

/// What the doctor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    /// The worst first.
    pub(super) findings: Vec<Finding>,
    /// What couldn't be judged, and why.
    pub(super) not_judged: Vec<String>,
}

impl Report {
    pub(super) fn new(mut findings: Vec<Finding>, not_judged: Vec<String>) -> Self {
        findings.sort_by_key(|finding| finding.severity);
        Self { findings, not_judged }
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether there is anything but notes.
    pub(super) fn is_bad(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity != Severity::Note)
    }

    pub(super) fn as_text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let style = match finding.severity {
                Severity::Error => BAD,
                Severity::Warning => WARNING,
                Severity::Note => HEADING,
            };
            let head = format!("{}[{}]:", finding.severity, finding.id.name());
            // Each holds names that others gave.
            text += &format!("{} {}\n", styled(style, &head), clean_line(&finding.what));
            for line in &finding.details {
                text += &format!("  {}\n", clean_line(line));
            }
            text += &format!("  {} {}\n\n", styled(HEADING, "do:"), clean_line(&finding.advice));
        }
        for line in &self.not_judged {
            text += &format!("{} {}\n", styled(WARNING, "not judged:"), clean_line(line));
        }
        if !self.not_judged.is_empty() {
            text.push('\n');
        }
        let counts = [Severity::Error, Severity::Warning, Severity::Note]
            .map(|severity| counted(self.count(severity), &severity.to_string()));
        let summary = counts.join(", ");
        text += &match self.is_bad() {
            true => summary,
            false => format!("{}: {summary}", styled(GOOD, "nothing in the way")),
        };
        text.push('\n');
        if !self.findings.is_empty() {
            text += &styled(
                FAINT,
                "/usr/share/doc/tierwall/docs/doctor.md tells more about each [name]",
            );
            text.push('\n');
        }
        text
    }

    pub(super) fn as_json(&self) -> Value {
        json!({
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "notes": self.count(Severity::Note),
            "findings": self.findings.iter().map(Finding::as_json).collect::<Vec<_>>(),
            "not_judged": self.not_judged,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Id;
    use super::*;

    #[test]
    fn the_worst_comes_first_and_notes_are_not_bad() {
        let note = || Finding::note(Id::Docker, "d").advice("nothing");
        let report =
            Report::new(vec![note(), Finding::error(Id::PolicyBad, "p").advice("mend")], vec![]);
        assert_eq!(report.findings[0].id, Id::PolicyBad);
        assert!(report.is_bad());
        assert!(report.as_text().ends_with("1 error, 0 warnings, 1 note\n\u{1b}[2m/usr/share/doc/tierwall/docs/doctor.md tells more about each [name]\u{1b}[0m\n"));
        let notes = Report::new(vec![note()], vec!["x: y".into()]);
        assert!(!notes.is_bad());
        assert_eq!(notes.as_json()["notes"], 1);
        assert_eq!(notes.as_json()["not_judged"][0], "x: y");
    }
}
