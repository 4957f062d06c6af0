//! The generations of policies on this server: numbered without end, the last fifty remembered.
//!
//! A generation is what was committed until something other than members of tiers changed: rules,
//! mode, role, services. Its policy is kept when the next one takes its place, as it was then, with
//! the members of its time. All of it lies in a directory of its own and is written off the event
//! loop; where it can't be, numbering goes on in memory and nothing else suffers.

use crate::journal::kind;
use crate::members::CommandMember;
use crate::policy_file;
use crate::recorder::{Recorder, StateFile};
use crate::refusal::digest;
use crate::shelf::{HIGHEST, Shelf};
use crate::state::StateDirectory;
use control::{Confirmation, Generation, Past};
use policy::Policy;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How many are remembered.
const KEPT: usize = 50;

/// Lines of each kind remembered of a generation.
const LINES: usize = 20;

/// The file in the runtime directory with the last number.
const MARKER: &str = "generation";

/// The directory in the state directory, and the list in it.
const DIRECTORY: &str = "history";
const LIST: &str = "generations.json";

/// All that is remembered.
#[derive(Debug, Default)]
pub(crate) struct History {
    directory: Option<StateDirectory>,
    /// The oldest first; the last is the one enforced.
    generations: VecDeque<Entry>,
    /// The number of the last one, also where that isn't remembered.
    last: u64,
    /// Policies, on their way to the disk and there.
    shelf: Shelf,
    /// Where the last number is kept while the machine runs, whatever becomes of the disk.
    marker: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    generation: Generation,
    /// Of its policy without members: what makes it another than the next.
    rules: u64,
    /// Whether it differs from the one before in members only: it was forced, or had to be confirmed.
    #[serde(default)]
    is_of_members: bool,
    /// The runtime member that it took out by force.
    #[serde(default)]
    removed: Option<CommandMember>,
}

impl Entry {
    /// Whether somebody went back from it, or it never came to stay.
    fn is_bad(&self) -> bool {
        let Generation { rolled_back, confirmation, .. } = self.generation;
        let never = [Some(Confirmation::Reverted), Some(Confirmation::Replaced)];
        rolled_back || never.contains(&confirmation)
    }
}

/// Why there is no way back to a generation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoGeneration {
    #[error("there is no earlier generation to go back to")]
    NoneBefore,
    #[error("generation {0} is the one enforced")]
    Current(u64),
    #[error("there was no generation {0} here\n  hint: `tierwall history` lists those there were")]
    Unknown(u64),
    #[error(
        "the policy of generation {0} is no longer kept\n  hint: `tierwall history` says which \
         are"
    )]
    NotKept(u64),
    #[error("the policy of generation {number} can't be used")]
    Unusable {
        number: u64,
        #[source]
        source: policy_file::Unusable,
    },
}

impl History {
    /// What the state directory remembers, and the runtime directory of the last number.
    pub(crate) fn load(state: Option<&StateDirectory>, runtime: Option<&Path>) -> Self {
        let mut history = Self::of(state);
        history.marker = runtime.map(|directory| directory.join(MARKER));
        let kept = history.marker.as_ref().and_then(|marker| fs::read_to_string(marker).ok());
        let kept = kept.and_then(|number| number.trim().parse().ok());
        // A number that can't be counted on is damage.
        history.skip_to(kept.filter(|number| *number <= HIGHEST).unwrap_or_default());
        history
    }

    fn of(state: Option<&StateDirectory>) -> Self {
        let Some(state) = state else { return Self::default() };
        let directory = match state.within(DIRECTORY) {
            Ok(directory) => directory,
            Err(error) => {
                tracing::warn!(target: kind::NOT_RECORDED, %error, "can't keep the history in the state directory");
                return Self::default();
            }
        };
        let generations = read(&directory).unwrap_or_else(|error| {
            let path = directory.set_aside(LIST).map(|path| path.display().to_string());
            let path = path.unwrap_or_else(|error| format!("nowhere: {error}"));
            tracing::warn!(target: kind::STATE_DAMAGED, %error, path, "the history can't be read; it begins anew");
            VecDeque::new()
        });
        let listed = generations.back().map_or(0, |entry: &Entry| entry.generation.number);
        let shelf = Shelf::of(&directory);
        // The list may be lost, and a number must not come again. The last has no policy there yet.
        let last = listed.max(shelf.last().map_or(0, |number| number + 1));
        Self { directory: Some(directory), generations, last, shelf, marker: None }
    }

    /// The number of the generation that is enforced; 0 before the first.
    pub(crate) fn current(&self) -> u64 {
        self.last
    }

    /// When that began, in seconds since 1970; none where it isn't remembered.
    pub(crate) fn since(&self) -> Option<u64> {
        let last = self.generations.back().filter(|entry| entry.generation.number == self.last);
        last.map(|last| last.generation.time)
    }

    /// Numbers go on behind this one, which was given already.
    pub(crate) fn skip_to(&mut self, number: u64) {
        self.last = self.last.max(number);
    }

    /// Whether enforcing `policy` is another generation than the last.
    pub(crate) fn is_new(&self, policy: &Policy) -> bool {
        let last = self.generations.back().filter(|entry| entry.generation.number == self.last);
        last.is_none_or(|last| last.rules != digest(&policy.rules()))
    }

    /// Whether `policy` may stand for the generation enforced, members aside, and isn't kept yet.
    pub(crate) fn lacks(&self, policy: &Policy) -> bool {
        self.last > 0 && !self.shelf.holds(self.last) && !self.is_new(policy)
    }

    /// A generation begins with `policy`; the one before ended with `previous`.
    pub(crate) fn begin(
        &mut self,
        mut generation: Generation,
        policy: &Policy,
        previous: Option<Policy>,
        removed: Option<CommandMember>,
    ) {
        if let Some(previous) = previous {
            self.shelf.put(self.last, previous);
        }
        generation.number = self.last + 1;
        for cut in [cut(&mut generation.changes, LINES), cut(&mut generation.edits, LINES)] {
            generation.more += cut;
        }
        self.last = generation.number;
        let rules = digest(&policy.rules());
        let is_of_members = self.generations.back().is_some_and(|before| before.rules == rules);
        self.generations.push_back(Entry { generation, rules, is_of_members, removed });
        if let Some(marker) = &self.marker {
            // Where it can't be written, the state directory mostly can.
            let _ = fs::write(marker, self.last.to_string());
        }
        while self.generations.len() > KEPT {
            self.generations.pop_front();
        }
    }

    /// Notes what became of a generation that had to be confirmed.
    pub(crate) fn settle(&mut self, number: u64, confirmation: Confirmation) {
        if let Some(entry) = self.find(number) {
            entry.generation.confirmation = Some(confirmation);
        }
    }

    /// Notes that somebody rolled back from a generation.
    pub(crate) fn left(&mut self, number: u64) {
        if let Some(entry) = self.find(number) {
            entry.generation.rolled_back = true;
        }
    }

    fn find(&mut self, number: u64) -> Option<&mut Entry> {
        self.generations.iter_mut().find(|entry| entry.generation.number == number)
    }

    /// The generation to go back to where nobody says which: the last that differs from the one
    /// enforced and that nobody went back from.
    pub(crate) fn before(&self) -> Result<u64, NoGeneration> {
        let current = self.generations.back().ok_or(NoGeneration::NoneBefore)?;
        // Who went back from N goes further back from there.
        let end = current.generation.back_to.unwrap_or(current.generation.number);
        // Whether members were changed since the entry that is looked at.
        let mut has_other_members = false;
        let earlier = self.generations.iter().rev().find(|entry| {
            let (number, is_bad) = (entry.generation.number, entry.is_bad());
            let differs = entry.rules != current.rules || has_other_members;
            has_other_members |= entry.is_of_members && number <= end && !is_bad;
            number < end && !is_bad && differs
        });
        earlier.map(|entry| entry.generation.number).ok_or(NoGeneration::NoneBefore)
    }

    /// The runtime members that were taken out by force after generation `number`.
    pub(crate) fn removed_since(&self, number: u64) -> Vec<CommandMember> {
        let later = self.generations.iter().filter(|entry| entry.generation.number > number);
        // From the others somebody went back already.
        later.filter(|entry| !entry.is_bad()).filter_map(|entry| entry.removed.clone()).collect()
    }

    /// The policy of an earlier generation.
    pub(crate) fn policy(&self, number: u64) -> Result<Policy, NoGeneration> {
        if number == self.last {
            return Err(NoGeneration::Current(number));
        }
        if (1..self.first()).contains(&number) {
            // Also where the disk hasn't had time yet to forget it.
            return Err(NoGeneration::NotKept(number));
        }
        match self.shelf.policy(number) {
            Ok(Some(policy)) => Ok(policy),
            Ok(None) if number == 0 || number > self.last => Err(NoGeneration::Unknown(number)),
            Ok(None) => Err(NoGeneration::NotKept(number)),
            Err(source) => Err(NoGeneration::Unusable { number, source }),
        }
    }

    /// The oldest generation that is remembered, also where the list was lost.
    fn first(&self) -> u64 {
        self.last.saturating_sub(KEPT as u64 - 1)
    }

    /// All of them, the oldest first.
    pub(crate) fn past(&self) -> Vec<Past> {
        let past = self.generations.iter().map(|entry| {
            let generation = entry.generation.clone();
            let current = generation.number == self.last;
            let kept = current || self.shelf.holds(generation.number);
            // The denials are those of this run: who counts them fills them in.
            Past { generation, current, kept, denials: None }
        });
        past.collect()
    }

    /// Has all of it written soon.
    pub(crate) fn record(&self, recorder: Option<&Recorder>) {
        let (Some(recorder), Some(directory)) = (recorder, &self.directory) else { return };
        let (directory, shelf) = (directory.clone(), self.shelf.clone());
        let generations = self.generations.clone();
        let first = self.first();
        let list = directory.clone();
        recorder.record(StateFile::History, move |_| {
            list.write_synced(LIST, &serde_json::to_vec_pretty(&generations)?)
        });
        // After everything else that is due: they may be large.
        recorder.record(StateFile::Versions, move |_| shelf.write(&directory, first));
    }
}

/// Leaves the first few. Returns how many went.
fn cut<T>(lines: &mut Vec<T>, limit: usize) -> usize {
    let more = lines.len().saturating_sub(limit);
    lines.truncate(limit);
    more
}

fn read(directory: &StateDirectory) -> io::Result<VecDeque<Entry>> {
    let Some(bytes) = directory.try_read(LIST)? else { return Ok(VecDeque::new()) };
    let mut generations: VecDeque<Entry> = serde_json::from_slice(&bytes)?;
    let numbers = || generations.iter().map(|entry| entry.generation.number);
    if !numbers().is_sorted_by(|a, b| a < b) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its numbers don't rise"));
    }
    if numbers().next_back().is_some_and(|last| last > HIGHEST) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its numbers are too high"));
    }
    while generations.len() > KEPT {
        generations.pop_front();
    }
    Ok(generations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Options, load_text};

    fn policy(port: u64) -> Policy {
        let text = format!(
            "[tiers]\nweb = [\"10.0.0.1\"]\n[[allow]]\nfrom = \"any\"\nto = \"web\"\nservice = \
             \"tcp/{port}\"\n"
        );
        load_text(Path::new("t.toml"), text, &Options::default()).policy.expect("a good policy")
    }

    fn generation(back_to: Option<u64>) -> Generation {
        Generation {
            number: 0,
            time: 7,
            reason: "reload".into(),
            by: None,
            changes: Vec::new(),
            edits: vec!["an edit".into(); LINES + 2],
            more: 0,
            forced: false,
            confirmation: None,
            back_to,
            rolled_back: false,
        }
    }

    fn write(history: &History) {
        let state = StateDirectory::open(Path::new("/")).expect("there");
        let recorder = Recorder::start(state).expect("started");
        history.record(Some(&recorder));
    }

    #[test]
    fn fifty_are_remembered_over_a_restart_and_numbers_go_on() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let mut history = History::load(Some(&state), None);
        for number in 1..=60 {
            assert!(history.is_new(&policy(number)));
            history.begin(generation(None), &policy(number), Some(policy(number - 1 + 1000)), None);
            assert!(!history.is_new(&policy(number)));
        }
        // As soon as it is so, and not only when the disk knows.
        assert!(matches!(history.policy(10), Err(NoGeneration::NotKept(10))));
        write(&history);
        let history = History::load(Some(&state), None);
        let past = history.past();
        assert_eq!((past.len(), past[0].generation.number, history.current()), (50, 11, 60));
        assert!(past.iter().all(|past| past.kept && past.generation.edits.len() == LINES));
        assert!(past[49].current && past[0].generation.more == 2);
        assert_eq!(history.policy(11).expect("kept"), policy(1011));
        assert!(matches!(history.policy(10), Err(NoGeneration::NotKept(10))));
        assert!(matches!(history.policy(60), Err(NoGeneration::Current(60))));
        assert!(matches!(history.policy(61), Err(NoGeneration::Unknown(61))));
        assert!(!history.is_new(&policy(60)) && history.is_new(&policy(59)));
        // One file each, and the list.
        let files = std::fs::read_dir(directory.path().join(DIRECTORY)).expect("readable");
        assert_eq!(files.count(), 50);

        // What somebody forged is no number to go on from.
        let list = directory.path().join(DIRECTORY).join(LIST);
        let text = std::fs::read_to_string(&list).expect("readable");
        let forged = text.replace("\"number\": 60", &format!("\"number\": {}", u64::MAX));
        std::fs::write(&list, forged).expect("written");
        let beside = directory.path().join(DIRECTORY).join(format!("policy-{}", u64::MAX));
        std::fs::write(&beside, "").expect("written");
        let mut history = History::load(Some(&state), None);
        assert_eq!((history.past().len(), history.current()), (0, 60));
        history.begin(generation(None), &policy(61), None, None);
        assert_eq!(history.current(), 61);

        std::fs::write(directory.path().join(DIRECTORY).join(LIST), "[{").expect("written");
        let history = History::load(Some(&state), None);
        assert_eq!((history.past().len(), history.current()), (0, 60), "no number comes again");
    }

    #[test]
    fn a_change_of_members_that_is_a_generation_has_a_way_back() {
        let mut history = History::default();
        let removed = CommandMember {
            tier: "web".into(),
            member: "10.0.0.7".into(),
            added: 1,
            until: None,
            by: 0,
            reason: None,
        };
        history.begin(generation(None), &policy(1), None, None);
        history.begin(generation(None), &policy(1), None, Some(removed.clone()));
        assert_eq!(history.before().expect("there"), 1);
        assert_eq!((history.removed_since(1), history.removed_since(2)), (vec![removed], vec![]));
        history.left(2);
        history.begin(generation(Some(1)), &policy(1), None, None);
        assert!(matches!(history.before(), Err(NoGeneration::NoneBefore)));
    }

    #[test]
    fn no_number_comes_again_while_the_machine_runs() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let runtime = Some(directory.path());
        let mut history = History::load(None, runtime);
        history.begin(generation(None), &policy(1), None, None);
        history.begin(generation(None), &policy(2), None, None);
        assert_eq!(History::load(None, runtime).current(), 2);
        fs::write(directory.path().join(MARKER), "18446744073709551615").expect("written");
        assert_eq!(History::load(None, runtime).current(), 0, "damage");
    }

    #[test]
    fn the_one_before_is_one_that_nobody_went_back_from() {
        let mut history = History::default();
        assert!(matches!(history.before(), Err(NoGeneration::NoneBefore)));
        for port in [1, 2, 3, 4] {
            history.begin(generation(None), &policy(port), None, None);
        }
        assert_eq!(history.before().expect("there"), 3);
        // Back to 3, then from there; forward to what was edited; that is never confirmed.
        history.left(4);
        history.begin(generation(Some(3)), &policy(3), None, None);
        assert_eq!(history.before().expect("there"), 2);
        history.begin(generation(None), &policy(6), None, None);
        assert_eq!(history.before().expect("there"), 5);
        history.settle(6, Confirmation::Reverted);
        history.begin(generation(Some(5)), &policy(3), None, None);
        assert_eq!(history.before().expect("there"), 2);
    }
}
