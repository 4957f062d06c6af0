//! UDP flows that end with a change: those of users that no allow is for any more.
//!
//! Everything else that is established goes on under another policy. UDP that only some users may
//! send is asked for its user in each packet (`compile/asked.rs`).

use crate::compile::{ASKED, ASKED_PORTS};
use crate::user::UserNames;
use ruleset::{Elements, Field, Interval, Rule, Ruleset, Statement, Table, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Flows of a user to some ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndedFlows {
    /// Whose.
    pub user: u32,
    /// Where to: the first port and the last.
    pub ports: (u16, u16),
}

impl EndedFlows {
    /// That they end, with the user as a policy names it.
    pub fn words(&self, users: &UserNames) -> String {
        let Self { user, ports: (first, last) } = self;
        let user = users.words(*user);
        let ports = if last > first { format!("{first}-{last}") } else { first.to_string() };
        format!(
            "established flows of {user} to udp/{ports} end at once, since no allow is for that user any more"
        )
    }
}

/// The flows that end when `after` takes the place of `before`. Both are what was compiled, or read
/// from the kernel.
pub fn ended_flows(before: &Ruleset, after: &Ruleset) -> Vec<EndedFlows> {
    let (Some(before), Some(after)) = (&before.table, &after.table) else { return Vec::new() };
    let later = users(after);
    let still_asked = |ports: &Interval| {
        let asked = after.sets.get(ASKED_PORTS);
        asked.is_some_and(|asked| asked.elements.contains(ports.first))
    };
    let may_send = |user: u32, ports: &Interval| {
        later
            .iter()
            .filter(|(own, _)| own.first <= ports.first && ports.first <= own.last)
            .any(|(_, users)| users.as_ref().is_none_or(|users| users.contains(&user)))
    };
    let ended = users(before).into_iter().filter(|(ports, _)| still_asked(ports)).flat_map(
        |(ports, users)| {
            let gone = users.unwrap_or_default().into_iter();
            let gone = gone.filter(|user| !may_send(*user, &ports)).collect::<Vec<u32>>();
            let ports = (ports.first as u16, ports.last as u16);
            gone.into_iter().map(move |user| EndedFlows { user, ports })
        },
    );
    ended.collect()
}

/// Who may send to which ports, of those that are asked; none where everybody may.
fn users(table: &Table) -> BTreeMap<Interval, Option<BTreeSet<u32>>> {
    let map = table.sets.get(&format!("{ASKED}.output_udp")).map(|map| &map.elements);
    let Some(Elements::Verdicts(verdicts)) = map else { return BTreeMap::new() };
    let of_chain = |chain: &str| {
        let rules = rules(table, chain, 0);
        rules.into_iter().map(|rule| users_of(table, rule)).collect::<Option<Vec<_>>>()
    };
    verdicts
        .iter()
        .filter_map(|(ports, verdict)| {
            let users = of_chain(verdict.target()?);
            Some((*ports, users.map(|users| users.into_iter().flatten().collect())))
        })
        .collect()
}

/// The rules of a chain and of those that it jumps to, but for the jumps.
fn rules<'t>(table: &'t Table, chain: &str, depth: usize) -> Vec<&'t Rule> {
    // As deep as the kernel goes.
    let Some(chain) = table.chains.get(chain).filter(|_| depth < 16) else { return Vec::new() };
    let mut all = Vec::new();
    for rule in &chain.rules {
        let mut targets = rule.targets().peekable();
        match targets.peek() {
            Some(_) => all.extend(targets.flat_map(|target| rules(table, target, depth + 1))),
            // What is looked up by the peer is asked in turn as well, or leads to rules alike.
            None => match rule.statements.last() {
                Some(Statement::Dispatch { map, .. }) => {
                    let map = table.sets.get(map).map(|map| &map.elements);
                    let Some(Elements::Verdicts(verdicts)) = map else { continue };
                    let targets: BTreeSet<&str> =
                        verdicts.values().filter_map(ruleset::Verdict::target).collect();
                    all.extend(
                        targets.into_iter().flat_map(|target| rules(table, target, depth + 1)),
                    );
                }
                _ => all.push(rule),
            },
        }
    }
    all
}

/// The users that a rule is for; none where it is for everybody.
fn users_of(table: &Table, rule: &Rule) -> Option<BTreeSet<u32>> {
    rule.statements.iter().find_map(|statement| match statement {
        Statement::Match { field: Field::SkUid, value: Value::Number(user) } => {
            Some(BTreeSet::from([*user as u32]))
        }
        Statement::Lookup { field: Field::SkUid, set } => match &table.sets.get(set)?.elements {
            Elements::Keys(keys) => Some(keys.iter().map(|key| key.first as u32).collect()),
            _ => None,
        },
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::{EndedFlows, ended_flows};
    use crate::{Host, Options, Role, UserNames, compile, load_text};
    use ruleset::Ruleset;
    use std::collections::BTreeMap;
    use std::path::Path;

    fn table(allows: &[(&str, &str)]) -> Ruleset {
        let mut text =
            "role = \"app\"\n[tiers]\napp = [\"10.0.0.1\"]\ndb = [\"10.0.0.2\"]\n".to_owned();
        for (service, user) in allows {
            let user = if user.is_empty() { String::new() } else { format!("user = {user}\n") };
            text += &format!("[[allow]]\nfrom = \"app\"\nto = \"db\"\nservice = {service}\n{user}");
        }
        let loaded = load_text(Path::new("test.toml"), text.as_str(), &Options::default());
        let policy = loaded.policy.expect("it is good");
        let role = Role { tiers: ["app".to_owned()].into(), auto: false };
        compile(&policy, Host { role: &role, users: &BTreeMap::new(), previous: None })
    }

    fn ended(before: &[(&str, &str)], after: &[(&str, &str)]) -> Vec<String> {
        ended_flows(&table(before), &table(after)).iter().map(words).collect()
    }

    fn words(flows: &EndedFlows) -> String {
        flows.words(&UserNames::of(&BTreeMap::from([("backup".to_owned(), 33)])))
    }

    #[test]
    fn who_is_taken_out_is_named() {
        let flows = ended(&[("\"udp/514\"", "[0, 33]")], &[("\"udp/514\"", "[0]")]);
        assert_eq!(
            flows,
            [
                "established flows of user backup to udp/514 end at once, since no allow is for that user any more"
            ]
        );
        let other = ended(&[("\"udp/20-30\"", "33")], &[("\"udp/10-40\"", "0")]);
        assert!(other.len() == 1 && other[0].contains("udp/20-30"), "{other:?}");
    }

    #[test]
    fn what_goes_on_is_not() {
        let bound = [("\"udp/514\"", "[0, 33]")];
        assert_eq!(ended(&bound, &bound), [""; 0]);
        // By another allow, for everybody, or since nobody asks any more.
        assert_eq!(ended(&bound, &[("\"udp/514\"", "0"), ("\"udp/500-600\"", "33")]), [""; 0]);
        assert_eq!(ended(&bound, &[("\"udp/514\"", "0"), ("\"udp/514\"", "")]), [""; 0]);
        assert_eq!(ended(&bound, &[("\"udp/514\"", "")]), [""; 0]);
        assert_eq!(ended(&bound, &[("\"tcp/514\"", "0")]), [""; 0]);
        // TCP is asked once.
        assert_eq!(ended(&[("\"tcp/514\"", "[0, 33]")], &[("\"tcp/514\"", "0")]), [""; 0]);
    }
}
