//! What is told of a first enforcement that would be a lockout, and of a way back that only observes.

use super::{LONG, SHORT, without_admin};
use tierwall_tests::site::{ADMIN, Site, policy};

#[test]
fn a_first_enforcement_that_was_refused_is_told_as_such() {
    let site = Site::new(&without_admin());
    let session = site.session("admin", 22);
    let daemon = site.server.start(&[]).unwrap();
    let status = site.status();
    assert_eq!((&status["first_refused"], &status["input"]), (&true.into(), &"observe".into()));
    let (_, told) = site.tierwall(&["status"]);
    assert!(told.contains("not enforced yet, observe only: that would lock out"), "{told}");
    let log = daemon.log();
    assert!(log.contains("NOT ENFORCED YET (observe)"), "{log}");
    drop(session);
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    assert_eq!(site.status()["first_refused"], false);
    daemon.stop().unwrap();
}

#[test]
fn a_boot_that_is_to_be_closed_does_not_claim_it_while_the_guard_keeps_it_open() {
    let bad = policy(ADMIN).replace("to = \"app\"", "to = \"apps\"");
    let site = Site::new(&format!("boot = \"closed\"\n{bad}"));
    let session = site.session("admin", 22);
    let daemon = site.server.start(&[]).unwrap();
    let log = daemon.log();
    assert!(log.contains("would lock out a session, so the table only observes"), "{log}");
    assert!(!log.contains("nothing passes"), "{log}");
    assert!(site.is_let_in("other"));
    daemon.stop().unwrap();
    drop(session);
    let site = Site::new(&format!("boot = \"closed\"\n{bad}"));
    let daemon = site.server.start(&[]).unwrap();
    let log = daemon.log();
    assert!(log.contains("nothing passes but built-in traffic"), "{log}");
    assert!(!site.is_let_in("other"));
    daemon.stop().unwrap();
}

#[test]
fn a_way_back_that_only_observes_is_named_so() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    assert_eq!(site.tierwall(&["teardown"]).0, 0);
    site.server.replace("tierwall.toml", without_admin()).unwrap();
    let (code, told) = site.tierwall(&["reload", "--force", "--confirm", SHORT]);
    assert!(code == 0 && told.contains("generation 1, observing only"), "{told}");
    assert_eq!(site.status()["pending"]["observes"], true);
    let status = site.status_when(|status| status["pending"].is_null());
    assert_eq!(status["input"], "observe", "{status}");
    let log = daemon.log();
    assert_eq!(log.matches("rolled back to generation 1, observing only: ").count(), 1, "{log}");
    daemon.stop().unwrap();
}

/// Nobody can be shut out by it.
#[test]
fn what_changes_nothing_in_the_kernel_waits_for_nobody() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let (code, told) = site.tierwall(&["reload", "--confirm", LONG]);
    assert!(code == 0 && !told.contains("waits to be confirmed"), "{told}");
    // A tier that nothing here asks for.
    let edited = policy(ADMIN).replace("app = [", "spare = [\"10.0.5.5\"]\napp = [");
    site.server.replace("tierwall.toml", edited).unwrap();
    let (code, told) = site.tierwall(&["reload", "--confirm", LONG]);
    assert!(code == 0 && told.contains("nothing changed"), "{told}");
    assert!(!told.contains("waits to be confirmed"), "{told}");
    assert!(site.status()["pending"].is_null());
    assert!(!site.server.state_directory().join("pending.json").exists());
    daemon.stop().unwrap();
}

#[test]
fn what_cannot_reconnect_after_a_first_enforcement_is_listed() {
    let enforced = policy(ADMIN).replace("from = \"any\"", "from = \"admin\"");
    let site = Site::new(&format!("mode = \"observe\"\n{enforced}"));
    let mut session = site.session("other", 80);
    let _admin = site.session("admin", 80);
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(site.status()["cannot_reconnect"], serde_json::json!([]), "it only observes");
    site.server.replace("tierwall.toml", &enforced).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    let line = "from 10.0.9.9 to this server's tcp/80";
    assert!(code == 0 && told.contains(line) && !told.contains(ADMIN), "{told}");
    assert_eq!(site.status()["cannot_reconnect"], serde_json::json!([line]));
    assert!(daemon.log().contains(&format!("let them be opened again: {line}")));
    assert!(session.is_alive(), "it lives");
    // Members are no other policy; rules are.
    assert_eq!(site.tierwall(&["member", "add", "admin", "10.0.0.77"]).0, 0);
    assert_eq!(site.status()["cannot_reconnect"], serde_json::json!([line]));
    site.server.replace("tierwall.toml", policy(ADMIN)).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    assert_eq!(site.status()["cannot_reconnect"], serde_json::json!([]));
    daemon.stop().unwrap();
}
