//! Denials beside what held before the last change: would that have let them through?
//!
//! The table that held is walked as the kernel walked it, so noise that was denied before is told
//! from what a change broke without any threshold. Only so many connections a second are compared:
//! a flood costs a fixed time.

use super::flow::{Denial, Flow};
use super::labels::in_words;
use crate::before::Before;
use crate::report;
use policy::Fate;
use policy::model::Tier;
use ruleset::evaluate::{Outcome, Packet};
use ruleset::{Hook, Table};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// Connections compared in a second.
const RATE: usize = 2000;

/// How long a table is kept that nothing is compared with, in seconds: one of a million members is
/// no small part of the daemon, and compiled again in a moment.
const KEPT: u32 = 300;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What a denied connection turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) flow: Flow,
    /// Whether a tier holds where it comes from, or a program of this server sent it.
    pub(super) is_known: bool,
    /// Whether what held before let it through.
    pub(super) was_let_through: bool,
    /// Whether it comes from an address that the change took out of every tier.
    pub(super) has_left: bool,
    /// Whether it comes from whom it says, as far as anybody asked: see [`super::attested`].
    pub(super) is_attested: bool,
    /// The tiers or addresses of both ends, where somebody may be told.
    pub(super) ends: Option<(String, String)>,
}

/// Compares.
#[derive(Debug, Default)]
pub(super) struct Comparer {
    /// What the table is of. Of what no longer is the last change nothing is kept.
    before: Weak<Before>,
    /// Compiled when there is something to compare.
    table: Option<Table>,
    /// When there was last.
    used: u32,
    /// The second, and how many were compared in it.
    second: (u32, usize),
}

type Tiers = BTreeMap<String, Tier>;

impl Comparer {
    /// How many of `wanted` may be compared. `seconds` is of a clock that goes forward only.
    pub(super) fn may(&mut self, wanted: usize, seconds: u32) -> usize {
        if self.second.0 != seconds {
            self.second = (seconds, 0);
        }
        let granted = wanted.min(RATE - self.second.1);
        self.second.1 += granted;
        granted
    }

    /// Compares new connections, with the tiers as they are now.
    pub(super) fn compare<'a>(
        &mut self,
        denials: impl Iterator<Item = &'a Denial>,
        before: Option<&Arc<Before>>,
        tiers: &Tiers,
        seconds: u32,
    ) -> Vec<Compared> {
        self.used = seconds;
        self.prepare(before);
        let earlier = before.map(|before| &before.policy.tiers);
        denials.map(|denial| self.one(denial, earlier, tiers)).collect()
    }

    /// Sees to it that the table is the right one, as it would be now.
    fn prepare(&mut self, before: Option<&Arc<Before>>) {
        let before_ptr = before.map_or(Weak::new().as_ptr(), Arc::as_ptr);
        if !std::ptr::eq(self.before.as_ptr(), before_ptr) {
            // First the old one: there is room for two then.
            self.rest();
            self.before = before.map(Arc::downgrade).unwrap_or_default();
            self.table = before.and_then(|before| before.table());
        }
        if let Some(table) = &mut self.table {
            table.expire(report::now());
        }
    }

    /// Lets go of a table that nothing was compared with for a while, or of what no longer is the
    /// last change. Returns whether there is none any more.
    pub(super) fn rest_after(&mut self, seconds: u32) -> bool {
        let is_old = seconds.saturating_sub(self.used) >= KEPT || self.before.strong_count() == 0;
        if is_old && self.table.is_some() {
            self.rest();
        }
        self.table.is_none()
    }

    fn rest(&mut self) {
        (self.before, self.table) = (Weak::new(), None);
    }

    fn one(&self, denial: &Denial, earlier: Option<&Tiers>, tiers: &Tiers) -> Compared {
        let Flow { mark, source, destination, user, .. } = denial.flow;
        let is_in = |tiers: &Tiers, address| tiers.values().any(|tier| tier.holds(address));
        let was_in = |address| earlier.is_some_and(|earlier| is_in(earlier, address));
        let is_member = is_in(tiers, source);
        let was_member = was_in(source);
        let is_known = match mark.hook {
            // What no program sent are answers of the kernel, to whoever knocks.
            Hook::Output => user.is_some() || is_in(tiers, destination) || was_in(destination),
            _ => is_member || was_member,
        };
        let was_let_through =
            self.table.as_ref().is_some_and(|table| lets_through(table, denial, is_known));
        let name = |address| name(address, earlier.into_iter().chain([tiers]));
        let ends = (was_let_through || is_known).then(|| (name(source), name(destination)));
        Compared {
            flow: denial.flow,
            is_known,
            was_let_through,
            has_left: mark.hook != Hook::Output && was_member && !is_member,
            is_attested: false,
            ends,
        }
    }
}

/// Whether the table lets the first packet of a connection through: by an allow or as built-in
/// traffic. What an observing side would have denied doesn't count; what an open one let through
/// does, where the sender is known.
fn lets_through(table: &Table, denial: &Denial, is_known: bool) -> bool {
    let evaluation = table.evaluate(&packet(denial));
    if evaluation.outcome != Outcome::Accept {
        return false;
    }
    let is_open = evaluation.rule.is_none() && evaluation.counters.is_empty();
    let is_denied_now = denial.flow.mark.fate == Fate::Denied;
    evaluation.rule.is_some() || (is_open && is_known && is_denied_now)
}

fn packet(denial: &Denial) -> Packet {
    let Denial { flow, port } = *denial;
    let Flow { mark, source, destination, service, user, interface } = flow;
    let is_icmp = matches!(service.protocol, ICMP | ICMPV6);
    Packet {
        interface,
        ports: service.detail.filter(|_| !is_icmp).map(|detail| (port, detail)),
        icmp_type: service.detail.filter(|_| is_icmp).and_then(|kind| kind.try_into().ok()),
        user,
        ..Packet::first(mark.hook, source, destination, service.protocol)
    }
}

/// The tiers that hold an address, by the first of `all` in which any do; else the address.
fn name<'a>(address: IpAddr, mut all: impl Iterator<Item = &'a Tiers>) -> String {
    all.find_map(|tiers| Some(in_words(tiers, address)).filter(|names| !names.is_empty()))
        .unwrap_or_else(|| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::flow::Service;
    use super::*;
    use crate::before::Part;
    use policy::{Mark, Options, Policy, Role, load_text};
    use std::path::Path;
    use std::time::Instant;

    const TIERS: &str =
        "role = \"db\"\n[tiers]\napp = [\"10.0.0.1\", \"10.0.0.2\"]\ndb = [\"10.0.0.9\"]\n";
    const ALLOW: &str = "[[allow]]\nfrom = \"app\"\nto = \"db\"\nservice = \"tcp/5432\"\n";

    fn policy(text: &str) -> Policy {
        load_text(Path::new("t.toml"), text, &Options::default()).policy.expect("a good policy")
    }

    fn before(text: &str) -> Arc<Before> {
        let role = Role { tiers: ["db".to_owned()].into(), auto: false };
        Arc::new(Before {
            change: 1,
            generation: 2,
            before: 1,
            reason: "reload".into(),
            time: 0,
            at: Instant::now(),
            policy: policy(text),
            part: Part { role, ..Part::default() },
            is_first_look: false,
        })
    }

    fn denial(hook: Hook, fate: Fate, source: &str, port: u16) -> Denial {
        let flow = Flow {
            mark: Mark { hook, fate },
            source: source.parse().expect("an address"),
            destination: "10.0.0.9".parse().expect("an address"),
            service: Service { protocol: 6, detail: Some(port) },
            user: None,
            interface: 2,
        };
        Denial { flow, port: 40_000 }
    }

    fn compare(before: &str, now: &str, denial: Denial) -> Compared {
        let (before, now) = (self::before(before), policy(now));
        let mut comparer = Comparer::default();
        let mut all = comparer.compare([&denial].into_iter(), Some(&before), &now.tiers, 0);
        all.pop().expect("one")
    }

    #[test]
    fn a_table_is_kept_while_it_is_of_use() {
        let with = format!("{TIERS}{ALLOW}");
        let (before, now) = (self::before(&with), policy(TIERS));
        let denial = denial(Hook::Input, Fate::Denied, "10.0.0.1", 5432);
        let mut comparer = Comparer::default();
        assert!(comparer.rest_after(7), "nothing to compare with yet");
        for seconds in [10, 10 + KEPT] {
            let all = comparer.compare([&denial].into_iter(), Some(&before), &now.tiers, seconds);
            assert!(all[0].was_let_through, "also when it is compiled again");
            assert!(!comparer.rest_after(seconds + KEPT - 1));
            assert!(comparer.rest_after(seconds + KEPT));
        }
        comparer.compare([&denial].into_iter(), Some(&before), &now.tiers, 1000);
        assert!(!comparer.rest_after(1000));
        drop(before);
        assert!(comparer.rest_after(1000), "another change came");
    }

    #[test]
    fn what_an_allow_let_through_is_told_from_noise() {
        let with = format!("{TIERS}{ALLOW}");
        let input = |source, port| denial(Hook::Input, Fate::Denied, source, port);
        let broken = compare(&with, TIERS, input("10.0.0.1", 5432));
        assert!(broken.was_let_through && broken.is_known && !broken.has_left);
        assert_eq!(broken.ends, Some(("app".into(), "db".into())));
        // Another port, a stranger.
        let other = compare(&with, TIERS, input("10.0.0.1", 22));
        assert!(!other.was_let_through && other.is_known);
        let stranger = compare(&with, TIERS, input("198.51.100.7", 5432));
        assert!(!stranger.was_let_through && !stranger.is_known && stranger.ends.is_none());
    }

    #[test]
    fn who_was_taken_out_of_a_tier_is_known_by_it() {
        let with = format!("{TIERS}{ALLOW}");
        let without = with.replace("\"10.0.0.1\", ", "");
        let left = compare(&with, &without, denial(Hook::Input, Fate::Denied, "10.0.0.1", 5432));
        assert!(left.was_let_through && left.is_known && left.has_left);
        assert_eq!(left.ends, Some(("app".into(), "db".into())));
    }

    #[test]
    fn what_an_observing_side_would_have_denied_was_not_let_through() {
        let observing = format!("mode = \"observe\"\n{TIERS}{ALLOW}");
        let enforcing = format!("{TIERS}{ALLOW}");
        let input = |source, port| denial(Hook::Input, Fate::Denied, source, port);
        assert!(!compare(&observing, &enforcing, input("10.0.0.1", 22)).was_let_through);
        assert!(compare(&observing, TIERS, input("10.0.0.1", 5432)).was_let_through);
        // A side that was off let everything through; of strangers that says nothing.
        let off = format!("mode = \"off\"\n{TIERS}{ALLOW}");
        assert!(compare(&off, &enforcing, input("10.0.0.1", 22)).was_let_through);
        assert!(!compare(&off, &enforcing, input("198.51.100.7", 22)).was_let_through);
        let observed = denial(Hook::Input, Fate::WouldDeny, "10.0.0.1", 22);
        assert!(!compare(&off, &observing, observed).was_let_through);
    }

    #[test]
    fn so_many_a_second_and_no_more() {
        let mut comparer = Comparer::default();
        assert_eq!(comparer.may(1500, 7), 1500);
        assert_eq!(comparer.may(1500, 7), RATE - 1500);
        assert_eq!(comparer.may(1, 7), 0);
        assert_eq!(comparer.may(1, 8), 1);
    }
}
