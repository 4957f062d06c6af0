//! Parsed list files, kept from one load to the next.
//!
//! A file is known by what its inode says: where one number of it moved, it is parsed again. Its
//! owner and mode are judged by every load all the same. Only lists without a bad line are kept,
//! so that a load tells the same with and without what is kept.
//!
//! Inodes are stamped by a clock that ticks every few milliseconds, on some file systems every two
//! seconds. A file that was changed right before it was read may be changed once more within that
//! tick, and show the same numbers: it isn't kept until a later load finds it at rest.

use crate::list::Members;
use ruleset::AddressSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The smallest file that is kept, in bytes. Smaller ones are parsed sooner than judged.
const SMALLEST: u64 = 64 << 10;

/// How long a file must have been at rest: over the longest tick.
const AT_REST: Duration = Duration::from_secs(3);

/// How long a file on a file system without leases must have shown the same numbers to count as
/// written.
const WRITTEN: Duration = Duration::from_secs(1);

/// The members of a list, or of a part of a tier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sets {
    #[serde(with = "ruleset::compact")]
    pub(crate) v4: AddressSet<Ipv4Addr>,
    #[serde(with = "ruleset::compact")]
    pub(crate) v6: AddressSet<Ipv6Addr>,
    /// How many members were written, before they were merged.
    pub(crate) written: usize,
}

impl From<Members> for Sets {
    fn from(members: Members) -> Self {
        let written = members.v4.len() + members.v6.len();
        Self { v4: AddressSet::new(members.v4), v6: AddressSet::new(members.v6), written }
    }
}

impl Sets {
    /// The members of all parts.
    pub(crate) fn union(parts: Vec<Self>) -> Self {
        let written = parts.iter().map(|part| part.written).sum();
        let (v4, v6) = parts.into_iter().map(|Self { v4, v6, written: _ }| (v4, v6)).unzip();
        Self { v4: AddressSet::union_of(v4), v6: AddressSet::union_of(v6), written }
    }
}

/// What changes with the content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// The same of the inode. Nobody can set it.
    changed: (i64, i64),
}

impl Stamp {
    /// Of an open file.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file is so large that keeping it pays.
    pub(crate) fn is_large(&self) -> bool {
        self.size >= SMALLEST
    }
}

/// What each list held when it was last taken, by its path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownLists(pub(crate) BTreeMap<PathBuf, Sets>);

/// The lists that the last load read. Owned by who loads a policy again and again.
#[derive(Debug, Default)]
pub struct ListCache {
    /// What the lists held when a load gave a policy.
    known: KnownLists,
    /// What those hold that the load under way has taken.
    taken: BTreeMap<PathBuf, Sets>,
    /// Since when files show the numbers that they do, of those that the last load asked for, and
    /// that the load under way has.
    seen: BTreeMap<PathBuf, (Stamp, SystemTime)>,
    seen_now: BTreeMap<PathBuf, (Stamp, SystemTime)>,
    now_is: Option<SystemTime>,
    /// By the path that the policy makes; those the load under way has used are moved on.
    before: BTreeMap<PathBuf, (Stamp, Sets)>,
    now: BTreeMap<PathBuf, (Stamp, Sets)>,
    /// Seconds and nanoseconds since the epoch: what changed later isn't at rest.
    at_rest_since: (i64, i64),
}

impl ListCache {
    /// One that knows what lists held in an earlier run.
    pub fn knowing(known: KnownLists) -> Self {
        Self { known, ..Self::default() }
    }

    /// Goes back to what was known before a load of which nothing is taken.
    pub fn know(&mut self, known: KnownLists) {
        self.known = known;
    }

    /// What each list held when it was last taken.
    pub fn known(&self) -> &KnownLists {
        &self.known
    }

    /// The same of one list.
    pub(crate) fn last(&self, path: &Path) -> Option<&Sets> {
        self.known.0.get(path)
    }

    /// The load takes this for what a list holds.
    pub(crate) fn take(&mut self, path: &Path, sets: &Sets) {
        self.taken.insert(path.to_owned(), sets.clone());
    }

    /// Whether a file has shown the same numbers for a second, where nothing better is known of its
    /// writers.
    pub(crate) fn is_written(&mut self, path: &Path, stamp: &Stamp) -> bool {
        let Some(now) = self.now_is else { return true };
        let changed = u64::try_from(stamp.changed.0).unwrap_or_default();
        let is_old = |since: SystemTime| now.duration_since(since).is_ok_and(|age| age >= WRITTEN);
        // By its own clock, which needn't be ours: a second more, since the rest is cut off.
        if is_old(UNIX_EPOCH + Duration::from_secs(changed.saturating_add(1))) {
            return true;
        }
        let seen = self.seen_now.get(path).or_else(|| self.seen.get(path));
        let since = seen.filter(|(seen, _)| seen == stamp).map_or(now, |(_, since)| *since);
        self.seen_now.insert(path.to_owned(), (*stamp, since));
        is_old(since)
    }

    /// A load begins that reads no file before `now`.
    pub(crate) fn begin(&mut self, now: SystemTime) {
        self.now_is = Some(now);
        self.taken.clear();
        let since = now.duration_since(UNIX_EPOCH + AT_REST).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        self.at_rest_since = (seconds, i64::from(since.subsec_nanos()));
    }

    /// The load has ended: what it didn't use is forgotten, unless it gave no policy.
    pub(crate) fn end(&mut self, gave_a_policy: bool) {
        self.seen = std::mem::take(&mut self.seen_now);
        let taken = std::mem::take(&mut self.taken);
        if gave_a_policy {
            self.known = KnownLists(taken);
        }
        self.before = std::mem::take(&mut self.now);
    }

    /// The members of a file, if it is still what it was.
    pub(crate) fn find(&mut self, path: &Path, stamp: &Stamp) -> Option<Sets> {
        if let Some((kept, sets)) = self.now.get(path) {
            return (kept == stamp).then(|| sets.clone());
        }
        let (path, (kept, sets)) = self.before.remove_entry(path)?;
        if kept != *stamp {
            return None;
        }
        self.now.insert(path, (kept, sets.clone()));
        Some(sets)
    }

    /// Keeps the members of a file that was read after it had that stamp.
    pub(crate) fn keep(&mut self, path: &Path, stamp: Stamp, sets: &Sets) {
        if stamp.is_large() && stamp.changed < self.at_rest_since {
            self.now.insert(path.to_owned(), (stamp, sets.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Again, Options, load_again};

    fn sets(text: &str) -> Sets {
        let mut parser = crate::list::Parser::default();
        parser.read(text.as_bytes(), |_| {}).expect("text");
        parser.members().into()
    }

    fn stamp(changed: i64) -> Stamp {
        let (device, inode, size) = (1, 2, SMALLEST);
        Stamp { device, inode, size, modified: (changed, 0), changed: (changed, 5) }
    }

    #[test]
    fn the_union_of_any_number_of_parts() {
        assert_eq!(Sets::union(Vec::new()), Sets::default());
        for count in 1..9 {
            let parts: Vec<Sets> =
                (0..count).map(|n| sets(&format!("10.0.{n}.0\n::{n}"))).collect();
            let text: Vec<String> = (0..count).map(|n| format!("10.0.{n}.0\n::{n}\n")).collect();
            assert_eq!(Sets::union(parts), sets(&text.concat()));
        }
    }

    #[test]
    fn a_list_at_rest_is_not_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let (policy, list) = (directory.path().join("t.toml"), directory.path().join("big.list"));
        let text = "[tiers]\nbig = { file = \"big.list\" }\n\
                    [[allow]]\nfrom = \"any\"\nto = \"big\"\nservice = \"any\"\n";
        std::fs::write(&policy, text).expect("a file");
        std::fs::write(&list, "10.0.0.1\n".repeat(8000)).expect("a file");
        let options = Options { check_permissions: false, ..Options::default() };
        let mut cache = ListCache::default();
        let members = |cache: &mut ListCache, now: SystemTime| {
            let loaded = load_again(&policy, &options, Again::forced(cache, now));
            loaded.policy.expect("a good policy").tiers["big"].v4.to_string()
        };
        let now = SystemTime::now();
        assert_eq!(members(&mut cache, now), "{ 10.0.0.1 }");
        assert!(cache.before.is_empty(), "it was changed just before");
        let later = now + 2 * AT_REST;
        assert_eq!(members(&mut cache, later), "{ 10.0.0.1 }");
        // Whoever finds this has not looked into the file.
        let (_, kept) = cache.before.get_mut(&list).expect("kept");
        *kept = sets("10.0.0.2");
        assert_eq!(members(&mut cache, later), "{ 10.0.0.2 }");
        assert_eq!(members(&mut cache, later), "{ 10.0.0.2 }");
        std::fs::write(&list, "10.0.0.3\n".repeat(8000)).expect("a file");
        assert_eq!(members(&mut cache, later), "{ 10.0.0.3 }");
    }

    #[test]
    fn keeps_what_the_last_load_used_and_is_at_rest() {
        let now = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let (path, other) = (Path::new("a.list"), Path::new("b.list"));
        let (list, mut cache) = (sets("10.0.0.1\n"), ListCache::default());
        cache.begin(now(1000));
        // Just changed, and changed by a clock that was ahead.
        for changed in [999, 2000] {
            cache.keep(path, stamp(changed), &list);
            assert_eq!(cache.find(path, &stamp(changed)), None);
        }
        cache.keep(path, Stamp { size: SMALLEST - 1, ..stamp(900) }, &list);
        assert_eq!(cache.find(path, &Stamp { size: SMALLEST - 1, ..stamp(900) }), None);
        cache.keep(path, stamp(900), &list);
        cache.keep(other, stamp(900), &list);
        assert_eq!(cache.find(path, &stamp(900)).as_ref(), Some(&list));
        cache.end(true);

        cache.begin(now(1010));
        // Twice in one load.
        assert_eq!(cache.find(path, &stamp(900)).as_ref(), Some(&list));
        assert_eq!(cache.find(path, &stamp(900)).as_ref(), Some(&list));
        cache.end(true);

        cache.begin(now(1020));
        assert_eq!(cache.find(other, &stamp(900)), None, "not used by the load before");
        assert_eq!(cache.find(path, &Stamp { inode: 3, ..stamp(900) }), None);
        assert_eq!(cache.find(path, &stamp(900)), None, "it is another file now");
    }
}
