//! Whole drafts of rules as administrators write them, each the input of one kind of trouble.

use super::written::imported;
use super::{listing, tierwall};
use std::fs;

/// The draft of these rules of an input chain that drops.
fn of(script: &str) -> String {
    let (text, code) = imported(script, &[]);
    assert_eq!(code, Some(8), "{text}");
    text
}

#[test]
fn limits_of_each_source_and_in_all() {
    insta::assert_snapshot!(of("table inet filter {
        set recent { type ipv4_addr; size 1024; flags dynamic,timeout; timeout 5m; }
        set many { type ipv4_addr; size 1024; flags dynamic; }
        chain input {
            type filter hook input priority 0; policy drop;
            ct state established,related accept
            tcp dport 2222 ct state new update @recent { ip saddr limit rate over 4/minute burst 8 packets } drop
            tcp dport 2222 accept
            tcp dport 8443 add @many { ip saddr ct count over 30 } reject with tcp reset
            tcp dport { 8080, 8443 } accept
            udp dport 514 limit rate over 3 mbytes/second drop
            udp dport 514 accept
        }
    }"));
}

#[test]
fn groups_kinds_of_packets_and_times() {
    insta::assert_snapshot!(of("table inet filter {
        chain input {
            type filter hook input priority filter; policy drop;
            ct state established accept
            meta pkttype multicast ip protocol igmp accept
            ip saddr { 10.3.0.7, 10.3.0.8 } ip daddr 224.0.0.18 ip protocol vrrp accept
            ip6 saddr fe80::/10 ip6 daddr ff02::fb udp dport 5353 accept
            meta mark 0x10 tcp dport 8022 accept
            meta hour \"07:30\"-\"19:00\" ip saddr 10.4.0.0/16 tcp dport 5900 accept
            meta pkttype broadcast drop
        }
    }"));
}

/// A set that only a denial names is no tier, and tables that weren't read are named.
#[test]
fn denials_in_front_and_another_table() {
    let script = "table inet knock {
        chain pre { type filter hook prerouting priority -150; tcp dport 7000 meta mark set 0x7; }
    }
    table ip filter {
        set bogons { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.0/24 }; }
        set staff { type ipv4_addr; flags interval; elements = { 10.5.0.0/24 }; }
        chain INPUT {
            type filter hook input priority 0; policy drop;
            ip saddr @bogons log prefix \"bogon \" drop
            ip saddr 10.20.7.0/24 counter reject with icmp type admin-prohibited
            ct state related,established accept
            ip saddr @staff tcp dport 22 accept
            ip saddr 10.20.0.0/16 tcp dport 443 accept
        }
        chain OUTPUT { type filter hook output priority 0; policy accept; ip daddr @bogons drop; }
    }";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ruleset.json");
    fs::write(&file, listing(script)).unwrap();
    let from = file.display().to_string();
    let output = tierwall(&["import", "--from", &from, "--table", "ip/filter"]);
    let text = String::from_utf8(output.stdout).unwrap().replace(&from, "ruleset.json");
    insta::assert_snapshot!(text);

    // The line that the heading offers is the table's own: output stays open.
    let enforcing = text.lines().find_map(|line| line.strip_prefix("# mode")).unwrap();
    let observing = text.lines().find(|line| line.starts_with("mode")).unwrap();
    let policy = directory.path().join("tierwall.toml");
    fs::write(&policy, text.replace(observing, &format!("mode{enforcing}"))).unwrap();
    let config = policy.display().to_string();
    let out = tierwall(&["--config", &config, "check", "--as", "server"]);
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(0), "{told}");
    assert!(told.contains("everything: this side is off") && !told.contains("would be"), "{told}");
}

/// An allow holds at both ends, for whoever is in a tier that it names. What a host's own table denies,
/// and the other's opens to it, is wider.
#[test]
fn what_an_allow_of_one_host_opens_on_another_is_marked() {
    let table = |input: &str, output: &str| {
        format!(
            "table inet filter {{
                set clients {{ type ipv4_addr; elements = {{ 10.0.0.1, 10.0.0.3, 10.0.0.4, 10.9.0.1 }}; }}
                set db {{ type ipv4_addr; elements = {{ 10.0.0.2 }}; }}
                chain input {{ type filter hook input priority 0; policy drop;
                    {input}
                }}
                chain output {{ type filter hook output priority 0; {output}
                }}
            }}"
        )
    };
    let hosts = [
        // Who may come in by an address, or as anybody, gets nothing by it.
        (
            "web1",
            "10.0.0.1",
            table(
                "tcp dport 443 accept; ip saddr 10.0.0.2 tcp dport 80 accept",
                "policy drop; ip daddr @db tcp dport { 22, 5432 } accept",
            ),
        ),
        // web1 opened that itself; bad1 did not.
        ("db1", "10.0.0.2", table("ip saddr @clients tcp dport 5432 accept", "policy drop;")),
        // Its output was open: nothing is wider there.
        ("ops1", "10.0.0.3", table("tcp dport 22 accept", "policy accept;")),
        (
            "bad1",
            "10.0.0.4",
            table("", "policy drop; meta skuid 7 ip daddr @db tcp dport 5432 accept"),
        ),
    ];
    let directory = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (host, address, script) in hosts {
        let addresses = format!(
            r#"[{{"ifname":"eth0","addr_info":[{{"local":"{address}","scope":"global"}}]}}]"#
        );
        let file = directory.path().join(format!("{host}.json"));
        fs::write(&file, format!("{}\n{addresses}\n", listing(&script))).unwrap();
        files.push(file.display().to_string());
    }
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let output = tierwall(&[&["import"][..], &files].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(8), "{told}");
    assert!(told.contains("2 allows are WIDER than the table"), "{told}");
    let text = String::from_utf8(output.stdout).unwrap();

    // The policy does what the marks say.
    let policy = directory.path().join("tierwall.toml");
    fs::write(&policy, text.replace("\"observe\"", "\"enforce\"")).unwrap();
    let config = policy.display().to_string();
    let code = |from: &str, to: &str, service: &str, at: &str| {
        let question = ["explain", "--from", from, "--to", to, "--service", service, "--as", at];
        tierwall(&[&["--config", &config][..], &question].concat()).status.code()
    };
    assert_eq!(code("10.0.0.4", "10.0.0.2", "tcp/5432", "10.0.0.2"), Some(0), "{text}");
    assert_eq!(code("10.0.0.1", "10.0.0.2", "tcp/22", "10.0.0.2"), Some(0), "{text}");
    assert_eq!(code("10.0.0.2", "10.0.0.1", "tcp/80", "10.0.0.1"), Some(9), "{text}");

    let text = text.replace(&format!("{}/", directory.path().display()), "");
    insta::assert_snapshot!(text.split_once("[tiers]").unwrap().1);
    // A host alone opens nothing elsewhere.
    assert_eq!(tierwall(&["import", files[0]]).status.code(), Some(0));
}
