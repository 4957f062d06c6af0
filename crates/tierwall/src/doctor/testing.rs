//! What the tests of the checks have in common.

use super::finding::Finding;

/// What was found, a line each.
pub(super) fn told<'f>(findings: impl IntoIterator<Item = &'f Finding>) -> String {
    let lines = findings.into_iter().map(|finding| {
        assert!(!finding.advice.is_empty(), "{}: says nothing to do", finding.what);
        format!("{} {}: {}\n", finding.severity, finding.id.name(), finding.what)
    });
    lines.collect()
}
