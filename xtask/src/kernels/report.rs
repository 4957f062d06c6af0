//! What became of the test programs on the kernels.

use super::programs::Program;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// What became of one program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Result {
    pub(super) passed: usize,
    pub(super) failed: Vec<String>,
    /// How it ended; none where it didn't.
    pub(super) status: Option<i32>,
    pub(super) took: Duration,
}

/// What became of all of them on a kernel.
#[derive(Debug)]
pub(super) struct Outcome {
    /// As the kernel calls itself.
    pub(super) release: String,
    /// By the names of the programs.
    pub(super) results: BTreeMap<String, Result>,
    /// Whether every program was run to its end.
    pub(super) is_whole: bool,
}

impl Result {
    /// Reads what a test program wrote.
    pub(super) fn read(log: &str, status: Option<i32>, took: Duration) -> Self {
        let mut result = Self { status, took, ..Self::default() };
        for line in log.lines().filter_map(|line| line.strip_prefix("test ")) {
            // A result of its own, which begins with `result: `, has no ` ... ` in it.
            match line.rsplit_once(" ... ") {
                Some((_, "ok")) => result.passed += 1,
                Some((name, "FAILED")) => result.failed.push(name.to_owned()),
                _ => {}
            }
        }
        result
    }

    fn is_good(&self) -> bool {
        self.status == Some(0) && self.failed.is_empty()
    }

    /// As in the table.
    fn shown(&self) -> String {
        let seconds = self.took.as_secs();
        match self.status {
            Some(0) => format!("{} ok, {seconds} s", self.passed),
            // What timeout(1) ends with.
            Some(124) => format!("TOO LONG, {} ok", self.passed),
            Some(_) if !self.failed.is_empty() => {
                format!("{} FAILED, {} ok, {seconds} s", self.failed.len(), self.passed)
            }
            Some(status) => format!("ENDED with {status}, {} ok", self.passed),
            None => "NOT RUN to its end".to_owned(),
        }
    }
}

impl Outcome {
    pub(super) fn passed(&self) -> bool {
        self.is_whole && self.results.values().all(Result::is_good)
    }
}

/// A line for each program, a column for each kernel; then the tests that failed.
pub(super) fn table(programs: &[Program], outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let names = programs.iter().map(|program| program.name.as_str());
    let width = names.clone().map(str::len).max().unwrap_or(0);
    let mut line = |name: &str, cells: Vec<String>| {
        let mut row = format!("{name:<width$}");
        for cell in cells {
            // Formatting into a string doesn't fail.
            let _ = write!(row, "  {cell:<28}");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line("", outcomes.iter().map(|outcome| outcome.release.clone()).collect());
    for name in names {
        let result = |outcome: &Outcome| outcome.results.get(name).cloned().unwrap_or_default();
        line(name, outcomes.iter().map(|outcome| result(outcome).shown()).collect());
    }
    for outcome in outcomes {
        for (program, result) in &outcome.results {
            for test in &result.failed {
                text += &format!("failed on {}: {program}: {test}\n", outcome.release);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "
running 3 tests
test one::works ... ok
test with a reason ... ignored, takes an hour
test two ... FAILED

failures:
    two

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.02s
";

    #[test]
    fn a_log_is_counted() {
        let result = Result::read(LOG, Some(101), Duration::from_secs(2));
        assert_eq!((result.passed, &result.failed[..]), (1, &["two".to_owned()][..]));
        assert!(!result.is_good());
        assert_eq!(result.shown(), "1 FAILED, 1 ok, 2 s");
        assert!(!Result::read("", None, Duration::ZERO).is_good(), "a crash passes nothing");
        assert!(Result::read("test a ... ok", Some(0), Duration::ZERO).is_good());
    }

    #[test]
    fn what_failed_is_named_below_the_table() {
        let program =
            |name: &str| Program { name: name.to_owned(), directory: "/".into(), path: "/".into() };
        let result = Result::read(LOG, Some(101), Duration::from_secs(2));
        let outcome = Outcome {
            release: "6.1.0-1-amd64".to_owned(),
            results: [("live".to_owned(), result)].into(),
            is_whole: false,
        };
        assert!(!outcome.passed());
        let table = table(&[program("live"), program("readers")], &[outcome]);
        let lines: Vec<&str> = table.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "6.1.0-1-amd64",
                "live     1 FAILED, 1 ok, 2 s",
                "readers  NOT RUN to its end",
                "failed on 6.1.0-1-amd64: live: two",
            ]
        );
    }
}
