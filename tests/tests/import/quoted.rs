//! Rules are quoted as `nft list ruleset` prints them, whichever way they came here: people look for
//! them in what they wrote.

use netlink::Connection;
use ruleset::listing::Listing;
use std::process::Command;
use tierwall_tests::binaries;
use tierwall_tests::namespace::Namespace;

/// Rules in the words of `nft`.
const RULES: &str = r#"
        iif "lo" accept
        iifname { "wg0", "wg1", "tap0" } tcp dport 22 accept
        iifname "tap*" udp dport 53 accept
        iifname != "eth0" tcp dport 9100 accept
        iifgroup 1 accept
        meta pkttype multicast ip protocol igmp accept
        meta pkttype { host, broadcast } accept
        meta pkttype != host drop
        meta mark 0x0000007a tcp dport 2222 accept
        meta mark { 0x00000001, 0x00000002 } accept
        meta mark 0x00000001-0x00000007 accept
        meta mark & 0x000000ff == 0x00000007 accept
        meta mark & 0x000000ff != 0x00000007 accept
        ct mark 0x00000003 accept
        meta hour "08:00"-"18:00" ip saddr 10.30.0.0/16 tcp dport 3389 accept
        meta hour "08:00:30"-"18:00" accept
        meta day "Saturday" accept
        meta day { "Sunday", "Saturday" } accept
        meta skgid 33 accept
        meta protocol ip accept
        ip ttl 1 accept
        ip frag-off & 8191 != 0 drop
        icmp code port-unreachable accept
        icmp type { echo-reply, destination-unreachable, echo-request } accept
        ct direction original accept
        ct status dnat accept
        ct status & dnat == dnat accept
        ct state established ct direction reply accept
        ct state vmap { invalid : drop, established : accept, related : accept }
        ct original ip daddr 10.0.0.1 accept
        tcp flags syn accept
        tcp flags & syn == syn accept
        tcp flags ! syn drop
        tcp flags syn / fin,syn,rst,ack accept
        tcp flags != syn / fin,syn,rst,ack ct state new drop
        tcp flags { syn, ack } accept
        tcp dport 22 limit rate 3/minute accept
        limit rate 3/hour burst 20 packets accept
        limit rate over 10 mbytes/second drop
        limit rate 512 kbytes/second burst 1025 kbytes accept
        limit rate over 10 bytes/day burst 30 bytes drop
        log
        log prefix "ssh " accept
        log prefix "in: " level info drop
        log group 5 drop
        log flags all drop
        log level debug flags tcp sequence,options flags ip options drop
        log prefix "x" group 2 snaplen 100 queue-threshold 3
        tcp dport 22 ct state new add @slow { ip saddr limit rate over 10/minute } drop
        update @slow { ip saddr timeout 1m30s limit rate over 10/minute burst 15 packets } drop
        tcp dport 443 add @open { ip saddr ct count over 50 } reject with tcp reset
        ct state new update @slow6 { ip6 saddr } accept
        add @slow { ip saddr counter } accept
        ct count 5 accept
        ct count over 5 drop
        quota over 10 mbytes drop
        fib daddr type local accept
        fib daddr type { broadcast, multicast } drop
        fib saddr . iif oif missing drop
        meta mark set 0x00000007
        meta mark set ct mark
        ct mark set meta mark
        meta l4proto { igmp, ospf, pim, vrrp } accept
        ip saddr { 10.0.0.11, 10.0.0.12 } ip daddr 224.0.0.18 ip protocol vrrp accept
        ip saddr 10.0.0.1 reject with icmp host-prohibited
        reject with icmpx admin-prohibited
        reject
        tcp dport 113 reject with tcp reset
"#;

/// And of a table of one family.
const OF_IPV4: &str = "
        ip saddr 10.0.0.1 reject
        reject with icmp host-unreachable
";

/// Sets that the rules fill.
const SETS: &str = "
    set slow { type ipv4_addr; size 16; flags dynamic,timeout; timeout 1m; }
    set slow6 { type ipv6_addr; size 16; flags dynamic,timeout; timeout 1m; }
    set open { type ipv4_addr; size 16; flags dynamic; }";

fn loaded() -> Namespace {
    let namespace = Namespace::new().unwrap();
    let script = format!(
        "table inet filter {{{SETS}
            chain input {{ type filter hook input priority 0; policy drop;{RULES}}}
         }}
         table ip filter {{
            chain input {{ type filter hook input priority 0; policy drop;{OF_IPV4}}}
         }}"
    );
    namespace.command_with_input("nft", &["-f", "-"], &script).unwrap();
    namespace
}

fn quotes(listing: &Listing) -> Vec<String> {
    let chains = listing.tables.iter().flat_map(|table| &table.chains);
    chains.flat_map(|chain| &chain.rules).map(ToString::to_string).collect()
}

/// The rules that are quoted in other words, as they are written and as they are quoted.
fn misquoted(listing: &Listing) -> Vec<(String, String)> {
    let (written, quoted) = (written(), quotes(listing));
    assert_eq!(written.len(), quoted.len());
    written.into_iter().zip(quoted).filter(|(one, other)| one != other).collect()
}

fn written() -> Vec<String> {
    let lines = RULES.lines().chain(OF_IPV4.lines()).map(|line| line.trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn as_nft_prints_them() {
    let namespace = loaded();
    // The list above is what nft prints, and not only what it takes.
    let printed = namespace.command("nft", &["-s", "list", "ruleset"]).unwrap();
    let printed: Vec<&str> = printed.lines().map(str::trim).collect();
    for rule in written() {
        assert!(printed.contains(&rule.as_str()), "{rule}");
    }

    let json = namespace.command("nft", &["-j", "list", "ruleset"]).unwrap();
    assert_eq!(misquoted(&import::parse(&json).unwrap()), [], "of nft's JSON");
    let kernel = namespace.run(|| Connection::open().unwrap().listing(|_, _| true).unwrap());
    assert_eq!(misquoted(&kernel), [], "of the kernel");
}

/// nft loads and prints times of day by the local clock; the kernel has them in UTC.
#[test]
fn times_of_day_by_the_local_clock() {
    let namespace = Namespace::new().unwrap();
    let rule = "meta hour \"12:00\"-\"18:30\" tcp dport 3389 accept";
    let script = format!(
        "table inet filter {{
            chain input {{ type filter hook input priority 0; policy drop;
                {rule}
            }}
         }}"
    );
    let zone = [("TZ", "EAST-5:30")];
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).envs(zone);
        namespace.run(|| command.output().unwrap())
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    assert!(run("nft", &["-f", &file.path().display().to_string()]).status.success());
    let tierwall = binaries::find("tierwall").unwrap().display().to_string();
    let draft = String::from_utf8(run(&tierwall, &["import"]).stdout).unwrap();
    assert!(draft.contains(&format!("# not imported: {rule} (an allow")), "{draft}");
}
