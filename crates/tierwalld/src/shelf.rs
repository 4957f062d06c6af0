//! The policies of earlier generations: on their way to the disk, and there.
//!
//! What is put here is found at once, and written when the disk has time for it. Together they take
//! no more than [`LARGEST`] bytes of the disk: the oldest go first.

use crate::policy_file::{self, Unusable};
use crate::state::StateDirectory;
use policy::Policy;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The highest number that is believed. No server comes near it; a forged or damaged file may, and
/// numbers go on from there.
pub(crate) const HIGHEST: u64 = u64::MAX / 2;

/// Bytes that all of them may take.
const LARGEST: u64 = 64 << 20;

/// Policies that stay in memory while the disk doesn't take them.
const WAITING: usize = 2;

/// Where they are. A copy is the same shelf.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    directory: Option<StateDirectory>,
    /// Those not on the disk yet.
    waiting: Arc<Mutex<BTreeMap<u64, Policy>>>,
}

impl Shelf {
    /// That in a directory.
    pub(crate) fn of(directory: &StateDirectory) -> Self {
        Self { directory: Some(directory.clone()), waiting: Arc::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Policy>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the policy of a generation.
    pub(crate) fn put(&self, number: u64, policy: Policy) {
        let mut waiting = self.waiting();
        waiting.insert(number, policy);
        if self.directory.is_none() {
            leave(&mut waiting);
        }
    }

    /// Whether the policy of a generation is there.
    pub(crate) fn holds(&self, number: u64) -> bool {
        let on_disk = |directory: &StateDirectory| directory.size(&name(number)).is_some();
        self.waiting().contains_key(&number) || self.directory.as_ref().is_some_and(on_disk)
    }

    /// The policy of a generation; none where it isn't kept.
    pub(crate) fn policy(&self, number: u64) -> Result<Option<Policy>, Unusable> {
        if let Some(policy) = self.waiting().get(&number) {
            return Ok(Some(policy.clone()));
        }
        let Some(directory) = &self.directory else { return Ok(None) };
        Ok(policy_file::load(directory, &name(number))?.map(|kept| kept.policy))
    }

    /// The largest number on the disk.
    pub(crate) fn last(&self) -> Option<u64> {
        numbers(self.directory.as_ref()?).max()
    }

    /// Writes what waits, and removes what is older than generation `first` or too much: also where
    /// it can't write, since that may be for want of room.
    pub(crate) fn write(&self, directory: &StateDirectory, first: u64) -> io::Result<()> {
        self.waiting().retain(|number, _| *number >= first);
        let written = self.write_waiting(directory);
        written.and(prune(directory, first, LARGEST))
    }

    fn write_waiting(&self, directory: &StateDirectory) -> io::Result<()> {
        loop {
            let next = self.waiting().first_key_value().map(|(n, policy)| (*n, policy.clone()));
            let Some((number, policy)) = next else { return Ok(()) };
            if let Err(error) = policy_file::save(directory, &name(number), &policy, number) {
                leave(&mut self.waiting());
                return Err(error);
            }
            self.waiting().remove(&number);
        }
    }
}

/// Leaves as many in memory as may wait there.
fn leave(waiting: &mut BTreeMap<u64, Policy>) {
    while waiting.len() > WAITING {
        waiting.pop_first();
    }
}

fn name(number: u64) -> String {
    format!("policy-{number}")
}

fn numbers(directory: &StateDirectory) -> impl Iterator<Item = u64> {
    let names = directory.names().into_iter();
    let numbers = names.filter_map(|name| name.strip_prefix("policy-")?.parse().ok());
    numbers.filter(|number| *number <= HIGHEST)
}

/// Removes what is older than generation `first`, and the oldest as long as all take more than
/// `largest` bytes. So does what a daemon had begun to write when it was killed.
fn prune(directory: &StateDirectory, first: u64, largest: u64) -> io::Result<()> {
    let mut numbers: Vec<u64> = numbers(directory).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let mut total = 0;
    for number in numbers {
        let name = name(number);
        total += directory.size(&name).unwrap_or(0);
        if number < first || total > largest {
            directory.remove(&name)?;
        }
    }
    let is_begun = |name: &&String| name.starts_with(".policy-") && name.ends_with(".new");
    directory.names().iter().filter(is_begun).try_for_each(|name| directory.remove(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Options, load_text};
    use std::path::Path;

    fn policy() -> Policy {
        let text = "[tiers]\nweb = [\"10.0.0.1\"]\n[[allow]]\nfrom = \"*\"\nto = \"web\"\nservice = \"any\"\n";
        load_text(Path::new("t.toml"), text, &Options::default()).policy.expect("a good policy")
    }

    #[test]
    fn what_is_put_is_found_at_once_and_after_it_was_written() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let shelf = Shelf::of(&state);
        for number in 3..9 {
            shelf.put(number, policy());
        }
        assert!(shelf.holds(3) && !shelf.holds(9));
        shelf.write(&state, 4).expect("written");
        assert!(shelf.waiting().is_empty());
        let shelf = Shelf::of(&state);
        assert!(!shelf.holds(3) && shelf.holds(4) && shelf.last() == Some(8));
        assert_eq!(shelf.policy(8).expect("readable"), Some(policy()));
        assert!(shelf.policy(3).expect("missing").is_none());

        let size = state.size("policy-8").expect("there");
        prune(&state, 0, 2 * size).expect("removed");
        assert!(!shelf.holds(6) && shelf.holds(7) && shelf.holds(8), "the oldest go first");
    }

    #[test]
    fn what_was_begun_and_what_is_too_old_go_also_where_nothing_can_be_written() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let shelf = Shelf::of(&state);
        shelf.put(1, policy());
        shelf.write(&state, 1).expect("written");
        std::fs::write(directory.path().join(".policy-7.new"), "tierw").expect("written");
        // Root may write to any directory, but not a file where there is a directory.
        std::fs::create_dir(directory.path().join("policy-8")).expect("made");
        shelf.put(8, policy());
        shelf.write(&state, 2).expect_err("an obstacle");
        assert_eq!(state.names(), ["policy-8"]);
    }

    #[test]
    fn a_full_disk_costs_all_but_the_last() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        for number in 1..9 {
            let beside = directory.path().join(format!(".policy-{number}.new"));
            std::os::unix::fs::symlink("/dev/full", beside).expect("a link");
        }
        let shelf = Shelf::of(&state);
        (1..9).for_each(|number| shelf.put(number, policy()));
        let error = shelf.write(&state, 1).expect_err("a full disk");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(!shelf.holds(6) && shelf.holds(7) && shelf.holds(8));
    }
}
