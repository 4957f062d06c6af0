//! Which change denials are compared across: what the engine notes of it at each commit.

use super::Engine;
use crate::before::{Before, Part, is_first_look};
use crate::clock;
use crate::host::Server;
use policy::Policy;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

/// What a commit makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The generation stays.
    Members,
    Generation,
    /// One that waits to be confirmed.
    Waiting,
}

impl Part {
    pub(super) fn of(server: &Server) -> Self {
        Self { role: server.role.clone(), users: server.users.clone() }
    }
}

impl Engine {
    /// A commit took the place of a policy, which was enforced as this part: as the next
    /// generation, which isn't counted yet, or with other members only.
    pub(super) fn changed(&mut self, reason: &str, next: Next, (policy, part): (Policy, Part)) {
        let current = self.history.current();
        let (mut before, mut was) = (current, (policy, part));
        let modes = was.0.mode;
        let earlier = self.before.as_deref();
        let is_recent = earlier.is_some_and(Before::is_recent);
        match (next, earlier) {
            (Next::Members, _) if self.pending.is_some() => return self.follow_before(),
            (Next::Members, _) if is_recent => return,
            // What takes the place of a change that waits is gone back from to the same.
            (Next::Waiting, Some(earlier)) if self.pending.is_some() => {
                before = earlier.before;
                was = (earlier.policy.clone(), earlier.part.clone());
            }
            // One edit often is two changes: of members, by itself, and of rules, by a reload.
            (Next::Generation, Some(earlier)) if is_recent && earlier.is_of_members() => {
                was = (earlier.policy.clone(), earlier.part.clone());
            }
            _ => {}
        }
        let change = earlier.map_or(0, |earlier| earlier.change) + 1;
        let (policy, part) = was;
        // A list that was read anew is another one, in memory, but for what changed in it.
        let policy = policy.sharing_members_with(&self.enforced);
        self.before = Some(Arc::new(Before {
            change,
            generation: current + u64::from(next != Next::Members),
            before,
            reason: reason.to_owned(),
            time: clock::now(),
            at: Instant::now(),
            is_first_look: is_first_look(modes, self.enforced.mode),
            policy,
            part,
        }));
    }

    /// What is gone back to from the change that waits took on changes of members.
    pub(super) fn follow_before(&mut self) {
        let (Some(pending), Some(before)) = (&self.pending, &self.before) else { return };
        let policy = self.members.added_to(&pending.back);
        self.before = Some(Arc::new(Before { policy, ..Before::clone(before) }));
    }

    /// A change waited already when the daemon started.
    pub(super) fn waited_before(&mut self, reason: &str) {
        let Some(pending) = &self.pending else { return };
        let (so_far, known) = ((&self.server, &self.applied), &pending.record.users);
        let server = Server::resolve_back(&pending.back, so_far, known, self.state.as_ref());
        self.before = Some(Arc::new(Before {
            change: 1,
            generation: pending.record.generation,
            before: pending.record.back_to,
            reason: reason.to_owned(),
            time: clock::now(),
            at: Instant::now(),
            is_first_look: is_first_look(pending.back.mode, self.applied.mode),
            policy: self.members.added_to(&pending.back),
            part: Part::of(&server),
        }));
    }

    /// After how many denials of what held before the change that waits is gone back; none where
    /// none waits, or their number doesn't matter. A text that drops the key waits under it.
    pub(crate) fn denials_to_go_back(&self) -> Option<NonZeroU32> {
        let back = self.pending.as_ref()?.back.rollback_on_denials;
        self.applied.rollback_on_denials.or(back)
    }
}
