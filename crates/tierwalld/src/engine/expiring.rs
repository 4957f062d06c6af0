//! Members by command that end soon while somebody is in by them: their session stays open, and
//! could not come again.

use super::Engine;
use crate::clock;
use crate::journal::kind;
use crate::members::{CommandMember, CommandMembers};
use control::{Ending, Enforcement};
use policy::guard::{Asker, Present, Session, judge};
use policy::{Addresses, Host, Member, Policy, compile};
use std::collections::{BTreeMap, BTreeSet};

/// How long before its end a member is told of, in seconds.
const BEFORE: u64 = 15 * 60;

impl Engine {
    /// Takes note of the members that end soon and of who is in by them, of these open sessions.
    pub(super) fn look_for_ends(&mut self, open: &BTreeMap<Session, u64>) {
        let found = self.ends(open, clock::now());
        for end in found.iter().filter(|end| !self.ending.contains(end)) {
            let Ending { tier, member, until, from, port } = end;
            tracing::warn!(target: kind::MEMBER_ENDS, tier, member, until, "a member ends soon: the session from {from} to port {port} could not reconnect then");
        }
        self.ending = found;
    }

    fn ends(&mut self, open: &BTreeMap<Session, u64>, now: u64) -> Vec<Ending> {
        let (soon, stay) = ending(&self.members, now);
        let is_by_one = |session: &Session| soon.iter().any(|own| holds(own, session));
        let open: BTreeSet<Session> = open.keys().filter(|one| is_by_one(one)).copied().collect();
        if open.is_empty() || self.enforcement == Enforcement::TornDown {
            return Vec::new();
        }
        let policy = Policy { mode: self.mode(), ..stay.added_to(&self.applied) };
        let Ok(before) = self.kernel.mirror() else { return Vec::new() };
        let (role, users) = (&self.server.role, &self.server.users);
        let after = compile(&policy, Host { role, users, previous: Some(before) });
        let (counting, removed) = (BTreeSet::new(), BTreeSet::new());
        let present = Present { open, counting, asker: Asker::Nobody, removed };
        let host = Host { role, users, previous: None };
        let verdict = judge(&present, before, &after, &policy, host);
        let ends = verdict.lost().iter().flat_map(|lost| {
            let by_it = soon.iter().filter(|own| holds(own, &lost.session));
            by_it.map(|own| Ending {
                tier: own.tier.clone(),
                member: own.member.clone(),
                until: own.until.unwrap_or_default(),
                from: lost.session.peer.ip(),
                port: lost.session.local.port(),
            })
        });
        // Several sessions from one address are one to be told of.
        ends.collect::<BTreeSet<Ending>>().into_iter().collect()
    }
}

/// The members that end soon, and the others.
fn ending(members: &CommandMembers, now: u64) -> (Vec<CommandMember>, CommandMembers) {
    let is_soon =
        |own: &&CommandMember| own.until.is_some_and(|until| until > now && until - now <= BEFORE);
    let (soon, stay): (Vec<&CommandMember>, Vec<&CommandMember>) =
        members.members.iter().partition(is_soon);
    let members = stay.into_iter().cloned().collect();
    (soon.into_iter().cloned().collect(), CommandMembers { members })
}

fn holds(own: &CommandMember, session: &Session) -> bool {
    let member = own.member.parse::<Member>();
    member.is_ok_and(|member| Addresses::from(member).contains(session.peer.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soon_is_within_a_quarter_of_an_hour_and_not_over_yet() {
        let member = |until: Option<u64>| CommandMember {
            tier: "admin".into(),
            member: "10.0.0.0/24".into(),
            added: 1,
            until,
            by: 0,
            reason: None,
        };
        let ends = [None, Some(100), Some(101), Some(100 + BEFORE), Some(101 + BEFORE)];
        let members = CommandMembers { members: ends.map(member).to_vec() };
        let (soon, stay) = ending(&members, 100);
        let until = |members: &[CommandMember]| -> Vec<_> {
            members.iter().map(|member| member.until).collect()
        };
        assert_eq!(until(&soon), [Some(101), Some(100 + BEFORE)]);
        assert_eq!(until(&stay.members), [None, Some(100), Some(101 + BEFORE)]);
        let session = |peer: &str| {
            let end = |text: &str| text.parse().expect("an address and a port");
            Session::new(end(peer), end("10.0.1.20:22"))
        };
        assert!(holds(&soon[0], &session("10.0.0.5:4000")));
        assert!(!holds(&soon[0], &session("10.0.1.5:4000")));
    }
}
