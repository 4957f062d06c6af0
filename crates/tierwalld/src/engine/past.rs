//! Earlier generations: back to one of them, and what differs between two.

use super::confirm::Why;
use super::settle::Terms;
use super::{Candidate, Engine};
use crate::host::Server;
use crate::journal::kind;
use crate::refusal::Refusal;
use crate::requester::in_words;
use crate::step::{Step, StepError};
use control::{ChangeLine, Difference, HeldBack, MemberDifference};
use policy::{Addresses, Change, ConfirmTime, Host, Policy, Sign, UserNames, compile};
use ruleset::Ruleset;
use std::collections::BTreeMap;

impl Engine {
    /// Goes back to an earlier generation, as a change like any other. Without a number, from the
    /// change that waits, or else to the generation before.
    pub(crate) fn rollback(
        &mut self,
        number: Option<u64>,
        force: bool,
        time: Option<ConfirmTime>,
    ) -> Result<Step, StepError> {
        if self.pending.is_some() {
            return match number {
                None => self.go_back(Why::Asked),
                Some(_) => Err(self.is_pending()),
            };
        }
        let number = number.map_or_else(|| self.history.before(), Ok)?;
        let members = self.members.clone();
        let policy = self.history.policy(number)?;
        let current = self.history.current();
        let (server, found) = Server::resolve(&policy, self.so_far(), self.state.as_ref());
        let time = time.or_else(|| self.rule(&policy));
        let by = in_words(self.asked.by.as_ref());
        let why = format!("{by} rolled back from generation {current} to generation {number}");
        let refusal =
            (!self.files_say(&policy)).then(|| Refusal::of(&self.read, HeldBack::RolledBack, &why));
        let proposal = time.map(|time| self.proposal(time, false));
        // Before the commit: a start in between finds the last good policy, and goes on with it.
        let before = std::mem::replace(&mut self.refusal, refusal);
        if let Err(error) = self.keep_refusal() {
            tracing::warn!(target: kind::NOT_RECORDED, %error, "can't record what was rolled back from; a restart may apply it");
        }
        let warnings = super::files::lines(&found);
        let terms = Terms {
            force,
            is_insisted: force,
            proposal,
            back_to: Some(number),
            holds_back: true,
            ..Terms::default()
        };
        for removed in self.history.removed_since(number) {
            self.restore(&removed);
        }
        let step =
            self.apply(Candidate { policy, server, warnings, held: Vec::new() }, "rollback", terms);
        let Ok(step) = step else {
            if self.members != members {
                self.members = members;
                self.record_members();
            }
            self.refusal = before;
            self.record_refusal();
            return step;
        };
        self.history.left(current);
        self.history.record(self.memory.recorder());
        self.waiting = self.applied.waiting(&self.read);
        let generation = self.history.current();
        tracing::warn!(target: kind::ROLLED_BACK, generation, back_to = number, "{why}");
        if let Err(error) = self.keep_policy() {
            tracing::warn!(target: kind::NOT_RECORDED, %error, "can't record what was rolled back to; a restart may not know it");
        }
        Ok(step)
    }

    /// What differs on this server between two generations; none for what is enforced.
    pub(crate) fn difference(&self, from: u64, to: Option<u64>) -> Result<Difference, StepError> {
        let to = to.unwrap_or_else(|| self.history.current());
        let policy = |number: u64| -> Result<Policy, StepError> {
            match number == self.history.current() {
                true => Ok(self.effective()),
                false => Ok(self.history.policy(number)?),
            }
        };
        let (before, after) = (policy(from)?, policy(to)?);
        let (old, old_server) = self.compiled(&before);
        let (new, server) = self.compiled(&after);
        let mut change = Change::of(&old, &new);
        // They are counted.
        change.members = BTreeMap::new();
        let mut users = UserNames::of(&old_server.users);
        users.learn(&server.users);
        let lines = change.words(&after, &server.role, &users).lines().into_iter();
        let changes =
            lines.map(|line| ChangeLine { more: line.sign == Sign::More, text: line.text });
        let members = before.tiers.iter().filter_map(|(name, tier)| {
            let other = after.tiers.get(name)?;
            let (was, is) = (Addresses::of_tier(tier), Addresses::of_tier(other));
            let (gained, lost) = (is.minus(&was).count(), was.minus(&is).count());
            let tier = name.clone();
            (was != is).then_some(MemberDifference { tier, gained, lost })
        });
        let members = members.collect();
        Ok(Difference {
            from,
            to,
            changes: changes.collect(),
            edits: before.waiting(&after),
            members,
        })
    }

    fn compiled(&self, policy: &Policy) -> (Ruleset, Server) {
        let (server, _) = Server::resolve(policy, self.so_far(), self.state.as_ref());
        let host = Host { role: &server.role, users: &server.users, previous: None };
        (compile(policy, host), server)
    }
}
