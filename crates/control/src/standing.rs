//! How what is enforced stands to what is written, for programs: `tierwall status --exit-code`.

use crate::exit;
use crate::status::{Enforcement, SideMode, Status, TableState};

/// How the policy stands. The worst that is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The kernel enforces what the files say, and so will a start.
    AsWritten,
    /// The kernel enforces a policy, and something of it or of the files waits for somebody.
    Pending,
    /// A change was refused, the files are bad, the kernel lacks what was wanted, or a side only
    /// observes or nothing is filtered.
    NotEnforced,
}

impl Standing {
    /// The exit code that says so.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::AsWritten => exit::OK,
            Self::Pending => exit::PENDING,
            Self::NotEnforced => exit::NOT_ENFORCED,
        }
    }
}

impl Status {
    /// How what is enforced stands to what is written.
    pub fn standing(&self) -> Standing {
        let sides = [self.input, self.output];
        let is_open = !sides.contains(&SideMode::Enforce) || sides.contains(&SideMode::Observe);
        let is_away =
            self.enforcement == Enforcement::TornDown || self.table != TableState::Ours || is_open;
        let is_refused = self.first_refused
            || self.refused.is_some()
            || self.problem.is_some()
            || self.kernel_problem.is_some()
            || self.drift.is_some();
        if is_away || is_refused {
            return Standing::NotEnforced;
        }
        let starts_otherwise =
            self.unrecorded.as_ref().is_some_and(|unrecorded| !unrecorded.at_start.is_empty());
        let waits = self.pending.is_some()
            || !self.waiting.is_empty()
            || !self.held_lists.is_empty()
            || self.differs.is_some();
        if waits || starts_otherwise { Standing::Pending } else { Standing::AsWritten }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::message::{Response, decode};
    use crate::status::Unrecorded;
    use crate::{Differs, HeldBack, Pending};

    /// Of a daemon that enforces what is written.
    pub(crate) fn status() -> Status {
        let line = br#"{"version":1,"body":{"status":{"version":"0.1.0","pid":1,"since":1,
            "policy_file":"p","enforcement":"committed","generation":1,"role":[],"role_auto":true,
            "input":"enforce","output":"off","tiers":[],"allows":0,"last_commit":null,
            "warnings":[],"waiting":[],"problem":null,"drift":null}}}"#;
        let Ok(Response::Status(status)) = decode(line) else { panic!("not understood") };
        *status
    }

    #[test]
    fn the_worst_that_is_so() {
        let standing = |change: &dyn Fn(&mut Status)| {
            let mut status = status();
            change(&mut status);
            status.standing()
        };
        let at_start = vec!["rolls back".to_owned()];
        let unrecorded = Unrecorded { since: 1, why: "full".into(), files: vec![], at_start };
        assert_eq!(standing(&|_| {}), Standing::AsWritten, "a side that is off is meant to be");
        let lost = Unrecorded { at_start: vec![], ..unrecorded.clone() };
        assert_eq!(standing(&|s| s.unrecorded = Some(lost.clone())), Standing::AsWritten);
        assert_eq!(standing(&|s| s.waiting = vec!["an edit".into()]), Standing::Pending);
        assert_eq!(standing(&|s| s.held_lists = vec!["a list".into()]), Standing::Pending);
        let why = "somebody went back".to_owned();
        let differs = Differs { kind: HeldBack::RolledBack, why, since: 1 };
        assert_eq!(standing(&|s| s.differs = Some(differs.clone())), Standing::Pending);
        let pending = Pending {
            generation: 2,
            back_to: 1,
            observes: false,
            until: 9,
            reason: "reload".into(),
            by: None,
            from: Vec::new(),
        };
        assert_eq!(standing(&|s| s.pending = Some(pending.clone())), Standing::Pending);
        assert_eq!(standing(&|s| s.unrecorded = Some(unrecorded.clone())), Standing::Pending);
        for not_enforced in [
            &|s: &mut Status| s.output = SideMode::Observe,
            &|s: &mut Status| s.input = SideMode::Off,
            &|s: &mut Status| s.table = TableState::Gone,
            &|s: &mut Status| s.enforcement = Enforcement::TornDown,
            &|s: &mut Status| s.first_refused = true,
            &|s: &mut Status| s.refused = Some("a session".into()),
            &|s: &mut Status| s.problem = Some("bad".into()),
            &|s: &mut Status| s.kernel_problem = Some("no memory".into()),
            &|s: &mut Status| s.drift = Some("nft".into()),
        ] as [&dyn Fn(&mut Status); 9]
        {
            assert_eq!(standing(not_enforced), Standing::NotEnforced);
            let waits_too = |status: &mut Status| {
                status.waiting = vec!["an edit".into()];
                not_enforced(status);
            };
            assert_eq!(standing(&waits_too), Standing::NotEnforced);
        }
    }
}
