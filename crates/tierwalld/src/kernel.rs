//! Bringing the kernel's table to what the policy wants.
//!
//! What the kernel holds is remembered in a mirror, so that a change costs what it changes: the
//! plan is made against the mirror and committed against the generation it is of. Who else
//! commits makes the generation move on; then the table is read again, unless it is owned and so
//! can't have changed. The same settles a commit whose outcome is unclear, a bounded number of
//! times. Nothing is reported done before the kernel acknowledged it or the table read back equals
//! the one wanted.

mod error;
mod steps;

use crate::clock;
use crate::drift::{self, Shared};
use crate::errors::in_full;
use crate::fd_store::{self, Passed};
use crate::journal::kind;
use crate::proof::Proof;
use crate::state::StateDirectory;
use control::TableState;
use error::{reading, refused};
use netlink::{CommitError, Connection, Features, Generation, Handles, Hold, Ownership, Refusal};
use nix::errno::Errno;
use policy::model::Ownership as Wish;
use policy::{Change, Policy};
use ruleset::{Base, Operation, Plan, Ruleset, Summary, Table};
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use steps::{elements, moves_rules, needs_handles, plan, summary};

pub(crate) use error::KernelError;

/// How often a lost race or an unclear outcome is settled by reading the table again.
const ATTEMPTS: usize = 5;

/// How often a race is lost at most. Where the table can't have changed, another one costs next to
/// nothing.
const RACES: usize = 100;

/// Elements of a set up to which reading it costs less than filling it anew, at about 80 ms: the
/// kernel starts each part of a dump from the first element.
const READ_UP_TO: usize = 50_000;

/// Elements of a commit during which nobody listens: with a listener the kernel writes a message
/// for each of them.
const LARGE: usize = 1_000;

/// The way to the kernel. Calls block: they run off the event loop.
pub(crate) struct Kernel {
    connection: Connection,
    /// What the kernel can do, once that had to be asked.
    features: Option<Features>,
    /// None where the table has to be read.
    mirror: Option<Mirror>,
    /// Whether a table that we did not make may be replaced.
    takeover: bool,
    /// Who listens to nftables on our behalf and has to be quiet during large commits.
    pub(crate) listener: Option<Shared>,
    /// Whether others committed while nobody listened.
    pub(crate) missed: bool,
}

/// What the kernel holds, as far as we know.
struct Mirror {
    ruleset: Ruleset,
    /// None after a commit that added rules: their handles are read when they are needed.
    handles: Option<Handles>,
    generation: Generation,
    ownership: Ownership,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kernel")
    }
}

/// A batch that the kernel acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) summary: Summary,
    pub(crate) bytes: usize,
    pub(crate) duration: Duration,
}

/// What our table does with packets; nothing where it isn't there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether it has connections tracked.
    pub(crate) tracks: bool,
    /// Whether input drops what no allow lets through.
    pub(crate) input_drops: bool,
    /// Whether output does.
    pub(crate) output_drops: bool,
}

/// How the kernel came to hold the wanted table.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The generation of what it holds.
    pub(crate) generation: u32,
    /// The batch that was committed; none where nothing had to change.
    pub(crate) commit: Option<Commit>,
    /// What the batch means.
    pub(crate) change: Change,
    /// The saved copy of a foreign table that was replaced.
    pub(crate) saved: Option<PathBuf>,
}

impl Kernel {
    /// Opens the way to the kernel, and finds out whether we may go it. It is that of the daemon
    /// before, where its socket was kept.
    pub(crate) fn open(takeover: bool, passed: &mut Passed) -> Result<Self, KernelError> {
        let connection = match passed.connection() {
            Some(kept) => kept,
            None => {
                let mut connection = Connection::open().map_err(reading)?;
                // The first to be refused where the right is missing.
                connection.generation().map_err(reading)?;
                fd_store::keep(&connection);
                connection
            }
        };
        Ok(Self {
            connection,
            features: None,
            mirror: None,
            takeover,
            listener: None,
            missed: false,
        })
    }

    /// What the kernel holds, as far as we know.
    pub(crate) fn ruleset(&self) -> Option<&Ruleset> {
        self.mirror.as_ref().map(|mirror| &mirror.ruleset)
    }

    /// Whether the table in the kernel is one that we did not make and may not replace.
    pub(crate) fn is_foreign(&mut self) -> Result<bool, KernelError> {
        let takeover = self.takeover;
        Ok(!takeover && is_foreign(&self.mirrored()?.ruleset))
    }

    /// Whether from now on such a table may be replaced.
    pub(crate) fn allow_takeover(&mut self, allowed: bool) {
        self.takeover = allowed;
    }

    /// Whether the table in the kernel is one that we did not make and that does something.
    pub(crate) fn has_foreign(&mut self) -> Result<bool, KernelError> {
        Ok(is_foreign(&self.mirrored()?.ruleset))
    }

    /// Whose table it is that is there, as far as we know.
    pub(crate) fn table(&self) -> Option<TableState> {
        let mirror = self.mirror.as_ref()?;
        Some(match &mirror.ruleset.table {
            Some(table) if table.is_ours() => TableState::Ours,
            Some(_) => TableState::Foreign,
            None => TableState::Gone,
        })
    }

    /// What the kernel holds, read where that isn't known.
    pub(crate) fn mirror(&mut self) -> Result<&Ruleset, KernelError> {
        Ok(&self.mirrored()?.ruleset)
    }

    /// What the table in the kernel does with packets.
    pub(crate) fn standing(&mut self) -> Result<Standing, KernelError> {
        let table = self.mirrored()?.ruleset.table.as_ref();
        let ours = table.filter(|table| table.is_ours());
        let base = |name: &str| ours.and_then(|table| table.chains.get(name)?.base.as_ref());
        let (input, output) = (base("input"), base("output"));
        // A table about to be taken over keeps what it drops until ours drops in its place.
        let theirs = table.filter(|table| !table.is_ours());
        let drops =
            |base: Option<&Base>| base.is_some_and(|base| base.policy == ruleset::Policy::Drop);
        Ok(Standing {
            tracks: input.or(output).is_some() || theirs.is_some_and(Table::tracks),
            input_drops: drops(input),
            output_drops: drops(output),
        })
    }

    /// At a start: recognises what `compile` makes of the table in the kernel without reading its
    /// sets, where that can be proved. Else the table will be read.
    pub(crate) fn recognise(
        &mut self,
        compile: impl Fn(Option<&Ruleset>) -> Ruleset,
        state: Option<&StateDirectory>,
    ) -> Result<bool, KernelError> {
        let (found, generation) = self.connection.summary().map_err(reading)?;
        let Some(found) = found.filter(netlink::TableSummary::is_ours) else { return Ok(false) };
        let ownership = found.ownership(self.connection.port());
        let is_recorded = || {
            let recorded = state.and_then(Proof::load);
            recorded
                .is_some_and(|recorded| Proof::of(generation.0).is_some_and(|now| now == recorded))
        };
        // Nobody else can have changed what never ceased to be ours.
        if ownership != Ownership::Ours && !is_recorded() {
            return Ok(false);
        }
        // As large sets, and those that were there, are kept where they are.
        let wanted = compile(Some(&found.outline())).noted();
        let noted = wanted.table.as_ref().and_then(|table| table.state.clone());
        if found.state.is_none() || found.state != noted {
            return Ok(false);
        }
        let mirror = Mirror { ruleset: wanted, handles: None, generation, ownership };
        self.mirror = Some(mirror);
        // The fingerprint leaves out what ends by itself.
        let is_known = self.read_timed_sets()?;
        if !is_known {
            self.mirror = None;
        }
        Ok(is_known)
    }

    /// Reads into the mirror what ends by itself. Returns whether the rest of it is of the same
    /// generation.
    fn read_timed_sets(&mut self) -> Result<bool, KernelError> {
        let Some(mirror) = &mut self.mirror else { return Ok(false) };
        let (timed, generation) = self.connection.timed_sets().map_err(reading)?;
        for (name, set) in timed {
            let sets = mirror.ruleset.table.as_mut().map(|table| &mut table.sets);
            match sets.and_then(|sets| sets.get_mut(&name)) {
                Some(known) => *known = set,
                None => return Ok(false),
            }
        }
        Ok(generation == mirror.generation)
    }

    /// The mirror, read from the kernel where there is none.
    fn mirrored(&mut self) -> Result<&mut Mirror, KernelError> {
        let mirror = match self.mirror.take() {
            Some(mirror) => mirror,
            None => self.read(READ_UP_TO)?,
        };
        Ok(self.mirror.insert(mirror))
    }

    /// Reads the table, but for sets of more than `limit` elements.
    fn read(&mut self, limit: usize) -> Result<Mirror, KernelError> {
        let mut found = self.connection.dump_up_to(limit).map_err(reading)?;
        if found.ruleset.table.as_ref().is_some_and(|table| !table.is_ours()) {
            // A copy of it may have to be saved.
            found = self.connection.dump().map_err(reading)?;
        }
        let ownership = found.ownership(self.connection.port());
        let (ruleset, generation) = (found.ruleset, found.generation);
        Ok(Mirror { ruleset, handles: Some(found.handles), generation, ownership })
    }

    /// Whether a table can belong to us and outlive us. Asking takes the kernel some 10 ms, the
    /// grace period of an aborted batch: where such a table is there, it needn't be asked.
    fn can_own(&mut self) -> Result<bool, KernelError> {
        if matches!(self.mirrored()?.ownership, Ownership::Ours | Ownership::Orphan) {
            return Ok(true);
        }
        let features = match self.features {
            Some(features) => features,
            None => *self.features.insert(self.connection.probe().map_err(reading)?),
        };
        Ok(features.persistent_owner)
    }

    /// Brings the table to what `compile` makes of it, given our table that is there.
    pub(crate) fn settle(
        &mut self,
        policy: &Policy,
        compile: impl Fn(Option<&Ruleset>) -> Ruleset,
        state: Option<&StateDirectory>,
    ) -> Result<Settled, KernelError> {
        let mut saved = None;
        let mut unclear: Option<(Commit, Change)> = None;
        let exclusive = policy.ownership == Wish::Exclusive && self.can_own()?;
        let (mut attempts, mut races) = (ATTEMPTS, RACES);
        let mut doubted = false;
        while attempts > 0 && races > 0 {
            let takeover = self.takeover;
            // The kernel counts its own time. What ended by the clock, which may have been set
            // forward, isn't gone for that.
            if has_ended(&self.mirrored()?.ruleset) && !self.read_timed_sets()? {
                races -= 1;
                attempts -= usize::from(self.catch_up()?);
                continue;
            }
            let mirror = self.mirrored()?;
            if is_foreign(&mirror.ruleset) {
                if !takeover {
                    return Err(KernelError::Foreign);
                }
                // Anew after a lost race: it may have been the table that changed.
                saved = Some(save(&mirror.ruleset, state).map_err(KernelError::NotSaved)?);
            }
            let ours = mirror.ruleset.table.as_ref().is_some_and(|table| table.is_ours());
            let wanted = compile(ours.then_some(&mirror.ruleset)).noted();
            let (plan, hold) = plan(mirror, &wanted, exclusive)?;
            if plan.is_empty() && hold != Hold::Adopt {
                let generation = mirror.generation.0;
                let (commit, change) = unclear.unzip();
                let change = change.unwrap_or_default();
                return Ok(Settled { generation, commit, change, saved });
            }
            let summary = summary(&plan, &mirror.ruleset);
            match self.commit(&plan, hold) {
                Ok(commit) => {
                    let commit = Commit { summary, ..commit };
                    let mirror = self.mirrored()?;
                    let before = std::mem::replace(&mut mirror.ruleset, wanted);
                    let generation = mirror.generation.0;
                    // Once it holds: who is let in or out needn't wait for the words.
                    let change = Change::of(&before, &mirror.ruleset);
                    return Ok(Settled { generation, commit: Some(commit), change, saved });
                }
                Err(CommitError::Stale) => {
                    tracing::info!(target: kind::RACED, "another program changed nftables meanwhile; catching up");
                    races -= 1;
                    attempts -= usize::from(self.catch_up()?);
                }
                Err(CommitError::Unknown(error)) => {
                    tracing::warn!(target: kind::READ_BACK, %error, "the outcome of a commit is unclear; reading back");
                    let before =
                        self.mirror.take().map(|mirror| mirror.ruleset).unwrap_or_default();
                    attempts -= 1;
                    let commit = Commit { summary, bytes: 0, duration: Duration::ZERO };
                    unclear = Some((commit, Change::of(&before, &wanted)));
                }
                Err(CommitError::Refused(refusal)) if !doubted && contradicts(&refusal) => {
                    tracing::warn!(target: kind::READ_BACK, error = %refusal, "the kernel holds something else than was known; reading it again");
                    self.mirror = None;
                    attempts -= 1;
                    doubted = true;
                }
                Err(error) => return Err(refused(error, policy)),
            }
        }
        Err(KernelError::Contended)
    }

    /// Commits a plan made against the mirror, and moves the mirror's generation on; its ruleset
    /// is the caller's to move.
    fn commit(&mut self, plan: &Plan, hold: Hold) -> Result<Commit, CommitError> {
        let mirror = self.mirror.as_mut().ok_or(CommitError::Stale)?;
        if mirror.handles.is_none() && needs_handles(plan) {
            let (handles, generation) = self.connection.handles()?;
            if generation != mirror.generation {
                return Err(CommitError::Stale);
            }
            mirror.handles = Some(handles);
        }
        let none = Handles::default();
        let handles = mirror.handles.as_ref().unwrap_or(&none);
        let connection = &mut self.connection;
        let mut send = || connection.commit(plan, handles, Some(mirror.generation), hold);
        let done = match &self.listener {
            Some(listener) if elements(plan) > LARGE => {
                let done = drift::quietly(listener, send)?;
                // What others committed before somebody listened again was told to nobody.
                self.missed |=
                    self.connection.generation().map_or(true, |now| now != done.generation);
                done
            }
            _ => send()?,
        };
        mirror.generation = done.generation;
        let makes = plan.operations.iter().any(|o| matches!(o, Operation::AddTable { .. }));
        mirror.ownership = match hold {
            Hold::Plain if makes => Ownership::Unowned,
            Hold::Plain => mirror.ownership,
            Hold::Own | Hold::Adopt => Ownership::Ours,
        };
        if moves_rules(plan) {
            mirror.handles = None;
        }
        Ok(Commit { summary: plan.summary(), bytes: done.bytes, duration: done.duration })
    }

    /// The port that our commits come from.
    pub(crate) fn port(&self) -> u32 {
        self.connection.port()
    }

    /// Whether others can change the table, so that somebody has to listen.
    pub(crate) fn is_exposed(&self) -> bool {
        self.mirror.as_ref().is_none_or(|mirror| mirror.ownership != Ownership::Ours)
    }

    /// Whether the table holds something that ended by the clock.
    pub(crate) fn holds_ended(&mut self) -> Result<bool, KernelError> {
        // It may have been forgotten since it was read.
        Ok(has_ended(&self.mirrored()?.ruleset)
            && (!self.read_timed_sets()? || has_ended(&self.mirrored()?.ruleset)))
    }

    /// Reads the table again: somebody else may have changed it. Returns whether it differs from
    /// what we knew. Unless it is to be read `wholly`, large sets count as changed.
    pub(crate) fn read_again(&mut self, wholly: bool) -> Result<bool, KernelError> {
        if let Some(mirror) = &self.mirror
            && mirror.generation == self.connection.generation().map_err(reading)?
        {
            // Nobody has committed anything since.
            return Ok(false);
        }
        let known = self.mirror.take();
        let found = self.read(if wholly { usize::MAX } else { READ_UP_TO })?;
        let found = self.mirror.insert(found);
        let now = clock::now();
        Ok(known.is_none_or(|known| living(&known.ruleset, now) != living(&found.ruleset, now)))
    }

    /// Whether the table is what `compile` makes of it.
    pub(crate) fn holds(
        &mut self,
        compile: impl Fn(Option<&Ruleset>) -> Ruleset,
    ) -> Result<bool, KernelError> {
        let found = &self.mirrored()?.ruleset;
        let ours = found.table.as_ref().is_some_and(|table| table.is_ours());
        let (wanted, now) = (compile(Some(found)).noted(), clock::now());
        Ok(ours && living(found, now).diff(&living(&wanted, now)).is_empty())
    }

    /// After somebody else's commit. A table that we own can't have changed: only the generation
    /// moved on. Returns whether the table has to be read again.
    fn catch_up(&mut self) -> Result<bool, KernelError> {
        match &mut self.mirror {
            Some(mirror) if mirror.ownership == Ownership::Ours => {
                mirror.generation = self.connection.generation().map_err(reading)?;
                Ok(false)
            }
            mirror => {
                *mirror = None;
                Ok(true)
            }
        }
    }

    /// Takes our table away. None where there was none.
    pub(crate) fn teardown(&mut self) -> Result<Option<(u32, Commit)>, KernelError> {
        let mut unclear = None;
        for _ in 0..ATTEMPTS {
            self.mirror = None;
            let mirror = self.mirrored()?;
            match &mirror.ruleset.table {
                None => return Ok(unclear),
                Some(table) if !table.is_ours() => return Err(KernelError::Foreign),
                Some(_) => {}
            }
            let plan = mirror.ruleset.diff(&Ruleset::default());
            let summary = summary(&plan, &mirror.ruleset);
            let next = mirror.generation.next().0;
            match self.commit(&plan, Hold::Plain) {
                Ok(commit) => {
                    self.mirror = None;
                    return Ok(Some((next, Commit { summary, ..commit })));
                }
                Err(CommitError::Stale) => {}
                Err(CommitError::Unknown(_)) => {
                    let commit = Commit { summary, bytes: 0, duration: Duration::ZERO };
                    unclear = Some((next, commit));
                }
                Err(CommitError::NotPermitted) => return Err(KernelError::NotPermitted),
                Err(error) => return Err(KernelError::Refused(in_full(&error))),
            }
        }
        Err(KernelError::Contended)
    }
}

/// A table we didn't make and that does something.
fn is_foreign(found: &Ruleset) -> bool {
    found.table.as_ref().is_some_and(|table| !table.is_ours() && !table.is_inert())
}

/// Whether something in it has ended by the clock.
fn has_ended(ruleset: &Ruleset) -> bool {
    ruleset.table.as_ref().is_some_and(|table| table.has_ended(clock::now()))
}

/// A ruleset without what has ended by now, which the kernel forgets when it likes.
fn living(ruleset: &Ruleset, now: u64) -> Cow<'_, Ruleset> {
    let mut living = Cow::Borrowed(ruleset);
    if ruleset.table.as_ref().is_some_and(|table| table.has_ended(now)) {
        living.to_mut().table.iter_mut().for_each(|table| {
            table.expire(now);
        });
    }
    living
}

fn save(found: &Ruleset, state: Option<&StateDirectory>) -> std::io::Result<PathBuf> {
    let state = state.ok_or_else(|| std::io::Error::other("the state directory can't be used"))?;
    const HEADER: &str = "# The table as tierwalld found it before it took over. Expressions, types and elements\n\
         # that tierwalld never writes are in brackets or hexadecimal, as the kernel sent them;\n\
         # `nft -f` doesn't load those.\n";
    state.save_foreign_table(&format!("{HEADER}{found}"))
}

/// Whether the kernel has what the plan adds, or lacks what it builds on: something ended before
/// its time, or nobody knows why. Where it is no more than a plan that the kernel can't take, the
/// table as it is read again leads to the same refusal.
fn contradicts(refusal: &Refusal) -> bool {
    matches!(refusal.errno, Errno::ENOENT | Errno::EEXIST)
}
