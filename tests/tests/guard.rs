//! The lockout guard: no change shuts out a session by which the server is administered, unless
//! somebody insists.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::time::{Duration, Instant};
use tierwall_tests::site::{ADMIN, OTHER, Site, policy};

/// That a refusal names who would be shut out, by which allow they are in, and the way out.
fn assert_names(told: &str, more: &[&str]) {
    let parts = [ADMIN, "port 22", "admin -> app tcp/22", "tierwall.toml:5", "--force"];
    for part in parts.iter().chain(more) {
        assert!(told.contains(part), "{part:?} isn't in:\n{told}");
    }
}

#[test]
fn a_change_that_would_shut_out_a_session_is_refused_until_somebody_insists() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let mut session = site.session("admin", 22);
    let before = site.kernel();

    // By itself, as an edit of members.
    site.server.replace("tierwall.toml", policy("10.0.0.99")).unwrap();
    let status = site.status_when(|status| status["refused"].is_string());
    assert_names(status["refused"].as_str().unwrap(), &[]);
    assert_names(&daemon.log(), &["refused"]);
    assert_eq!(site.kernel(), before);
    // On request.
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 6, "{told}");
    assert_names(&told, &[]);
    let (_, told) = site.tierwall(&["status"]);
    assert_names(&told, &["a change was refused"]);
    assert_eq!(site.kernel(), before);
    assert!(site.is_let_in("admin"));

    let (code, told) = site.tierwall(&["reload", "--force"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(site.status()["refused"], Value::Null);
    assert!(!site.is_let_in("admin"), "the change isn't in force");
    assert!(session.is_alive(), "what is open stays open");
    // Once it is so, it refuses nothing else.
    let more = policy("10.0.0.99").replace("tcp/80", "tcp/81");
    site.server.replace("tierwall.toml", more).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    daemon.stop().unwrap();
}

#[test]
fn who_is_not_there_is_not_guarded_nor_what_is_no_administration() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let _web = site.session("other", 80);
    let session = site.session("admin", 22);
    let closed = policy("10.0.0.99").replace("tcp/80", "tcp/81");
    site.server.replace("tierwall.toml", &closed).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 6);
    assert!(!told.contains(OTHER), "{told}");
    drop(session);
    let start = Instant::now();
    while site.tierwall(&["reload"]).0 != 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "{}", site.status());
    }
    assert!(!site.is_let_in("admin"));

    // What is guarded is what the policy says, also nothing.
    site.server.replace("tierwall.toml", policy(ADMIN)).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    let _session = site.session("admin", 22);
    let unguarded = format!("{closed}[guard]\nservices = []\n");
    site.server.replace("tierwall.toml", unguarded).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 0, "{told}");
    assert!(!site.is_let_in("admin"));
    daemon.stop().unwrap();
}

#[test]
fn a_first_enforcement_that_would_shut_out_a_session_waits_and_observes() {
    let site = Site::new(&policy("10.0.0.99"));
    let mut session = site.session("admin", 22);
    let daemon = site.server.start(&[]).unwrap();
    let status = site.status();
    let refused = status["refused"].as_str().unwrap_or_else(|| panic!("{status}"));
    assert!(refused.contains(ADMIN), "{refused}");
    assert_eq!((&status["input"], &status["output"]), (&"observe".into(), &"observe".into()));
    assert!(
        site.kernel().listing.contains("type filter hook input priority filter; policy accept")
    );
    assert!(site.is_let_in("admin") && site.is_let_in("other"));
    // Nothing changes that by itself; a member of another tier is added all the same.
    assert_eq!(site.tierwall(&["reload"]).0, 6);
    assert_eq!(site.tierwall(&["member", "add", "admin", "10.0.0.98"]).0, 0);
    assert!(site.is_let_in("other"));

    // The policy changes.
    site.server.replace("tierwall.toml", policy(ADMIN)).unwrap();
    let status = site.status_when(|status| status["refused"].is_null());
    assert_eq!(status["input"], "enforce");
    assert!(site.is_let_in("admin") && !site.is_let_in("other"));
    assert!(session.is_alive());
    daemon.stop().unwrap();
}

#[test]
fn a_first_enforcement_can_be_forced() {
    let site = Site::new(&policy("10.0.0.99"));
    let mut session = site.session("admin", 22);
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(site.tierwall(&["reload", "--force"]).0, 0);
    assert_eq!(site.status()["input"], "enforce");
    assert!(!site.is_let_in("admin"));
    assert!(session.is_alive());
    daemon.stop().unwrap();
}

/// Also when the session is gone by then: what was refused waits for another text or a reload.
#[test]
fn a_restart_that_finds_what_was_refused_goes_on_with_what_held() {
    // So that nothing at all is sent at a restart, not even who owns the table.
    let policy = |admin| policy(admin).replace("[tiers]", "ownership = \"report\"\n[tiers]");
    for refused_before in [false, true] {
        let site = Site::new(&policy(ADMIN));
        let daemon = site.server.start(&[]).unwrap();
        let session = site.session("admin", 22);
        let before = site.kernel();
        if refused_before {
            site.server.replace("tierwall.toml", policy("10.0.0.99")).unwrap();
            assert_eq!(site.tierwall(&["reload"]).0, 6);
            drop(session);
            daemon.stop().unwrap();
        } else {
            daemon.stop().unwrap();
            site.server.replace("tierwall.toml", policy("10.0.0.99")).unwrap();
        }
        for _ in 0..2 {
            let daemon = site.server.start(&[]).unwrap();
            let status = site.status();
            assert!(status["refused"].as_str().is_some_and(|why| why.contains(ADMIN)), "{status}");
            assert_eq!(site.kernel(), before);
            assert!(site.is_let_in("admin"));
            daemon.stop().unwrap();
        }
        let daemon = site.server.start(&[]).unwrap();
        // A touched file is the same text.
        site.server.replace("tierwall.toml", policy("10.0.0.99")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(site.kernel(), before);
        assert_eq!(site.tierwall(&["reload", "--force"]).0, 0);
        assert!(!site.is_let_in("admin"));
        assert_eq!(site.status()["refused"], Value::Null);
        daemon.stop().unwrap();
        let daemon = site.server.start(&[]).unwrap();
        assert!(!site.is_let_in("admin"), "it is forgotten that this was forced");
        daemon.stop().unwrap();
    }
}

#[test]
fn a_member_by_command_that_somebody_is_in_by_stays() {
    let site = Site::new(&policy("10.0.0.99"));
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(site.tierwall(&["member", "add", "admin", ADMIN]).0, 0);
    let _session = site.session("admin", 22);
    let before = site.kernel();
    let (code, told) = site.tierwall(&["member", "remove", "admin", ADMIN]);
    assert_eq!(code, 6, "{told}");
    assert_names(&told, &[]);
    assert_eq!(site.kernel(), before);
    assert!(site.tierwall(&["member", "list"]).1.contains(ADMIN), "it is still recorded");
    let (code, told) = site.tierwall(&["member", "remove", "admin", ADMIN, "--force"]);
    assert_eq!(code, 0, "{told}");
    assert!(!site.is_let_in("admin"));
    daemon.stop().unwrap();
}

/// A problem of the kernel is over when it holds the policy, whatever the files say.
#[test]
fn a_refused_edit_does_not_outlast_what_the_kernel_fails_meanwhile() {
    let policy = |admin| policy(admin).replace("[tiers]", "ownership = \"repair\"\n[tiers]");
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    site.server.replace("tierwall.toml", policy("10.0.0.99")).unwrap();
    site.status_when(|status| status["refused"].is_string());
    let nft = |command: &str| site.server.host().namespace.command("nft", &[command]).unwrap();
    nft("delete table inet filter; table inet filter { chain input { type filter hook input \
         priority 0; policy accept; tcp dport 22 accept; }; }");
    site.status_when(|status| status["kernel_problem"].is_string());
    nft("delete table inet filter");
    site.status_when(|status| status["table"] == "ours" && status["kernel_problem"].is_null());
    daemon.stop().unwrap();
}

/// What was refused may be the last good policy itself, after somebody took the table away: it is
/// nothing to go on with.
#[test]
fn a_start_asks_again_for_a_last_good_policy_that_was_refused() {
    let site = Site::new(&policy("10.0.0.99"));
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(site.status()["input"], "enforce");
    assert_eq!(site.tierwall(&["teardown"]).0, 0);
    daemon.stop().unwrap();
    let mut session = site.session("admin", 22);
    for _ in 0..3 {
        let daemon = site.server.start(&[]).unwrap();
        let status = site.status();
        assert!(status["refused"].as_str().is_some_and(|why| why.contains(ADMIN)), "{status}");
        assert_eq!(status["input"], "observe");
        assert!(site.is_let_in("admin"));
        daemon.stop().unwrap();
    }
    // As it was told to.
    site.server.replace("tierwall.toml", policy(&format!("10.0.0.99\", \"{ADMIN}"))).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let status = site.status();
    assert_eq!((&status["input"], &status["refused"]), (&"enforce".into(), &Value::Null));
    assert!(site.is_let_in("admin") && !site.is_let_in("other"));
    assert!(session.is_alive());
    daemon.stop().unwrap();
}
