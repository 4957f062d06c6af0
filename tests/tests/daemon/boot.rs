//! A start that finds bad files where no policy ever was good.

use super::{POLICY, edited, kernel, server, status, stderr};

/// Its allow names a tier that isn't there.
fn bad(boot: &str) -> String {
    let unknown = edited("to      = \"db\"", "to      = \"dbs\"");
    format!("boot = \"{boot}\"\n{unknown}")
}

#[test]
fn open_leaves_the_network_as_it_was() {
    let server = server(&["10.10.1.20"], &bad("open"));
    let before = kernel(&server);
    let output = server.tierwalld(&[]).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("dbs"), "{}", stderr(&output));
    assert_eq!(kernel(&server), before);
}

#[test]
fn closed_lets_nothing_in_but_built_in_traffic_until_the_files_are_good() {
    let server = server(&["10.10.1.20"], &bad("closed"));
    let daemon = server.start(&[]).unwrap();
    assert!(daemon.log().contains("none ever was good"), "{}", daemon.log());
    let listing = kernel(&server).listing;
    assert_eq!(listing.matches("policy drop").count(), 3, "{listing}");
    assert!(!listing.contains("allow "), "{listing}");
    assert!(status(&server)["problem"].as_str().unwrap().contains("dbs"));
    daemon.kill().unwrap();

    // Nor is that a good policy for the next start.
    server.write("tierwall.toml", bad("open")).unwrap();
    assert_eq!(server.tierwalld(&[]).unwrap().status.code(), Some(3));

    server.write("tierwall.toml", bad("closed")).unwrap();
    let daemon = server.start(&[]).unwrap();
    server.write("tierwall.toml", POLICY).unwrap();
    let reload = server.tierwall(&["reload"]).unwrap();
    assert!(reload.status.success(), "{}", stderr(&reload));
    assert!(kernel(&server).listing.contains("allow web -> app"));
    assert!(status(&server)["problem"].is_null());
    daemon.stop().unwrap();
    // From now on there is a good one.
    server.write("tierwall.toml", bad("closed")).unwrap();
    let daemon = server.start(&[]).unwrap();
    assert!(daemon.log().contains("the last good one is enforced"), "{}", daemon.log());
    assert!(kernel(&server).listing.contains("allow web -> app"));
}

#[test]
fn boot_closed_holds_whatever_keeps_the_policy_from_being_applied() {
    let policy = edited("to      = \"db\"", "to      = \"db\"\nuser    = \"no-such-user\"");
    let closed = format!("boot = \"closed\"\n{policy}");
    let server = server(&["10.10.1.20"], &closed);
    let daemon = server.start(&["--strict"]).unwrap();
    let listing = kernel(&server).listing;
    assert_eq!(listing.matches("policy drop").count(), 3, "{listing}");
    assert!(!listing.contains("allow "), "{listing}");
    let problem = status(&server)["problem"].to_string();
    assert!(problem.contains("no-such-user"), "{problem}");
    daemon.stop().unwrap();
}
