//! What the daemon says of itself.

use super::*;

#[test]
fn one_that_is_gone_leaves_its_table() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    server.start(&[]).unwrap().stop().unwrap();
    assert_eq!(found(&server), ["warning daemon-away"]);
    let what = finding(&server, "daemon-away")["what"].clone();
    assert_eq!(what, "tierwalld isn't running; its table is in the kernel");
}

#[test]
fn a_teardown_a_bad_file_and_an_edit_that_waits_are_told() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let daemon = server.start(&[]).unwrap();
    let bad = POLICY.replace("from    = \"web\"", "from    = \"wbe\"");
    server.replace("tierwall.toml", bad).unwrap();
    assert!(!server.tierwall(&["reload"]).unwrap().status.success());
    assert_eq!(
        found(&server),
        ["error policy-bad", "error daemon-bad-files", "note spoofing-ipv6"]
    );
    server.replace("tierwall.toml", POLICY).unwrap();
    assert!(server.tierwall(&["reload"]).unwrap().status.success());
    assert!(server.tierwall(&["teardown"]).unwrap().status.success());
    assert_eq!(found(&server), ["warning daemon-torn-down"]);
    daemon.stop().unwrap();
}

#[test]
fn what_another_process_changed_is_told() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, &format!("ownership = \"report\"\n{POLICY}"));
    let daemon = server.start(&[]).unwrap();
    let add = ["add", "rule", "inet", "filter", "input", "accept"];
    let begun = std::time::Instant::now();
    let mut told = Vec::new();
    // A commit of the daemon's own puts it back: the files are looked at once more after a start.
    // Nor is it known at once whose it is, where somebody looks before its event comes.
    let is_named = |told: &[serde_json::Value]| {
        told.iter().any(|finding| finding["details"].to_string().contains("nft"))
    };
    while !is_named(&told) && begun.elapsed().as_secs() < 10 {
        host.namespace.command("nft", &add).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        told = findings(&server);
    }
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0]["id"], "daemon-drift");
    assert!(told[0]["details"][0].as_str().unwrap().contains("nft"), "{told:#?}");
    daemon.stop().unwrap();
}

#[test]
fn a_change_that_waits_to_be_confirmed_is_told() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let daemon = server.start(&[]).unwrap();
    let changed = format!("{POLICY}\n[[allow]]\nfrom = \"web\"\nto = \"*\"\nservice = \"udp/9\"\n");
    server.replace("tierwall.toml", changed).unwrap();
    assert!(server.tierwall(&["reload", "--confirm", "10min"]).unwrap().status.success());
    let finding = finding(&server, "daemon-pending");
    let what = finding["what"].as_str().unwrap();
    assert!(what.starts_with("generation 2 waits to be confirmed, "), "{what}");
    assert!(finding["advice"].as_str().unwrap().contains("`tierwall confirm`"), "{finding}");
    assert!(server.tierwall(&["confirm"]).unwrap().status.success());
    assert!(!found(&server).contains(&"warning daemon-pending".to_owned()));
    daemon.stop().unwrap();
}

#[test]
fn files_that_are_held_back_are_told_and_not_as_waiting() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let daemon = server.start(&[]).unwrap();
    let changed = format!("{POLICY}\n[[allow]]\nfrom = \"web\"\nto = \"*\"\nservice = \"udp/9\"\n");
    server.replace("tierwall.toml", changed).unwrap();
    assert!(server.tierwall(&["reload"]).unwrap().status.success());
    assert!(server.tierwall(&["rollback"]).unwrap().status.success());
    let found = found(&server);
    assert!(found.contains(&"warning daemon-held-back".to_owned()), "{found:?}");
    assert!(!found.iter().any(|line| line.contains("daemon-waiting")), "{found:?}");
    let details = finding(&server, "daemon-held-back")["details"].clone();
    assert!(details[1].as_str().unwrap().starts_with("waits: "), "{details}");
    daemon.stop().unwrap();
}
