//! Bringing the kernel's table to what the policy wants.
//!
//! The table is read, the plan from it made and committed against the generation that was read.
//! A commit whose outcome is unclear, or that lost a race with another program, is settled by
//! reading again, a bounded number of times. Nothing is reported done before the kernel
//! acknowledged it or the table read back equals the one wanted.

use crate::state::StateDirectory;
use netlink::{CommitError, Connection, Generation, KernelTable};
use policy::Policy;
use ruleset::{Operation, Plan, Ruleset, Summary, TABLE};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often a lost race or an unclear outcome is settled by reading the table again.
const ATTEMPTS: usize = 5;

/// The way to the kernel. Calls block: they run off the event loop.
pub(crate) struct Kernel {
    connection: Connection,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kernel")
    }
}

/// A batch that the kernel acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) generation: u32,
    pub(crate) summary: Summary,
    pub(crate) bytes: usize,
    pub(crate) duration: Duration,
}

/// How the kernel came to hold the wanted table.
#[derive(Debug)]
pub(crate) struct Settled {
    /// What it holds now.
    pub(crate) ruleset: Ruleset,
    /// Its generation.
    pub(crate) generation: u32,
    /// The batch that was committed; none where nothing had to change.
    pub(crate) commit: Option<Commit>,
    /// The saved copy of a foreign table that was replaced.
    pub(crate) saved: Option<PathBuf>,
}

/// Why the kernel doesn't hold the wanted table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// There is a table of that name that we didn't make.
    #[error(
        "there is a table inet {TABLE} that tierwall did not make; it stays as it is\n  \
         hint: keep it with `nft list table inet {TABLE} > FILE`; start once with --takeover to \
         replace it (a description is saved in the state directory first)"
    )]
    Foreign,
    /// The saved copy of a foreign table couldn't be written, so it wasn't replaced.
    #[error("can't save a copy of the foreign table in the state directory, so it stays")]
    NotSaved(#[source] std::io::Error),
    /// The right is missing.
    #[error(
        "no right to change the network: tierwalld needs root, or CAP_NET_ADMIN in its network namespace"
    )]
    NotPermitted,
    /// Others kept changing the table.
    #[error(
        "the nftables generation kept changing under {ATTEMPTS} attempts to commit; nothing was changed"
    )]
    Contended,
    /// The kernel refused.
    #[error("{0}")]
    Refused(String),
    /// Reading failed.
    #[error("can't read the kernel's table")]
    Read(#[source] netlink::Error),
}

impl Kernel {
    /// Opens the way to the kernel, and finds out whether we may go it.
    pub(crate) fn open() -> Result<Self, KernelError> {
        let mut connection = Connection::open().map_err(reading)?;
        connection.generation().map_err(reading)?;
        Ok(Self { connection })
    }

    /// Brings the table to what `compile` makes of it, given the one that is there.
    pub(crate) fn settle(
        &mut self,
        policy: &Policy,
        compile: impl Fn(Option<&Ruleset>) -> Ruleset,
        state: Option<&StateDirectory>,
        takeover: bool,
    ) -> Result<Settled, KernelError> {
        let mut saved = None;
        let mut unclear: Option<Commit> = None;
        for _ in 0..ATTEMPTS {
            let found = self.connection.dump().map_err(reading)?;
            if is_foreign(&found) {
                if !takeover {
                    return Err(KernelError::Foreign);
                }
                // Anew after a lost race: it may have been the table that changed.
                saved = Some(save(&found, state).map_err(KernelError::NotSaved)?);
            }
            let ours = found.ruleset.table.as_ref().is_some_and(|table| table.is_ours());
            let wanted = compile(ours.then_some(&found.ruleset));
            let plan = found.ruleset.diff(&wanted);
            let generation = found.generation;
            if plan.is_empty() {
                let generation = generation.0;
                return Ok(Settled { ruleset: wanted, generation, commit: unclear, saved });
            }
            let begun = Instant::now();
            let outcome = self.connection.commit(&plan, &found.handles, Some(found.generation));
            let commit = |generation: Generation, bytes| Commit {
                generation: generation.0,
                summary: summary(&plan, &found.ruleset),
                bytes,
                duration: begun.elapsed(),
            };
            match outcome {
                Ok(done) => {
                    let commit = Some(commit(done.generation, done.bytes));
                    let generation = done.generation.0;
                    return Ok(Settled { ruleset: wanted, generation, commit, saved });
                }
                Err(CommitError::Stale) => {
                    tracing::info!("another program changed nftables meanwhile; reading again");
                }
                Err(CommitError::Unknown { .. }) => {
                    tracing::warn!("the outcome of the commit is unclear; reading the table back");
                    unclear = Some(commit(generation.next(), 0));
                }
                Err(error) => return Err(refused(error, policy)),
            }
        }
        Err(KernelError::Contended)
    }

    /// Takes our table away. None where there was none.
    pub(crate) fn teardown(&mut self) -> Result<Option<Commit>, KernelError> {
        let mut unclear = None;
        for _ in 0..ATTEMPTS {
            let found = self.connection.dump().map_err(reading)?;
            match &found.ruleset.table {
                None => return Ok(unclear),
                Some(table) if !table.is_ours() => return Err(KernelError::Foreign),
                Some(_) => {}
            }
            let plan = found.ruleset.diff(&Ruleset::default());
            let begun = Instant::now();
            let outcome = self.connection.commit(&plan, &found.handles, Some(found.generation));
            let commit = |generation: Generation, bytes| Commit {
                generation: generation.0,
                summary: summary(&plan, &found.ruleset),
                bytes,
                duration: begun.elapsed(),
            };
            match outcome {
                Ok(done) => return Ok(Some(commit(done.generation, done.bytes))),
                Err(CommitError::Stale) => {}
                Err(CommitError::Unknown { .. }) => {
                    unclear = Some(commit(found.generation.next(), 0));
                }
                Err(CommitError::NotPermitted) => return Err(KernelError::NotPermitted),
                Err(error) => return Err(KernelError::Refused(in_full(error))),
            }
        }
        Err(KernelError::Contended)
    }
}

/// What a plan changes. What a deleted table takes with it counts as deleted.
fn summary(plan: &Plan, found: &Ruleset) -> Summary {
    let mut summary = plan.summary();
    let gone = found.table.iter().filter(|_| plan.operations.contains(&Operation::DeleteTable));
    for table in gone {
        summary.rules_deleted +=
            table.chains.values().map(|chain| chain.rules.len()).sum::<usize>();
        for (name, set) in table.sets.iter().filter(|(_, set)| !set.elements.is_empty()) {
            summary.sets.entry(name.clone()).or_default().deleted += set.elements.len();
        }
    }
    summary
}

/// A table we didn't make and that does something.
fn is_foreign(found: &KernelTable) -> bool {
    found.ruleset.table.as_ref().is_some_and(|table| !table.is_ours() && !table.is_inert())
}

fn save(found: &KernelTable, state: Option<&StateDirectory>) -> std::io::Result<PathBuf> {
    const HEADER: &str = "# The table as tierwalld found it before it took over. Expressions, types and elements that\n\
                          # tierwalld never writes are in brackets or hexadecimal, as the kernel sent them; `nft -f`\n\
                          # doesn't load those.\n";
    let state = state.ok_or_else(|| std::io::Error::other("the state directory can't be used"))?;
    state.save_foreign_table(&format!("{HEADER}{}", found.ruleset))
}

fn reading(error: netlink::Error) -> KernelError {
    match error {
        netlink::Error::NotPermitted => KernelError::NotPermitted,
        error => KernelError::Read(error),
    }
}

/// The kernel's refusal with the line of the policy behind it.
fn refused(error: CommitError, policy: &Policy) -> KernelError {
    match error {
        CommitError::NotPermitted => KernelError::NotPermitted,
        CommitError::Refused(ref refusal) => {
            let allow =
                refusal.rule.as_deref().and_then(|comment| policy.allow_of_comment(comment));
            let place = allow.map(|allow| format!("{}: ", allow.location)).unwrap_or_default();
            KernelError::Refused(format!("{place}{error}"))
        }
        error => KernelError::Refused(in_full(error)),
    }
}

/// An error with its causes, on one line.
pub(crate) fn in_full(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::new(error))
}
