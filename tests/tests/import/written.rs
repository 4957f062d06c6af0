//! The policy as it is written: a form of rule each, and what becomes of it.

use super::{listing, tierwall};
use std::fs;

/// The policy that a table becomes, without its heading, and the exit code.
pub(super) fn imported(script: &str, arguments: &[&str]) -> (String, Option<i32>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ruleset.json");
    fs::write(&file, listing(script)).unwrap();
    let from = file.display().to_string();
    let output = tierwall(&[&["import", "--from", &from], arguments].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let policy = directory.path().join("tierwall.toml");
    fs::write(&policy, &text).unwrap();
    let policy = policy.display().to_string();
    let role = arguments.iter().skip_while(|word| **word != "--role").nth(1).unwrap_or(&"server");
    let check = tierwall(&["--config", &policy, "check", "--as", role]);
    let told = String::from_utf8_lossy(&check.stderr);
    assert_eq!(check.status.code(), Some(0), "{told}\n{text}");
    (text.split_once("\n\n").unwrap().1.to_owned(), output.status.code())
}

/// `rules` in an input chain that drops.
fn input(declarations: &str, rules: &str) -> (String, Option<i32>) {
    let script = format!(
        "table inet filter {{
            {declarations}
            chain input {{
                type filter hook input priority filter; policy drop;
                {rules}
            }}
        }}"
    );
    let (text, code) = imported(&script, &[]);
    (text.split_once("policy drop\n\n").unwrap().1.to_owned(), code)
}

#[test]
fn a_drop_in_front_of_an_accept_is_taken_out_of_it() {
    let (text, code) = input(
        "",
        "ip saddr 10.0.0.7 drop
         ip saddr 10.0.0.0/24 tcp dport 22 accept
         tcp dport 25 drop
         ip saddr 10.0.1.0/24 tcp dport 20-30 accept
         ip saddr != 10.2.0.0/16 tcp dport 5432 drop
         ip saddr 10.0.0.0/8 tcp dport 5432 accept",
    );
    insta::assert_snapshot!(text);
    assert_eq!(code, Some(0));
}

#[test]
fn a_drop_that_cannot_be_taken_out_is_marked_at_both_places() {
    let (text, code) = input(
        "set blocked { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }
         set staff { type ipv4_addr; elements = { 10.0.0.1 }; }",
        "ip saddr @blocked drop
         limit rate over 100/second drop
         tcp dport 443 accept comment \"web\"
         ip saddr @staff tcp dport 22 accept",
    );
    insta::assert_snapshot!(text);
    assert_eq!(code, Some(8));
}

#[test]
fn what_a_later_chain_of_the_hook_drops_is_taken_out() {
    let script = "table inet filter {
        chain input {
            type filter hook input priority 0; policy drop;
            tcp dport 22 accept
        }
        chain late {
            type filter hook input priority 10;
            ip saddr 203.0.113.0/24 drop
        }
    }";
    let (text, code) = imported(script, &[]);
    insta::assert_snapshot!(text);
    assert_eq!(code, Some(0));
}

#[test]
fn of_two_tables_that_deny_one_is_the_list_in_each_family() {
    let table = |name: &str, rules: &str| {
        format!(
            "table {name} {{
                chain input {{
                    type filter hook input priority 0; policy drop;
                    {rules}
                }}
            }}\n"
        )
    };
    let (ssh, web) = ("tcp dport 22 accept", "tcp dport 80 accept; tcp dport 443 accept");
    let both = table("inet filter", ssh) + &table("ip filter", web);
    let (text, code) = imported(&both, &["--table", "inet/filter", "--table", "ip/filter"]);
    insta::assert_snapshot!(text);
    assert_eq!(code, Some(8));

    let apart = table("ip filter", ssh) + &table("ip6 filter", web);
    let (text, code) = imported(&apart, &["--table", "ip/filter", "--table", "ip6/filter"]);
    insta::assert_snapshot!(text);
    assert_eq!(code, Some(0));
}

#[test]
fn what_a_policy_cannot_say_stays_as_a_comment() {
    let (text, code) = input(
        "set late { type ipv4_addr; flags dynamic; size 10; }",
        "iifname \"eth1\" tcp dport 22 accept
         meta mark 7 accept
         tcp sport 20 accept
         ip daddr 10.0.0.1 tcp dport 80 accept
         tcp dport 22 limit rate 3/minute accept
         ct state invalid accept
         ip saddr @late accept
         meta skuid 0 tcp dport 1 accept
         icmp type timestamp-request accept
         meta l4proto != tcp accept
         add @late { ip saddr }
         tcp flags & (fin | syn) == (fin | syn) drop",
    );
    insta::assert_snapshot!(text);
    assert_eq!(code, Some(8));
}

#[test]
fn what_tierwall_does_anyway_needs_no_allow() {
    let (text, code) = input(
        "",
        "ct state vmap { established : accept, related : accept, invalid : drop }
         iif lo accept
         iif != lo ip daddr 127.0.0.0/8 drop
         meta l4proto { icmp, ipv6-icmp } accept
         ip saddr 10.0.0.0/8 icmp type echo-request limit rate 5/second accept
         icmpv6 type { nd-neighbor-solicit, mld-listener-query } accept
         icmp type redirect drop
         udp sport 67 udp dport 68 accept
         ip6 saddr fe80::/10 udp dport 546 accept",
    );
    insta::assert_snapshot!(text);
    assert_eq!(code, Some(8), "an echo request passes without the limit");
}

#[test]
fn jumps_gotos_and_returns_are_followed() {
    let (text, code) = input(
        "map ports { type inet_service : verdict; elements = { 22 : jump ssh, 23 : drop }; }
         chain ssh { ip saddr 10.0.0.1 return; ip saddr 10.0.0.0/24 accept; }
         chain web { ip saddr 10.9.0.0/16 drop; accept; }
         chain trusted { accept; }",
        "tcp dport vmap @ports
         tcp dport { 80, 443 } goto web
         ip saddr 10.1.0.0/16 tcp dport 20-25 jump trusted
         ip saddr 10.0.0.1 tcp dport 22-25 accept
         tcp dport 80 accept",
    );
    insta::assert_snapshot!(text);
    assert_eq!(code, Some(0));
}

#[test]
fn sets_become_tiers_and_services() {
    let script = "table inet filter {
        set web_v4 { type ipv4_addr; flags interval; elements = { 10.0.0.1-10.0.0.9 }; }
        set web_v6 { type ipv6_addr; elements = { 2001:db8::1 }; }
        set db4 { type ipv4_addr; elements = { 10.0.1.1 }; }
        set db6 { type ipv6_addr; elements = { 2001:db8:1::1 }; }
        set any { type ipv4_addr; elements = { 10.0.2.1 }; }
        set Third { type ipv4_addr; flags timeout; elements = { 10.0.3.1, 10.0.3.2 timeout 1h }; }
        set pairs { type ipv4_addr . inet_service; elements = { 10.0.4.1 . 22, 10.0.4.2 . 80 }; }
        set admin_ports { type inet_service; elements = { 22, 8443 }; }
        chain input {
            type filter hook input priority filter; policy drop;
            ip saddr @web_v4 tcp dport @admin_ports accept
            ip6 saddr @web_v6 tcp dport @admin_ports accept
            ip saddr @db4 accept
            ip saddr @any tcp dport 25 accept
            ip saddr . tcp dport @pairs accept
            meta l4proto . th dport { tcp . 53, udp . 53 } accept
        }
        chain output {
            type filter hook output priority filter; policy drop;
            meta skuid { 33, 34 } ip daddr @db4 tcp dport 5432 accept
            reject
        }
    }";
    let (text, code) = imported(script, &[]);
    insta::assert_snapshot!(text);
    assert_eq!(code, Some(8), "a member that ends isn't imported");
    let (text, _) = imported(
        &script.replace("accept\n            ip saddr @db4 accept", "accept"),
        &["--role", "web"],
    );
    assert!(text.starts_with("role    = \"web\"\n"), "{text}");
    assert!(text.contains("to      = \"web\""), "{text}");
}

#[test]
fn the_end_of_a_chain_is_the_mode() {
    let chain = |policy: &str, rules: &str| {
        let script = format!(
            "table inet filter {{
            chain c {{
                type filter hook input priority 0; policy {policy};
                tcp dport 22 accept
                {rules}
            }}
            chain f {{ type filter hook forward priority 0; policy {policy}; }}
            }}"
        );
        imported(&script, &[])
            .0
            .lines()
            .skip(1)
            .take_while(|l| !l.is_empty())
            .collect::<Vec<_>>()
            .join("; ")
    };
    let deny = |input| format!("deny    = {{ input = \"{input}\", output = \"reject\" }}");
    let mode = |input| format!("mode    = {{ input = \"{input}\", output = \"off\" }}");
    assert_eq!(chain("drop", ""), mode("observe"));
    assert_eq!(
        chain("drop", "meta l4proto tcp reject with tcp reset"),
        format!("{}; {}", mode("observe"), deny("reject"))
    );
    assert_eq!(
        chain("accept", "reject"),
        format!("{}; {}; forward = \"accept\"", mode("observe"), deny("reject"))
    );
    assert_eq!(
        chain("accept", "counter drop"),
        format!("{}; forward = \"accept\"", mode("observe"))
    );
    assert_eq!(
        chain("accept", "log prefix \"would deny \""),
        format!("{}; forward = \"accept\"", mode("observe"))
    );
    assert_eq!(chain("accept", ""), "mode    = \"off\"; forward = \"accept\"");
}

#[test]
fn another_listing_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x");
    let path = file.display().to_string();
    for (text, told) in [
        ("table inet filter {", "this is not JSON"),
        ("{}", "there is no list `nftables`"),
        ("{\"nftables\":[]}", "there is no table inet/filter"),
        (
            "{\"nftables\":[{\"rule\":{\"family\":\"inet\",\"table\":\"f\",\"chain\":\"c\"}}]}",
            "chain that was listed",
        ),
        (
            "{\"nftables\":[{\"table\":{\"family\":\"inet\",\"name\":\"filter\"}}]}",
            "type filter on input or output",
        ),
        (
            "{\"nftables\":[{\"table\":{\"family\":\"ip\",\"name\":\"filter\"}}]}",
            "--table ip/filter",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let output = tierwall(&["import", "--from", &path]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(told), "{error}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    }
}

#[test]
fn a_file_that_is_there_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("x"), directory.path().join("tierwall.toml"));
    let script =
        "table inet filter { chain c { type filter hook input priority 0; policy drop; }; }";
    fs::write(&from, listing(script)).unwrap();
    let (from, into) = (from.display().to_string(), to.display().to_string());
    let arguments = ["import", "--from", from.as_str(), "-o", into.as_str(), "--json"];
    let output = tierwall(&arguments);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((answer["whole"].as_bool(), answer["policy"].as_str()), (Some(true), None));
    let written = fs::read_to_string(&to).unwrap();
    let output = tierwall(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&to).unwrap(), written);
}

/// As firewalld writes its zones.
#[test]
fn zones_of_firewalld_give_tiers_their_names() {
    let script = "table inet firewalld {
        chain filter_INPUT {
            type filter hook input priority filter + 10; policy accept;
            ct state established,related accept
            iifname \"lo\" accept
            jump filter_INPUT_ZONES
            reject with icmpx admin-prohibited
        }
        chain filter_INPUT_ZONES {
            ip saddr 10.0.0.0/8 goto filter_IN_internal
            ip6 saddr 2001:db8::/32 goto filter_IN_staff
            ip saddr 192.0.2.0/24 goto filter_IN_work
            goto filter_IN_public
        }
        chain filter_IN_internal { tcp dport 22 accept; tcp dport 5432 accept; }
        chain filter_IN_staff { tcp dport 22 accept; }
        chain filter_IN_work { tcp dport 80 accept; }
        chain filter_IN_public { tcp dport 443 accept; }
    }";
    let (text, _) = imported(script, &["--table", "inet/firewalld"]);
    for part in [
        "internal = [\"10.0.0.0/8\"]",
        "from    = [\"internal\", \"staff\"]\nto      = \"server\"\nservice = \"tcp/22\"",
        "from    = \"internal\"\nto      = \"server\"\nservice = \"tcp/5432\"",
        "from    = \"work\"\nto      = \"server\"\nservice = \"tcp/80\"",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

/// What nobody has to read is told in a line, and what is wider never hides in it.
#[test]
fn many_rules_that_are_built_in_take_one_line() {
    let (text, code) = input(
        "",
        "icmpv6 type nd-neighbor-solicit accept
         icmpv6 type nd-neighbor-advert accept
         icmpv6 type nd-router-advert accept
         icmpv6 type nd-router-solicit accept
         icmpv6 type mld-listener-query accept
         icmp type echo-request limit rate 5/second accept
         ip daddr 224.0.0.18 ip protocol vrrp accept",
    );
    insta::assert_snapshot!(text);
    assert_eq!(code, Some(8));
}

/// Hosts with the same rules share a tier, and so do sets that are the same; each is found by its
/// addresses.
#[test]
fn the_rules_of_several_hosts_become_one_policy() {
    let web = "table inet filter {
        set db { type ipv4_addr; elements = { 10.0.0.30 }; }
        set admin { type ipv4_addr; elements = { 10.0.9.1 }; }
        chain input {
            type filter hook input priority filter; policy drop;
            ip saddr @admin tcp dport 22 accept
            tcp dport 443 accept
        }
        chain output {
            type filter hook output priority filter; policy drop;
            ip daddr @db tcp dport 5432 accept
        }
    }";
    let db = "table inet filter {
        set admin { type ipv4_addr; elements = { 10.0.9.1 }; }
        set peers { type ipv4_addr; elements = { 10.0.0.11, 10.0.0.12 }; }
        chain input {
            type filter hook input priority filter; policy drop;
            ip saddr @admin tcp dport 22 accept
            ip saddr @peers tcp dport 5432 accept
        }
        chain output { type filter hook output priority filter; policy drop; }
    }";
    let directory = tempfile::tempdir().unwrap();
    let mut arguments = vec!["import".to_owned()];
    for (host, script, address) in
        [("web1", web, "10.0.0.11"), ("web2", web, "10.0.0.12"), ("db1", db, "10.0.0.30")]
    {
        let addresses = format!(
            r#"[{{"ifname":"lo","addr_info":[{{"local":"127.0.0.1","scope":"host"}}]}},{{"ifname":"eth0","addr_info":[{{"local":"{address}","scope":"global"}}]}}]"#
        );
        let file = directory.path().join(format!("{host}.json"));
        fs::write(&file, format!("{}\n{addresses}\n", listing(script))).unwrap();
        arguments.push(file.display().to_string());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = tierwall(&arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let text = String::from_utf8(output.stdout).unwrap();
    let policy = directory.path().join("tierwall.toml");
    fs::write(&policy, text.replace("\"observe\"", "\"enforce\"")).unwrap();
    let config = policy.display().to_string();
    for (from, to, service, code) in [
        ("10.0.9.1", "web1", "tcp/22", 0),
        ("10.0.9.1", "db1", "tcp/22", 0),
        ("8.8.8.8", "web2", "tcp/443", 0),
        ("web1", "db1", "tcp/5432", 0),
        ("web2", "db1", "tcp/22", 9),
        ("8.8.8.8", "db1", "tcp/5432", 9),
    ] {
        let address = |host: &str| match host {
            "web1" => "10.0.0.11".to_owned(),
            "web2" => "10.0.0.12".to_owned(),
            "db1" => "10.0.0.30".to_owned(),
            other => other.to_owned(),
        };
        let (from, to) = (address(from), address(to));
        let question = ["explain", "--as", &to, "--from", &from, "--to", &to, "--service", service];
        let answer = tierwall(&[&["--config", &config][..], &question].concat());
        let said = String::from_utf8_lossy(&answer.stdout);
        assert_eq!(answer.status.code(), Some(code), "{from} to {to}: {said}\n{text}");
    }
    let text = text.split_once("\n\n").unwrap().1.replace(&*directory.path().to_string_lossy(), "");
    insta::assert_snapshot!(text);
}
