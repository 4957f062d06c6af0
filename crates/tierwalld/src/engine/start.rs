//! A start: from the files; or where they can't or mustn't be applied, from the last good policy;
//! or from a change that waits to be confirmed, or is gone back from.

use super::confirm::Why;
use super::files::{BadFiles, lines, load_first};
use super::settle::Terms;
use super::{Candidate, Engine};
use crate::before::Part;
use crate::clock;
use crate::errors::in_full;
use crate::history::History;
use crate::host::Server;
use crate::journal::kind;
use crate::kernel::Kernel;
use crate::known_lists;
use crate::last_good;
use crate::member_file;
use crate::memory::{Changed, Memory};
use crate::metrics::Counters;
use crate::observing;
use crate::options::Options;
use crate::pending::{self, Damage, Found, Pending};
use crate::refusal::{Refusal, digest};
use crate::session_ages::Ages;
use crate::state::StateDirectory;
use crate::step::{Asked, StepError};
use crate::trouble::Trouble;
use control::{Enforcement, HeldBack, TableState};
use policy::{Host, ListCache, Policy, UserNames, compile};
use std::cell::OnceCell;
use std::io;

/// What a start begins with.
enum Beginning {
    /// What the files say, or the last good policy where they say nothing.
    Usual,
    /// Built-in traffic and the default drop, since the files say nothing and no policy ever was
    /// good.
    Closed,
    /// The change that waited when the daemon ended, in the kernel since then.
    Change(Box<Pending>),
    /// The last good policy, since nobody knows what waited.
    Last(Damage),
}

impl Engine {
    /// Reads the policy and brings the kernel there. Where the files are bad, the last good policy
    /// is enforced in their place.
    ///
    /// # Errors
    /// When the files are bad and there is no last good policy, or the kernel refuses. Nothing was
    /// changed then.
    pub(crate) fn start(options: Options, mut kernel: Kernel) -> Result<Self, StepError> {
        let (runtime, user) = (options.runtime_directory.clone(), nix::unistd::geteuid().as_raw());
        let leave = control::takeover::leave(&runtime, user, clock::now());
        kernel.allow_takeover(options.takeover || leave.is_some());
        // What somebody insisted on is this replacement.
        let force = leave.is_some_and(|leave| leave.force) && kernel.has_foreign()?;
        let state = StateDirectory::open(&options.state_directory)
            .inspect_err(|error| {
                let path = options.state_directory.display();
                tracing::warn!(target: kind::NOT_RECORDED, %path, %error, "can't use the state directory; going on without");
            })
            .ok();
        let known = state.as_ref().and_then(known_lists::load).unwrap_or_default();
        let mut lists = ListCache::knowing(known);
        let (inputs, files) = load_first(&options, &mut lists, state.as_ref());
        let read = files.as_ref().ok().map(|candidate| candidate.policy.clone());
        let problem = files.as_ref().err().map(|bad| bad.problem.clone());
        let held_lists = files.as_ref().map(|candidate| candidate.held.clone()).unwrap_or_default();
        let (beginning, candidate) = begin(files, state.as_ref())?;
        let is_closed = matches!(beginning, Beginning::Closed);
        let Candidate { policy, server, warnings, held: _ } = candidate;
        let mut engine = Self {
            kernel,
            members: state.as_ref().map(member_file::load).unwrap_or_default(),
            enforced: policy.clone(),
            enforced_as: Part::of(&server),
            named_users: state
                .as_ref()
                .and_then(StateDirectory::last_users)
                .map(|users| UserNames::of(&users))
                .unwrap_or_default(),
            before: None,
            held: true,
            history: History::load(state.as_ref(), Some(&options.runtime_directory)),
            counted: None,
            pending: None,
            forgotten_by: None,
            go_back_again: None,
            recheck: false,
            unrecorded: false,
            asked: Asked::default(),
            ages: Ages::default(),
            ending: Vec::new(),
            shut_out: Vec::new(),
            read: read.unwrap_or_else(|| policy.clone()),
            read_digest: OnceCell::new(),
            refusal: state.as_ref().and_then(Refusal::load),
            refused: None,
            denied: Vec::new(),
            applied: policy,
            waiting: Vec::new(),
            enforcement: Enforcement::Committed,
            kernel_generation: 0,
            last_commit: None,
            drift: None,
            trouble: Trouble::default(),
            table: TableState::Ours,
            memory: Memory::of(state.clone()),
            observing: state.as_ref().map(observing::load).unwrap_or_default(),
            counters: Counters::default(),
            lists,
            options,
            state,
            server,
            inputs,
            problem,
            held_lists: Vec::new(),
            warnings,
            told: Vec::new(),
        };
        let more = engine.way_in_warnings(&engine.applied, &engine.server);
        engine.warnings.extend(more);
        engine
            .warnings
            .iter()
            .for_each(|warning| tracing::warn!(target: kind::POLICY_WARNING, "{warning}"));
        let policy = engine.members.added_to(&engine.applied);
        let (role, users) = (&engine.server.role, &engine.server.users);
        let compile =
            |previous: Option<&ruleset::Ruleset>| compile(&policy, Host { role, users, previous });
        // A table that is what the files want already takes nothing from anybody.
        if !engine.kernel.recognise(compile, engine.state.as_ref())? {
            engine.recall();
        }
        engine.look_at_sessions();
        match beginning {
            Beginning::Usual | Beginning::Closed => {
                engine.start_usual(force)?;
                if engine.state.as_ref().is_some_and(pending::is_recorded) {
                    // There was no way back, and what is kept from now on is none.
                    lost_record_ended(engine.forget_record());
                }
            }
            Beginning::Change(pending) => engine.start_with_a_change(*pending)?,
            Beginning::Last(damage) => {
                let why =
                    format!("the record of a change that waited is lost: {}", in_full(&damage));
                // Where the files have errors, nobody knows whether it is their text that waited.
                let is_known = engine.problem.is_none();
                let is_enforced = engine.applies_files();
                if is_known {
                    let refusal = Refusal::of(&engine.read, HeldBack::Reverted, &why);
                    engine.refusal = (!is_enforced).then_some(refusal);
                }
                engine.start_with_the_last(why)?;
                if is_enforced {
                    engine.refused = None;
                }
                lost_record_ended(engine.record_end());
            }
        }
        engine.tell_warnings();
        if is_closed {
            engine.log_closed();
        }
        engine.hold_lists(held_lists);
        // Closed is no good policy.
        if !engine.held && !is_closed {
            engine.memory.policy_is_old(&engine.applied, Changed::Rules);
            // Without any, a crash would leave the next start nothing to go on with.
            if !engine.state.as_ref().is_some_and(last_good::exists) {
                engine.remember_policy();
            }
        }
        // Leave is for one start, and one that failed is tried again.
        engine.kernel.allow_takeover(engine.options.takeover);
        if let Err(error) = control::takeover::withdraw_leave(&runtime) {
            tracing::warn!(target: kind::NOT_RECORDED, %error, "can't withdraw the leave to replace a foreign table");
        }
        Ok(engine)
    }

    /// Goes by what was enforced last, as far as that is known: the guard judges the edit that was
    /// made since, as it would have while this ran. What was guarded then is guarded still, and who
    /// is no member any more has no say.
    fn recall(&mut self) {
        if let Some(last) = self.state.as_ref().and_then(last_good::load) {
            self.enforced = self.members.added_to(&last.policy);
        }
    }

    /// What became of `boot = "closed"`.
    fn log_closed(&self) {
        match self.held {
            false => {
                tracing::error!(target: kind::FELL_BACK, "nothing passes but built-in traffic, as `boot = \"closed\"` says")
            }
            true => {
                tracing::error!(target: kind::FELL_BACK, "`boot = \"closed\"` would lock out a session, so the table only observes and everything passes; mend the policy, or close the session and restart")
            }
        }
    }

    fn start_usual(&mut self, force: bool) -> Result<(), StepError> {
        // A last good policy that was refused itself, over a table that somebody took away, is
        // nothing to go on with: whoever is here now is asked for again.
        let mut is_last = false;
        // Leave to replace a table of others is for what the files say, asked for anew.
        let is_takeover = self.kernel.has_foreign()?;
        if let Some(refusal) = &self.refusal
            && let Some(last) = self.state.as_ref().and_then(last_good::load)
        {
            is_last = refusal.is_of(digest(&last.policy));
            if !is_last && self.held_back().is_none() {
                self.hold_back_edited(&last.policy);
            }
        }
        // Files with errors don't say that what was held back isn't wanted any more.
        let holds_back = self.problem.is_some();
        let first = match self.refused_before().filter(|_| !is_last && !is_takeover) {
            None => self.settle("start", Terms { force, holds_back, ..Terms::default() }),
            Some(why) => match self.start_with_the_last(why) {
                Ok(()) => return Ok(()),
                Err(StepError::Lockout(why)) => self.hold("start", why),
                Err(error) => return Err(error),
            },
        };
        match first {
            Err(StepError::Lockout(why)) if !is_takeover => self.start_with_the_last(why),
            step => step.map(drop),
        }
    }

    /// The policy of the files mustn't be applied: the last good one is enforced.
    fn start_with_the_last(&mut self, why: String) -> Result<(), StepError> {
        let refusal = self.refusal.clone();
        let Some(last) = self.state.as_ref().and_then(last_good::load) else {
            return Err(StepError::Lockout(why));
        };
        tracing::error!(target: kind::FELL_BACK, "the policy files aren't applied; the last good policy is enforced: {why}");
        let (server, found) = Server::resolve(&last.policy, None, self.state.as_ref());
        (self.applied, self.server, self.warnings) = (last.policy, server, lines(&found));
        let terms = Terms { force: true, holds_back: true, ..Terms::default() };
        self.settle("start", terms)?;
        self.waiting = self.applied.waiting(&self.read);
        if refusal.is_none_or(|refusal| refusal.kind == HeldBack::Refused) {
            self.refused = Some(why);
        }
        Ok(())
    }

    /// A change waited when the daemon ended. As long as it has time it goes on waiting; else it is
    /// gone back, and so is one of which nobody knows whether it was made.
    fn start_with_a_change(&mut self, pending: Pending) -> Result<(), StepError> {
        let generation = pending.record.generation;
        let left = pending.record.deadline.left();
        let is_known = pending.record.sessions.is_some();
        let is_listed = self.history.current() >= generation;
        self.history.skip_to(generation - u64::from(!is_listed));
        self.counted = is_listed.then(|| self.applied.clone());
        self.held = false;
        let removed = pending.record.removed.clone().filter(|_| is_known);
        if let Some(removed) = removed
            && self.members.forget(&removed)
        {
            // The daemon ended before that was recorded.
            self.record_members();
        }
        self.pending = Some(pending);
        if !is_known || left.is_zero() {
            let why = if is_known { Why::Late } else { Why::Unknown };
            return self.go_back(why).map(drop);
        }
        let seconds_left = left.as_secs();
        tracing::warn!(target: kind::WAITING, generation, seconds_left, "still waiting for `tierwall confirm`");
        self.settle("start", Terms { force: true, holds_back: true, ..Terms::default() })?;
        self.waiting = self.applied.waiting(&self.read);
        self.waited_before("start");
        // They may have been edited meanwhile.
        self.recheck = true;
        Ok(())
    }
}

/// What waited is unknown: nothing does any more.
fn lost_record_ended(ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::warn!(target: kind::NOT_RECORDED, %error, "can't remove the record of a change that waited");
    }
}

/// What to begin with, and the policy that is in the kernel by then, as far as it is known.
fn begin(
    files: Result<Candidate, BadFiles>,
    state: Option<&StateDirectory>,
) -> Result<(Beginning, Candidate), StepError> {
    let of = |policy: Policy| {
        let (server, found) = Server::resolve(&policy, None, state);
        Candidate { policy, server, warnings: lines(&found), held: Vec::new() }
    };
    let last = || state.and_then(last_good::load);
    match state.and_then(pending::load) {
        Some(Found::Change(pending, new)) => return Ok((Beginning::Change(pending), of(*new))),
        Some(Found::Damaged(damage)) => {
            if let Some(last) = last() {
                return Ok((Beginning::Last(damage), of(last.policy)));
            }
            let error = in_full(&damage);
            tracing::error!(target: kind::STATE_DAMAGED, error, "a change waited to be confirmed, and there is no way back");
        }
        None => {}
    }
    let candidate = match files {
        Ok(candidate) => candidate,
        Err(BadFiles { problem, closed, .. }) => match (last(), closed) {
            (Some(last), _) => {
                let since = last.time;
                tracing::error!(target: kind::FELL_BACK,
                    since,
                    "the policy has errors; the last good one is enforced\n{problem}"
                );
                of(last.policy)
            }
            (None, Some(closed)) => {
                tracing::error!(target: kind::FELL_BACK,
                    "the policy has errors, and none ever was good\n{problem}"
                );
                return Ok((Beginning::Closed, of(closed)));
            }
            (None, None) => return Err(StepError::BadPolicy(problem.told)),
        },
    };
    Ok((Beginning::Usual, candidate))
}
