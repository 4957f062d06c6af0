//! The kernel's tables are read as `nft` lists them.

use super::rules;
use netlink::Connection;
use ruleset::listing::{ListedRule, ListedTable, Listing, Operand, Step, VerdictMap};
use std::fs;
use tierwall_tests::namespace::Namespace;
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;

/// Every form that has a word, in the order of its source.
const FORMS: &str = r#"
table inet filter {
    set web_v4 { type ipv4_addr; flags interval; elements = { 10.0.0.1, 10.0.1.0/24, 10.0.2.1-10.0.2.7, 255.255.255.0/24 }; }
    set web_v6 { type ipv6_addr; flags interval; elements = { 2001:db8::/32, ffff::/16, ::1 }; }
    set ports { type inet_service; elements = { 80, 443 }; }
    set ranges { type inet_service; flags interval; elements = { 1-1024, 60000-65535 }; }
    set pairs { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.1 . 22, 10.0.0.0/24 . 80-90 }; }
    set exact { type ipv6_addr . inet_proto . inet_service; elements = { 2001:db8::1 . tcp . 22 }; }
    set timed { type ipv4_addr; flags timeout; elements = { 10.0.0.1, 10.0.0.2 timeout 1h }; }
    set late { type ipv4_addr; size 10; flags dynamic; }
    set names { type ifname; elements = { "lo", "eth0" }; }
    set people { type uid; elements = { 0, 33 }; }
    map dispatch { type inet_service : verdict; flags interval; elements = { 22 : jump ssh, 80-90 : accept, 91 : drop }; }
    chain ssh {
        ip saddr @web_v4 accept comment "from web"
        return
    }
    chain input {
        type filter hook input priority -5; policy drop;
        ct state established,related accept
        ct state vmap { established : accept, related : accept, invalid : drop }
        ct state { new, untracked } accept
        ct state != invalid accept
        iif lo accept
        iifname "eth0" tcp dport 22 accept
        iifname { "eth1", "lo" } accept
        iifname "wg*" accept
        iifname != "lo" ip daddr 127.0.0.0/8 drop
        iifname @names accept
        meta l4proto { tcp, udp } th dport 53 accept
        meta l4proto . th dport { tcp . 53, udp . 53-55 } accept
        meta l4proto tcp accept
        meta l4proto != icmp accept
        meta nfproto ipv4 accept
        ip saddr . tcp dport @pairs accept
        ip saddr . tcp dport { 10.0.0.1 . 22, 10.0.0.2 . 80 } accept
        ip6 saddr . meta l4proto . th dport @exact accept
        ip6 saddr @web_v6 tcp dport @ports accept
        ip6 saddr 2001:db8::/33 ip6 daddr 2001:db8::1-2001:db8::9 accept
        tcp dport vmap @dispatch
        tcp dport vmap { 22 : goto ssh, 80-90 : jump ssh, 91-99 : drop }
        ip saddr != { 1.2.3.4, 10.0.0.0/8 } tcp dport != 22 counter log prefix "x" drop
        ip saddr != 10.0.0.0/9 tcp dport != 80-90 drop
        ip saddr 10.0.0.0/8 ip daddr 10.1.0.0/16 accept
        tcp dport > 1023 tcp sport < 1024 accept
        limit rate over 10/minute drop
        ip saddr @timed limit rate 10/second accept
        icmp type echo-request accept
        icmpv6 type { nd-neighbor-solicit, nd-router-advert } accept
        ip protocol gre accept
        ip6 nexthdr ah accept
        udp sport 67 udp dport 68 accept
        sctp dport 36412 accept
        ip saddr 10.0.0.0-10.0.0.9 accept
        tcp dport 1000-2000 accept
        tcp dport @ranges accept
        meta nfproto ipv4 reject
        ip6 saddr ::/1 reject with icmpv6 admin-prohibited
        meta l4proto tcp reject with tcp reset
        reject with icmpx admin-prohibited
    }
    chain output {
        type filter hook output priority filter;
        meta skuid { 33, 65534 } accept
        meta skuid 0 oifname "lo" accept
        meta skuid 1000-2000 accept
        meta skuid @people accept
    }
    chain nat { type nat hook postrouting priority srcnat; }
}
table ip filter {
    set s { type ipv4_addr; }
    chain c { type filter hook input priority 0; ip saddr 10.0.0.0/8 tcp dport 22 accept; ip daddr @s reject; }
}
table ip6 filter {
    chain c { type filter hook input priority 0; ip6 saddr fe80::/10 udp dport 546 accept; reject; }
}
"#;

/// The same, in an order that both have.
fn sorted(mut listing: Listing) -> Listing {
    for table in &mut listing.tables {
        for set in table.sets.values_mut() {
            set.elements.sort_by(|a, b| a.key.cmp(&b.key));
            // nft 1.0.6 doesn't say so in JSON.
            set.dynamic = false;
        }
        for rule in table.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
            rule.steps.iter_mut().for_each(sort);
        }
    }
    listing
}

fn sort(step: &mut Step) {
    match step {
        Step::Match { operand: Operand::Keys(keys), .. } => keys.sort(),
        Step::Dispatch { map: VerdictMap::Entries(entries), .. } => entries.sort(),
        _ => {}
    }
}

fn all_rules(table: &ListedTable) -> impl Iterator<Item = (&str, usize, &ListedRule)> {
    table.chains.iter().flat_map(|chain| {
        chain.rules.iter().enumerate().map(|(index, rule)| (chain.name.as_str(), index, rule))
    })
}

fn compare(namespace: &Namespace) {
    let nft = namespace.command("nft", &["-j", "list", "ruleset"]).unwrap();
    let nft = sorted(import::parse(&nft).unwrap());
    let ours = namespace.run(|| Connection::open().unwrap().listing(|_, _| true).unwrap());
    let ours = sorted(ours);
    let names = |listing: &Listing| -> Vec<String> {
        listing.tables.iter().map(|table| format!("{} {}", table.family, table.name)).collect()
    };
    let (mut a, mut b) = (names(&ours), names(&nft));
    a.sort();
    b.sort();
    assert_eq!(a, b);
    for table in &nft.tables {
        let mine = ours.tables.iter().find(|t| t.family == table.family && t.name == table.name);
        let mine = mine.unwrap();
        for (one, other) in all_rules(mine).zip(all_rules(table)) {
            assert_eq!(one, other, "{}\n{}", one.2, other.2);
        }
        assert_eq!(mine, table);
    }
}

#[test]
fn every_common_form_is_read_as_nft_lists_it() {
    let namespace = Namespace::new().unwrap();
    namespace.command_with_input("nft", &["-f", "-"], FORMS).unwrap();
    compare(&namespace);
}

#[test]
fn rules_written_by_hand_are_read_as_nft_lists_them() {
    for scenario in ["strict-three-tier", "first-steps", "egress-allow-list"] {
        let folder = rules(scenario);
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path().display().to_string();
            if fs::read_to_string(&path).unwrap().contains("flush ruleset") {
                let namespace = Namespace::new().unwrap();
                let include = folder.display().to_string();
                namespace.command("nft", &["-I", &include, "-f", &path]).unwrap();
                compare(&namespace);
            }
        }
    }
}

#[test]
fn only_what_is_wanted_is_read_of_what_is_there() {
    let namespace = Namespace::new().unwrap();
    namespace.command_with_input("nft", &["-f", "-"], FORMS).unwrap();
    let listing = namespace.run(|| {
        Connection::open().unwrap().listing(|family, _| family.to_string() == "ip").unwrap()
    });
    let chains: Vec<usize> = listing.tables.iter().map(|table| table.chains.len()).collect();
    assert_eq!(chains, [0, 1, 0]);
}

#[test]
fn the_kernel_is_read_unless_a_file_is_named_and_tierwalls_own_table_is_left_alone() {
    let host = Host::alone("app1", ["10.0.1.20".parse().unwrap()]).unwrap();
    let server = Server::new(&host, "role = \"app\"\n[tiers]\napp = [\"10.0.1.20\"]\n").unwrap();
    let script = "table inet filter { chain c { type filter hook input priority 0; policy drop;
        ip daddr 10.0.1.20 tcp dport 80 accept; }; }";
    host.namespace.command_with_input("nft", &["-f", "-"], script).unwrap();
    let output = server.tierwall(&["import"]).unwrap();
    let policy = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{policy}");
    // The address is the server's only one of its family: the allow needn't name it.
    assert!(policy.contains("= [\"10.0.1.20\"]") && policy.contains("\"0.0.0.0/0\""), "{policy}");

    host.namespace.command("nft", &["flush", "ruleset"]).unwrap();
    let daemon = server.start(&[]).unwrap();
    let output = server.tierwall(&["import"]).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("made by tierwall"), "{told}");
    daemon.stop().unwrap();
}
