//! What the kernel holds, and what it tells of every change.

use netlink::{Connection, Events, KernelTable, Object, Transaction};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tierwall_tests::network::Host;

/// How long an edit may take to reach the kernel. It takes milliseconds.
const FOLLOWED: Duration = Duration::from_secs(20);

/// The table of a host.
pub(crate) fn dump(host: &Host) -> KernelTable {
    host.namespace.run(|| Connection::open().unwrap().dump().unwrap())
}

/// Packets counted by each named counter of a host's table.
pub(crate) fn packets(host: &Host) -> BTreeMap<String, u64> {
    let counters = host.namespace.run(|| Connection::open().unwrap().counters().unwrap());
    counters.into_iter().map(|(name, (packets, _))| (name, packets)).collect()
}

/// Hears of every transaction of a host.
pub(crate) struct Monitor {
    events: Events,
}

impl Monitor {
    pub(crate) fn open(host: &Host) -> Self {
        Self { events: host.namespace.run(|| Events::open().unwrap()) }
    }

    /// The next transaction; what it is waited for goes into the message if none comes.
    pub(crate) fn next(&mut self, what: &str) -> Transaction {
        let end = Instant::now() + FOLLOWED;
        loop {
            if let Some(transaction) = self.heard() {
                return transaction;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: nothing reached the kernel in {FOLLOWED:?}");
            let mut descriptors = [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
            poll(&mut descriptors, PollTimeout::try_from(left).unwrap()).unwrap();
        }
    }

    /// A transaction that was told already.
    pub(crate) fn heard(&mut self) -> Option<Transaction> {
        self.events.read().unwrap()
    }
}

/// The elements that a transaction changed, by set, the added and the deleted; none where it
/// changed anything else.
pub(crate) fn elements_only(transaction: &Transaction) -> Option<BTreeMap<String, Elements>> {
    let mut sets = BTreeMap::<String, Elements>::new();
    if transaction.more > 0 || transaction.partial {
        return None;
    }
    for change in &transaction.changes {
        let Object::Elements { set, count } = &change.object else { return None };
        if !change.ours {
            return None;
        }
        let sum = sets.entry(set.clone()).or_default();
        match change.verb {
            netlink::Verb::Add => sum.added += count,
            netlink::Verb::Delete => sum.deleted += count,
            _ => return None,
        }
    }
    Some(sets)
}

/// How many elements of a set were changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Elements {
    pub(crate) added: usize,
    pub(crate) deleted: usize,
}
