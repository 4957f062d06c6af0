//! A change that waits to be confirmed: what has to be known to go back from it, whatever happens.
//!
//! It is on the disk before the kernel is asked, in three files: the policy to go back to, the one
//! that waits, and the record that says that there is such a change. The record is written last and
//! removed first, so where it is, the policies are. Without sessions in it nobody knows whether the
//! commit came to be: such a one is gone back from.
//!
//! The time is counted by the machine's own clock since its boot, which nobody sets. After another
//! boot it is over.

use crate::deadline::Deadline;
use crate::members::CommandMember;
use crate::policy_file::{self, Unusable};
use crate::refusal::Refusal;
use crate::shelf::HIGHEST;
use crate::state::StateDirectory;
use control::{Connection, Requester};
use policy::guard::Session;
use policy::model::{Mode, Modes};
use policy::{ConfirmTime, Policy};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// The files in the state directory.
const RECORD: &str = "pending.json";
const BACK: &str = "pending-back";
const NEW: &str = "pending-new";

/// A change that waits.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) record: Record,
    /// What is gone back to, with the changes of members that came since.
    pub(crate) back: Policy,
}

/// What is known of it beside the policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The generation that waits, and the one to go back to.
    pub(crate) generation: u64,
    pub(crate) back_to: u64,
    pub(crate) deadline: Deadline,
    /// How long it may wait.
    pub(crate) time: ConfirmTime,
    pub(crate) reason: String,
    pub(crate) by: Option<Requester>,
    /// The users known before it.
    #[serde(default)]
    pub(crate) users: BTreeMap<String, u32>,
    /// The connection that it was asked for over.
    pub(crate) asker: Option<Connection>,
    /// Whether it applied the policy of the files.
    pub(crate) of_files: bool,
    /// What of the files was held back before.
    pub(crate) refusal: Option<Refusal>,
    /// A member by command that it removed.
    pub(crate) removed: Option<CommandMember>,
    /// None before the commit.
    pub(crate) sessions: Option<Sessions>,
}

/// The connections to what is guarded, right after the commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sessions {
    /// The addresses of those that were guarded.
    pub(crate) from: BTreeSet<IpAddr>,
    /// All of them, however far: they are older than the commit.
    pub(crate) older: BTreeSet<Session>,
}

/// What a start finds.
#[derive(Debug)]
pub(crate) enum Found {
    /// A change that waits, or did when the daemon ended; and the policy that it enforced.
    Change(Box<Pending>, Box<Policy>),
    /// Something that can't be used.
    Damaged(Damage),
}

/// Why a record can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("the record can't be read")]
    Unreadable(#[from] io::Error),
    #[error("the record is damaged")]
    Record(#[from] serde_json::Error),
    #[error("the record names a time that can't be")]
    Time,
    #[error("the record names generation {0}, which can't be")]
    Generation(u64),
    #[error("the policy that waits or the one to go back to can't be used")]
    Policy(#[from] Unusable),
    #[error("the policy that waits or the one to go back to is missing")]
    Missing,
}

impl Pending {
    /// Records it, with the policy that waits. On return it is on the disk.
    pub(crate) fn save(&self, new: &Policy, state: &StateDirectory) -> io::Result<()> {
        if is_recorded(state) {
            // One that this takes the place of: what is now written isn't committed yet.
            self.record.save(state)?;
        }
        policy_file::save(state, BACK, &self.back, self.record.back_to)?;
        policy_file::save(state, NEW, new, self.record.generation)?;
        self.record.save(state)
    }
}

impl Pending {
    /// Whether what is rolled back to denies nothing.
    pub(crate) fn observes(&self) -> bool {
        let Modes { input, output } = self.back.mode;
        input != Mode::Enforce && output != Mode::Enforce
    }

    /// Where it is rolled back to, in words.
    pub(crate) fn way_back(&self) -> String {
        let only = if self.observes() { ", observing only" } else { "" };
        format!("generation {}{only}", self.record.back_to)
    }

    /// For `status` and for who asked.
    pub(crate) fn told(&self) -> control::Pending {
        let Record { generation, back_to, deadline, reason, by, sessions, .. } = &self.record;
        let from = sessions.iter().flat_map(|sessions| &sessions.from).copied().collect();
        control::Pending {
            generation: *generation,
            back_to: *back_to,
            observes: self.observes(),
            until: deadline.wall,
            reason: reason.clone(),
            by: by.clone(),
            from,
        }
    }
}

impl Record {
    /// Records it alone, without the policies.
    pub(crate) fn save(&self, state: &StateDirectory) -> io::Result<()> {
        state.write_synced(RECORD, &serde_json::to_vec_pretty(self)?)
    }
}

/// Whether something is recorded, of whatever use.
pub(crate) fn is_recorded(state: &StateDirectory) -> bool {
    state.size(RECORD).is_some()
}

/// Records that nothing waits. On return the disk knows.
pub(crate) fn forget(state: &StateDirectory) -> io::Result<()> {
    state.remove(RECORD)?;
    state.sync(RECORD)?;
    // Without the record they are nothing.
    let _ = state.remove(BACK).and_then(|()| state.remove(NEW));
    Ok(())
}

/// What is recorded; none where nothing waits.
pub(crate) fn load(state: &StateDirectory) -> Option<Found> {
    match read(state) {
        Ok(Some((pending, new))) => Some(Found::Change(Box::new(pending), Box::new(new))),
        Ok(None) => None,
        Err(damage) => Some(Found::Damaged(damage)),
    }
}

fn read(state: &StateDirectory) -> Result<Option<(Pending, Policy)>, Damage> {
    let Some(bytes) = state.try_read(RECORD)? else { return Ok(None) };
    let record: Record = serde_json::from_slice(&bytes)?;
    if record.deadline.left() > Duration::from_secs(record.time.seconds().into()) {
        return Err(Damage::Time);
    }
    if !(1..=HIGHEST).contains(&record.generation) {
        return Err(Damage::Generation(record.generation));
    }
    let policy = |name: &str| -> Result<Policy, Damage> {
        Ok(policy_file::load(state, name)?.ok_or(Damage::Missing)?.policy)
    };
    let (back, new) = (policy(BACK)?, policy(NEW)?);
    Ok(Some((Pending { record, back }, new)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Options, load_text};
    use std::fs;
    use std::path::Path;

    fn pending() -> Pending {
        let text = "[tiers]\nweb = [\"10.0.0.1\"]\n[[allow]]\nfrom = \"*\"\nto = \"web\"\nservice = \"any\"\n";
        let back = load_text(Path::new("t.toml"), text, &Options::default()).policy;
        let record = Record {
            generation: 7,
            back_to: 6,
            deadline: Deadline::after(ConfirmTime::default()),
            time: ConfirmTime::default(),
            reason: "reload".into(),
            by: None,
            users: BTreeMap::from([("backup".into(), 34)]),
            asker: None,
            of_files: true,
            refusal: None,
            removed: None,
            sessions: Some(Sessions::default()),
        };
        Pending { record, back: back.expect("a good policy") }
    }

    #[test]
    fn comes_back_as_it_was_until_it_is_forgotten() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        assert!(load(&state).is_none());
        let pending = pending();
        pending.save(&pending.back, &state).expect("written");
        let Some(Found::Change(found, new)) = load(&state) else { panic!("not found") };
        assert_eq!((&found.record, &found.back), (&pending.record, &pending.back));
        assert_eq!(*new, pending.back);
        forget(&state).expect("removed");
        assert!(load(&state).is_none());
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 0);
    }

    #[test]
    fn damage_is_told() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let pending = pending();
        let damaged = |damage: &dyn Fn()| {
            pending.save(&pending.back, &state).expect("written");
            damage();
            match load(&state) {
                Some(Found::Damaged(damage)) => damage,
                other => panic!("{other:?}"),
            }
        };
        let path = |name: &str| directory.path().join(name);
        let cut = || fs::write(path(RECORD), "{\"generation\": 7,").expect("written");
        assert!(matches!(damaged(&cut), Damage::Record(_)));
        let missing = || fs::remove_file(path(BACK)).expect("removed");
        assert!(matches!(damaged(&missing), Damage::Missing));
        let spoilt = || fs::write(path(NEW), "tierwall").expect("written");
        assert!(matches!(damaged(&spoilt), Damage::Policy(_)));
        let far = || {
            let mut record = pending.record.clone();
            record.deadline.uptime += 3_600_000;
            record.save(&state).expect("written");
        };
        assert!(matches!(damaged(&far), Damage::Time));
        for number in [0, HIGHEST + 1, u64::MAX] {
            let forged = || {
                let record = Record { generation: number, ..pending.record.clone() };
                record.save(&state).expect("written");
            };
            assert!(matches!(damaged(&forged), Damage::Generation(found) if found == number));
        }
    }

    #[test]
    fn another_boot_ends_the_time() {
        let mut deadline = Deadline::after(ConfirmTime::default());
        let left = deadline.left();
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60), "{left:?}");
        deadline.boot = Some("another".into());
        assert_eq!(deadline.left(), Duration::ZERO);
    }
}
