//! What can become of a packet in a base chain: along every jump, as far as rules decide.
//!
//! A rule that applies to all packets ends a chain where it accepts or drops; what stands behind it
//! isn't reached. A drop on a way without conditions, or the policy, denies by default; one behind a
//! condition denies some packets. Packets that tracking calls invalid count for nothing: tierwall
//! drops them too.

use netlink::survey::{Chain, Diversion, End, Matches, Table};
use ruleset::Policy;
use std::collections::BTreeMap;

/// A rule, by its chain and handle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) chain: String,
    pub(super) handle: u64,
}

/// What can become of a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// The policy drops what no rule decides.
    pub(super) policy: bool,
    /// A rule denies whatever comes to it.
    pub(super) always: Option<Place>,
    /// Rules that deny some packets.
    pub(super) some: Vec<Place>,
    /// A rule hands packets to a program.
    pub(super) queue: Option<Place>,
    /// What rules do to packets that no verdict tells, with the first rule of each kind.
    pub(super) diverts: BTreeMap<Diversion, Place>,
    /// Packets are dropped whose source isn't reached through the interface they came in by.
    pub(super) reverse_path: ReversePath,
}

/// Of which families the sources are checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ReversePath {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl Fate {
    /// Follows the rules of a base chain.
    pub(super) fn of(table: &Table, name: &str) -> Self {
        let mut walk = Walk { table, fate: Self::default(), walked: BTreeMap::new() };
        let ends = walk.chain(name, true);
        let base = table.chains.get(name).and_then(|chain| chain.base.as_ref());
        walk.fate.policy = !ends && base.is_some_and(|base| base.policy == Policy::Drop);
        walk.fate
    }

    pub(super) fn denies_by_default(&self) -> bool {
        self.policy || self.always.is_some()
    }
}

struct Walk<'t> {
    table: &'t Table,
    fate: Fate,
    /// Whether every packet ends in a chain, of the chains that were walked, by whether every packet
    /// came there.
    walked: BTreeMap<(&'t str, bool), bool>,
}

impl<'t> Walk<'t> {
    /// Walks a chain to which packets come, all or some. Whether none comes out of it again.
    fn chain(&mut self, name: &str, all: bool) -> bool {
        let Some((name, Chain { rules, .. })) = self.table.chains.get_key_value(name) else {
            return false;
        };
        if let Some(ends) = self.walked.get(&(name.as_str(), all)) {
            return *ends;
        }
        // The kernel refuses loops; what it says is walked only once all the same.
        self.walked.insert((name, all), false);
        let mut ends = false;
        for rule in rules {
            for end in rule.maps.iter().filter_map(|map| self.table.maps.get(map)).flatten() {
                self.end(end, Matches::Some, false, name, rule.handle);
            }
            if let Some(diversion) = rule.diverts {
                let place = || Place { chain: name.to_owned(), handle: rule.handle };
                self.fate.diverts.entry(diversion).or_insert_with(place);
            }
            let Some(end) = &rule.end else { continue };
            let every = rule.matches == Matches::All;
            let ended = self.end(end, rule.matches, all && every, name, rule.handle);
            if every && *end == End::Return {
                break;
            }
            if every && ended {
                ends = true;
                break;
            }
            // Whoever goes there comes back behind the jump that led here, not to this chain.
            if every && matches!(end, End::Goto(_)) {
                break;
            }
        }
        self.walked.insert((name, all), ends);
        ends
    }

    /// Notes an end. Whether packets end there.
    fn end(&mut self, end: &End, matches: Matches, all: bool, chain: &str, handle: u64) -> bool {
        let place = || Place { chain: chain.to_owned(), handle };
        match end {
            End::Accept => true,
            End::Return => false,
            End::Jump(to) | End::Goto(to) => self.chain(to, all),
            End::Queue => {
                self.fate.queue.get_or_insert_with(place);
                true
            }
            End::Drop | End::Reject => {
                match matches {
                    Matches::Invalid => {}
                    Matches::BadSource { v4, v6 } => {
                        self.fate.reverse_path.v4 |= v4;
                        self.fate.reverse_path.v6 |= v6;
                    }
                    Matches::All if all => drop(self.fate.always.get_or_insert_with(place)),
                    Matches::All | Matches::Some => {
                        let place = place();
                        if !self.fate.some.contains(&place) {
                            self.fate.some.push(place);
                        }
                    }
                }
                true
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use netlink::survey::{Map, Rule};
    use ruleset::{Base, Hook};

    pub(crate) fn rule(matches: Matches, end: End) -> Rule {
        Rule { handle: 0, matches, end: Some(end), maps: Vec::new(), diverts: None }
    }

    /// Chains by name; `in` is a base chain of the hook input, whose policy is accept. Handles count
    /// from 1 in each chain.
    pub(crate) fn table(chains: &[(&str, Vec<Rule>)]) -> Table {
        let mut table = Table::default();
        for (name, rules) in chains {
            let base = (*name == "in").then(|| Base::filter(Hook::Input, Policy::Accept));
            let numbered = (1..).zip(rules).map(|(handle, rule)| Rule { handle, ..rule.clone() });
            let chain = Chain { base, devices: Vec::new(), rules: numbered.collect() };
            table.chains.insert((*name).to_owned(), chain);
        }
        table
    }

    fn fate(chains: &[(&str, Vec<Rule>)]) -> Fate {
        Fate::of(&table(chains), "in")
    }

    fn place(chain: &str, handle: u64) -> Place {
        Place { chain: chain.into(), handle }
    }

    fn jump(chain: &str) -> End {
        End::Jump(chain.into())
    }

    fn goto(chain: &str) -> End {
        End::Goto(chain.into())
    }

    use End::{Accept, Drop, Queue, Reject, Return};
    use Matches::{All, BadSource, Invalid, Some as Few};

    #[test]
    fn nothing_denies_in_a_chain_that_only_accepts() {
        assert_eq!(fate(&[("in", vec![])]), Fate::default());
        assert_eq!(fate(&[("in", vec![rule(Few, Accept), rule(All, Accept)])]), Fate::default());
        assert_eq!(fate(&[("in", vec![rule(Invalid, Drop)])]), Fate::default());
        assert_eq!(Fate::of(&Table::default(), "in"), Fate::default());
    }

    #[test]
    fn a_policy_drops_unless_nothing_comes_to_it() {
        let dropping = |rules: Vec<Rule>| {
            let mut table = table(&[("in", rules)]);
            let base = table.chains.get_mut("in").and_then(|chain| chain.base.as_mut());
            base.expect("a base chain").policy = Policy::Drop;
            Fate::of(&table, "in")
        };
        assert!(dropping(vec![rule(Few, Accept)]).policy);
        assert!(dropping(vec![rule(All, Return)]).policy);
        assert!(!dropping(vec![rule(All, Accept)]).denies_by_default());
    }

    #[test]
    fn a_last_rule_denies_by_default_and_one_behind_an_accept_is_not_reached() {
        let closing = fate(&[("in", vec![rule(Few, Accept), rule(All, Reject)])]);
        assert_eq!(closing.always, Some(place("in", 2)));
        assert_eq!(fate(&[("in", vec![rule(All, Accept), rule(All, Drop)])]), Fate::default());
        assert_eq!(fate(&[("in", vec![rule(All, Return), rule(All, Drop)])]), Fate::default());
    }

    #[test]
    fn jumps_are_followed_and_keep_their_conditions() {
        let chains = |matches| {
            fate(&[
                ("in", vec![rule(matches, jump("a"))]),
                ("a", vec![rule(All, jump("b"))]),
                ("b", vec![rule(Few, Accept), rule(All, Drop)]),
            ])
        };
        assert_eq!(chains(All).always, Some(place("b", 2)));
        assert_eq!((chains(Few).always, chains(Few).some), (None, vec![place("b", 2)]));
        // Who is sent there comes back for what stands behind the jump, but not behind a goto.
        let behind = |end: End| {
            fate(&[("in", vec![rule(All, end), rule(All, Drop)]), ("a", vec![rule(Few, Accept)])])
        };
        assert_eq!(behind(jump("a")).always, Some(place("in", 2)));
        assert_eq!(behind(goto("a")).always, None);
        let ended = fate(&[
            ("in", vec![rule(All, jump("a")), rule(All, Drop)]),
            ("a", vec![rule(All, Accept)]),
        ]);
        assert_eq!(ended, Fate::default());
    }

    #[test]
    fn verdict_maps_deny_some_and_lead_on() {
        let map = Map { name: "__map0".into(), by_state: false };
        let looks =
            Rule { handle: 0, matches: All, end: None, maps: vec![map.clone()], diverts: None };
        let mut table = table(&[("in", vec![looks]), ("a", vec![rule(All, Drop)])]);
        table.maps.insert(map, [Accept, jump("a")].into());
        let fate = Fate::of(&table, "in");
        assert_eq!((fate.always, fate.some), (None, vec![place("a", 1)]));
    }

    #[test]
    fn reverse_paths_and_queues_are_told_apart() {
        let source = BadSource { v4: false, v6: true };
        let found = fate(&[("in", vec![rule(source, Drop), rule(Few, Queue)])]);
        assert_eq!(found.reverse_path, ReversePath { v4: false, v6: true });
        assert_eq!(found.queue, Some(place("in", 2)));
        assert!(found.some.is_empty() && !found.denies_by_default());
    }

    #[test]
    fn a_loop_ends() {
        let looped = fate(&[
            ("in", vec![rule(All, jump("a"))]),
            ("a", vec![rule(Few, Drop), rule(All, jump("a"))]),
        ]);
        assert_eq!(looped.some, [place("a", 1)]);
    }
}
