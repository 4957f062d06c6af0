//! Others who filter, as they are.

use super::*;
use netlink::Connection;
use netlink::survey::Family;
use std::process::Stdio;
use tierwall_tests::firewalld::Firewalld;

fn nft(server: &Server, script: &str) {
    server.host().namespace.command_with_input("nft", &["-f", "-"], script).unwrap();
}

#[test]
fn firewalld_is_named_with_the_chains_that_deny() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let firewalld = Firewalld::start(&host).unwrap();
    let found = found(&server);
    assert_eq!(found[0], "warning firewalld");
    assert_eq!(finding(&server, "firewalld")["what"], "firewalld is active here");
    let denials = found.iter().filter(|line| *line == "warning foreign-drop");
    assert_eq!(denials.count(), 1, "input only; forward matters where it is accepted: {found:?}");
    let chain = finding(&server, "foreign-drop");
    let what = chain["what"].as_str().unwrap();
    assert!(what.contains("table inet firewalld, chain filter_INPUT (hook input"), "{what}");
    let running = finding(&server, "firewalld");
    let advice = running["advice"].as_str().unwrap();
    assert!(advice.contains("tierwall import --table inet/firewalld"), "{advice}");
    let details: Vec<&str> =
        running["details"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert!(details.contains(&"table inet firewalld"), "{details:?}");
    assert!(details.contains(&"process firewalld runs"), "{details:?}");
    drop(firewalld);
    // It was told to leave its table.
    assert_eq!(finding(&server, "firewalld")["what"], "firewalld has rules here");
}

#[test]
fn docker_asks_for_forward_to_be_unmanaged() {
    let (_network, host) = host(&["10.10.1.20"]);
    let namespace = &host.namespace;
    let links = "link add docker0 type bridge\nlink set docker0 up\n";
    namespace.command_with_input("ip", &["-batch", "-"], links).unwrap();
    namespace.sysctl("net.ipv4.ip_forward", "1").unwrap();
    let rules = include_str!("../../data/docker.iptables");
    namespace.command_with_input("iptables-nft-restore", &[], rules).unwrap();
    let server = server(&host, POLICY);
    assert_eq!(
        found(&server),
        ["warning forwarding", "note docker", "note foreign-drop-some", "note daemon-away"]
    );
    assert_text!("docker", server);
    server.write("tierwall.toml", format!("forward = \"unmanaged\"\n{POLICY}")).unwrap();
    assert_eq!(
        found(&server),
        ["note docker", "note foreign-drop-some", "note daemon-away", "note forwarding-open"]
    );
    // Now its chains deny what the policy accepts.
    server.write("tierwall.toml", format!("forward = \"accept\"\n{POLICY}")).unwrap();
    assert!(found(&server).contains(&"warning foreign-drop".to_owned()));
}

#[test]
fn chains_of_others_are_named_with_where_they_deny() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    nft(
        &server,
        "table ip6 mine {
            chain last { ct state established accept; reject; }
            chain in { type filter hook input priority -10; jump last; }
        }
        table inet mine {
            map ports { type inet_service : verdict; elements = { 23 : drop }; }
            chain out { type filter hook output priority 10; tcp dport vmap @ports; }
            chain pre { type filter hook prerouting priority raw; ct state invalid drop; }
            chain paths { type filter hook prerouting priority -310; fib saddr . iif oif missing drop; }
            chain asleep { type filter hook input priority 20; policy accept; }
        }
        table ip asleep {
            flags dormant
            chain in { type filter hook input priority 0; policy drop; }
        }",
    );
    assert_eq!(
        found(&server),
        ["warning foreign-drop-some", "warning foreign-drop", "note daemon-away"]
    );
    assert_text!("foreign-chains", server);
}

#[test]
fn rules_that_take_packets_another_way_are_named() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let ask = || {
        let question = ["explain", "--from", "web", "--to", "self", "--service", "tcp/8080"];
        let output = server.tierwall(&question).unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!ask().contains("note: table"), "{}", ask());
    for (table, hook, rule, id, says) in [
        (
            "inet x",
            "prerouting priority raw",
            "tcp dport 8080 notrack",
            "untracked",
            "keeps packets",
        ),
        ("inet x", "output priority raw", "jump later", "untracked", "keeps packets"),
        ("inet x", "input priority -5", "tcp dport 8080 synproxy mss 1460", "diverted", "synproxy"),
        (
            "inet x",
            "prerouting priority mangle",
            "tcp dport 8080 tproxy ip to :9",
            "diverted",
            "tproxy",
        ),
        ("netdev x", "ingress device eth0 priority 0", "fwd to lo", "diverted", "fwd"),
        ("netdev x", "egress device eth0 priority 0", "fwd to lo", "diverted", "fwd"),
    ] {
        let later = if rule == "jump later" { "chain later {\nnotrack\n}" } else { "" };
        let script = format!(
            "table {table} {{\n{later}\nchain c {{\ntype filter hook {hook};\n{rule}\n}}\n}}"
        );
        nft(&server, &script);
        let found = finding(&server, &format!("foreign-{id}"));
        assert_eq!(found["severity"], "warning", "{found}");
        assert!(found["what"].as_str().unwrap().contains(says), "{found}");
        assert!(ask().contains(&format!("note: table {table}, chain c")), "{}", ask());
        nft(&server, &format!("delete table {table}"));
    }
    // The numbers of an interface's hooks are those of other hooks elsewhere.
    for (hook, order) in [("egress", "after"), ("ingress", "before")] {
        nft(
            &server,
            &format!(
                "table netdev x {{ chain c {{ type filter hook {hook} device eth0 priority 0; udp dport 9 drop; }}; }}"
            ),
        );
        let found = finding(&server, "foreign-drop-some");
        assert!(found["what"].as_str().unwrap().contains(hook), "{found}");
        let order = format!("it sees packets {order} tierwall's chain");
        assert!(found["details"].as_array().unwrap().contains(&order.into()), "{found}");
        nft(&server, "delete table netdev x");
    }
}

#[test]
fn a_table_in_the_place_of_ours_is_an_error_unless_it_does_nothing() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    nft(&server, "table inet filter { chain input { type filter hook input priority 0; }; }");
    assert_eq!(found(&server), ["note daemon-away"]);
    nft(&server, "add rule inet filter input tcp dport 23 drop");
    assert_eq!(found(&server), ["error foreign-table", "note daemon-away"]);
}

#[test]
fn the_old_iptables_is_read_too() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let namespace = &host.namespace;
    if namespace.command("iptables-legacy", &["--list"]).is_err() {
        // Newer kernels may be without it, and then there is nothing to tell.
        assert!(!namespace.run(|| fs::exists("/proc/net/ip_tables_names")).unwrap());
        assert_eq!(found(&server), ["note daemon-away"]);
        return;
    }
    assert_eq!(found(&server), ["note daemon-away"], "the table is there, without a rule");
    let rules = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                 :MINE - [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n-A INPUT -j MINE\n\
                 -A MINE -p tcp -m multiport --dports 23,24 -j REJECT\n-A MINE -j LOG\n\
                 -A OUTPUT -d 192.0.2.1/32 -j DROP\nCOMMIT\n";
    namespace.command_with_input("iptables-legacy-restore", &[], rules).unwrap();
    let accepts = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                   -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n";
    namespace.command_with_input("ip6tables-legacy-restore", &[], accepts).unwrap();
    assert_eq!(found(&server), ["warning iptables-legacy", "note daemon-away"]);
    let details = finding(&server, "iptables-legacy")["details"].clone();
    assert_eq!(details[0], "ip filter: 5 rules, of which 2 deny; INPUT drops by its policy");
    assert_eq!(details[1], "ip6 filter: 1 rule");
}

#[test]
fn units_and_files_of_others_are_read() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let root = root(&server);
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    fs::create_dir_all(root.join("etc/ufw")).unwrap();
    for unit in ["nftables.service", "docker.service", "tierwalld.service"] {
        std::os::unix::fs::symlink("/lib/systemd/system", wants.join(unit)).unwrap();
    }
    fs::write(root.join("etc/ufw/ufw.conf"), "ENABLED=yes\n").unwrap();
    assert_eq!(
        found(&server),
        ["warning ufw", "warning nftables-service", "warning daemon-away", "note docker"]
    );
}

#[test]
fn who_listens_is_named() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let daemon = server.start(&[]).unwrap();
    let mut command = std::process::Command::new("nft");
    command.arg("monitor").stdout(Stdio::null()).stdin(Stdio::null());
    let mut monitor = server.spawn(&mut command).unwrap();
    let listens = || found(&server) == ["note listener"];
    let begun = std::time::Instant::now();
    while !listens() && begun.elapsed().as_secs() < 10 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let expected = format!("nft ({}) listens to every change of nf_tables", monitor.id());
    let told = findings(&server);
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0]["what"], expected);
    daemon.stop().unwrap();
}

/// What tierwall itself makes is never taken for another's.
#[test]
fn our_own_table_is_known() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let daemon = server.start(&[]).unwrap();
    let survey = host.namespace.run(|| Connection::open()?.survey()).unwrap();
    assert!(survey.is_ours(Family::Inet, "filter"));
    let table = &survey.tables[&(Family::Inet, "filter".to_owned())];
    assert!(table.chains["input"].base.is_some());
    assert!(table.maps.is_empty(), "nobody asks what is in them");
    daemon.stop().unwrap();
}
