//! What others have on the hooks, as `nft` and `iptables-nft` make it.

use netlink::survey::{End, Family, Matches, Rule, Survey, Table};
use netlink::{Connection, links};
use ruleset::{Hook, Policy};
use std::collections::BTreeSet;
use tierwall_tests::namespace::Namespace;

fn survey(namespace: &Namespace) -> Survey {
    namespace.run(|| Connection::open().unwrap().survey().unwrap())
}

fn loaded(program: &str, arguments: &[&str], text: &str) -> Survey {
    let namespace = Namespace::new().unwrap();
    namespace.command_with_input(program, arguments, text).unwrap();
    survey(&namespace)
}

fn nft(text: &str) -> Survey {
    loaded("nft", &["-f", "-"], text)
}

#[track_caller]
fn table<'s>(survey: &'s Survey, family: Family, name: &str) -> &'s Table {
    survey.tables.get(&(family, name.to_owned())).expect("the table")
}

fn decisions(rules: &[Rule]) -> Vec<(Matches, Option<End>)> {
    rules.iter().map(|rule| (rule.matches, rule.end.clone())).collect()
}

#[test]
fn an_empty_namespace_has_none() {
    assert_eq!(survey(&Namespace::new().unwrap()), Survey::default());
}

#[test]
fn tables_of_all_families_are_told_apart() {
    let survey = nft(
        "table inet a { comment \"x\"; chain c { type filter hook input priority -5; policy drop; }; }
         table ip a { flags dormant; chain c { type nat hook prerouting priority dstnat; }; }
         table ip6 a { chain plain { }; }
         table arp a { chain c { type filter hook output priority 1; }; }
         table bridge a { chain c { type filter hook forward priority 2; }; }
         table netdev a { chain c { type filter hook ingress device lo priority 3; }; }",
    );
    let families = [Family::Inet, Family::Ip, Family::Ip6, Family::Arp, Family::Bridge];
    for family in families.into_iter().chain([Family::Netdev]) {
        assert_eq!(table(&survey, family, "a").dormant, family == Family::Ip, "{family}");
    }
    assert_eq!(survey.tables.len(), 6);
    let inet = table(&survey, Family::Inet, "a");
    assert_eq!(inet.comment.as_deref(), Some("x"));
    let base = inet.chains["c"].base.as_ref().unwrap();
    assert_eq!((base.hook, base.priority, base.policy), (Hook::Input, -5, Policy::Drop));
    assert_eq!(table(&survey, Family::Ip, "a").chains["c"].base.as_ref().unwrap().kind, "nat");
    assert_eq!(table(&survey, Family::Ip6, "a").chains["plain"].base, None);
    assert_eq!(table(&survey, Family::Netdev, "a").chains["c"].devices, ["lo"]);
}

#[test]
fn rules_say_where_packets_go_and_which() {
    let survey = nft("table inet t {
            limit rare { rate 1/minute; }
            counter hits { packets 0 bytes 0; }
            chain other { }
            chain in {
                type filter hook input priority 0;
                counter
                log prefix \"x\"
                meta mark set 1
                tcp dport 23 drop
                ct state invalid drop
                iif lo ct state invalid counter drop
                ct state != invalid drop
                meta nfproto ipv6 fib saddr . iif oif missing drop
                fib saddr . iif oif missing drop
                fib daddr type local drop
                limit rate 10/second accept
                ip saddr { 10.0.0.1, 10.0.0.2 } reject
                limit name \"rare\" drop
                counter name \"hits\" jump other
                goto other
                reject with icmpx admin-prohibited
                drop
            }
        }");
    let rules = &table(&survey, Family::Inet, "t").chains["in"].rules;
    let other = || "other".to_owned();
    assert_eq!(
        decisions(rules),
        [
            (Matches::All, None),
            (Matches::All, None),
            (Matches::All, None),
            (Matches::Some, Some(End::Drop)),
            (Matches::Invalid, Some(End::Drop)),
            (Matches::Invalid, Some(End::Drop)),
            (Matches::Some, Some(End::Drop)),
            (Matches::BadSource { v4: false, v6: true }, Some(End::Drop)),
            (Matches::BadSource { v4: true, v6: true }, Some(End::Drop)),
            (Matches::Some, Some(End::Drop)),
            (Matches::Some, Some(End::Accept)),
            (Matches::Some, Some(End::Reject)),
            (Matches::Some, Some(End::Drop)),
            (Matches::All, Some(End::Jump(other()))),
            (Matches::All, Some(End::Goto(other()))),
            (Matches::All, Some(End::Reject)),
            (Matches::All, Some(End::Drop)),
        ]
    );
}

#[test]
fn verdict_maps_are_read_for_their_verdicts() {
    let survey = nft(
        "table inet t {
            map named { type ipv4_addr . inet_service : verdict; elements = { 10.0.0.1 . 22 : drop }; }
            chain a { }
            chain b { }
            chain in {
                ct state vmap { invalid : drop, established : accept }
                ct state vmap { new : drop, established : accept }
                tcp dport vmap { 22 : jump a, 80-90 : goto b, 91 : jump a }
                ip saddr . tcp dport vmap @named
            }
        }",
    );
    let table = table(&survey, Family::Inet, "t");
    let ends: Vec<BTreeSet<End>> =
        table.chains["in"].rules.iter().map(|rule| table.maps[&rule.maps[0]].clone()).collect();
    let expected = [
        BTreeSet::from([End::Accept]),
        BTreeSet::from([End::Accept, End::Drop]),
        BTreeSet::from([End::Jump("a".into()), End::Goto("b".into())]),
        BTreeSet::from([End::Drop]),
    ];
    assert_eq!(ends, expected);
}

#[test]
fn what_iptables_writes_through_nf_tables_is_understood() {
    let survey = loaded(
        "iptables-nft-restore",
        &[],
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:MINE - [0:0]\n\
         -A INPUT -m addrtype --dst-type LOCAL -j DROP\n\
         -A INPUT -p tcp --dport 23 -j REJECT --reject-with tcp-reset\n\
         -A INPUT -j LOG\n-A INPUT -j MINE\n-A INPUT -j REJECT\n-A MINE -j RETURN\nCOMMIT\n",
    );
    let table = table(&survey, Family::Ip, "filter");
    let policy = |chain: &str| table.chains[chain].base.as_ref().unwrap().policy;
    assert_eq!((policy("INPUT"), policy("FORWARD")), (Policy::Accept, Policy::Drop));
    assert_eq!(
        decisions(&table.chains["INPUT"].rules),
        [
            (Matches::Some, Some(End::Drop)),
            (Matches::Some, Some(End::Reject)),
            (Matches::All, None),
            (Matches::All, Some(End::Jump("MINE".into()))),
            (Matches::All, Some(End::Reject)),
        ]
    );
    assert_eq!(decisions(&table.chains["MINE"].rules), [(Matches::All, Some(End::Return))]);
}

#[test]
fn interfaces_are_those_of_the_namespace() {
    let namespace = Namespace::new().unwrap();
    namespace.command("ip", &["link", "add", "docker0", "type", "bridge"]).unwrap();
    let found = namespace.run(|| links().unwrap());
    let found: Vec<_> = found
        .iter()
        .map(|link| (link.name.as_str(), link.kind.as_deref(), link.up, link.loopback))
        .collect();
    assert_eq!(found, [("lo", None, true, true), ("docker0", Some("bridge"), false, false)]);
}
