//! Denials beside what held before the last change: would that have let them through?
//!
//! The table that held is walked as the kernel walked it, so noise that was denied before is told
//! from what a change broke without any threshold. Only so many connections a second are compared:
//! a flood costs a fixed time.

use super::flow::{Denial, Flow};
use super::labels::in_words;
use crate::before::Before;
use crate::clock;
use policy::Fate;
use policy::model::Tier;
use ruleset::evaluate::{Outcome, Packet};
use ruleset::{Hook, Table};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// Connections compared in a second: of known senders, and of others.
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
    /// The second, and how many of known senders and of others were compared in it.
    second: (u32, [usize; 2]),
}

type Tiers = BTreeMap<String, Tier>;

impl Comparer {
    /// Compares new connections, with the tiers as they are now, and counts those that were too many
    /// for that. `is_own` tells this server's own addresses, and is seldom asked; `seconds` is of a
    /// clock that goes forward only.
    pub(super) fn compare(
        &mut self,
        denials: Vec<&Denial>,
        before: Option<&Arc<Before>>,
        tiers: &Tiers,
        is_own: impl Fn(IpAddr) -> bool,
        seconds: u32,
    ) -> (Vec<Compared>, u64) {
        self.used = seconds;
        self.prepare(before);
        let ends = Ends { now: tiers, earlier: before.map(|before| &before.policy.tiers) };
        let (mut compared, mut too_many) = (Vec::new(), 0);
        for denial in denials {
            let is_known = ends.knows(&denial.flow);
            match self.may(is_known, seconds) {
                true => compared.push(self.one(denial, is_known, ends, &is_own)),
                false => too_many += 1,
            }
        }
        (compared, too_many)
    }

    /// Whether one more may be compared.
    fn may(&mut self, is_known: bool, seconds: u32) -> bool {
        if self.second.0 != seconds {
            self.second = (seconds, [0; 2]);
        }
        let compared = &mut self.second.1[usize::from(is_known)];
        let may = *compared < RATE;
        *compared += usize::from(may);
        may
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
            table.expire(clock::now());
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

    fn one(
        &self,
        denial: &Denial,
        is_known: bool,
        ends: Ends<'_>,
        is_own: impl Fn(IpAddr) -> bool,
    ) -> Compared {
        let Flow { mark, source, destination, .. } = denial.flow;
        let was_let_through =
            self.table.as_ref().is_some_and(|table| lets_through(table, denial, is_known, is_own));
        let names =
            (was_let_through || is_known).then(|| (ends.name(source), ends.name(destination)));
        Compared {
            flow: denial.flow,
            is_known,
            was_let_through,
            has_left: mark.hook != Hook::Output && ends.had(source) && !ends.has(source),
            is_attested: false,
            ends: names,
        }
    }
}

/// Who is who.
#[derive(Clone, Copy)]
struct Ends<'a> {
    now: &'a Tiers,
    /// Before the change.
    earlier: Option<&'a Tiers>,
}

impl Ends<'_> {
    /// Whether a tier holds the sender or did, or a program of this server sent it.
    fn knows(self, flow: &Flow) -> bool {
        let is_or_was = |address| self.has(address) || self.had(address);
        match flow.mark.hook {
            // What no program sent are answers of the kernel, to whoever knocks.
            Hook::Output => flow.user.is_some() || is_or_was(flow.destination),
            _ => is_or_was(flow.source),
        }
    }

    fn has(self, address: IpAddr) -> bool {
        self.now.values().any(|tier| tier.holds(address))
    }

    fn had(self, address: IpAddr) -> bool {
        self.earlier.is_some_and(|tiers| tiers.values().any(|tier| tier.holds(address)))
    }

    /// The tiers that hold an address, or did before the change; else the address.
    fn name(self, address: IpAddr) -> String {
        let mut all = self.earlier.into_iter().chain([self.now]);
        all.find_map(|tiers| Some(in_words(tiers, address)).filter(|names| !names.is_empty()))
            .unwrap_or_else(|| address.to_string())
    }
}

/// Whether the table lets the first packet of a connection through: by an allow or as built-in
/// traffic. What an observing side would have denied doesn't count; what an open one let through
/// does, where the sender is known. A packet from outside with a source of `is_own` may be one that a
/// table has always dropped.
fn lets_through(
    table: &Table,
    denial: &Denial,
    is_known: bool,
    is_own: impl Fn(IpAddr) -> bool,
) -> bool {
    let mut packet = packet(denial);
    let mut evaluation = table.evaluate(&packet);
    let is_accepted = evaluation.outcome == Outcome::Accept;
    if is_accepted && packet.hook == Hook::Input && is_own(packet.source) {
        packet.is_from_own = true;
        evaluation = table.evaluate(&packet);
    }
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
        let is_own = |address: IpAddr| address == IpAddr::from(OWN);
        let (mut all, _) = comparer.compare(vec![&denial], Some(&before), &now.tiers, is_own, 0);
        all.pop().expect("one")
    }

    /// This server's, in its own tier.
    const OWN: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);

    /// A neighbour that says it were this server was dropped by every table.
    #[test]
    fn who_takes_the_servers_own_address_was_not_let_through() {
        let with = format!(
            "{}{}",
            TIERS.replace("\"10.0.0.9\"", "\"10.0.0.9\", \"fd00::9\", \"fd00::8\""),
            ALLOW.replace("\"app\"", "\"db\"")
        );
        let without = with.replace("tcp/5432", "tcp/1");
        let from = |source: &str| {
            let mut denial = denial(Hook::Input, Fate::Denied, source, 5432);
            denial.flow.destination = OWN.into();
            compare(&with, &without, denial)
        };
        assert!(from("fd00::8").was_let_through, "another one of the tier was");
        let forged = from("fd00::9");
        assert!(!forged.was_let_through && forged.is_known, "{forged:?}");
    }

    #[test]
    fn a_table_is_kept_while_it_is_of_use() {
        let with = format!("{TIERS}{ALLOW}");
        let (before, now) = (self::before(&with), policy(TIERS));
        let denial = denial(Hook::Input, Fate::Denied, "10.0.0.1", 5432);
        let mut comparer = Comparer::default();
        assert!(comparer.rest_after(7), "nothing to compare with yet");
        for seconds in [10, 10 + KEPT] {
            let (all, _) =
                comparer.compare(vec![&denial], Some(&before), &now.tiers, |_| false, seconds);
            assert!(all[0].was_let_through, "also when it is compiled again");
            assert!(!comparer.rest_after(seconds + KEPT - 1));
            assert!(comparer.rest_after(seconds + KEPT));
        }
        comparer.compare(vec![&denial], Some(&before), &now.tiers, |_| false, 1000);
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
    fn strangers_leave_as_many_for_known_senders() {
        let (with, mut comparer) = (format!("{TIERS}{ALLOW}"), Comparer::default());
        let (before, now) = (self::before(&with), policy(TIERS));
        let stranger = denial(Hook::Input, Fate::Denied, "198.51.100.7", 5432);
        let member = denial(Hook::Input, Fate::Denied, "10.0.0.1", 5432);
        let mut compare = |denials, seconds| {
            let (all, too_many) =
                comparer.compare(denials, Some(&before), &now.tiers, |_| false, seconds);
            (all.len(), all.iter().filter(|one| one.is_known).count(), too_many)
        };
        let all: Vec<&Denial> = std::iter::repeat_n(&stranger, RATE + 9).chain([&member]).collect();
        assert_eq!(compare(all, 7), (RATE + 1, 1, 9));
        assert_eq!(compare(vec![&stranger, &member], 7), (1, 1, 1));
        assert_eq!(compare(vec![&stranger], 8), (1, 0, 0));
    }
}
