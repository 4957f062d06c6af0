//! What a policy depends on beside its files: this server's addresses and users.

use crate::journal::kind;
use crate::state::StateDirectory;
use nix::unistd::User;
use policy::model::RoleSetting;
use policy::{Diagnostics, Policy, Role, check_role, resolve_users, role_of};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long a tier stays with a server that lost its address: an interface that flaps must not
/// cost connections.
const GRACE: Duration = Duration::from_secs(300);

/// How often a user that wasn't known is looked up again: directories come up after the network.
const USERS_AGAIN: Duration = Duration::from_secs(60);

/// This server, as far as the policy asks.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) role: Role,
    pub(crate) users: BTreeMap<String, u32>,
    /// Whether the role is that of an earlier run, since there was no address yet in this one.
    pub(crate) role_is_old: bool,
    /// Tiers whose address is gone, and when they go too.
    leaving: BTreeMap<String, Instant>,
    /// When the users are looked up again that the policy names and that aren't known here now.
    users_due: Option<Instant>,
}

/// Whether both lead to the same table.
impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        (&self.role, &self.users, &self.leaving) == (&other.role, &other.users, &other.leaving)
    }
}

impl Server {
    /// Finds this server's role and the users the policy names, and judges the policy by them.
    ///
    /// `before` is what held so far, and under which policy: an edit that takes this server out of
    /// a tier holds at once, but a tier whose address has just gone stays as long as without it.
    pub(crate) fn resolve(
        policy: &Policy,
        before: Option<(&Self, &Policy)>,
        state: Option<&StateDirectory>,
    ) -> (Self, Diagnostics) {
        let addresses = addresses();
        let before = before.map(|(server, policy)| server.following(policy, &addresses));
        let known = |tier: &String| policy.tiers.contains_key(tier);
        let (mut role, mut diagnostics, mut leaving): (Role, Diagnostics, BTreeMap<_, _>);
        let is_offline = policy.role == RoleSetting::Auto && addresses.is_empty();
        let role_is_old = is_offline && before.as_ref().is_none_or(|before| before.role_is_old);
        if is_offline {
            // Before the network is up there is no address: the last role holds until there is one.
            let last = match &before {
                Some(before) => Some(before.role.tiers.clone()),
                None => state.and_then(StateDirectory::last_role),
            };
            let tiers = last.unwrap_or_default().into_iter().filter(known).collect();
            role = Role { tiers, auto: true };
            (diagnostics, leaving) = (Diagnostics::default(), BTreeMap::new());
        } else if let Some(last) = last_role_at_boot(policy, &addresses, before.as_ref(), state) {
            // At boot interfaces come up one after the other: this address needn't be the last.
            let now = Instant::now();
            leaving = last.iter().map(|tier| (tier.clone(), now + GRACE)).collect();
            role = Role { tiers: last, auto: true };
            diagnostics = Diagnostics::default();
            let role = role.to_string();
            tracing::warn!(target: kind::ROLE_KEPT,
                role,
                "no tier holds an address of this server; its last role holds for now"
            );
        } else {
            role = role_of(policy, &addresses);
            diagnostics = check_role(policy, &addresses);
            leaving = before.as_ref().map(|before| before.leaving.clone()).unwrap_or_default();
            leaving.retain(|tier, _| role.auto && known(tier) && !role.tiers.contains(tier));
            role.tiers.extend(leaving.keys().cloned());
        }
        let is_start = before.is_none();
        let known_users = match before {
            Some(before) => before.users,
            None => state.and_then(StateDirectory::last_users).unwrap_or_default(),
        };
        let is_away = Cell::new(false);
        let lookup = |name: &str| {
            lookup_user(name).or_else(|| {
                let uid = known_users.get(name).copied()?;
                is_away.set(true);
                if is_start {
                    tracing::warn!(target: kind::USER_KEPT, user = name, uid, "this user isn't known now; its last user id holds");
                }
                Some(uid)
            })
        };
        let (users, unknown) = resolve_users(policy, &role, lookup);
        let users_due = due_again(!unknown.is_empty() || is_away.get());
        diagnostics.extend(unknown);
        (Self { role, role_is_old, users, leaving, users_due }, diagnostics)
    }

    /// The same later: tiers gained at once, those lost after a while; users that have appeared.
    pub(crate) fn look_again(&self, policy: &Policy) -> Self {
        let mut next = self.following(policy, &addresses());
        let (users, unknown) = resolve_users(policy, &next.role, lookup_user);
        // A user that is known stays known while its directory is away.
        next.users.extend(users);
        next.users_due = due_again(!unknown.is_empty());
        next
    }

    /// The same with these addresses. Without any nothing is known: what held goes on, and no
    /// tier's time runs until there is one again.
    fn following(&self, policy: &Policy, addresses: &[IpAddr]) -> Self {
        let mut next = self.clone();
        if policy.role == RoleSetting::Auto {
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

/// The tiers that this server was in before it was started, where its addresses are in none.
fn last_role_at_boot(
    policy: &Policy,
    addresses: &[IpAddr],
    before: Option<&Server>,
    state: Option<&StateDirectory>,
) -> Option<BTreeSet<String>> {
    let is_lost = policy.role == RoleSetting::Auto && role_of(policy, addresses).tiers.is_empty();
    if before.is_some() || !is_lost {
        return None;
    }
    let mut last = state.and_then(StateDirectory::last_role)?;
    last.retain(|tier| policy.tiers.contains_key(tier));
    Some(last).filter(|last| !last.is_empty())
}

fn addresses() -> Vec<IpAddr> {
    netlink::addresses().unwrap_or_else(|error| {
        tracing::warn!(target: kind::ADDRESSES_UNKNOWN, %error, "can't read this server's addresses");
        Vec::new()
    })
}

fn lookup_user(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Options, load_text};
    use std::path::Path;

    fn tiers(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn server(names: &[&str]) -> Server {
        Server {
            role: Role { tiers: tiers(names), auto: true },
            role_is_old: false,
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
        let both: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
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
    fn the_time_of_an_unknown_user_does_not_move_by_asking() {
        let policy = policy(
            "role = \"app\"\n[tiers]\napp = [\"10.0.0.1\"]\n[[allow]]\nfrom = \"app\"\nto = \"any\"\nservice = \"tcp/9\"\nuser = \"no-such-user\"\n",
        );
        let (server, _) = Server::resolve(&policy, None, None);
        let due = server.due().expect("it is looked up again");
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(server.due(), Some(due));
        assert!(server.look_again(&policy).due() > Some(due), "it was looked up just now");
    }
}
