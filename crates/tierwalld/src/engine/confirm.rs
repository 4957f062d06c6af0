//! A change that has to be confirmed: proposed on the disk, committed, then confirmed or gone back
//! from.
//!
//! The way back is always there before the way out. Going back is by the same path to the kernel as
//! any change, by force, and is tried again until it is done.

mod record;

use super::Engine;
use super::settle::{Terms, WENT_BACK, observed};
use crate::deadline::Deadline;
use crate::guard::{self, Guarded};
use crate::host::Server;
use crate::journal::kind;
use crate::members::CommandMember;
use crate::memory::Changed;
use crate::pending::{Pending, Record, Sessions};
use crate::refusal::Refusal;
use crate::requester::in_words;
use crate::step::{Step, StepError};
use control::{Confirmation, Enforcement, HeldBack};
use policy::{ConfirmTime, Policy};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long after going back failed it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How a step is gone back from unless it is confirmed.
#[derive(Debug)]
pub(super) struct Proposal {
    back: Policy,
    /// The users known so far.
    users: BTreeMap<String, u32>,
    time: ConfirmTime,
    /// Whether it is the policy of the files that is applied.
    of_files: bool,
    /// The member by command that is removed.
    removed: Option<CommandMember>,
    /// What of the files is held back before.
    refusal: Option<Refusal>,
}

/// Why it is gone back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// Nobody confirmed in time.
    Late,
    /// Somebody asked for it.
    Asked,
    /// It made denied what it is gone back for: in a sentence.
    Denied(String),
    /// The daemon ended before anybody could be told that it waits.
    Unknown,
}

impl Engine {
    /// The way back from what holds now. A table that is gone or held back is gone back to as one
    /// that observes.
    pub(super) fn proposal(&self, time: ConfirmTime, of_files: bool) -> Proposal {
        let mut back = self.effective();
        if self.enforcement == Enforcement::TornDown {
            back.mode = observed(back.mode);
        }
        let (users, refusal) = (self.server.users.clone(), self.refusal.clone());
        Proposal { back, users, time, of_files, removed: None, refusal }
    }

    /// How long the step to `next` has to wait for a confirmation by the policies' own rule: that
    /// in force and the next one. Members aren't asked for, but for one that a guarded session
    /// comes from.
    pub(super) fn rule(&self, next: &Policy) -> Option<ConfirmTime> {
        let time = next.confirm.or(self.applied.confirm)?;
        let before = self.effective();
        let loses_session =
            || self.loses_session(&self.members.added_to(&before), &self.members.added_to(next));
        (!before.waiting(next).is_empty() || loses_session()).then_some(time)
    }

    /// The same for the removal of a member by command.
    pub(super) fn rule_of_removal(&self, removed: &CommandMember) -> Option<Proposal> {
        let time = self.applied.confirm?;
        let before = self.members.added_to(&self.applied);
        let mut members = self.members.clone();
        members.members.retain(|member| member != removed);
        let is_asked = self.loses_session(&before, &members.added_to(&self.applied));
        let removed = Some(removed.clone());
        is_asked.then(|| Proposal { removed, ..self.proposal(time, false) })
    }

    /// Whether a guarded session comes from an address that a tier loses.
    pub(super) fn loses_session(&self, before: &Policy, after: &Policy) -> bool {
        let services = [&before.guarded, &after.guarded];
        // Who can't be seen isn't guarded; the lockout guard has said so.
        let Ok(present) = self.present_on(&services, "", false) else { return false };
        let peers = present.with_say().into_iter().map(|session| session.peer.ip());
        !before.removed_in(after, peers).is_empty()
    }

    /// Puts on the disk how the step that follows is gone back from. One that takes the place of
    /// another that waits has the same way back.
    pub(super) fn propose(
        &mut self,
        reason: &str,
        proposal: Proposal,
    ) -> Result<Pending, StepError> {
        let Proposal { mut back, users, time, of_files, removed, refusal } = proposal;
        let generation = self.history.current() + 1;
        let mut record = Record {
            generation,
            back_to: self.history.current(),
            deadline: Deadline::after(time),
            time,
            reason: reason.to_owned(),
            by: self.asked.by.clone(),
            users,
            asker: self.asked.over,
            of_files,
            refusal,
            removed,
            sessions: None,
        };
        if let Some(earlier) = &self.pending {
            back = earlier.back.clone();
            record.back_to = earlier.record.back_to;
            record.users.clone_from(&earlier.record.users);
            record.of_files |= earlier.record.of_files;
            record.refusal.clone_from(&earlier.record.refusal);
            record.removed = record.removed.or_else(|| earlier.record.removed.clone());
        }
        let pending = Pending { record, back };
        self.save_pending(&pending).map_err(|error| {
            // What is tried again and again is told once.
            if !self.unrecorded || self.asked.by.is_some() {
                tracing::error!(target: kind::NOT_RECORDED, reason, %error, "can't record what to go back to, so a change that has to be confirmed isn't made");
            }
            StepError::NotRecorded(error)
        })?;
        Ok(pending)
    }

    /// The change is committed: it waits from now on.
    pub(super) fn wait(&mut self, mut pending: Pending) {
        let services = [&self.applied.guarded, &pending.back.guarded];
        let guarded = Guarded { services: &services, asker: pending.record.asker.as_ref() };
        let found = self.present_on(&services, &pending.record.reason, false).and_then(|present| {
            let from = present.with_say().iter().map(|session| session.peer.ip()).collect();
            Ok(Sessions { from, older: guard::any_state(guarded)? })
        });
        let mut sessions = found.unwrap_or_else(|error| {
            tracing::warn!(target: kind::GUARD_BLIND, %error, "can't tell who has a session here; nobody is guarded");
            Sessions::default()
        });
        if let Some(earlier) = self.pending.as_ref().and_then(|p| p.record.sessions.as_ref()) {
            sessions.from.extend(&earlier.from);
            sessions.older.extend(&earlier.older);
        }
        let Record { generation, back_to, time, .. } = pending.record;
        let from: Vec<String> = sessions.from.iter().map(ToString::to_string).collect();
        pending.record.sessions = Some(sessions);
        pending.record.deadline = Deadline::after(time);
        if let Some(earlier) = &self.pending {
            self.history.settle(earlier.record.generation, Confirmation::Replaced);
            self.history.record(self.memory.recorder());
        }
        if let Err(error) = self.save_sessions(pending.record.clone()) {
            tracing::warn!(target: kind::NOT_RECORDED, %error, "can't record who has a session here; a restart would go back");
        }
        let (seconds_left, sessions) = (time.seconds(), from.join(", "));
        tracing::warn!(target: kind::WAITING,
            generation,
            back_to,
            seconds_left,
            sessions,
            "waiting for `tierwall confirm`; rolling back to {} unless it comes in time", pending.way_back()
        );
        self.pending = Some(pending);
        self.go_back_again = None;
    }

    /// Takes along into the policy to go back to what members changed from `before` to what is
    /// applied now.
    pub(super) fn follow(&mut self, before: &Policy) {
        let Some(pending) = &mut self.pending else { return };
        pending.back = pending.back.with_member_changes(before, &self.applied);
        self.follow_before();
        self.record_pending();
    }

    /// The refusal of another change while one waits.
    pub(super) fn is_pending(&self) -> StepError {
        let Some(Pending { record, .. }) = &self.pending else { return StepError::NothingPending };
        let left = record.deadline.left().as_secs();
        StepError::Pending(format!(
            "generation {} waits for `tierwall confirm` for another {left} s\n  hint: confirm it, \
             go back with `tierwall rollback`, or put the files as they are now in its place with \
             `tierwall reload --replace`",
            record.generation
        ))
    }

    /// How long until it is rolled back unless it is confirmed, the time in which the machine sleeps
    /// included. None where nothing is pending.
    pub(crate) fn go_back_due(&self) -> Option<Duration> {
        let left = self.pending.as_ref()?.record.deadline.left();
        let again = self.go_back_again.as_ref();
        Some(again.map_or(left, |(at, _)| at.saturating_duration_since(Instant::now())))
    }

    /// Goes back, if the time is over or it was begun and failed.
    pub(crate) fn go_back_if_due(&mut self) -> Result<Step, StepError> {
        let Some(pending) = &self.pending else { return Ok(Step::default()) };
        match &self.go_back_again {
            Some((at, why)) if *at <= Instant::now() => self.go_back(why.clone()),
            None if pending.record.deadline.left().is_zero() => self.go_back(Why::Late),
            _ => Ok(Step::default()),
        }
    }

    /// Goes back from `generation`, if that still waits, since it made denied what `evidence` says.
    pub(crate) fn go_back_on_denials(
        &mut self,
        generation: u64,
        evidence: String,
    ) -> Result<Step, StepError> {
        let waits = |pending: &Pending| pending.record.generation == generation;
        match self.pending.as_ref().is_some_and(waits) {
            true => self.go_back(Why::Denied(evidence)),
            false => Ok(Step::default()),
        }
    }

    /// Goes back from the change that waits.
    pub(super) fn go_back(&mut self, why: Why) -> Result<Step, StepError> {
        let Some(pending) = self.pending.take() else { return Err(StepError::NothingPending) };
        let Record { generation, back_to, time, ref by, .. } = pending.record;
        let so_far = (&self.server, &self.applied);
        let known = &pending.record.users;
        let server = Server::resolve_back(&pending.back, so_far, known, self.state.as_ref());
        let before = (
            std::mem::replace(&mut self.applied, pending.back.clone()),
            std::mem::replace(&mut self.server, server),
            self.members.clone(),
            std::mem::replace(&mut self.held, false),
        );
        if let Some(removed) = &pending.record.removed {
            self.restore(removed);
        }
        let terms = Terms { force: true, back_to: Some(back_to), ..Terms::default() };
        let step = match self.settle(WENT_BACK, terms) {
            Ok(step) => step,
            Err(error) => {
                (self.applied, self.server, self.members, self.held) = before;
                self.pending = Some(pending);
                self.go_back_again = Some((Instant::now() + AGAIN, why));
                return Err(error);
            }
        };
        let (asked, now) = (in_words(self.asked.by.as_ref()), in_words(by.as_ref()));
        let was_asked = why == Why::Asked;
        let (held_back, why) = match why {
            Why::Late => (
                HeldBack::Reverted,
                format!(
                    "nobody confirmed generation {generation} within {time}; {now} asked for it"
                ),
            ),
            Why::Asked => (
                HeldBack::RolledBack,
                format!("{asked} went back from generation {generation} before it was confirmed"),
            ),
            Why::Denied(evidence) => (
                HeldBack::Reverted,
                format!("generation {generation} made denied what was let through: {evidence}"),
            ),
            Why::Unknown => (
                HeldBack::Reverted,
                format!("tierwalld ended while generation {generation} was being committed"),
            ),
        };
        let to = pending.way_back();
        match was_asked {
            true => {
                tracing::warn!(target: kind::WENT_BACK, generation, back_to, "rolled back to {to}: {why}")
            }
            false => {
                tracing::error!(target: kind::WENT_BACK, generation, back_to, "rolled back to {to}: {why}");
            }
        }
        self.over(&pending, held_back, &why);
        Ok(step)
    }

    /// A change that waited is taken back. If it was of the files, they are held back as they are
    /// now: whatever was edited since, the change is still in them.
    fn over(&mut self, pending: &Pending, kind: HeldBack, why: &str) {
        let Record { generation, of_files, refusal, .. } = &pending.record;
        self.history.settle(*generation, Confirmation::Reverted);
        self.history.record(self.memory.recorder());
        self.waiting = self.applied.waiting(&self.read);
        self.trouble.is_over();
        self.refusal = match of_files {
            _ if self.applies_files() => None,
            true => Some(Refusal::of(&self.read, kind, why)),
            false => refusal.clone(),
        };
        if let Err(error) = self.record_end() {
            tracing::warn!(target: kind::NOT_RECORDED, %error, "can't record that it was rolled back, which is retried; until then a restart rolls back once more");
        }
        self.memory.policy_is_old(&self.applied, Changed::Rules);
        self.recheck = true;
    }

    /// Whether the files say what is applied.
    pub(super) fn applies_files(&self) -> bool {
        self.files_say(&self.applied)
    }

    /// Whether `policy` is what the files say.
    pub(super) fn files_say(&self, policy: &Policy) -> bool {
        policy.waiting(&self.read).is_empty() && policy.has_members_of(&self.read)
    }

    /// Puts back a member by command.
    pub(super) fn restore(&mut self, removed: &CommandMember) {
        let is_there =
            |own: &CommandMember| (&own.tier, &own.member) == (&removed.tier, &removed.member);
        if !self.members.members.iter().any(is_there) {
            self.members.members.push(removed.clone());
            self.record_members();
        }
    }

    /// The table is taken away: what waited is over, and isn't applied by itself later.
    pub(super) fn drop_pending(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let generation = pending.record.generation;
        self.applied = pending.back.clone();
        if let Some(removed) = &pending.record.removed {
            self.restore(removed);
        }
        let asked = in_words(self.asked.by.as_ref());
        let why =
            format!("{asked} took the table away before generation {generation} was confirmed");
        self.over(&pending, HeldBack::Reverted, &why);
    }

    /// The change that waits stays, where somebody can get in after it or insists. Returns its
    /// generation.
    pub(crate) fn confirm(&mut self, force: bool) -> Result<u64, StepError> {
        let Some(pending) = &self.pending else { return Err(StepError::NothingPending) };
        if !force {
            self.prove(pending)?;
        }
        // Nobody is told before a restart knows.
        if let Err(error) = self.record_confirmed() {
            // It knows that it still waits, also where a part of that comes too late.
            self.memory.policy_is_old(&self.applied, Changed::Rules);
            self.record_pending();
            return Err(StepError::NotConfirmed(error));
        }
        let Some(pending) = self.pending.take() else { return Err(StepError::NothingPending) };
        let generation = pending.record.generation;
        let confirmation = if force { Confirmation::Forced } else { Confirmation::Confirmed };
        self.history.settle(generation, confirmation);
        self.history.record(self.memory.recorder());
        self.memory.policy_is_old(&self.applied, Changed::Rules);
        self.go_back_again = None;
        self.recheck = true;
        let by = in_words(self.asked.by.as_ref());
        match force {
            true => {
                tracing::warn!(target: kind::CONFIRMED, generation, by, "confirmed by force, without proof")
            }
            false => tracing::info!(target: kind::CONFIRMED, generation, by, "confirmed"),
        }
        Ok(generation)
    }

    /// That somebody who administered this server at the commit has come in since.
    fn prove(&self, pending: &Pending) -> Result<(), StepError> {
        let Record { generation, asker, sessions, .. } = &pending.record;
        let Some(sessions) = sessions.as_ref().filter(|sessions| !sessions.from.is_empty()) else {
            return Ok(());
        };
        let services = [&self.applied.guarded, &pending.back.guarded];
        let guarded = Guarded { services: &services, asker: asker.as_ref() };
        let open = guard::established(guarded).map_err(|error| {
            StepError::Unproven(format!("can't tell who has a session here: {error}"))
        })?;
        let newer = open.keys().filter(|session| !sessions.older.contains(session));
        let mut newer = newer.peekable();
        let stranger = newer.peek().map(|session| session.peer.ip());
        if newer.any(|session| sessions.from.contains(&session.peer.ip())) {
            return Ok(());
        }
        let from: Vec<String> = sessions.from.iter().map(ToString::to_string).collect();
        let from = from.join(" or ");
        let found = match stranger {
            None => "every open session is older than it".to_owned(),
            Some(stranger) => format!("the newer session is from {stranger}"),
        };
        Err(StepError::Unproven(format!(
            "nothing shows that one can still get in after generation {generation}: {found}\n  \
             hint: open a new connection from {from} and confirm while it is open; `tierwall \
             confirm --force` insists"
        )))
    }
}
