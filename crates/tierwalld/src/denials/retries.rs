//! Whether a packet begins a connection or only tries one again.
//!
//! A connection that gets no answer is tried again from the same port: TCP after 1, 3, 7, 15, 31
//! and 63 seconds, others as their programs like. What was seen within [`WINDOW`] is the same one.
//!
//! The memory is a table of fixed size in which what is newer takes the place of the oldest of
//! four. Where more than some ten thousand connections are tried within the window, a retry may
//! thus count as a connection of its own; never the other way round.

use std::hash::{BuildHasher, Hash, RandomState};

/// How long after a packet the next one still belongs to it, in seconds: more than the longest pause
/// of a TCP handshake, 32 seconds.
const WINDOW: u32 = 60;

/// Connections remembered, in sets of so many.
const SETS: usize = 1 << 14;
const WAYS: usize = 4;

/// Which connections were seen lately.
#[derive(Debug)]
pub(crate) struct Retries {
    hasher: RandomState,
    /// Made when it is first used: most servers that enforce a good policy deny little.
    sets: Vec<[Slot; WAYS]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Of the connection.
    hash: u64,
    /// In seconds, counted from 1; 0 for none.
    last: u32,
}

impl Retries {
    pub(crate) fn new() -> Self {
        Self { hasher: RandomState::new(), sets: Vec::new() }
    }

    /// Takes note of a packet of `connection`. Returns whether it begins it. `seconds` may be of any
    /// clock that goes forward.
    pub(crate) fn begins(&mut self, connection: impl Hash, seconds: u32) -> bool {
        if self.sets.is_empty() {
            self.sets = vec![Default::default(); SETS];
        }
        let now = seconds.saturating_add(1);
        let hash = self.hasher.hash_one(connection);
        let slots = &mut self.sets[hash as usize % SETS];
        if let Some(known) = slots.iter_mut().find(|slot| slot.last > 0 && slot.hash == hash) {
            let pause = now.saturating_sub(known.last);
            known.last = now;
            return pause > WINDOW;
        }
        if let Some(oldest) = slots.iter_mut().min_by_key(|slot| slot.last) {
            *oldest = Slot { hash, last: now };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_one_connection_however_often_it_is_tried() {
        let mut retries = Retries::new();
        for at in [0, 1, 3, 7, 15, 31, 63] {
            assert_eq!(retries.begins(("a", 40_000u16), 1000 + at), at == 0);
        }
        assert!(retries.begins(("a", 40_001u16), 1000), "another port is another connection");
        assert!(retries.begins(("a", 40_000u16), 1063 + WINDOW + 1), "much later it is, too");
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_known() {
        let mut retries = Retries::new();
        assert!((0..1_000_000u32).all(|number| retries.begins(number, 5)));
        assert_eq!(retries.sets.len() * WAYS, 65_536);
        let known = (999_000..1_000_000u32).filter(|number| !retries.begins(*number, 6)).count();
        assert!(known > 900, "{known}");
    }
}
