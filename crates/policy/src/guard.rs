//! The lockout guard's decision: may a change be made, given who is in?
//!
//! Connections that are open survive every change, so a lockout shows only when somebody comes
//! again. That is what is asked here, before the change: would each open session on a guarded
//! service get in as a new connection? One that the table in the kernel wouldn't let in either is
//! no reason to refuse: it was locked out before, by force.
//!
//! A session that nobody has logged in by is a bare connection, which anybody can open who is to be
//! shut out. So not every session has a say.

use crate::compile::Labels;
use crate::explain::{Party, Question};
use crate::judge::{By, Judge};
use crate::missing::{ClosedEnd, missing};
use crate::model::{Policy, Service};
use crate::reach::Direction;
use crate::service_set::Point;
use crate::{Addresses, Host};
use ruleset::evaluate::{Outcome, Packet};
use ruleset::{Hook, Ruleset, Transport};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A connection that somebody else opened to a service of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Session {
    /// Their end.
    pub peer: SocketAddr,
    /// This server's end.
    pub local: SocketAddr,
}

impl Session {
    /// Between these ends: IPv4 addresses of IPv6 sockets are taken for what they are.
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Self { peer: canonical(peer), local: canonical(local) }
    }

    /// The first packet of the same once more.
    fn packet(&self) -> Packet {
        Packet::opening(Hook::Input, Transport::Tcp, self.peer, self.local)
    }
}

/// Who asks for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// Nobody: files, clocks, addresses.
    Nobody,
    /// Somebody at the console, who needs no session.
    Local,
    /// Somebody who is in by one of these sessions.
    In(BTreeSet<Session>),
    /// Somebody: by any session, for all that is known.
    Unknown,
}

impl Asker {
    /// Whoever is logged in from `address`, or at the console where that is none, while these
    /// sessions are open. They may have come in on a port that nobody guards.
    pub fn logged_in(address: Option<IpAddr>, open: &BTreeSet<Session>) -> Self {
        let Some(address) = address else { return Self::Local };
        let own = open.iter().filter(|session| session.peer.ip() == address);
        let own: BTreeSet<Session> = own.copied().collect();
        if own.is_empty() { Self::Unknown } else { Self::In(own) }
    }
}

/// Who is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The sessions on guarded services.
    pub open: BTreeSet<Session>,
    /// Those of them that have a say where nobody in particular asks: somebody is known to have
    /// logged in by them, or they are too old for anything else.
    pub counting: BTreeSet<Session>,
    /// Who asks.
    pub asker: Asker,
    /// The addresses that the step takes out of a tier in a way that is never refused.
    pub removed: BTreeSet<IpAddr>,
}

/// A session that couldn't come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Which one.
    pub session: Session,
    /// What lets it in so far, in words.
    by: String,
    /// The allow that would, as a text.
    missing: Option<String>,
}

/// What the guard says of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be made. These sessions couldn't come again.
    Apply(Vec<Lost>),
    /// It mustn't, because of these: at least one.
    Refuse(Vec<Lost>),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session: Session { peer, local }, by, .. } = self;
        let port = local.port();
        write!(f, "the session from {} to port {port} could not reconnect: {by}", peer.ip())
    }
}

impl Verdict {
    /// The sessions that couldn't come again, whatever the verdict.
    pub fn lost(&self) -> &[Lost] {
        match self {
            Self::Apply(lost) | Self::Refuse(lost) => lost,
        }
    }

    /// Why the change is refused, if it is: a sentence, and how to go on.
    pub fn refusal(&self) -> Option<String> {
        let Self::Refuse(lost) = self else { return None };
        let first = lost.first()?;
        let mut text = first.to_string();
        text += &match lost.len() - 1 {
            0 => String::new(),
            1 => "; nor could one more session".to_owned(),
            more => format!("; nor could {more} more sessions"),
        };
        text += "\n  hint: ";
        if let Some(allow) = &first.missing {
            text += "this would let it in:\n\n";
            for line in allow.lines() {
                text += &format!("    {line}\n");
            }
            text += "\n  ";
        }
        text += "`--force` insists, and `[guard] services` says what is guarded";
        Some(text)
    }

    /// The sessions that a change which may be made shuts out, a line for each address and port; of
    /// many, the first ones.
    pub fn warnings(&self) -> Vec<String> {
        const SHOWN: usize = 10;
        let Self::Apply(lost) = self else { return Vec::new() };
        let lines: BTreeSet<String> = lost.iter().map(ToString::to_string).collect();
        let more = lines.len().saturating_sub(SHOWN);
        let more = (more > 0).then(|| format!("nor could those of {more} more addresses"));
        lines.into_iter().take(SHOWN).chain(more).collect()
    }
}

impl Present {
    /// The sessions that a step is made by, or that it has to leave a way back for.
    pub fn with_say(&self) -> BTreeSet<Session> {
        match &self.asker {
            Asker::In(own) => self.counting.union(own).copied().collect(),
            Asker::Nobody | Asker::Local => self.counting.clone(),
            Asker::Unknown => self.open.clone(),
        }
    }
}

/// What becomes of a session by a step.
enum Fate {
    Kept,
    /// It was shut out before.
    Out,
    Lost(Lost),
}

/// The guard's verdict on the step from the table `before` to `after`, which is `policy` compiled
/// for `host`.
pub fn judge(
    present: &Present,
    before: &Ruleset,
    after: &Ruleset,
    policy: &Policy,
    host: Host<'_>,
) -> Verdict {
    let Present { open, counting: _, asker, removed } = present;
    let Some(new) = &after.table else { return Verdict::Apply(Vec::new()) };
    let old = Judge::without_policy(before);
    let fate = |session: &Session| {
        let packet = session.packet();
        if new.evaluate(&packet).outcome == Outcome::Accept {
            return Fate::Kept;
        }
        let ruling = old.rule_on(&packet);
        // It may hold the session in a set that nobody has read.
        if ruling.is_denied() && !has_unread(before) {
            return Fate::Out;
        }
        let by = by(policy, &ruling.by, ruling.would_be_denied());
        Fate::Lost(Lost { session: *session, by, missing: None })
    };
    let own = match asker {
        Asker::In(own) => own.clone(),
        Asker::Nobody | Asker::Local | Asker::Unknown => BTreeSet::new(),
    };
    let with_say = present.with_say();
    let has_say = |session: &Session| with_say.contains(session);
    let is_removed = |session: &Session| removed.contains(&session.peer.ip());
    let (mut lost, mut kept_one, mut refuses) = (Vec::new(), false, false);
    let mut lost_one = false;
    for session in open.union(&own) {
        match fate(session) {
            Fate::Out => {}
            Fate::Kept => kept_one |= has_say(session),
            Fate::Lost(one) => {
                refuses |= own.contains(session);
                refuses |= *asker == Asker::Unknown && !is_removed(session);
                lost_one |= has_say(session) && !is_removed(session);
                // The asker's own is told first.
                lost.insert(if own.contains(session) { 0 } else { lost.len() }, one);
            }
        }
    }
    if !refuses && (kept_one || !lost_one) {
        return Verdict::Apply(lost);
    }
    if let Some(first) = lost.first_mut() {
        first.missing = missing_allow(policy, host, &first.session.packet());
    }
    Verdict::Refuse(lost)
}

/// What lets a session in so far, by the place where the file says so now.
fn by(policy: &Policy, by: &By<'_>, only_observed: bool) -> String {
    let comment = match by {
        _ if only_observed => return "so far nothing is denied".to_owned(),
        By::Closing | By::Unfiltered => return "so far nothing is denied".to_owned(),
        By::Allow(allow) => return format!("so far {} ({}) lets it in", allow.key, allow.location),
        By::BuiltIn(comment) => *comment,
    };
    match (policy.allow_of_comment(comment), Labels::allow_in(comment)) {
        (Some(allow), _) => format!("so far {} ({}) lets it in", allow.key, allow.location),
        (None, Some(key)) => format!("so far {key} lets it in, which the files don't say any more"),
        (None, None) => format!("so far the built-in rule {comment} lets it in"),
    }
}

/// The allow that a refused session lacks.
fn missing_allow(policy: &Policy, host: Host<'_>, packet: &Packet) -> Option<String> {
    let (_, port) = packet.ports?;
    let party = |address: IpAddr| Party::Addresses {
        name: address.to_string(),
        addresses: Addresses::single(address),
    };
    let mut service = Service::default();
    service.ports.insert(Transport::Tcp, vec![port..=port]);
    let question = Question {
        from: party(packet.source),
        to: Party::Here,
        service: service.clone(),
        user: None,
    };
    let end = ClosedEnd {
        role: host.role,
        users: host.users,
        direction: Direction::Input,
        packet,
        point: Point { protocol: Transport::Tcp.protocol(), port: Some(port) },
    };
    let mut missing = missing(policy, &end, &question);
    let (from, to) = (Addresses::single(packet.source), Addresses::single(packet.destination));
    missing.complete(&from, &to, &service);
    missing.to_toml(policy, None)
}

fn has_unread(ruleset: &Ruleset) -> bool {
    let sets = ruleset.table.iter().flat_map(|table| table.sets.values());
    sets.into_iter().any(|set| set.elements.are_unread())
}

impl Policy {
    /// Those of the addresses that are in a tier of this policy and in it no longer in `next`.
    pub fn removed_in(
        &self,
        next: &Self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> BTreeSet<IpAddr> {
        let is_in = |policy: &Self, tier: &String, address: IpAddr| {
            policy.tiers.get(tier).is_some_and(|tier| tier.holds(address))
        };
        let is_removed = |address: &IpAddr| {
            let mut tiers = self.tiers.keys();
            tiers.any(|tier| is_in(self, tier, *address) && !is_in(next, tier, *address))
        };
        addresses.into_iter().filter(is_removed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Role, compile, load_text};
    use std::collections::BTreeMap;
    use std::path::Path;

    const HERE: &str = "10.0.1.20";

    fn policy(admins: &str, more: &str) -> Policy {
        let text = format!(
            "role = \"app\"\n[tiers]\nadmin = [{admins}]\napp = [\"{HERE}\"]\n[[allow]]\nfrom = \
             \"admin\"\nto = \"app\"\nservice = \"tcp/22\"\n{more}"
        );
        load_text(Path::new("t.toml"), text, &Options::default()).policy.expect("a good policy")
    }

    fn session(from: &str) -> Session {
        let end = |text: String| text.parse().expect("an address and a port");
        Session::new(end(format!("{from}:4000")), end(format!("{HERE}:22")))
    }

    fn sessions(from: &[&str]) -> BTreeSet<Session> {
        from.iter().map(|from| session(from)).collect()
    }

    /// The verdict on the step between two policies, by the sessions that are open and those of
    /// them that count.
    fn verdict(
        (old, new): (&Policy, &Policy),
        (open, counting): (&[&str], &[&str]),
        asker: Asker,
        removed: &[&str],
    ) -> Verdict {
        let role = Role { tiers: ["app".to_owned()].into(), auto: false };
        let users = BTreeMap::new();
        let host = Host { role: &role, users: &users, previous: None };
        let (before, after) = (compile(old, host), compile(new, host));
        let removed = removed.iter().map(|one| one.parse().expect("an address")).collect();
        let present =
            Present { open: sessions(open), counting: sessions(counting), asker, removed };
        judge(&present, &before, &after, new, host)
    }

    const A: &str = "10.0.0.1";
    const B: &str = "10.0.0.2";

    fn only(admins: &[&str]) -> Policy {
        let quoted: Vec<String> = admins.iter().map(|admin| format!("\"{admin}\"")).collect();
        policy(&quoted.join(", "), "")
    }

    #[test]
    fn the_asker_is_never_shut_out_and_alone_vetoes_nothing_else() {
        let (both, b) = (only(&[A, B]), only(&[B]));
        let asked = |by: &str, counting: &[&str]| {
            let asker = Asker::In(sessions(&[by]));
            verdict((&both, &b), (&[A, B], counting), asker, &[])
        };
        // Whoever else is still let in.
        for counting in [&[][..], &[B], &[A, B]] {
            assert!(
                asked(A, counting).refusal().is_some_and(|why| why.contains(A)),
                "{counting:?}"
            );
        }
        // A member can't veto its own removal, however long its connection stands.
        for counting in [&[][..], &[A], &[A, B]] {
            let verdict = asked(B, counting);
            assert_eq!(verdict.refusal(), None);
            assert!(verdict.warnings().iter().any(|line| line.contains(A)), "{verdict:?}");
        }
    }

    #[test]
    fn who_is_logged_in_asks_by_every_session_from_there() {
        let (open, address) = (sessions(&[A, B]), |text: &str| text.parse().ok());
        assert_eq!(Asker::logged_in(address(A), &open), Asker::In(sessions(&[A])));
        // On a port that nobody guards.
        assert_eq!(Asker::logged_in(address("10.0.0.3"), &open), Asker::Unknown);
        assert_eq!(Asker::logged_in(None, &open), Asker::Local);
    }

    #[test]
    fn the_asker_is_guarded_on_a_port_that_is_not() {
        let (both, b) = (only(&[A, B]), only(&[B]));
        let verdict = verdict((&both, &b), (&[B], &[B]), Asker::In(sessions(&[A])), &[]);
        assert!(verdict.refusal().is_some_and(|why| why.contains(A)), "{verdict:?}");
    }

    #[test]
    fn where_nobody_asks_those_who_count_decide_together() {
        let (both, b, none) = (only(&[A, B]), only(&[B]), only(&["10.0.0.9"]));
        let refuses = |new: &Policy, counting: &[&str], asker: Asker, removed: &[&str]| {
            let verdict = verdict((&both, new), (&[A, B], counting), asker, removed);
            verdict.refusal().is_some()
        };
        for asker in [Asker::Nobody, Asker::Local] {
            let refuses = |new, counting, removed| refuses(new, counting, asker.clone(), removed);
            assert!(!refuses(&b, &[], &[]), "bare connections have no say");
            assert!(refuses(&b, &[A], &[]), "the only one who counts is lost");
            assert!(!refuses(&b, &[A, B], &[]), "another one who counts stays");
            assert!(refuses(&none, &[A, B], &[]));
            // Removed by a file: no reason, but the other one is.
            assert!(!refuses(&b, &[A], &[A]));
            assert!(refuses(&none, &[A, B], &[A]));
            assert!(!refuses(&none, &[A, B], &[A, B]));
        }
        assert!(refuses(&b, &[], Asker::Unknown, &[]), "any may be the asker's");
        assert!(!refuses(&b, &[], Asker::Unknown, &[A]));
    }

    #[test]
    fn who_was_shut_out_before_neither_loses_nor_stays() {
        let (b, none) = (only(&[B]), only(&["10.0.0.9"]));
        let judged = |new| verdict((&b, new), (&[A, B], &[A, B]), Asker::Nobody, &[]);
        assert!(judged(&none).refusal().is_some_and(|why| !why.contains(A)));
        assert_eq!(judged(&b), Verdict::Apply(Vec::new()));
    }

    #[test]
    fn who_may_be_in_a_set_that_nobody_has_read_is_guarded() {
        let (old, new) = (only(&[A]), only(&[B]));
        let (role, users) =
            (Role { tiers: ["app".to_owned()].into(), auto: false }, BTreeMap::new());
        let host = Host { role: &role, users: &users, previous: None };
        let (mut before, after) = (compile(&old, host), compile(&new, host));
        let table = before.table.as_mut().expect("a table");
        table.sets.get_mut("admin_v4").expect("the tier's").elements = ruleset::Elements::Unread;
        let (open, counting) = (sessions(&[A]), sessions(&[A]));
        let present = Present { open, counting, asker: Asker::Nobody, removed: BTreeSet::new() };
        let verdict = judge(&present, &before, &after, &new, host);
        assert!(verdict.refusal().is_some_and(|why| why.contains(A)), "{verdict:?}");
    }

    #[test]
    fn a_refusal_says_where_the_file_stands_and_what_it_lacks() {
        let before = only(&[A]);
        let asked = |new: &Policy| {
            let asker = Asker::In(sessions(&[A]));
            verdict((&before, new), (&[A], &[]), asker, &[]).refusal().expect("refused")
        };
        // The allow moved by two lines, since it was enforced.
        let mut moved = only(&[B]);
        moved.allows[0].location.line += 2;
        let told = asked(&moved);
        for part in [
            "the session from 10.0.0.1 to port 22 could not reconnect",
            "so far admin -> app tcp/22 (t.toml:7) lets it in",
            "    from    = \"10.0.0.1\"\n    to      = \"app\"\n    service = \"tcp/22\"\n",
            "`--force` insists",
        ] {
            assert!(told.contains(part), "{part:?} isn't in:\n{told}");
        }
        let mut gone = only(&[A]);
        gone.allows.clear();
        let told = asked(&gone);
        assert!(told.contains("which the files don't say any more"), "{told}");
        assert!(told.contains("from    = \"admin\""), "{told}");
    }
}
