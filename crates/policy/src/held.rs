//! Lists that aren't taken as their files are: those that are still being written, and those that
//! look emptied by accident.
//!
//! What such a list held before stays, and somebody is told. A member that somebody takes out is
//! never held: one or a few lines less are no accident.

use crate::document::{AllowText, Document};
use crate::list_cache::{ListCache, Sets, Stamp};
use ruleset::{Address, AddressSet};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How many members a list loses at most without being held, however short it is.
const FEW: usize = 5;

/// How many addresses are named that a list would lose.
const SHOWN: usize = 3;

/// Who wants a load, and so which lists it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// Somebody who insists: every list as it is.
    Forced,
    /// Somebody who asked for it: every list that nobody is writing.
    Asked,
    /// Nobody: a file was changed, or the daemon starts. A list that looks emptied by accident is
    /// held.
    Unasked,
    /// Somebody who only looks: every list as it is now, with a warning about each that somebody is
    /// writing.
    Shown,
}

/// What a load that isn't the first of its process goes by.
#[derive(Debug)]
pub struct Again<'a> {
    /// The lists of the loads before.
    pub lists: &'a mut ListCache,
    /// The time of the clock that stamps files, read before the load.
    pub now: SystemTime,
    /// Who wants it.
    pub taking: Taking,
    /// Whether somebody has an open file open for writing. An error where that can't be told: then
    /// the file must show the same size and times for a second.
    pub is_open_for_writing: fn(&File) -> io::Result<bool>,
}

impl<'a> Again<'a> {
    /// A load that takes every file as it is.
    pub fn forced(lists: &'a mut ListCache, now: SystemTime) -> Self {
        Self { lists, now, taking: Taking::Forced, is_open_for_writing: |_| Ok(false) }
    }

    /// Whether a file is still being written.
    pub(crate) fn is_moving(&mut self, path: &Path, file: &File, stamp: &Stamp) -> bool {
        if self.taking == Taking::Forced {
            return false;
        }
        let is_open = (self.is_open_for_writing)(file);
        is_open.unwrap_or_else(|_| !self.lists.is_written(path, stamp))
    }

    /// Whether a file was written while it was read, which showed `stamp` before that.
    pub(crate) fn has_moved(&mut self, path: &Path, file: &File, stamp: &Stamp) -> bool {
        let is_same = |found: std::fs::Metadata| Stamp::of(&found) == *stamp;
        let moved = !file.metadata().is_ok_and(is_same) || self.is_moving(path, file, stamp);
        moved && self.taking != Taking::Forced
    }
}

/// A list whose content from before stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldList {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: HoldReason,
    /// The tiers that it is in.
    pub tiers: BTreeSet<String>,
    /// How many addresses and ranges its members come to that stay.
    pub members: usize,
    /// Some of the addresses that would be lost, where anybody may know them.
    some: Vec<String>,
    /// How many more ranges would be.
    more: usize,
}

/// Why a list is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
    /// Somebody has it open for writing, or holds a lease on it.
    BeingWritten,
    /// There is no such file.
    Missing,
    /// It has no bytes.
    NoBytes,
    /// It lost most of its members.
    Shrunk {
        /// How many.
        lost: usize,
        /// Of how many.
        of: usize,
    },
}

impl HeldList {
    fn new(path: &Path, tier: &str, why: HoldReason, last: &Sets) -> Self {
        Self {
            path: path.to_owned(),
            why,
            tiers: [tier.to_owned()].into(),
            members: last.v4.len() + last.v6.len(),
            some: Vec::new(),
            more: 0,
        }
    }

    /// The same, naming what of `last` isn't in `new`.
    fn losing(mut self, last: &Sets, new: &Sets) -> Self {
        let (v4, v6) = (last.v4.minus(&new.v4), last.v6.minus(&new.v6));
        let texts = v4.ranges().map(|range| range.to_string());
        let texts = texts.chain(v6.ranges().map(|range| range.to_string()));
        self.some = texts.take(SHOWN).collect();
        self.more = (v4.len() + v6.len()).saturating_sub(SHOWN);
        self
    }

    /// The same without a word of any file, for who needn't be able to read them.
    pub fn without_content(&self) -> Self {
        Self { some: Vec::new(), ..self.clone() }
    }

    /// Whether it may be taken later although nobody asks for it.
    pub fn is_tried_again(&self) -> bool {
        matches!(self.why, HoldReason::BeingWritten | HoldReason::Missing)
    }
}

/// One line: which list, what is the matter with it, what a reload would take away, and what to do.
impl fmt::Display for HeldList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display().to_string();
        // A path may hold anything.
        let path: String =
            path.chars().map(|c| if c.is_control() { '\u{b7}' } else { c }).collect();
        let tiers = Vec::from_iter(self.tiers.iter().map(String::as_str)).join(", ");
        write!(f, "the list {path} ({tiers}) ")?;
        let members = match self.members {
            1 => "its only member stays".to_owned(),
            members => format!("its {members} members stay"),
        };
        match self.why {
            HoldReason::BeingWritten => f.write_str(
                "is open for writing; what it held before stays until it is closed, or until \
                 `tierwall reload --force`",
            ),
            HoldReason::Missing => write!(f, "is missing; {members} until the file is back"),
            HoldReason::NoBytes => {
                write!(f, "is empty; {members} until `tierwall reload`")?;
                self.say_what_goes(f)?;
                f.write_str("; write `none` into a list that is meant to be empty")
            }
            HoldReason::Shrunk { lost, of } => {
                write!(f, "lost {lost} of its {of} members; they stay until `tierwall reload`")?;
                self.say_what_goes(f)
            }
        }
    }
}

impl HeldList {
    fn say_what_goes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.some.is_empty() {
            return Ok(());
        }
        write!(f, ", which would remove {}", self.some.join(", "))?;
        match self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// What a file says in the place of what its list held last.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content<'s> {
    /// It has no bytes.
    NoBytes,
    /// Members, or that there are none.
    Members(&'s Sets),
}

/// Why a list that held `last` isn't taken with what its file says now, if it isn't.
pub(crate) fn hold(last: &Sets, now: Content<'_>) -> Option<HoldReason> {
    let now = match now {
        Content::NoBytes => {
            let has_members = !last.v4.is_empty() || !last.v6.is_empty();
            return has_members.then_some(HoldReason::NoBytes);
        }
        Content::Members(now) => now,
    };
    // Nearly always, and known without looking at a member.
    if last.v4.digest() == now.v4.digest() && last.v6.digest() == now.v6.digest() {
        return None;
    }
    let (v4, v6) = (last.v4.minus(&now.v4), last.v6.minus(&now.v6));
    let lost_ranges = v4.len() + v6.len();
    // Neighbours are one range, so that lines tell more; but a line may also be there twice.
    let lost_lines = last.written.saturating_sub(now.written);
    let of = last.written.max(last.v4.len() + last.v6.len());
    let lost =
        lost_ranges.max(lost_lines).min(addresses(&v4).saturating_add(addresses(&v6))).min(of);
    (lost > FEW && lost > of - lost).then_some(HoldReason::Shrunk { lost, of })
}

/// How many addresses a set holds, as far as that can be said.
fn addresses<A: Address>(set: &AddressSet<A>) -> usize {
    let count = |n: usize, range: ruleset::AddressRange<A>| {
        let more = range.last.to_number() - range.first.to_number();
        n.saturating_add(usize::try_from(more).unwrap_or(usize::MAX)).saturating_add(1)
    };
    set.ranges().fold(0, count)
}

/// The tiers that allows name.
#[derive(Debug)]
pub(crate) struct UsedTiers<'d> {
    names: BTreeSet<&'d str>,
    /// Whether one names `"*"`, which stands for all.
    all: bool,
}

impl<'d> UsedTiers<'d> {
    pub(crate) fn of(documents: &'d [Document]) -> Self {
        let sides = |allow: &'d AllowText| [&allow.from, &allow.to];
        let allows = documents.iter().flat_map(|document| &document.allows);
        let lists = allows.flat_map(sides).flatten();
        let names: BTreeSet<&str> =
            lists.flat_map(|list| &list.items).map(|text| text.value.as_str()).collect();
        Self { all: names.contains("*"), names }
    }

    pub(crate) fn contains(&self, tier: &str) -> bool {
        self.all || self.names.contains(tier)
    }
}

/// The lists that a load holds.
#[derive(Debug, Default)]
pub(crate) struct HeldLists(BTreeMap<PathBuf, HeldList>);

impl HeldLists {
    /// Holds a list of a tier, so that it holds what it did `last`.
    pub(crate) fn hold(
        &mut self,
        (path, tier): (&Path, &str),
        why: HoldReason,
        last: &Sets,
        now: Option<&Sets>,
    ) {
        if let Some(held) = self.0.get_mut(path) {
            held.tiers.insert(tier.to_owned());
            return;
        }
        let held = HeldList::new(path, tier, why, last);
        let held = match now {
            Some(now) => held.losing(last, now),
            None => held,
        };
        self.0.insert(path.to_owned(), held);
    }

    pub(crate) fn contains(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// All of them, by their paths.
    pub(crate) fn into_lists(self) -> Vec<HeldList> {
        self.0.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::Parser;
    use proptest::prelude::*;

    fn sets(text: &str) -> Sets {
        let mut parser = Parser::default();
        parser.read(text.as_bytes(), |line| panic!("{}", line.error)).expect("text");
        parser.members().into()
    }

    /// So many lines, from a first one on, next to each other or not.
    fn lines(from: u32, count: u32, step: u32) -> Sets {
        let address = |n: u32| std::net::Ipv4Addr::from_bits(0x0a00_0000 + n * step).to_string();
        sets(&(from..from + count).map(address).collect::<Vec<_>>().join("\n"))
    }

    fn held(last: &Sets, now: &Sets) -> Option<(usize, usize)> {
        match hold(last, Content::Members(now))? {
            HoldReason::Shrunk { lost, of } => Some((lost, of)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_without_a_byte_is_held() {
        let one = sets("10.0.0.1");
        assert_eq!(hold(&one, Content::NoBytes), Some(HoldReason::NoBytes));
        assert_eq!(hold(&sets("# none yet"), Content::NoBytes), None);
        // It has bytes, and says that it is empty.
        assert_eq!(held(&one, &sets("# nobody\n")), None);
        assert_eq!(held(&one, &sets("none\n")), None);
    }

    #[test]
    fn most_of_its_members_and_more_than_five() {
        for step in [1, 7] {
            let list = |count| lines(0, count, step);
            assert_eq!(held(&list(2), &list(1)), None);
            assert_eq!(held(&list(5), &list(0)), None);
            assert_eq!(held(&list(6), &list(0)), Some((6, 6)));
            assert_eq!(held(&list(12), &list(6)), None, "no more than half");
            assert_eq!(held(&list(13), &list(6)), Some((7, 13)));
            assert_eq!(held(&list(100), &list(1)), Some((99, 100)));
            assert_eq!(held(&list(1), &list(100)), None);
        }
        // Others in their place.
        assert_eq!(held(&lines(0, 20, 7), &lines(1000, 20, 7)), Some((20, 20)));
        // One line, however many addresses.
        let net = "10.1.0.0/16\n192.0.2.1\n192.0.2.7\n2001:db8::/32\n";
        assert_eq!(held(&sets(net), &sets(&net.replace("10.1.0.0/16", ""))), None);
        // The same, written shorter; and lines that were there twice.
        assert_eq!(held(&lines(0, 256, 1), &sets("10.0.0.0/24")), None);
        let twice = format!("{}10.0.0.2\n", "10.0.0.1\n".repeat(50));
        assert_eq!(held(&sets(&twice), &sets("10.0.0.1")), None);
    }

    #[test]
    fn says_which_list_what_stays_and_what_to_do() {
        let (last, now) = (lines(0, 9, 7), lines(0, 2, 7));
        let told = |why, now| {
            let mut lists = HeldLists::default();
            for tier in ["web", "app"] {
                lists.hold((Path::new("/etc/a.list"), tier), why, &last, now);
            }
            lists.into_lists().iter().map(ToString::to_string).collect::<String>()
        };
        assert_eq!(
            told(HoldReason::Shrunk { lost: 7, of: 9 }, Some(&now)),
            "the list /etc/a.list (app, web) lost 7 of its 9 members; they stay until `tierwall \
             reload`, which would remove 10.0.0.14, 10.0.0.21, 10.0.0.28 and 4 more"
        );
        assert_eq!(
            told(HoldReason::Missing, None),
            "the list /etc/a.list (app, web) is missing; its 9 members stay until the file is back"
        );
        assert!(told(HoldReason::NoBytes, None).ends_with("a list that is meant to be empty"));
        assert!(told(HoldReason::BeingWritten, None).contains("reload --force"));
    }

    proptest! {
        #[test]
        fn taking_out_a_few_is_never_held(
            list in prop::collection::btree_set(0u32..400, 0..60),
            out in prop::collection::vec(0usize..60, 0..=FEW),
        ) {
            let text = |list: &BTreeSet<u32>| -> String {
                list.iter().map(|n| format!("10.0.{}.{}\n", n / 100, n % 100)).collect()
            };
            let mut fewer = list.clone();
            for index in out {
                if let Some(n) = list.iter().nth(index) {
                    fewer.remove(n);
                }
            }
            prop_assert_eq!(held(&sets(&text(&list)), &sets(&text(&fewer))), None);
        }
    }
}
