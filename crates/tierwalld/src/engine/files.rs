//! Steps that bring the kernel to what the files say.

use super::settle::Terms;
use super::{Candidate, Engine, Inputs};
use crate::host::Server;
use crate::journal::kind;
use crate::memory::Changed;
use crate::options::Options;
use crate::problem::Problem;
use crate::refusal::digest;
use crate::state::StateDirectory;
use crate::step::{Step, StepError};
use control::{Enforcement, Guarded};
use policy::model::{Ownership, Watch};
use policy::{
    Again, ConfirmTime, Diagnostic, Diagnostics, HeldList, HoldReason, ListCache, Loaded, Policy,
    Taking,
};
use std::time::{Duration, Instant, SystemTime};
use watch::LoadStart;

impl Engine {
    /// Reads the files again and applies all of them.
    /// Refused where it would be a lockout, unless by `force`, and while a change waits to be
    /// confirmed, unless in its place. Waits itself for `time`, or as the policies say.
    pub(crate) fn reload(
        &mut self,
        force: bool,
        time: Option<ConfirmTime>,
        replace: bool,
    ) -> Result<Step, StepError> {
        let waits = self.pending.as_ref().map(|pending| pending.record.time);
        if waits.is_some() && !replace {
            let error = self.is_pending();
            tracing::warn!(target: kind::ALREADY_WAITING, "no reload: {error}");
            return Err(error);
        }
        let read = self.read.clone();
        let candidate = self.read_files(if force { Taking::Forced } else { Taking::Asked })?;
        let time = time.or_else(|| self.rule(&candidate.policy)).or(waits);
        let proposal = time.map(|time| self.proposal(time, true));
        let terms = Terms { force, is_insisted: force, proposal, ..Terms::default() };
        let step = self.apply_or_members(candidate, "reload", terms);
        self.unrecorded &= step.is_err();
        self.taken(read, step)
    }

    /// What the lockout guard says of the files as they are now, for whoever asks. Nothing is noted
    /// of them.
    pub(crate) fn would_reload(&mut self) -> Result<Guarded, StepError> {
        let so_far = Some((&self.server, &self.applied));
        let (state, known) = (self.state.as_ref(), self.lists.known().clone());
        let (_, found) = load(&self.options, &mut self.lists, so_far, state, Taking::Asked);
        // What is only looked at isn't taken: a list that looks emptied by accident is held still.
        self.lists.know(known);
        let Candidate { policy, server, .. } =
            found.map_err(|bad| StepError::BadPolicy(bad.problem.told))?;
        let rules_change = !self.applied.waiting(&policy).is_empty();
        let lost = rules_change.then(|| self.lost_way_in(&policy, &server)).flatten();
        let before = std::mem::replace(&mut self.server, server);
        let verdict = self.guard(&self.members.added_to(&policy), "reload", false);
        self.server = before;
        let verdict = verdict?;
        Ok(Guarded {
            policy_file: self.options.config.display().to_string(),
            refused: verdict.refusal().or(lost),
            shut_out: verdict.warnings(),
        })
    }

    /// Reads the files again, and applies what applies by itself.
    pub(crate) fn files_changed(&mut self) -> Result<Step, StepError> {
        let read = self.read.clone();
        let candidate = self.read_files(Taking::Unasked)?;
        if self.unrecorded {
            // That was of the try before.
            self.waiting.clear();
        }
        let step = self.take_edit(&read, candidate);
        self.unrecorded = matches!(step, Err(StepError::NotRecorded(_)));
        if self.unrecorded {
            let why = "what to go back to can't be recorded in the state directory";
            self.waiting =
                vec![format!("an edit that has to be confirmed: {why}; it is tried again")];
        }
        self.taken(read, step)
    }

    /// Whether an edit is to be tried again that nobody waits for.
    pub(crate) fn is_behind(&self) -> bool {
        let problem_may_pass = self.problem.as_ref().is_some_and(|problem| problem.may_pass);
        let list_may_change = self.held_lists.iter().any(HeldList::is_tried_again);
        self.trouble.is_some() || self.unrecorded || problem_may_pass || list_may_change
    }

    /// Where nothing was taken of an edit of a text that is held back, that text is again the one
    /// `read` last: the next try has to know what the edit changed in it.
    pub(super) fn taken(
        &mut self,
        read: Policy,
        step: Result<Step, StepError>,
    ) -> Result<Step, StepError> {
        if step.is_err() && self.holds_back(&read) {
            self.note_read(read);
        }
        step
    }

    /// The files were last read to be this.
    fn note_read(&mut self, read: Policy) {
        self.read = read;
        self.read_digest.take();
    }

    /// Whether it is this text that is held back.
    fn holds_back(&self, read: &Policy) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.is_of(digest(read)))
    }

    /// A text that is held back was edited while nobody saw what of it: it stays so, as a whole,
    /// as long as its rules are those. `stays` is what is enforced in its place.
    pub(super) fn hold_back_edited(&mut self, stays: &Policy) {
        let Some(refusal) = &self.refusal else { return };
        if refusal.has_rules_of(&self.read) && !self.files_say(stays) {
            self.refusal = Some(refusal.clone().moved_to(self.read_digest()));
            self.record_refusal();
        }
    }

    /// Applies what applies by itself of an edit of the policy of the files, which was `read`
    /// before. One that is held back stays so until more than its members change: of those, what
    /// changed is what applies.
    pub(super) fn take_edit(
        &mut self,
        read: &Policy,
        candidate: Candidate,
    ) -> Result<Step, StepError> {
        if self.enforcement == Enforcement::TornDown {
            return Ok(Step::default());
        }
        let was_held_back = self.holds_back(read);
        if self.refusal.is_some() && !was_held_back && !self.held {
            self.hold_back_edited(&self.applied.clone());
        }
        if let Some(why) = self.refused_before() {
            self.trouble.is_of_edit = false;
            return Err(StepError::Lockout(why));
        }
        if was_held_back && !self.held && read.waiting(&candidate.policy).is_empty() {
            return self.take_difference(read, candidate);
        }
        if self.applied.watch == Watch::All && self.pending.is_none() {
            let time = self.rule(&candidate.policy);
            let proposal = time.map(|time| self.proposal(time, true));
            let terms = Terms { proposal, ..Terms::default() };
            return self.apply_or_members(candidate, "files changed", terms);
        }
        let next = self.applied.with_members_of(&candidate.policy);
        self.take_members(candidate, next, false)
    }

    /// Applies a text. Where it is refused, still what it changes of members: they are no part of
    /// the rules for which it is.
    fn apply_or_members(
        &mut self,
        candidate: Candidate,
        reason: &'static str,
        terms: Terms,
    ) -> Result<Step, StepError> {
        let edited = candidate.policy.clone();
        let step = self.apply(candidate, reason, terms);
        if self.held || !matches!(step, Err(StepError::Lockout(_))) {
            return step;
        }
        let next = self.applied.with_members_of(&edited);
        if next.has_members_of(&self.applied) {
            return step;
        }
        let refused = self.refused.clone();
        let (server, warnings) = (self.server.clone(), self.warnings.clone());
        // Where that is refused too, it is told.
        let _ = self.take_members(
            Candidate { policy: edited, server, warnings, held: Vec::new() },
            next,
            true,
        );
        self.refused = refused;
        step
    }

    /// Applies what a text that is held back gained and lost in members.
    fn take_difference(&mut self, read: &Policy, candidate: Candidate) -> Result<Step, StepError> {
        let edited = &candidate.policy;
        let next = self.applied.with_member_changes(read, edited);
        if next.has_members_of(edited) && next.waiting(edited).is_empty() {
            // Nothing is left that was held back.
            let next = edited.clone();
            return self.take_members(candidate, next, false);
        }
        let (digest, refusal) = (self.read_digest(), self.refusal.clone());
        let wanted = next.clone();
        let step = self.take_members(candidate, next, true)?;
        if !self.applied.has_members_of(&wanted) {
            // It waits, and is met again when nothing else does.
            self.note_read(read.clone());
            return Ok(step);
        }
        self.refusal = refusal.map(|refusal| refusal.moved_to(digest));
        self.record_refusal();
        Ok(step)
    }

    /// Applies `next`, which differs from what is applied in members only; the rest of the files
    /// waits.
    fn take_members(
        &mut self,
        candidate: Candidate,
        next: Policy,
        holds_back: bool,
    ) -> Result<Step, StepError> {
        let Candidate { policy: edited, warnings, .. } = candidate;
        let mut waiting = next.waiting(&edited);
        let proposal = self.rule(&next).map(|time| self.proposal(time, true));
        if proposal.is_some() && self.pending.is_some() {
            waiting.push("a member that a session comes from is removed".to_owned());
            self.now_waits(waiting);
            self.trouble.is_of_edit = false;
            return Ok(Step::default());
        }
        let (server, _) = Server::resolve(&next, self.so_far(), self.state.as_ref());
        let before = self.pending.is_some().then(|| self.applied.clone());
        let terms = Terms { proposal, holds_back, ..Terms::default() };
        let candidate = Candidate { policy: next, server, warnings, held: Vec::new() };
        let step = self.apply(candidate, "members changed", terms)?;
        if let Some(before) = before {
            self.follow(&before);
        }
        self.now_waits(waiting);
        Ok(step)
    }

    /// What of the files waits for a reload.
    fn now_waits(&mut self, waiting: Vec<String>) {
        if !waiting.is_empty() && waiting != self.waiting {
            let what = waiting.join("; ");
            tracing::info!(target: kind::EDIT_WAITS, waiting = what, "an edit waits for `tierwall reload`");
        }
        self.waiting = waiting;
    }

    /// What holds of this server, and under which policy.
    pub(super) fn so_far(&self) -> Option<(&Server, &Policy)> {
        Some((&self.server, &self.applied))
    }

    pub(super) fn read_files(&mut self, taking: Taking) -> Result<Candidate, StepError> {
        let so_far = Some((&self.server, &self.applied));
        let state = self.state.as_ref();
        let (inputs, candidate) = load(&self.options, &mut self.lists, so_far, state, taking);
        self.inputs = inputs;
        let mut candidate = candidate.map_err(|bad| self.refuse(bad.problem))?;
        candidate.warnings.extend(self.way_in_warnings(&candidate.policy, &candidate.server));
        self.note_read(candidate.policy.clone());
        self.hold_lists(candidate.held.clone());
        self.problem = None;
        Ok(candidate)
    }

    /// Notes which lists aren't taken as their files are, and warns of those that weren't held before.
    pub(super) fn hold_lists(&mut self, held: Vec<HeldList>) {
        let before = std::mem::replace(&mut self.held_lists, held);
        for list in self.held_lists.iter().filter(|list| !before.contains(list)) {
            let path = list.path.display();
            tracing::warn!(target: kind::LIST_HELD, %path, "{list}");
        }
    }

    /// Notes why the files can't be applied. The old policy stays.
    pub(super) fn refuse(&mut self, problem: Problem) -> StepError {
        let told = problem.told.clone();
        if self.problem.as_ref() != Some(&problem) {
            tracing::error!(target: kind::BAD_POLICY, "the policy files have errors; what was enforced stays\n{told}");
        }
        self.problem = Some(problem);
        self.trouble.is_of_edit = false;
        if std::mem::take(&mut self.unrecorded) {
            self.waiting.clear();
        }
        StepError::BadPolicy(told)
    }

    pub(super) fn apply(
        &mut self,
        candidate: Candidate,
        reason: &'static str,
        mut terms: Terms,
    ) -> Result<Step, StepError> {
        let Candidate { policy, server, warnings, held: _ } = candidate;
        let differs = policy != self.applied;
        // What another process changed is only reported: nothing is put back for a file that was
        // touched.
        let is_reported = self.applied.ownership == Ownership::Report && reason != "reload";
        let is_settled = !self.held && self.refusal.is_none() && !self.trouble.is_some();
        if is_reported && is_settled && !differs && server == self.server {
            (self.warnings, self.waiting) = (warnings, Vec::new());
            return Ok(Step::default());
        }
        let rules_changed = differs && !self.applied.waiting(&policy).is_empty();
        if rules_changed {
            terms.lost_way_in = self.lost_way_in(&policy, &server);
        }
        let before = (
            std::mem::replace(&mut self.applied, policy),
            std::mem::replace(&mut self.server, server),
        );
        let is_proposed = terms.proposal.is_some();
        match self.settle(reason, terms) {
            Ok(step) => {
                for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
                    tracing::warn!(target: kind::POLICY_WARNING, "{warning}");
                }
                self.warnings = warnings;
                self.trouble.is_over();
                self.waiting.clear();
                if rules_changed {
                    self.memory.policy_is_old(&self.applied, Changed::Rules);
                } else if step.commit.is_some() || differs {
                    self.memory.policy_is_old(&self.applied, Changed::MembersOnly);
                }
                Ok(step)
            }
            Err(error) => {
                (self.applied, self.server) = before;
                self.trouble.is_of_edit = differs && matches!(error, StepError::Kernel(_));
                if is_proposed {
                    self.withdraw();
                }
                Err(error)
            }
        }
    }
}

/// Files that can't be applied.
pub(super) struct BadFiles {
    /// All that is wrong with them.
    pub(super) problem: Problem,
    /// What they want in their place at a boot where no policy ever was good; none where that is
    /// the network as it is.
    pub(super) closed: Option<Policy>,
    /// Whether somebody is writing one.
    is_being_written: bool,
}

impl BadFiles {
    fn new(diagnostics: &Diagnostics, closed: Option<Policy>) -> Self {
        let is_being_written = diagnostics.iter().any(Diagnostic::is_of_a_writer);
        Self { problem: Problem::of(diagnostics), closed, is_being_written }
    }
}

/// How long a start waits for whoever is writing a file, and how often it looks.
const WRITERS: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(200);

/// The first load. One that meets a file that somebody is writing waits for a while.
pub(super) fn load_first(
    options: &Options,
    lists: &mut ListCache,
    state: Option<&StateDirectory>,
) -> (Inputs, Result<Candidate, BadFiles>) {
    let start = Instant::now();
    loop {
        let (inputs, files) = load(options, lists, None, state, Taking::Unasked);
        let is_being_written = match &files {
            Ok(candidate) => candidate.held.iter().any(|list| list.why == HoldReason::BeingWritten),
            Err(bad) => bad.is_being_written,
        };
        if !is_being_written || start.elapsed() >= WRITERS {
            return (inputs, files);
        }
        std::thread::sleep(LOOK);
    }
}

/// The policy of the files, or all that is wrong with them; and what they are, either way.
pub(super) fn load(
    options: &Options,
    lists: &mut ListCache,
    so_far: Option<(&Server, &Policy)>,
    state: Option<&StateDirectory>,
    taking: Taking,
) -> (Inputs, Result<Candidate, BadFiles>) {
    let (now, start) = (SystemTime::now(), LoadStart::now());
    let load_options = policy::Options {
        check_permissions: !options.insecure_permissions,
        strict: options.strict,
        warn_unseen: false,
    };
    let is_open_for_writing = netlink::is_open_for_writing;
    let again = Again { lists, now, taking, is_open_for_writing };
    let Loaded { policy, held, closed, mut diagnostics, inputs, sources, .. } =
        policy::load_again(&options.config, &load_options, again);
    let inputs = Inputs { inputs, start };
    let Some(policy) = policy else {
        return (inputs, Err(BadFiles::new(&diagnostics, closed)));
    };
    let (server, mut unknown_users) = Server::resolve(&policy, so_far, state);
    sources.illustrate(&mut unknown_users);
    diagnostics.extend(unknown_users);
    if options.strict {
        diagnostics.deny_warnings();
    }
    if diagnostics.has_errors() {
        let closed = policy.closed();
        return (inputs, Err(BadFiles::new(&diagnostics, closed)));
    }
    let warnings = lines(&diagnostics);
    (inputs, Ok(Candidate { policy, server, warnings, held }))
}

pub(super) fn lines(warnings: &Diagnostics) -> Vec<String> {
    warnings.iter().map(Diagnostic::place_and_message).collect()
}
