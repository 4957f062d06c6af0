//! What a policy depends on beside its files: this server's addresses and users.

use crate::journal::kind;
use crate::last_role::{self, GRACE, LastRole};
use crate::pending;
use crate::state::StateDirectory;
use nix::unistd::User;
use policy::{
    Diagnostics, HostAddress, Origin, Policy, Role, check_role, check_size, resolve_users, role_of,
};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How often a user that wasn't known is looked up again: directories come up after the network.
const USERS_AGAIN: Duration = Duration::from_secs(60);

/// This server, as far as the policy asks.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) role: Role,
    pub(crate) users: BTreeMap<String, u32>,
    /// Whether the role is that of an earlier run, since there was no address yet in this one.
    pub(crate) role_is_old: bool,
    /// Its addresses when they were looked at last.
    addresses: Vec<HostAddress>,
    /// Tiers whose address is gone, and when they go too.
    leaving: BTreeMap<String, Instant>,
    /// When the users are looked up again that the policy names and that aren't known here now.
    users_due: Option<Instant>,
}

/// Whether both lead to the same table.
impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        // The addresses matter by the role that follows from them, and the rest by the clock.
        let Self { role, users, leaving, role_is_old: _, addresses: _, users_due: _ } = self;
        (role, users, leaving) == (&other.role, &other.users, &other.leaving)
    }
}

impl Server {
    /// Finds this server's role and the users the policy names, and what is wrong with the users.
    ///
    /// `before` is what held so far, and under which policy: an edit that takes this server out of
    /// a tier holds at once, but a tier whose address has just gone stays as long as without it.
    pub(crate) fn resolve(
        policy: &Policy,
        before: Option<(&Self, &Policy)>,
        state: Option<&StateDirectory>,
    ) -> (Self, Diagnostics) {
        // A start may have to go back.
        let is_way_back = before.is_none() && state.is_some_and(pending::is_recorded);
        Self::resolve_as(policy, before, state, is_way_back)
    }

    /// The same for `policy` to go back to. Going back doesn't wait for a directory of users, which
    /// may be what the change cut off: who is known in `before` or was when the change was made,
    /// in `known`, is looked up a while after.
    pub(crate) fn resolve_back(
        policy: &Policy,
        before: (&Self, &Policy),
        known: &BTreeMap<String, u32>,
        state: Option<&StateDirectory>,
    ) -> Self {
        let (mut server, under) = (before.0.clone(), before.1);
        server.users = known.clone().into_iter().chain(server.users).collect();
        Self::resolve_as(policy, Some((&server, under)), state, true).0
    }

    fn resolve_as(
        policy: &Policy,
        before: Option<(&Self, &Policy)>,
        state: Option<&StateDirectory>,
        is_way_back: bool,
    ) -> (Self, Diagnostics) {
        let addresses = addresses();
        let before = before.map(|(server, policy)| server.following(policy, &addresses));
        let known = |tier: &String| policy.tiers.contains_key(tier);
        let (mut role, mut leaving): (Role, BTreeMap<_, _>);
        let is_offline = policy.role.is_auto() && addresses.is_empty();
        let role_is_old = is_offline && before.as_ref().is_none_or(|before| before.role_is_old);
        if is_offline {
            // Before the network is up there is no address: the last role holds until there is one.
            let last = match &before {
                Some(before) => Some(before.role.tiers.clone()),
                None => state.and_then(last_role::load).map(|last| last.tiers),
            };
            let tiers = last.unwrap_or_default().into_iter().filter(known).collect();
            role = Role { tiers, auto: true };
            leaving = BTreeMap::new();
        } else {
            role = role_of(policy, &addresses);
            leaving = match &before {
                Some(before) => before.leaving.clone(),
                None => last_role::leaving(policy, &role, &addresses, state),
            };
            leaving.retain(|tier, _| role.auto && known(tier) && !role.tiers.contains(tier));
            role.tiers.extend(leaving.keys().cloned());
        }
        let is_start = before.is_none();
        let known_users = match before {
            Some(before) => before.users,
            None => state.and_then(StateDirectory::last_users).unwrap_or_default(),
        };
        let is_away = Cell::new(false);
        let kept = |name: &str| {
            let uid = known_users.get(name).copied();
            is_away.set(is_away.get() || uid.is_some());
            uid
        };
        let lookup = |name: &str| {
            if is_way_back {
                return kept(name).or_else(|| lookup_user(name));
            }
            lookup_user(name).or_else(|| {
                let uid = kept(name)?;
                if is_start {
                    tracing::warn!(target: kind::USER_KEPT, user = name, uid, "this user isn't known now; its last user id holds");
                }
                Some(uid)
            })
        };
        let (users, unknown) = resolve_users(policy, &role, lookup);
        let users_due = due_again(!unknown.is_empty() || is_away.get());
        let mut diagnostics = unknown;
        diagnostics.extend(check_size(policy, &role));
        (Self { role, role_is_old, addresses, users, leaving, users_due }, diagnostics)
    }

    /// What there is to say of its role under `policy`, as its addresses are now. It is never an
    /// error: the next address may come any time.
    pub(crate) fn role_warnings(&self, policy: &Policy) -> Diagnostics {
        check_role(policy, &self.role, &self.addresses)
    }

    /// The role as the next start needs it.
    pub(crate) fn last_role(&self) -> LastRole {
        LastRole::new(&self.role, &self.leaving)
    }

    /// The same later: tiers gained at once, those lost after a while; users that have appeared.
    /// Those known are looked up when they are due, and while a change `waits` after that: going
    /// back may be due any time.
    pub(crate) fn look_again(&self, policy: &Policy, waits: bool) -> Self {
        let addresses = addresses();
        let mut next = self.following(policy, &addresses);
        next.addresses = addresses;
        let now = Instant::now();
        let keeps = waits || self.users_due.is_some_and(|due| due > now);
        let are_kept = Cell::new(false);
        let lookup = |name: &str| match self.users.get(name).filter(|_| keeps) {
            Some(uid) => {
                are_kept.set(true);
                Some(*uid)
            }
            None => lookup_user(name),
        };
        let (users, unknown) = resolve_users(policy, &next.role, lookup);
        // A user that is known stays known while its directory is away.
        next.users.extend(users);
        next.users_due = match self.users_due.filter(|_| are_kept.get()) {
            Some(due) if due > now => Some(due),
            due => due_again(due.is_some() || !unknown.is_empty()),
        };
        next
    }

    /// The same with these addresses. Without any nothing is known: what held goes on, and no
    /// tier's time runs until there is one again.
    fn following(&self, policy: &Policy, addresses: &[HostAddress]) -> Self {
        let mut next = self.clone();
        if policy.role.is_auto() {
            next.role_is_old &= addresses.is_empty();
            match addresses.is_empty() {
                true => next.leaving.clear(),
                false => next.follow(role_of(policy, addresses).tiers, Instant::now()),
            }
        }
        next
    }

    fn follow(&mut self, held: BTreeSet<String>, now: Instant) {
        let gone: Vec<String> = self.role.tiers.difference(&held).cloned().collect();
        for tier in gone {
            self.leaving.entry(tier).or_insert(now + GRACE);
        }
        self.leaving.retain(|tier, until| !held.contains(tier) && *until > now);
        self.role.tiers = held.into_iter().chain(self.leaving.keys().cloned()).collect();
    }

    /// When [`Server::look_again`] is due although nothing was heard.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.leaving.values().copied().chain(self.users_due).min()
    }
}

/// When to look up the users again, where some aren't known.
fn due_again(some_are_unknown: bool) -> Option<Instant> {
    some_are_unknown.then(|| Instant::now() + USERS_AGAIN)
}

fn addresses() -> Vec<HostAddress> {
    let found = netlink::host_addresses().unwrap_or_else(|error| {
        tracing::warn!(target: kind::ADDRESSES_UNKNOWN, %error, "can't read this server's addresses");
        Vec::new()
    });
    found.into_iter().map(of_kernel).collect()
}

fn of_kernel(found: netlink::HostAddress) -> HostAddress {
    let netlink::HostAddress { address, prefix_length, is_permanent, shows_advertisement } = found;
    let origin = Origin::of(address, prefix_length, is_permanent, shows_advertisement);
    HostAddress { address, origin }
}

fn lookup_user(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Options, load_text};
    use std::net::IpAddr;
    use std::path::Path;

    fn tiers(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn server(names: &[&str]) -> Server {
        Server {
            role: Role { tiers: tiers(names), auto: true },
            role_is_old: false,
            addresses: Vec::new(),
            users: BTreeMap::new(),
            leaving: BTreeMap::new(),
            users_due: None,
        }
    }

    fn policy(text: &str) -> Policy {
        load_text(Path::new("t.toml"), text, &Options::default()).policy.expect("a good policy")
    }

    #[test]
    fn a_gained_tier_is_there_at_once_and_a_lost_one_stays_a_while() {
        let mut server = server(&["app"]);
        let start = Instant::now();
        server.follow(tiers(&["app", "db"]), start);
        assert_eq!(server.role.tiers, tiers(&["app", "db"]));
        server.follow(tiers(&["db"]), start);
        assert_eq!(server.role.tiers, tiers(&["app", "db"]));
        assert_eq!(server.due(), Some(start + GRACE));
        // Back in time: nothing happened.
        server.follow(tiers(&["app", "db"]), start + GRACE / 2);
        assert_eq!(server.due(), None);
        server.follow(tiers(&["db"]), start + GRACE);
        server.follow(tiers(&["db"]), start + 2 * GRACE);
        assert_eq!(server.role.tiers, tiers(&["db"]));
        assert_eq!(server.due(), None);
    }

    #[test]
    fn without_an_address_no_tier_leaves_and_nothing_is_due() {
        let policy = policy("[tiers]\napp = [\"10.0.0.1\"]\ndb = [\"10.0.0.2\"]\n");
        let both = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|octets| IpAddr::from(octets).into());
        let lost = server(&["app", "db"]).following(&policy, &both[..1]);
        assert!(lost.due().is_some());
        let offline = lost.following(&policy, &[]);
        // It was found in this run, and is kept for the next one.
        assert!(!offline.role_is_old);
        assert_eq!((offline.due(), &offline.role.tiers), (None, &tiers(&["app", "db"])));
        // The first address that comes back needn't be the last.
        let online = offline.following(&policy, &both[..1]);
        assert_eq!(online.role.tiers, tiers(&["app", "db"]));
        assert!(online.due().is_some());
        assert_eq!(online.following(&policy, &both).due(), None);
    }

    #[test]
    fn the_way_back_takes_users_as_they_were_known() {
        let policy = policy(
            "role = \"app\"\n[tiers]\napp = [\"10.0.0.1\"]\n[[allow]]\nfrom = \"app\"\nto = \"any\"\nservice = \"tcp/9\"\nuser = \"root\"\n",
        );
        // Whoever asks the directory of users hears 0.
        let users = |uid: u32| BTreeMap::from([("root".to_owned(), uid)]);
        let before = server(&["app"]);
        let (asked, _) = Server::resolve(&policy, Some((&before, &policy)), None);
        assert_eq!((asked.users, asked.users_due), (users(0), None));
        let back = Server::resolve_back(&policy, (&before, &policy), &users(7), None);
        assert_eq!(back.users, users(7));
        assert!(back.due() > Some(Instant::now()));
        assert_eq!(back.look_again(&policy, false), back);
        assert_eq!(back.look_again(&policy, false).due(), back.due());
        let due = Server { users_due: Some(Instant::now()), ..back };
        let waiting = due.look_again(&policy, true);
        assert_eq!(waiting.users, users(7));
        assert!(waiting.due() > due.due());
        let after = due.look_again(&policy, false);
        assert_eq!((after.due(), after.users), (None, users(0)));
        let later = Server { users: users(8), ..before };
        let back = Server::resolve_back(&policy, (&later, &policy), &users(7), None);
        assert_eq!(back.users, users(8), "what is known by now goes before");

        // A start that finds the record of a change that waits.
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        state.record_users(&users(7)).expect("written");
        let started = || Server::resolve(&policy, None, Some(&state)).0.users;
        assert_eq!(started(), users(0));
        std::fs::write(directory.path().join("pending.json"), "{}").expect("written");
        assert_eq!(started(), users(7));
    }

    #[test]
    fn the_time_of_an_unknown_user_does_not_move_by_asking() {
        let policy = policy(
            "role = \"app\"\n[tiers]\napp = [\"10.0.0.1\"]\n[[allow]]\nfrom = \"app\"\nto = \"any\"\nservice = \"tcp/9\"\nuser = \"no-such-user\"\n",
        );
        let (server, _) = Server::resolve(&policy, None, None);
        let due = server.due().expect("it is looked up again");
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(server.due(), Some(due));
        assert!(server.look_again(&policy, false).due() > Some(due), "it was looked up just now");
    }
}
