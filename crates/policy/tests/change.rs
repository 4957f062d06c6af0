//! What a change is told as: reachability and not text, in few lines, and nothing but the truth.

mod common;

use common::OPTIONS;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use ruleset::evaluate::{Outcome, Packet};
use ruleset::{Elements, Hook, Ruleset, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use tierwall_policy::model::Service;
use tierwall_policy::{
    Addresses, Change, Direction, Host, Part, Peer, Point, Policy, Reach, Role, Scope, Scopes,
    Sign, Step, UserNames, compile, load_text,
};

const TIERS: &str = "[tiers]
web   = [\"10.0.0.1-10.0.0.9\"]
app   = [\"10.0.1.1-10.0.1.9\", \"2001:db8::1\"]
db    = [\"10.0.2.1\"]
admin = [\"10.0.3.1\"]
";

fn policy(text: &str) -> Policy {
    let loaded = load_text(Path::new("x.toml"), text, &OPTIONS);
    loaded.policy.unwrap_or_else(|| panic!("{text}\n{}", loaded.diagnostics))
}

fn compiled(policy: &Policy, role: &Role) -> Ruleset {
    let users = BTreeMap::from([("alice".to_owned(), 1)]);
    compile(policy, Host { role, users: &users, previous: None })
}

fn users() -> UserNames {
    UserNames::of(&BTreeMap::from([("alice".to_owned(), 1)]))
}

fn role(tiers: &[&str], auto: bool) -> Role {
    Role { tiers: tiers.iter().map(|tier| (*tier).to_owned()).collect(), auto }
}

/// The sides and the services are the inside of lists.
fn allow(from: &str, to: &str, service: &str) -> String {
    format!("[[allow]]\nfrom = [{from}]\nto = [{to}]\nservice = [{service}]\n")
}

fn lines(before: &str, after: &str, role: &Role) -> Vec<String> {
    let (before, after) = (policy(before), policy(after));
    let change = Change::of(&compiled(&before, role), &compiled(&after, role));
    let sign = |sign| if sign == Sign::More { '+' } else { '-' };
    let lines = change.words(&after, role, &users()).lines().into_iter();
    lines.map(|line| format!("{} {}", sign(line.sign), line.text)).collect()
}

/// Under `TIERS`, on a server of `app`.
fn told(before: &[String], after: &[String]) -> Vec<String> {
    let text = |allows: &[String]| format!("{TIERS}{}", allows.concat());
    lines(&text(before), &text(after), &role(&["app"], false))
}

#[test]
fn a_port_more_in_a_list_takes_none_away() {
    let with = |services: &str| vec![allow("'web'", "'app'", services)];
    assert_eq!(
        told(&with("'tcp/80', 'tcp/443'"), &with("'tcp/80', 'tcp/443', 'tcp/8443'")),
        ["+ app is now reachable from web on tcp/8443  (x.toml:6)"]
    );
    assert_eq!(
        told(&with("'tcp/80', 'tcp/443'"), &with("'tcp/443'")),
        ["- app is no longer reachable from web on tcp/80"]
    );
}

#[test]
fn the_same_said_otherwise_is_no_change() {
    let all = "'web', 'app', 'db', 'admin'";
    let nothing: [&str; 0] = [];
    let star = [allow("'*'", "'*'", "'tcp/22'")];
    assert_eq!(told(&star, &[allow(all, all, "'tcp/22'")]), nothing);
    let range = [allow("'web'", "'app'", "'tcp/1-100'")];
    let halves = [allow("'web'", "'app'", "'tcp/1-50'"), allow("'web'", "'app'", "'tcp/51-100'")];
    assert_eq!(told(&range, &halves), nothing);
    let members = [allow("'10.0.0.1-10.0.0.9'", "'app'", "'tcp/1-100'")];
    assert_eq!(told(&range, &members), nothing);
    let twice = [range[0].clone(), allow("'web'", "'app'", "'tcp/22'")];
    assert_eq!(told(&range, &twice), nothing);
}

#[test]
fn a_difference_that_is_a_tier_is_called_that() {
    let before = [allow("'web'", "'app'", "'tcp/80'")];
    let more = [allow("'web', 'admin'", "'app'", "'tcp/80'")];
    assert_eq!(told(&before, &more), ["+ app is now reachable from admin on tcp/80  (x.toml:6)"]);
    assert_eq!(told(&more, &before), ["- app is no longer reachable from admin on tcp/80"]);
    let some = [allow("'web', '10.0.3.1', '10.7.0.0/16'", "'app'", "'tcp/80'")];
    assert_eq!(
        told(&before, &some),
        ["+ app is now reachable from 10.0.3.1, 10.7.0.0/16 on tcp/80  (x.toml:6)"]
    );
    let any = [allow("'any'", "'app'", "'tcp/80'")];
    assert_eq!(told(&before, &any), ["+ app is now reachable from any on tcp/80  (x.toml:6)"]);
    assert_eq!(told(&any, &before), ["- app is no longer reachable from any except web on tcp/80"]);
}

#[test]
fn a_difference_of_services_is_as_short_as_it_can_be() {
    let one = [allow("'web'", "'app'", "'tcp/80'")];
    let any = [allow("'web'", "'app'", "'any'")];
    assert_eq!(told(&one, &any), ["+ app is now reachable from web on any  (x.toml:6)"]);
    assert_eq!(told(&any, &one), ["- app is no longer reachable from web on any except tcp/80"]);
    let tcp = [allow("'web'", "'app'", "'tcp'")];
    assert_eq!(told(&one, &tcp), ["+ app is now reachable from web on tcp  (x.toml:6)"]);
    let many = [allow("'web', 'db'", "'app'", "'tcp/80', 'udp/53', 'gre'")];
    assert_eq!(
        told(&[], &many),
        ["+ app is now reachable from db, web on gre, tcp/80, udp/53  (x.toml:6)"]
    );
}

#[test]
fn users_are_part_of_who() {
    let open = |user: &str| vec![allow("'app'", "'db'", "'tcp/5432'") + user];
    assert_eq!(
        told(&open(""), &open("user = 'alice'\n")),
        ["- app may no longer open tcp/5432 to db except by user alice"]
    );
    assert_eq!(
        told(&open("user = 'alice'\n"), &open("")),
        ["+ app may now open tcp/5432 to db  (x.toml:6)"]
    );
    assert_eq!(
        told(&open("user = 'alice'\n"), &open("user = ['alice', 7]\n")),
        ["+ app may now open tcp/5432 to db by user 7  (x.toml:6)"]
    );
}

#[test]
fn a_member_is_told_once_and_only_if_that_changes_anything() {
    let allows = allow("'web'", "'app'", "'tcp/80'") + &allow("'web'", "'app'", "'tcp/443'");
    let tiers = |web: &str| format!("[tiers]\nweb = [{web}]\napp = ['10.0.1.1']\n");
    let role = role(&["app"], false);
    let (few, more) = (tiers("'10.0.0.1'"), tiers("'10.0.0.1', '10.0.0.2'"));
    let of = |before: &str, after: &str, allows: &str| {
        lines(&format!("{before}{allows}"), &format!("{after}{allows}"), &role)
    };
    assert_eq!(of(&few, &more, &allows), ["+ web gains 10.0.0.2"]);
    assert_eq!(of(&more, &few, &allows), ["- web loses 10.0.0.2"]);
    // It may do all that already.
    let all = allow("'any'", "'app'", "'tcp'");
    assert_eq!(of(&few, &more, &format!("{allows}{all}")), [""; 0]);
    // It keeps one of them, by name.
    let kept = allow("'10.0.0.2'", "'app'", "'tcp/443'");
    let before = format!("{more}{allows}");
    assert_eq!(
        lines(&before, &format!("{few}{allows}{kept}"), &role),
        ["- app is no longer reachable from 10.0.0.2 on tcp/80"]
    );
    // With another change beside it.
    let fewer = allow("'web'", "'app'", "'tcp/443'");
    assert_eq!(
        lines(&before, &format!("{few}{fewer}"), &role),
        ["- app is no longer reachable from web on tcp/80", "- web loses 10.0.0.2"]
    );
}

/// Under `role = "auto"` a tier is this server's address.
#[test]
fn an_address_that_this_servers_tier_gains_is_told() {
    let of = |own: &str| {
        let web = allow("'web'", "'app'", "'tcp/80'");
        format!("[tiers]\nweb = ['10.0.0.1']\napp = [{own}]\n{web}")
    };
    let (one, two) = (of("'10.0.1.1'"), of("'10.0.1.1', '10.0.1.2'"));
    let auto = role(&["app"], true);
    assert_eq!(lines(&one, &two, &auto), ["+ app gains 10.0.1.2"]);
    assert_eq!(lines(&two, &one, &auto), ["- app loses 10.0.1.2"]);
    // A role that the file names is the whole server.
    assert_eq!(lines(&one, &two, &role(&["app"], false)), [""; 0]);
}

#[test]
fn of_a_set_that_was_not_read_nobody_knows_the_members_but_that_it_is_gone() {
    let role = role(&["app"], false);
    let of = |member: &str, allows: &[String]| {
        policy(&format!("[tiers]\nweb = ['{member}']\napp = ['10.0.1.1']\n{}", allows.concat()))
    };
    let web = [allow("'web'", "'app'", "'tcp/80'")];
    let mut before = compiled(&of("10.0.0.1", &web), &role);
    let table = before.table.as_mut().expect("a table");
    table.sets.get_mut("web_v4").expect("the tier's").elements = Elements::Unread;
    let told = |after: &Policy| -> Vec<String> {
        let change = Change::of(&before, &compiled(after, &role));
        let lines = change.words(after, &role, &users()).lines().into_iter();
        lines.map(|line| line.text).collect()
    };
    assert_eq!(told(&of("10.0.0.7", &web)), [""; 0]);
    let other = [allow("'10.7.0.1'", "'app'", "'tcp/80'")];
    assert_eq!(
        told(&of("10.0.0.7", &other)),
        [
            "app is now reachable from 10.7.0.1 on tcp/80  (x.toml:4)",
            "app is no longer reachable from web on tcp/80"
        ]
    );
}

#[test]
fn a_side_that_only_observes_changes_nothing_yet() {
    let text = |allows: &str| format!("mode = {{ input = 'observe' }}\n{TIERS}{allows}");
    let role = role(&["app"], false);
    assert_eq!(
        lines(&text(""), &text(&allow("'web'", "'app'", "'tcp/80'")), &role),
        ["+ an allow lets web reach app on tcp/80; input is open to all  (x.toml:7)"]
    );
    let closed = format!("{TIERS}{}", allow("'web'", "'app'", "'tcp/80'"));
    assert_eq!(
        lines(&text(""), &closed, &role),
        [
            "- input was open to everything; now only what allows name passes",
            "- packets through this server are now dropped",
            "+ app is reachable from web on tcp/80  (x.toml:6)"
        ]
    );
}

#[test]
fn what_is_routed_is_told() {
    let text = |forward: &str| format!("forward = '{forward}'\n{TIERS}");
    let role = role(&["app"], false);
    assert_eq!(
        lines(&text("drop"), &text("accept"), &role),
        ["+ packets through this server now pass"]
    );
    assert_eq!(
        lines(&text("accept"), &text("drop"), &role),
        ["- packets through this server are now dropped"]
    );
    assert_eq!(lines(&text("accept"), &text("unmanaged"), &role), [""; 0]);
}

#[test]
fn lists_are_cut_and_counted() {
    let many: Vec<String> = (0..20).map(|n| format!("'10.5.{n}.0/24'")).collect();
    assert_eq!(
        told(&[], &[allow(&many.join(", "), "'app'", "'tcp/80'")]),
        ["+ app is now reachable from 10.5.0.0-10.5.19.255 on tcp/80  (x.toml:6)"]
    );
    let many: Vec<String> = (0..20).map(|n| format!("'10.5.{}.0/24'", 2 * n)).collect();
    let lines = told(&[], &[allow(&many.join(", "), "'app'", "'tcp/80'")]);
    assert!(lines[0].contains("10.5.14.0/24 and 3072 more on tcp/80"), "{lines:?}");
}

// Random policies of few addresses and ports, each of which can be asked about.

const NAMES: [&str; 3] = ["web", "app", "db"];
const HOSTS: u8 = 6;

fn v4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, host).into()
}

/// Everybody there is: the members that tiers may have, and strangers.
fn everybody() -> Vec<IpAddr> {
    let strangers = [Ipv4Addr::new(192, 0, 2, 9).into(), Ipv6Addr::LOCALHOST.into()];
    (1..=HOSTS).map(v4).chain(strangers).collect()
}

fn everything() -> Vec<Point> {
    let ports = (1..=6).map(|port| (6, Some(port))).chain([
        (6, Some(40_000)),
        (17, Some(1)),
        (17, Some(9)),
    ]);
    let all = ports.chain([(47, None), (50, None)]);
    all.map(|(protocol, port)| Point { protocol, port }).collect()
}

type Cell = (Direction, Option<Part>, IpAddr, Point);

fn parts(direction: Direction) -> Vec<Option<Part>> {
    let parts: Vec<Part> = match direction {
        Direction::Input => NAMES.map(|name| Part::Tier(name.into())).into(),
        Direction::Output => [1, 7].map(Part::User).into(),
    };
    std::iter::once(None).chain(parts.into_iter().map(Some)).collect()
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for direction in Direction::BOTH {
        for part in parts(direction) {
            for host in everybody() {
                cells.extend(everything().iter().map(|p| (direction, part.clone(), host, *p)));
            }
        }
    }
    cells
}

/// What reaches say, cell by cell.
fn open(openings: &[(Direction, Scope, Addresses, Service)]) -> BTreeSet<Cell> {
    let all = cells().into_iter().filter(|(direction, part, host, point)| {
        openings.iter().any(|(way, scope, peers, service)| {
            let is_part = match (scope, part) {
                (Scope::Server, _) => true,
                (Scope::Tiers(own), Some(Part::Tier(tier))) => own.contains(tier),
                (Scope::Users(users), Some(Part::User(user))) => users.contains(user),
                _ => false,
            };
            way == direction && is_part && peers.contains(*host) && service.holds(*point)
        })
    });
    all.collect()
}

fn openings(reach: &Reach) -> Vec<(Direction, Scope, Addresses, Service)> {
    let of = reach.openings.iter();
    of.map(|o| (o.direction, o.scope.clone(), reach.addresses(&o.peer), o.service.clone()))
        .collect()
}

/// What the members of `change` make of the reach before: a tier that something is open to before
/// and after is the one, and then the other.
fn with_members(before: &Reach, after: &Reach, change: &Change) -> BTreeSet<Cell> {
    let mut all = Vec::new();
    for opening in &before.openings {
        let addresses = before.addresses(&opening.peer);
        let whole = (opening.direction, opening.scope.clone(), addresses, opening.service.clone());
        let Peer::Tier(tier) = &opening.peer else {
            all.push(whole);
            continue;
        };
        let told = change.members.iter().filter(|(name, _)| tier == "*" || *name == tier);
        let told: Vec<_> = told.map(|(_, members)| members).collect();
        let (direction, scope, addresses, service) = whole;
        let same = after.openings.iter().filter(|other| {
            (other.direction, &other.scope, &other.peer)
                == (opening.direction, &opening.scope, &opening.peer)
        });
        let still = same.fold(Service::default(), |all, other| all.union(&other.service));
        let is = after.addresses(&opening.peer);
        let now = told.iter().fold(addresses.clone(), |all, members| {
            all.minus(&members.lost.minus(&is)).union(&members.gained.meet(&is))
        });
        all.push((direction, scope.clone(), now, service.meet(&still)));
        // What isn't both before and after, point by point.
        for point in everything().into_iter().filter(|p| service.holds(*p) && !still.holds(*p)) {
            let mut only = Service::default();
            match (point.port, Transport::of_protocol(point.protocol)) {
                (Some(port), Some(transport)) => {
                    only.ports.insert(transport, vec![port..=port]);
                }
                _ => {
                    only.protocols.insert(point.protocol);
                }
            }
            all.push((direction, scope.clone(), addresses.clone(), only));
        }
    }
    open(&all)
}

/// What a step names, read from its words: tiers as they are in the first policy, those left out as
/// they are in the other.
fn named(step: &Step, [policy, other]: [&Policy; 2]) -> BTreeSet<Cell> {
    let policy = if step.peers.all_but { other } else { policy };
    let tiers = step.peers.tiers.iter().map(|tier| match tier.as_str() {
        "*" => Addresses::of_all_tiers(policy),
        tier => Addresses::of_tier(&policy.tiers[tier]),
    });
    let mut peers: Addresses = tiers.chain([step.peers.addresses.clone()]).collect();
    if step.peers.all_but {
        peers = Addresses::every().minus(&peers);
    }
    // Port 0 is of a protocol, and of no service.
    let read = |text: &str| -> Service {
        let words = text.split(',').map(|word| word.trim().replace("/0-", "/1-"));
        let words: Vec<String> = words.filter(|word| !word.ends_with("/0")).collect();
        if words.is_empty() {
            return Service::default();
        }
        words.join(",").parse().expect("a service")
    };
    let words = step.services.join(",");
    let (all, but) = match words.split_once("any except ") {
        Some((_, but)) => (read("any"), read(but)),
        None => (read(&words), Service::default()),
    };
    let cells = cells().into_iter().filter(|(direction, part, host, point)| {
        let is_part = match (&step.scopes, part) {
            (Scopes::AllBut(parts), Some(part)) => !parts.contains(part),
            (Scopes::Only(parts), Some(part)) => parts.contains(part),
            (Scopes::AllBut(_), None) => true,
            (Scopes::Only(_), None) => false,
        };
        *direction == step.direction
            && is_part
            && peers.contains(*host)
            && all.holds(*point)
            && !but.holds(*point)
    });
    cells.collect()
}

/// What the table itself says of the cells that one packet can stand for.
fn is_open(table: &Ruleset, policy: &Policy, cell: &Cell) -> Option<bool> {
    let (direction, part, peer, point) = cell;
    let own = match part {
        Some(Part::Tier(tier)) => (1..=HOSTS).map(v4).find(|own| {
            NAMES.iter().all(|name| {
                Addresses::of_tier(&policy.tiers[*name]).contains(*own) == (name == tier)
            })
        })?,
        _ => Ipv4Addr::new(192, 0, 2, 1).into(),
    };
    if own.is_ipv4() != peer.is_ipv4() || own == *peer {
        return None;
    }
    let (hook, source, target) = match direction {
        Direction::Input => (Hook::Input, *peer, own),
        Direction::Output => (Hook::Output, own, *peer),
    };
    let port = point.port.unwrap_or_default();
    let (source, target) = (SocketAddr::new(source, 999), SocketAddr::new(target, port));
    let packet = Packet::opening(hook, Transport::Tcp, source, target);
    let ports = packet.ports.filter(|_| point.port.is_some());
    let user = match part {
        Some(Part::User(user)) => Some(*user),
        _ => Some(99),
    };
    let user = user.filter(|_| *direction == Direction::Output);
    let packet = Packet { protocol: point.protocol, ports, user, ..packet };
    let table = table.table.as_ref().expect("a table");
    Some(table.evaluate(&packet).outcome == Outcome::Accept)
}

fn side() -> impl Strategy<Value = Vec<String>> {
    let literal = (1..HOSTS).prop_map(|n| vec![format!("10.0.0.{n}-10.0.0.{}", n + 1)]);
    prop_oneof![
        6 => subsequence(NAMES.to_vec(), 1..=2).prop_map(|t| t.into_iter().map(String::from).collect()),
        1 => Just(vec!["*".into()]),
        1 => Just(vec!["any".into()]),
        1 => literal,
    ]
}

fn some_allow() -> impl Strategy<Value = String> {
    let services = vec!["tcp/1", "tcp/2-4", "tcp/3-6", "udp/1", "gre", "tcp", "any"];
    let service = prop_oneof![3 => subsequence(services[..5].to_vec(), 1..=2), 1 => subsequence(services, 1..=1)];
    let user = select(vec!["", "", "", "user = [1]\n", "user = [1, 7]\n"]);
    (side(), side(), service, user).prop_map(|(from, to, service, user)| {
        let list = |words: &[String]| {
            words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(", ")
        };
        let service: Vec<String> = service.into_iter().map(String::from).collect();
        let user = if from == ["any"] { "" } else { user };
        allow(&list(&from), &list(&to), &list(&service)) + user
    })
}

fn members() -> impl Strategy<Value = Vec<u8>> {
    subsequence((1..=HOSTS).collect::<Vec<u8>>(), 0..=4)
}

/// Two policies that have some of everything in common.
fn two() -> impl Strategy<Value = (Policy, Policy)> {
    let tier = (members(), members(), prop::bool::weighted(0.5))
        .prop_map(|(before, after, same)| (before.clone(), if same { before } else { after }));
    let allow =
        (some_allow(), select(vec![(true, true), (true, true), (true, false), (false, true)]));
    let tiers = prop::collection::vec(tier, NAMES.len());
    (tiers, prop::collection::vec(allow, 0..7)).prop_filter_map("a policy", |(tiers, allows)| {
        let text = |is_after: bool| {
            let mut text = "[tiers]\n".to_owned();
            for (name, (before, after)) in NAMES.iter().zip(&tiers) {
                let members = if is_after { after } else { before };
                let members: Vec<String> =
                    members.iter().map(|n| format!("'10.0.0.{n}'")).collect();
                text += &format!("{name} = [{}]\n", members.join(", "));
            }
            for (allow, (before, after)) in &allows {
                if if is_after { *after } else { *before } {
                    text += allow;
                }
            }
            load_text(Path::new("x.toml"), text, &OPTIONS).policy
        };
        Some((text(false)?, text(true)?))
    })
}

fn some_role() -> impl Strategy<Value = Role> {
    (subsequence(NAMES.to_vec(), 0..=3), any::<bool>()).prop_map(|(tiers, auto)| role(&tiers, auto))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn the_lines_are_the_difference(
        (a, b) in two(),
        role in some_role(),
        is_auto_after in prop::bool::weighted(0.8),
    ) {
        let after_role = Role { auto: role.auto == is_auto_after, ..role.clone() };
        let (old, new) = (compiled(&a, &role), compiled(&b, &after_role));
        let (before, after) = (Reach::of(&old), Reach::of(&new));
        let (was, is) = (open(&openings(&before)), open(&openings(&after)));
        for (table, policy, reach) in [(&old, &a, &was), (&new, &b, &is)] {
            for cell in cells() {
                if let Some(answer) = is_open(table, policy, &cell) {
                    prop_assert_eq!(answer, reach.contains(&cell), "{:?}\n{}", cell, table);
                }
            }
        }
        let change = Change::of(&old, &new);
        let told = format!("{:#?}", change.words(&b, &after_role, &users()).lines());

        // Each line is true.
        let mut now = with_members(&before, &after, &change);
        for step in &change.lost {
            let named = named(step, [&a, &b]);
            prop_assert!(named.is_disjoint(&is), "{step:?} is still open\n{told}\n{old}\n{new}");
            prop_assert!(!named.is_disjoint(&was), "{step:?} was never open\n{told}");
            now = &now - &named;
        }
        for step in &change.gained {
            let named = named(step, [&b, &a]);
            prop_assert!(named.is_subset(&is), "{step:?} isn't open\n{told}\n{new}");
            now = &now | &named;
        }
        // Together they are all.
        prop_assert_eq!(&now, &is, "{}\n{}\n{}", told, old, new);
        // And where nothing differs there is none, but of the addresses this server is reached at.
        let own = |reach: &Reach, policy: &Policy| -> BTreeMap<String, Addresses> {
            let scopes = reach.openings.iter().filter_map(|opening| match &opening.scope {
                Scope::Tiers(tiers) => Some(tiers),
                _ => None,
            });
            scopes.flatten().map(|tier| (tier.clone(), Addresses::of_tier(&policy.tiers[tier]))).collect()
        };
        if was == is && own(&before, &a) == own(&after, &b) {
            let nothing = change.gained.is_empty() && change.lost.is_empty() && change.members.is_empty();
            prop_assert!(nothing, "{}\n{}\n{}", told, old, new);
        }
    }
}
