//! Denials in the log: a line for each connection, a few a second, then one for all the others.
//!
//! Every field is a number, an address or a word of ours, but for the interface's name, which is
//! quoted: nothing that a packet says can look like another line.

use super::flow::Flow;
use crate::journal::kind;
use control::AfterChange;
use nix::net::if_::if_indextoname;

/// Lines a second, and at once: of members of tiers, and of others.
const RATE: u64 = 5;
const BURST: u64 = 20;

/// How long lines are held back before they are summed up, in seconds.
const SUMMED_UP_AFTER: u32 = 60;

/// Lines that may be written.
#[derive(Debug, Clone, Copy)]
struct Tokens {
    left: u64,
    /// When some were given out last.
    given: u32,
}

/// What may be written.
#[derive(Debug)]
pub(crate) struct Journal {
    of_members: Tokens,
    of_others: Tokens,
    /// Connections without a line, since when.
    held_back: Option<(u64, u32)>,
    /// How many packets were told to be lost, and when.
    lost: u64,
    lost_told: Option<u32>,
    /// Whether there are more by now.
    holds_back_lost: bool,
}

impl Tokens {
    fn take(&mut self, seconds: u32) -> bool {
        let passed = u64::from(seconds.saturating_sub(self.given));
        self.given = seconds;
        self.left = (self.left + passed * RATE).min(BURST);
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or_default();
        left.is_some()
    }
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self {
            of_members: Tokens { left: BURST, given: 0 },
            of_others: Tokens { left: BURST, given: 0 },
            held_back: None,
            lost: 0,
            lost_told: None,
            holds_back_lost: false,
        }
    }

    /// Whether a line may be written about a new connection, of a member of a tier or to one; if not,
    /// it is counted. `seconds` is of a clock that goes forward only.
    pub(crate) fn may(&mut self, is_member: bool, seconds: u32) -> bool {
        let tokens = if is_member { &mut self.of_members } else { &mut self.of_others };
        let may = tokens.take(seconds);
        if !may {
            self.held_back.get_or_insert((0, seconds)).0 += 1;
        }
        may
    }

    /// Whether nothing is held back that the clock makes due.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.held_back.is_none() && !self.holds_back_lost
    }

    /// Sums up what was held back, when that is due.
    pub(crate) fn sum_up(&mut self, seconds: u32) {
        let due = |(_, since): &mut (u64, u32)| seconds.saturating_sub(*since) >= SUMMED_UP_AFTER;
        if let Some((connections, since)) = self.held_back.take_if(due) {
            let seconds = seconds - since;
            tracing::info!(target: kind::DENIED_MORE,
                connections,
                seconds,
                "more were denied, or would have been, than fit in the log: see `tierwall denied`"
            );
        }
    }

    /// Tells how many packets were `lost` since that was told last, once in a while.
    pub(crate) fn tell_lost(&mut self, seconds: u32, lost: u64) {
        let is_early =
            self.lost_told.is_some_and(|told| seconds.saturating_sub(told) < SUMMED_UP_AFTER);
        self.holds_back_lost = is_early && lost > self.lost;
        if is_early || lost <= self.lost {
            return;
        }
        let packets = lost - self.lost;
        (self.lost, self.lost_told) = (lost, Some(seconds));
        tracing::warn!(
            target: kind::DENIED_LOST,
            packets,
            "denied packets came too fast to be read; the counters have them"
        );
    }
}

/// Tells of a new connection.
pub(crate) fn write(flow: &Flow) {
    let Flow { mark, source, destination, service, user, interface } = flow;
    let (side, what) = (mark.hook.to_string(), mark.fate.words());
    let uid = user.map(tracing::field::display);
    let interface = name_of(*interface);
    tracing::info!(target: kind::DENIED, side, %source, %destination, %service, uid, interface, "{what}");
}

/// Tells of a change that denies clearly more than what held before it.
pub(super) fn warn(change: &AfterChange) {
    let AfterChange { generation, before, rates, newly_denied, newly_would_deny, most, .. } =
        change;
    let first = most.first();
    tracing::warn!(
        target: kind::DENIED_SINCE,
        generation,
        generation_before = before,
        denials_before = rates.before.per_minute(),
        denials_since = rates.after.per_minute(),
        newly_denied,
        newly_would_deny,
        service = first.map(|kind| kind.service.as_str()),
        from = first.map(|kind| kind.from.as_str()),
        to = first.map(|kind| kind.to.as_str()),
        "{}",
        change.advised("")
    );
}

/// The name of an interface, its number where it is gone.
pub(crate) fn name_of(interface: u32) -> String {
    let name = if_indextoname(interface).ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| format!("#{interface}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_a_few_lines_a_second() {
        let mut journal = Journal::new();
        let written = (0..100_000u32).filter(|index| journal.may(false, index / 10_000)).count();
        assert_eq!(written as u64, BURST + 9 * RATE);
        assert_eq!(journal.held_back, Some((100_000 - BURST - 9 * RATE, 0)));
        assert!(journal.may(true, 9), "a member has lines of its own");
        journal.sum_up(SUMMED_UP_AFTER - 1);
        assert!(journal.held_back.is_some() && !journal.is_at_rest());
        journal.sum_up(SUMMED_UP_AFTER);
        assert_eq!(journal.held_back, None);
    }

    #[test]
    fn losses_are_told_once_in_a_while_and_wholly() {
        let mut journal = Journal::new();
        journal.tell_lost(5, 0);
        assert_eq!(journal.lost_told, None);
        journal.tell_lost(6, 10);
        assert_eq!((journal.lost, journal.lost_told), (10, Some(6)));
        journal.tell_lost(7, 30);
        assert_eq!((journal.lost, journal.is_at_rest()), (10, false));
        journal.tell_lost(6 + SUMMED_UP_AFTER, 30);
        assert_eq!((journal.lost, journal.lost_told), (30, Some(6 + SUMMED_UP_AFTER)));
        assert!(journal.is_at_rest());
    }
}
