//! A table `inet filter` that somebody else made.

use super::{app_server, kernel, nft, stderr};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};
use tierwall_tests::server::Server;
use tierwall_tests::site::{ADMIN, Site, policy};

/// A hand-written firewall.
const FOREIGN: &str = r#"
table inet filter {
    set blocked {
        type ipv4_addr
        flags interval
        elements = { 192.0.2.0/24, 198.51.100.7 }
    }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname "lo" accept comment "loopback"
        ip saddr @blocked drop
        tcp dport { 22, 8443 } accept comment "by hand"
    }
}"#;

/// /etc/nftables.conf of Debian's package.
const DEBIAN_DEFAULT: &str = "
flush ruleset

table inet filter {
	chain input {
		type filter hook input priority filter;
	}
	chain forward {
		type filter hook forward priority filter;
	}
	chain output {
		type filter hook output priority filter;
	}
}";

fn copies(server: &Server) -> Vec<PathBuf> {
    let files = fs::read_dir(server.state_directory()).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "nft")).collect()
}

#[test]
fn a_foreign_table_stays_until_takeover_is_asked_for() {
    let server = app_server();
    nft(&server, FOREIGN);
    let before = kernel(&server);
    let output = server.tierwalld(&[]).unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(5), "{told}");
    assert!(told.contains("tierwall takeover") && told.contains("table inet filter"), "{told}");
    assert_eq!(kernel(&server), before);
    assert!(!server.runtime_directory().join("control.sock").exists());
    assert_eq!(copies(&server), Vec::<PathBuf>::new());

    let daemon = server.start(&["--takeover"]).unwrap();
    let after = kernel(&server);
    // It tracked connections, so nothing has to come before the drop of ours: there is no moment
    // without one.
    assert_eq!(after.generation, before.generation + 1, "replaced in one batch");
    assert!(!after.listing.contains("by hand"), "{}", after.listing);
    assert!(!after.listing.contains("set blocked"), "{}", after.listing);
    assert!(after.listing.contains("allow web -> app tcp/8080"), "{}", after.listing);
    let [copy] = &copies(&server)[..] else { panic!("{:?}", copies(&server)) };
    assert_eq!(fs::metadata(copy).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(copy).unwrap();
    for part in [
        "type filter hook input priority filter; policy drop;",
        "elements = { 192.0.2.0/24, 198.51.100.7 }",
        "ct state established,related accept",
        "comment \"loopback\"",
        "ip saddr @blocked drop",
        // "lo" in the data of an expression that isn't ours, and two ports in an anonymous set.
        "6c6f0000",
        "0016",
        "20fb",
        "accept comment \"by hand\"",
    ] {
        assert!(text.contains(part), "{part} is missing in the copy:\n{text}");
    }
    let log = daemon.log();
    assert!(log.contains(copy.to_str().unwrap()), "the log doesn't name the copy:\n{log}");
    daemon.stop().unwrap();

    // It is ours from now on, with the flag or without.
    let daemon = server.start(&["--takeover"]).unwrap();
    assert_eq!(kernel(&server), after);
    assert_eq!(copies(&server).len(), 1);
    daemon.stop().unwrap();
}

#[test]
fn an_inert_table_is_replaced() {
    let server = app_server();
    nft(&server, DEBIAN_DEFAULT);
    let before = kernel(&server);
    assert!(before.listing.contains("policy accept"));
    let daemon = server.start(&[]).unwrap();
    let after = kernel(&server);
    assert_eq!(after.generation, before.generation + 2);
    assert_eq!(after.listing.matches("policy drop").count(), 3, "{}", after.listing);
    daemon.stop().unwrap();
}

#[test]
fn whatever_does_something_is_not_inert() {
    for rest in [
        "chain input { type filter hook input priority filter; policy drop; }",
        "chain other { accept; }",
        "set s { type ipv4_addr; elements = { 10.0.0.1 } }",
        "counter c { }",
        "quota q { over 10 mbytes }",
    ] {
        let server = app_server();
        nft(&server, &format!("table inet filter {{\n{rest}\n}}"));
        let before = kernel(&server);
        let output = server.tierwalld(&[]).unwrap();
        assert_eq!(output.status.code(), Some(5), "{rest}: {}", stderr(&output));
        assert_eq!(kernel(&server), before);
    }
}

#[test]
fn without_a_copy_there_is_no_takeover() {
    for (obstacle, expected) in [
        ("a file in its place", "the state directory can't be used"),
        ("a full disk", "No space left on device"),
    ] {
        let server = app_server();
        nft(&server, FOREIGN);
        let before = kernel(&server);
        let state = server.state_directory();
        match obstacle {
            "a full disk" => super::state::fill(&server),
            _ => {
                fs::remove_dir(&state).unwrap();
                fs::write(&state, "").unwrap();
            }
        }
        let output = server.tierwalld(&["--takeover"]).unwrap();
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(5), "{obstacle}: {told}");
        assert!(told.contains("can't save a copy of the foreign table"), "{obstacle}: {told}");
        assert!(told.contains(expected), "{obstacle}: {told}");
        assert_eq!(kernel(&server), before, "{obstacle}");
    }
}

/// Asked for by command, the next start replaces the table, once.
#[test]
fn the_command_gives_leave_for_one_start() {
    let server = app_server();
    let said = |output: &Output| {
        String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap()
    };
    let takeover =
        |arguments: &[&str]| server.tierwall(&[&["takeover"], arguments].concat()).unwrap();
    assert!(said(&takeover(&[])).contains("nothing to take over"));
    nft(&server, DEBIAN_DEFAULT);
    assert!(said(&takeover(&[])).contains("nothing to take over"));
    nft(&server, &format!("delete table inet filter\n{FOREIGN}"));
    let before = kernel(&server);

    // Nobody answers here, so nothing is asked for.
    let output = takeover(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("1 chain and 4 rules"), "{}", said(&output));
    assert!(said(&output).contains("--yes"), "{}", said(&output));
    // Of a policy with errors nothing would take its place.
    server.replace("tierwall.toml", "role = ").unwrap();
    assert_eq!(takeover(&["--yes"]).status.code(), Some(3));
    server.replace("tierwall.toml", super::POLICY).unwrap();
    assert_eq!(server.tierwalld(&[]).unwrap().status.code(), Some(5));
    assert_eq!(kernel(&server), before);

    let output = takeover(&["--yes"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("within 10 minutes"), "{}", said(&output));
    assert_eq!(kernel(&server), before);
    let daemon = server.start(&[]).unwrap();
    let after = kernel(&server);
    assert_eq!(after.generation, before.generation + 1, "replaced in one batch");
    assert!(after.listing.contains("allow web -> app tcp/8080"), "{}", after.listing);
    assert_eq!(copies(&server).len(), 1);
    daemon.stop().unwrap();

    nft(&server, &format!("delete table inet filter\n{FOREIGN}"));
    let output = server.tierwalld(&[]).unwrap();
    assert_eq!(output.status.code(), Some(5), "the leave was for one start: {}", stderr(&output));
}

/// A daemon that met the table while it ran replaces it at once.
#[test]
fn the_command_has_a_running_daemon_replace_it() {
    let server = app_server();
    server.replace("tierwall.toml", super::edited("\"report\"", "\"repair\"")).unwrap();
    let daemon = server.start(&[]).unwrap();
    nft(&server, &format!("delete table inet filter\n{FOREIGN}"));
    wait_for(|| super::status(&server)["table"] == "foreign");
    assert!(kernel(&server).listing.contains("by hand"));
    let output = server.tierwall(&["takeover", "--yes", "--json"]).unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let done: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let [copy] = &copies(&server)[..] else { panic!("{:?}", copies(&server)) };
    assert_eq!(done["saved"], copy.to_str().unwrap());
    assert!(!kernel(&server).listing.contains("by hand"));
    wait_for(|| super::status(&server)["table"] == "ours");
    // It was for that table.
    nft(&server, &format!("delete table inet filter\n{FOREIGN}"));
    wait_for(|| super::status(&server)["table"] == "foreign");
    assert_eq!(copies(&server).len(), 1);
    daemon.stop().unwrap();
}

/// Who is in by the table and wouldn't be by the policy keeps it there, unless somebody insists.
#[test]
fn a_takeover_that_would_lock_out_a_session_leaves_the_table() {
    let site = Site::new(&policy("10.0.0.99"));
    let server = &site.server;
    let mut session = site.session("admin", 22);
    nft(server, FOREIGN);
    let before = kernel(server);
    for arguments in [&["--takeover"][..], &[]] {
        if arguments.is_empty() {
            assert!(server.tierwall(&["takeover", "--yes"]).unwrap().status.success());
        }
        let output = server.tierwalld(arguments).unwrap();
        assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
        assert!(stderr(&output).contains(ADMIN), "{}", stderr(&output));
        assert_eq!(kernel(server), before, "what filtered goes on to");
    }
    assert!(server.tierwall(&["takeover", "--yes", "--force"]).unwrap().status.success());
    let daemon = server.start(&[]).unwrap();
    assert!(!kernel(server).listing.contains("by hand"));
    assert_eq!(site.status()["input"], "enforce");
    assert!(session.is_alive() && !site.is_let_in("admin"));
    daemon.stop().unwrap();
}

fn wait_for(holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it doesn't come to that");
        std::thread::sleep(Duration::from_millis(20));
    }
}
