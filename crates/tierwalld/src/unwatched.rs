//! What the daemon can't watch at the moment, and what that means: for the log, once, and for
//! `status`, as long as it lasts.

use crate::journal::kind;
use std::collections::BTreeMap;

/// What it watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Watched {
    Files,
    Addresses,
    Nftables,
    Denials,
    Listener,
    Textfile,
}

impl Watched {
    /// What it is.
    fn name(self) -> &'static str {
        match self {
            Self::Files => "the policy files",
            Self::Addresses => "this server's addresses",
            Self::Nftables => "nftables",
            Self::Denials => "denied packets",
            Self::Listener => "for readers of metrics",
            Self::Textfile => "the metrics in their file",
        }
    }

    /// What isn't watched, and what follows from that.
    fn missing(self) -> &'static str {
        match self {
            Self::Files => "can't watch the policy files; until then edits wait for a reload",
            Self::Addresses => {
                "can't hear of address changes; until then the role follows at a reload"
            }
            Self::Nftables => "can't listen to nftables; until then changes by others go unseen",
            Self::Denials => "can't read what is denied; until then only the counters count it",
            Self::Listener => "can't serve metrics; until then `tierwall metrics` prints them",
            Self::Textfile => "can't write metrics; until then `tierwall metrics` prints them",
        }
    }
}

/// Why what isn't watched isn't.
#[derive(Debug, Default)]
pub(crate) struct Unwatched(BTreeMap<Watched, String>);

impl Unwatched {
    /// Takes note of a failure, or of none any more, and tells what is new.
    pub(crate) fn note(&mut self, what: Watched, problem: Option<String>) {
        let Some(problem) = problem else {
            if self.0.remove(&what).is_some() {
                tracing::info!(target: kind::WATCHING_AGAIN, "watching {} again", what.name());
            }
            return;
        };
        if self.0.get(&what) != Some(&problem) {
            tracing::error!(target: kind::NOT_WATCHING, error = problem, "{}", what.missing());
        }
        self.0.insert(what, problem);
    }

    /// All of it, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.iter().map(|(what, problem)| format!("{}: {problem}", what.missing())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasts_until_it_is_over() {
        let mut unwatched = Unwatched::default();
        unwatched.note(Watched::Files, Some("no".into()));
        unwatched.note(Watched::Addresses, Some("never".into()));
        unwatched.note(Watched::Files, Some("not yet".into()));
        let lines = unwatched.lines();
        assert!(lines.len() == 2 && lines[0].ends_with("reload: not yet"), "{lines:?}");
        unwatched.note(Watched::Files, None);
        assert_eq!(unwatched.lines().len(), 1);
    }
}
