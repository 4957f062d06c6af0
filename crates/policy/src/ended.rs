//! What becomes of UDP flows of some users with a change.
//!
//! Everything established goes on under another policy. UDP that only some users may send is asked
//! for its user in each packet (`compile/asked.rs`), to the ports of which an allow names users: there
//! a flow ends with the last allow for it. To other ports nobody asks, so flows go on, also those that
//! began by an allow with users.

use crate::addresses::Addresses;
use crate::compile::ASKED_PORTS;
use crate::model::Service;
use crate::reach::{Direction, Opening, Reach, Scope};
use crate::service_set::Point;
use crate::user::UserNames;
use ruleset::{Elements, Ruleset, Transport};
use std::collections::{BTreeMap, BTreeSet};

/// How many addresses and ranges are named.
const SHOWN: usize = 4;

/// Established flows of a user whom no allow lets send them any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFlows {
    /// Whose.
    pub user: u32,
    /// Where to.
    pub service: Service,
    /// To whom, if the user may still send there to others.
    pub peers: Option<Addresses>,
    /// Whether they end at once; otherwise they go on.
    pub end: bool,
}

impl UserFlows {
    /// What becomes of them, with the user as a policy names it.
    pub fn words(&self, users: &UserNames) -> String {
        let Self { user, service, peers, end } = self;
        let services = service.names();
        let mut flows =
            format!("established flows of {} to {}", users.words(*user), services.join(", "));
        if let Some(peers) = peers {
            let shown: Vec<String> = peers.ranges().take(SHOWN).collect();
            let more = if peers.ranges().nth(SHOWN).is_some() { ", …" } else { "" };
            flows += &format!(" of {}{more}", shown.join(", "));
        }
        if *end {
            return flows + " end at once, since no allow lets that user send there any more";
        }
        flows += " go on while packets pass, since no allow there names a user any more";
        if let [one] = services.as_slice()
            && let Some(port) = one.strip_prefix("udp/").filter(|port| !port.contains('-'))
        {
            flows += &format!("; `conntrack -D -p udp --dport {port}` ends them");
        }
        flows
    }
}

/// The flows that lose their last allow when `after` takes the place of `before`. Both are what was
/// compiled, or read from the kernel.
pub fn ended_flows(before: &Ruleset, after: &Ruleset) -> Vec<UserFlows> {
    let asked = asked(after);
    let (before, after) = (Reach::of(before), Reach::of(after));
    if after.open.contains(&Direction::Output) {
        return Vec::new();
    }
    let later: Vec<&Opening> = outgoing(&after).collect();
    let mut flows: Vec<UserFlows> = Vec::new();
    for opening in outgoing(&before) {
        let Scope::Users(users) = &opening.scope else { continue };
        let bound = opening.service.meet(&all_udp());
        let cuts = later.iter().map(|later| &later.service).chain([&asked]);
        for (service, point) in bound.pieces(cuts) {
            for user in users {
                let end = asked.holds(point);
                let Some(peers) = lost(opening, *user, point, (&before, &after), &later) else {
                    continue;
                };
                let is_same =
                    |one: &&mut UserFlows| (one.user, one.end, &one.peers) == (*user, end, &peers);
                match flows.iter_mut().find(is_same) {
                    Some(one) => one.service = one.service.union(&service),
                    None => {
                        let service = service.clone();
                        flows.push(UserFlows { user: *user, service, peers, end });
                    }
                }
            }
        }
    }
    flows
}

/// The peers of an opening to whom a user may send to a port no longer; all of them are none in
/// particular. None if there is no such peer.
fn lost(
    opening: &Opening,
    user: u32,
    port: Point,
    (before, after): (&Reach, &Reach),
    later: &[&Opening],
) -> Option<Option<Addresses>> {
    let peers = before.addresses(&opening.peer);
    let mut rest = peers.clone();
    for one in later.iter().filter(|one| lets(one, user, port)) {
        // Of a set that wasn't read nobody knows the members.
        if one.peer == opening.peer && before.addresses(&one.peer) == after.addresses(&one.peer) {
            return None;
        }
        rest = rest.minus(&after.addresses(&one.peer));
    }
    match rest.is_empty() {
        true => None,
        false => Some((rest != peers).then_some(rest)),
    }
}

fn outgoing(reach: &Reach) -> impl Iterator<Item = &Opening> {
    reach.openings.iter().filter(|opening| opening.direction == Direction::Output)
}

/// Whether an opening lets this user send to this port.
fn lets(opening: &Opening, user: u32, port: Point) -> bool {
    let is_for = match &opening.scope {
        Scope::Users(users) => users.contains(&user),
        Scope::Server | Scope::Tiers(_) => true,
    };
    is_for && opening.service.holds(port)
}

fn all_udp() -> Service {
    Service { protocols: BTreeSet::from([Transport::Udp.protocol()]), ..Service::default() }
}

/// The ports of which a table asks who sends there.
fn asked(table: &Ruleset) -> Service {
    let set = table.table.as_ref().and_then(|table| table.sets.get(ASKED_PORTS));
    let Some(Elements::Keys(keys)) = set.map(|set| &set.elements) else {
        return Service::default();
    };
    let port = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
    let ranges = keys.iter().map(|ports| port(ports.first).max(1)..=port(ports.last));
    Service { ports: BTreeMap::from([(Transport::Udp, ranges.collect())]), ..Service::default() }
}

#[cfg(test)]
mod tests {
    use super::{UserFlows, ended_flows};
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
        compiled(&text)
    }

    fn compiled(text: &str) -> Ruleset {
        let loaded = load_text(Path::new("test.toml"), text, &Options::default());
        let policy = loaded.policy.expect("it is good");
        let role = Role { tiers: ["app".to_owned()].into(), auto: false };
        compile(&policy, Host { role: &role, users: &BTreeMap::new(), previous: None })
    }

    fn ended(before: &[(&str, &str)], after: &[(&str, &str)]) -> Vec<String> {
        ended_flows(&table(before), &table(after)).iter().map(words).collect()
    }

    fn words(flows: &UserFlows) -> String {
        flows.words(&UserNames::of(&BTreeMap::from([("backup".to_owned(), 33)])))
    }

    #[test]
    fn who_is_taken_out_is_named() {
        let flows = ended(&[("\"udp/514\"", "[0, 33]")], &[("\"udp/514\"", "[0]")]);
        assert_eq!(
            flows,
            [
                "established flows of user backup to udp/514 end at once, since no allow lets that user send there any more"
            ]
        );
        let other = ended(&[("\"udp/20-30\"", "33")], &[("\"udp/10-40\"", "0")]);
        assert!(other.len() == 1 && other[0].contains("udp/20-30"), "{other:?}");
        let all = ended(&[("\"any\"", "33")], &[("\"any\"", "0")]);
        assert!(all.len() == 1 && all[0].contains("end at once"), "{all:?}");
    }

    /// Where no allow names users any more, nobody asks whose flow it is.
    #[test]
    fn what_is_not_asked_any_more_goes_on_and_is_told_as_that() {
        let bound = [("\"udp/514\"", "33")];
        for after in [&[][..], &[("\"tcp/514\"", "0")], &[("\"udp/515\"", "0")]] {
            assert_eq!(
                ended(&bound, after),
                [
                    "established flows of user backup to udp/514 go on while packets pass, since no allow there names a user any more; `conntrack -D -p udp --dport 514` ends them"
                ]
            );
        }
        // Of a range only a part is still asked.
        let part = ended(&[("\"udp/20-30\"", "33")], &[("\"udp/25-40\"", "0")]);
        assert_eq!(part.len(), 2, "{part:?}");
        assert!(
            part[0].contains("udp/20-24 go on") && part[1].contains("udp/25-30 end"),
            "{part:?}"
        );
    }

    #[test]
    fn what_some_peers_lose_names_them() {
        let to = |members: &str| {
            let allow =
                "[[allow]]\nfrom = \"app\"\nto = \"db\"\nservice = \"udp/514\"\nuser = 33\n";
            compiled(&format!(
                "role = \"app\"\n[tiers]\napp = [\"10.0.0.1\"]\ndb = [{members}]\n{allow}"
            ))
        };
        let flows = ended_flows(&to("\"10.0.0.2\", \"10.0.0.3\""), &to("\"10.0.0.3\""));
        let told: Vec<String> = flows.iter().map(words).collect();
        assert!(
            told.len() == 1 && told[0].contains("to udp/514 of 10.0.0.2 end at once"),
            "{told:?}"
        );
    }

    #[test]
    fn what_goes_on_by_an_allow_is_not() {
        let bound = [("\"udp/514\"", "[0, 33]")];
        assert_eq!(ended(&bound, &bound), [""; 0]);
        // By another allow, or for everybody, however that is written.
        assert_eq!(ended(&bound, &[("\"udp/514\"", "0"), ("\"udp/500-600\"", "33")]), [""; 0]);
        for service in ["\"udp/514\"", "\"udp\"", "\"any\""] {
            assert_eq!(ended(&bound, &[("\"udp/514\"", "0"), (service, "")]), [""; 0]);
            assert_eq!(ended(&bound, &[(service, "")]), [""; 0]);
        }
        // TCP is asked once.
        assert_eq!(ended(&[("\"tcp/514\"", "[0, 33]")], &[("\"tcp/514\"", "0")]), [""; 0]);
    }
}
