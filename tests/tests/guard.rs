//! The lockout guard: no change shuts out a session by which the server is administered, unless
//! somebody insists.

#![allow(clippy::unwrap_used)]

use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tierwall_tests::site::{ADMIN, OTHER, Site, policy};

/// That a refusal names who would be shut out, by which allow they are in, and the way out.
fn assert_names(told: &str, more: &[&str]) {
    let parts = [ADMIN, "port 22", "admin -> app tcp/22", "tierwall.toml:5", "--force"];
    for part in parts.iter().chain(more) {
        assert!(told.contains(part), "{part:?} isn't in:\n{told}");
    }
}

/// The site's policy by which tcp/22 is for `from` in place of `admin`: another rule.
fn only_for(from: &str) -> String {
    policy(ADMIN).replacen("from = \"admin\"", &format!("from = \"{from}\""), 1)
}

/// The same, which applies by itself.
fn at_once(from: &str) -> String {
    format!("watch = \"all\"\n{}", only_for(from))
}

#[test]
fn a_change_that_would_shut_out_a_session_is_refused_until_somebody_insists() {
    let site = Site::new(&at_once("admin"));
    let daemon = site.server.start(&[]).unwrap();
    let mut session = site.session("admin", 22);
    site.log_in("3", ADMIN);
    let before = site.kernel();
    let names = |told: &str, more: &[&str]| {
        let parts = [
            ADMIN,
            "port 22",
            "admin -> app tcp/22 lets it in, which the files don't say any more",
            "from    = \"admin\"\n      to      = \"app\"\n      service = \"tcp/22\"",
            "--force",
        ];
        for part in parts.iter().chain(more) {
            assert!(told.contains(part), "{part:?} isn't in:\n{told}");
        }
    };

    // By itself.
    site.server.replace("tierwall.toml", at_once("10.0.0.99")).unwrap();
    let status = site.status_when(|status| status["refused"].is_string());
    names(&status["refused"].as_str().unwrap().replace("\n    ", "\n      "), &[]);
    assert!(daemon.log().contains("refused"));
    assert_eq!(site.kernel(), before);
    // On request.
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 6, "{told}");
    names(&told.replace("\n    ", "\n      "), &[]);
    let (_, told) = site.tierwall(&["status"]);
    assert!(told.contains("a change was refused"), "{told}");
    assert_eq!(site.kernel(), before);
    assert!(site.is_let_in("admin"));

    let (code, told) = site.tierwall(&["reload", "--force"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(site.status()["refused"], Value::Null);
    assert!(!site.is_let_in("admin"), "the change isn't in force");
    assert!(session.is_alive(), "what is open stays open");
    // Once it is so, it refuses nothing else.
    let more = at_once("10.0.0.99").replace("tcp/80", "tcp/81");
    site.server.replace("tierwall.toml", more).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    daemon.stop().unwrap();
}

#[test]
fn who_is_not_there_is_not_guarded_nor_what_is_no_administration() {
    let site = Site::new(&only_for("admin"));
    let daemon = site.server.start(&[]).unwrap();
    let _web = site.session("other", 80);
    let session = site.session("admin", 22);
    let closed = only_for("10.0.0.99").replace("tcp/80", "tcp/81");
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
    daemon.stop().unwrap();
}

/// What is guarded is what the policies say, the old one and the new: nobody gets out of it by
/// emptying the list in the same text.
#[test]
fn an_edit_of_what_is_guarded_locks_nobody_out() {
    let site = Site::new(&only_for("admin"));
    let daemon = site.server.start(&[]).unwrap();
    // The new list goes for what the same text closes.
    let web = site.session("other", 80);
    let guarded = only_for("admin").replace("tcp/80", "tcp/81");
    let guarded = format!("{guarded}[guard]\nservices = [\"tcp/22\", \"tcp/80\"]\n");
    site.server.replace("tierwall.toml", guarded).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert!(code == 6 && told.contains("port 80"), "{code}: {told}");
    drop(web);
    let _session = site.session("admin", 22);
    let closed = only_for("10.0.0.99");
    for services in ["", "\"tcp/80\""] {
        let guard = |text: &str| format!("{text}[guard]\nservices = [{services}]\n");
        site.server.replace("tierwall.toml", guard(&closed)).unwrap();
        let (code, told) = site.tierwall(&["reload"]);
        assert!(code == 6 && told.contains(ADMIN), "{code}: {told}");
    }
    // First the list, then the allow: then it is meant.
    let guard = |text: &str| format!("{text}[guard]\nservices = []\n");
    site.server.replace("tierwall.toml", guard(&policy(ADMIN))).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    site.server.replace("tierwall.toml", guard(&closed)).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 0, "{told}");
    assert!(!site.is_let_in("admin"));
    daemon.stop().unwrap();
}

/// A start judges an edit that was made while nothing ran as a reload would have: by what was guarded
/// so far, too.
#[test]
fn an_edit_of_what_is_guarded_locks_nobody_out_by_a_restart() {
    let site = Site::new(&only_for("admin"));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    daemon.stop().unwrap();
    let closed = format!("{}[guard]\nservices = []\n", only_for("10.0.0.99"));
    site.server.replace("tierwall.toml", closed).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let status = site.status_when(|status| status["refused"].to_string().contains(ADMIN));
    assert!(status["refused"].to_string().contains("could not reconnect"), "{status}");
    assert!(site.is_let_in("admin"));
    // It is meant: `--force` says so.
    let (code, told) = site.tierwall(&["reload", "--force"]);
    assert_eq!(code, 0, "{told}");
    assert!(!site.is_let_in("admin"));
    daemon.stop().unwrap();
}

/// Nor is the removal of a member vetoed by its session where a start finds it.
#[test]
fn a_member_vetoes_its_removal_by_no_restart() {
    let site = Site::new(&both(&format!("\"{ADMIN}\", \"{OTHER}\"")));
    let daemon = site.server.start(&[]).unwrap();
    let _bare = site.session("other", 22);
    daemon.stop().unwrap();
    site.server.replace("tierwall.toml", both(&format!("\"{ADMIN}\""))).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let status = site.status_when(|status| status["enforcement"] == "committed");
    assert_eq!(status["refused"], Value::Null, "{status}");
    assert!(!site.is_let_in("other") && site.is_let_in("admin"));
    assert!(daemon.log().contains("could not reconnect"), "{}", daemon.log());
    daemon.stop().unwrap();
}

/// A policy of the site by which two may use tcp/22, and one may be taken out.
fn both(members: &str) -> String {
    policy(ADMIN).replace(&format!("\"{ADMIN}\""), members)
}

/// Runs `tierwall` as `sudo` does: the connection is in the environment of who started it.
fn run_below(site: &Site, connection: &str, arguments: &[&str]) -> (i32, String) {
    let inner = site.server.tierwall_command().unwrap();
    let mut outer = Command::new("sh");
    outer.args(["-c", "unset SSH_CONNECTION; \"$@\"; exit $?", "sh"]);
    outer.arg(inner.get_program()).args(inner.get_args()).args(arguments);
    outer.env("SSH_CONNECTION", connection);
    let output = site.server.run(&mut outer).unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(told).unwrap())
}

#[test]
fn a_member_vetoes_its_removal_by_no_connection() {
    let (admin, two) = (format!("\"{ADMIN}\""), format!("\"{ADMIN}\", \"{OTHER}\""));
    let site = Site::new(&both(&two));
    let daemon = site.server.start(&[]).unwrap();
    let own = site.session("admin", 22);
    let _bare = site.session("other", 22);
    site.log_in("4", OTHER);
    // Nobody asks, and only who is removed has a say: that one is named.
    let out = format!("{}[guard]\nservices = [\"tcp/22\"]\n", both(&admin));
    site.server.replace("tierwall.toml", &out).unwrap();
    let status =
        site.status_when(|status| status["tiers"].to_string().contains("\"admin\",\"v4\":1"));
    assert_eq!(status["refused"], Value::Null, "a file's removal is never refused");
    let log = daemon.log();
    assert!(log.contains("shut-out") || log.contains("could not reconnect"), "{log}");
    assert!(!site.is_let_in("other") && site.is_let_in("admin"));

    // The same by a command: who asks is known by their connection.
    std::fs::remove_file(site.server.path("host/run/systemd/sessions/4")).unwrap();
    assert_eq!(site.tierwall(&["member", "add", "admin", OTHER]).0, 0);
    let _bare = site.session("other", 22);
    let remove = ["member", "remove", "admin", OTHER];
    let (code, told) = site.tierwall(&remove);
    assert!(code == 6 && told.contains(OTHER), "any may be the asker's: {code}: {told}");
    let (code, told) = run_below(&site, &format!("{ADMIN} 1 10.0.1.20 22"), &remove);
    assert!(code == 6 && told.contains(OTHER), "no such one is open: {code}: {told}");
    let (code, told) = run_below(&site, &own.ends(), &remove);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains(OTHER) && told.contains("could not reconnect"), "{told}");
    assert!(!site.is_let_in("other"));
    // Not even oneself, though.
    let rest = policy(ADMIN).replace("from = \"admin\"", &format!("from = \"{OTHER}\""));
    site.server.replace("tierwall.toml", &rest).unwrap();
    let (code, told) = site.tierwall_in(&own, &["reload"]);
    assert!(code == 6 && told.contains(ADMIN), "{code}: {told}");
    daemon.stop().unwrap();
}

/// Where nobody asks, a bare connection has no say; who logged in has one, and whoever was there
/// before the daemon could look.
#[test]
fn without_an_asker_those_decide_who_logged_in_or_are_old() {
    let site = Site::new(&at_once("admin"));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    let edit = |from: &str| site.server.replace("tierwall.toml", at_once(from)).unwrap();
    edit(OTHER);
    let start = Instant::now();
    while !site.is_let_in("other") {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", site.status());
    }
    assert!(daemon.log().contains("could not reconnect"), "{}", daemon.log());
    assert_eq!(site.status()["refused"], Value::Null);

    let other = site.session("other", 22);
    site.log_in("5", OTHER);
    edit("admin");
    let status = site.status_when(|status| status["refused"].is_string());
    assert!(status["refused"].as_str().unwrap().contains(OTHER), "{status}");
    // Another one who counts, and stays: it is made.
    site.log_in("3", ADMIN);
    let more = at_once("admin").replace("from = \"admin\"", "from = [\"admin\", \"10.0.0.98\"]");
    site.server.replace("tierwall.toml", more).unwrap();
    site.status_when(|status| status["refused"].is_null());
    assert!(site.is_let_in("admin") && !site.is_let_in("other"));
    daemon.stop().unwrap();
    drop(other);

    // Of who is there at a start nobody knows the age.
    std::fs::remove_file(site.server.path("host/run/systemd/sessions/3")).unwrap();
    std::fs::remove_file(site.server.path("host/run/systemd/sessions/5")).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    edit(OTHER);
    let status = site.status_when(|status| status["refused"].is_string());
    assert!(status["refused"].as_str().unwrap().contains(ADMIN), "{status}");
    daemon.stop().unwrap();
}

/// A signal comes from somebody, whoever that is.
#[test]
fn who_sends_a_signal_may_be_in_by_any_session() {
    let site = Site::new(&only_for("admin"));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    site.server.replace("tierwall.toml", only_for(OTHER)).unwrap();
    site.status_when(|status| status["waiting"] != Value::Array(vec![]));
    daemon.signal(Signal::SIGHUP).unwrap();
    let status = site.status_when(|status| status["refused"].is_string());
    assert!(status["refused"].as_str().unwrap().contains(ADMIN), "{status}");
    assert!(site.is_let_in("admin"));
    daemon.stop().unwrap();
}

/// The rules of a text are refused, its members aren't.
#[test]
fn a_refused_text_holds_back_no_members() {
    let site = Site::new(&at_once("admin"));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    site.log_in("3", ADMIN);
    let more = format!("\"{ADMIN}\", \"{OTHER}\"");
    let text = at_once("10.0.0.99").replace(&format!("\"{ADMIN}\""), &more);
    site.server.replace("tierwall.toml", &text).unwrap();
    let status = site.status_when(|status| status["refused"].is_string());
    assert!(status["waiting"].to_string().contains("10.0.0.99 -> app tcp/22"), "{status}");
    assert!(site.is_let_in("admin") && site.is_let_in("other"), "{status}");
    // It is held back, and so it stays.
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 6, "{told}");
    assert!(site.is_let_in("admin") && site.is_let_in("other"));
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
    let policy = |from| only_for(from).replace("[tiers]", "ownership = \"report\"\n[tiers]");
    for refused_before in [false, true] {
        let site = Site::new(&policy("admin"));
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
    let policy = |from| at_once(from).replace("[tiers]", "ownership = \"repair\"\n[tiers]");
    let site = Site::new(&policy("admin"));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    site.log_in("3", ADMIN);
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

/// Nobody is in, so no session is lost: what is lost is that anybody can come.
#[test]
fn a_text_that_takes_the_last_way_in_is_refused_until_somebody_insists() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let before = site.kernel();
    let moved = policy(ADMIN).replace("tcp/22", "tcp/2222");
    site.server.replace("tierwall.toml", &moved).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 6, "{told}");
    let parts = [
        "last way in",
        "tcp/22,",
        "admin -> app tcp/22",
        "admin may reach tcp/2222",
        "tierwall.toml:5",
        "`services = []`",
        "--force",
    ];
    for part in parts {
        assert!(told.contains(part), "{part:?} isn't in:\n{told}");
    }
    assert!(!told.contains("tcp/80"), "no administrators come there:\n{told}");
    assert_eq!(site.kernel(), before);
    assert!(site.status()["refused"].is_string());
    // Nor does a restart apply it.
    daemon.stop().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert!(site.is_let_in("admin"));

    let named = format!("{moved}[guard]\nservices = [\"tcp/2222\"]\n");
    site.server.replace("tierwall.toml", &named).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 0, "{told}");
    assert!(!told.contains("way in"), "{told}");

    // Another text loses it, and is forced. From then on there is none to lose.
    let closed = policy(ADMIN).replace("tcp/22", "tcp/23");
    site.server.replace("tierwall.toml", &closed).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 6);
    let (code, told) = site.tierwall(&["reload", "--force"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("no allow lets anybody in on tcp/22"), "{told}");
    site.server.replace("tierwall.toml", closed.replace("tcp/80", "tcp/81")).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("no allow lets anybody in on tcp/22"), "{told}");
    // Back is a way in again, and from there on it may not be lost by going back either.
    site.server.replace("tierwall.toml", policy(ADMIN)).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    let (code, told) = site.tierwall(&["rollback"]);
    assert_eq!(code, 6, "{told}");
    assert!(told.contains("last way in"), "{told}");
    // What a pending change may be rolled back to is one as long as nobody confirms.
    site.server.replace("tierwall.toml", &closed).unwrap();
    let (code, told) = site.tierwall(&["reload", "--force", "--confirm", "60m"]);
    assert_eq!(code, 0, "{told}");
    site.server.replace("tierwall.toml", closed.replace("tcp/80", "tcp/81")).unwrap();
    let (code, told) = site.tierwall(&["reload", "--replace"]);
    assert!(code == 6 && told.contains("last way in"), "{code}: {told}");
    daemon.stop().unwrap();
}

#[test]
fn the_last_way_in_may_go_by_members_at_a_start_and_where_nobody_has_to_get_in() {
    let policy = |admin: &str, ssh: &str| {
        let text = policy(ADMIN).replace(&format!("\"{ADMIN}\""), admin).replace("tcp/22", ssh);
        format!("watch = \"all\"\n{text}")
    };
    let admin = format!("\"{ADMIN}\"");
    let site = Site::new(&policy(&admin, "tcp/22"));
    let daemon = site.server.start(&[]).unwrap();
    // A change of members, whether by itself or on request.
    site.server.replace("tierwall.toml", policy("", "tcp/22")).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 0, "{told}");
    assert!(!site.is_let_in("admin"));
    assert!(site.status()["warnings"].to_string().contains("no allow lets anybody in"));
    let (_, told) = site.tierwall(&["check"]);
    assert!(told.contains("no allow lets anybody in"), "{told}");
    // A member by command is a way in.
    assert_eq!(site.tierwall(&["member", "add", "admin", ADMIN]).0, 0);
    let more = policy("", "tcp/22").replace("tcp/80", "tcp/81");
    site.server.replace("tierwall.toml", more).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 0, "{told}");
    site.server.replace("tierwall.toml", policy("", "tcp/23")).unwrap();
    let status = site.status_when(|status| status["refused"].is_string());
    assert!(status["refused"].as_str().unwrap().contains("last way in"), "{status}");
    assert!(site.is_let_in("admin"), "an edit that applies by itself is refused too");
    let meant = format!("{}[guard]\nservices = []\n", policy("", "tcp/23"));
    site.server.replace("tierwall.toml", meant).unwrap();
    site.status_when(|status| {
        status["refused"].is_null() && status["waiting"] == Value::Array(vec![])
    });
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 0, "{told}");
    assert!(!site.is_let_in("admin"));
    // A start waits for nobody.
    site.server.replace("tierwall.toml", policy(&admin, "tcp/22")).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    daemon.stop().unwrap();
    site.server.replace("tierwall.toml", policy(&admin, "tcp/23")).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert!(!site.is_let_in("admin"));
    assert!(site.status()["warnings"].to_string().contains("no allow lets anybody in"));
    daemon.stop().unwrap();
}

/// `plan` says it before; nothing is noted of the files by asking.
#[test]
fn a_plan_says_what_the_guard_would_say() {
    let site = Site::new(&policy(ADMIN));
    // No daemon yet: a first enforcement.
    let session = site.session("admin", 22);
    site.server.replace("tierwall.toml", only_for("10.0.0.99")).unwrap();
    let (code, told) = site.tierwall(&["plan"]);
    assert!(code == 0 && told.contains("would be refused") && told.contains(ADMIN), "{told}");
    site.server.replace("tierwall.toml", policy(ADMIN)).unwrap();
    let (_, told) = site.tierwall(&["plan"]);
    assert!(!told.contains("would be refused"), "{told}");

    let daemon = site.server.start(&[]).unwrap();
    site.server.replace("tierwall.toml", only_for("10.0.0.99")).unwrap();
    for _ in 0..2 {
        let (code, told) = site.tierwall(&["plan"]);
        let parts = ["a reload would be refused:", ADMIN, "from    = \"admin\""];
        assert!(code == 0 && parts.iter().all(|part| told.contains(part)), "{told}");
        let (_, json) = site.tierwall(&["plan", "--json"]);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert!(json["refused"].as_str().is_some_and(|why| why.contains(ADMIN)), "{json}");
    }
    assert_eq!(site.status()["refused"], Value::Null);
    drop(session);
    // With nobody in, what is lost is the last way in.
    let closed = policy(ADMIN).replace("tcp/22", "tcp/23");
    site.server.replace("tierwall.toml", closed).unwrap();
    let (_, told) = site.tierwall(&["plan"]);
    assert!(told.contains("would be refused") && told.contains("last way in"), "{told}");
    daemon.stop().unwrap();
}

#[test]
fn sshd_on_a_port_that_is_not_guarded_is_warned_of() {
    let site = Site::new(&policy(ADMIN));
    let directory = site.server.path("host/etc/ssh");
    std::fs::create_dir_all(directory.join("sshd_config.d")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    write("sshd_config", "Include sshd_config.d/*.conf\nPort 22\n");
    write("sshd_config.d/port.conf", "Port 2222\n");
    let daemon = site.server.start(&[]).unwrap();
    let warned = |told: &str| told.contains("sshd listens on tcp/2222");
    assert!(warned(&site.status()["warnings"].to_string()), "{}", site.status());
    assert!(warned(&daemon.log()), "{}", daemon.log());
    let guarded = format!("{}[guard]\nservices = [\"tcp/22\", \"tcp/2222\"]\n", policy(ADMIN));
    site.server.replace("tierwall.toml", guarded).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert!(code == 0 && !warned(&told), "{told}");
    // The asker's own connection says so, too.
    write("sshd_config.d/port.conf", "");
    let own = site.session("admin", 22);
    let web = format!("{}[guard]\nservices = [\"tcp/80\"]\n", policy(ADMIN));
    site.server.replace("tierwall.toml", web).unwrap();
    write("sshd_config", "Port 80\n");
    let (code, told) = site.tierwall_in(&own, &["reload"]);
    assert!(code == 0 && told.contains("sshd listens on tcp/22,"), "{told}");
    daemon.stop().unwrap();

    // Root sees whose a listener is: a process of that name holds this one.
    let bound = site.server.host().namespace.run(|| TcpListener::bind("0.0.0.0:2222").unwrap());
    let mut sshd = Command::new("sh");
    sshd.args(["-c", "printf sshd >/proc/$$/comm; echo; read end"]).stderr(OwnedFd::from(bound));
    let mut sshd = sshd.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(sshd.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let (code, told) = site.tierwall(&["check"]);
    assert!(code == 0 && warned(&told), "{told}");
    drop(sshd.stdin.take());
    sshd.wait().unwrap();
    let (_, told) = site.tierwall(&["check"]);
    assert!(!warned(&told), "{told}");
}

#[test]
fn a_member_that_ends_while_somebody_is_in_by_it_is_told_before() {
    let site = Site::new(&policy("10.0.0.99"));
    let daemon = site.server.start(&[]).unwrap();
    let add = |time: &str| site.tierwall(&["member", "add", "admin", ADMIN, "--for", time]).0;
    assert_eq!(add("10m"), 0);
    assert_eq!(site.status()["ending"], Value::Array(vec![]), "nobody is in");
    let _session = site.session("admin", 22);
    assert_eq!(add("2h"), 0);
    assert_eq!(site.status()["ending"], Value::Array(vec![]), "there is time");
    assert_eq!(add("10m"), 0);
    let ending = site.status()["ending"].clone();
    assert_eq!((&ending[0]["member"], &ending[0]["from"]), (&ADMIN.into(), &ADMIN.into()));
    let (_, told) = site.tierwall(&["status"]);
    assert!(told.contains("a member ends: 10.0.0.5 in admin, in"), "{told}");
    assert_eq!(daemon.log().matches("a member ends soon").count(), 1, "{}", daemon.log());
    // One that is in by something else, too, loses nothing.
    let text = policy("10.0.0.99").replace("from = \"admin\"", "from = [\"admin\", \"10.0.0.5\"]");
    site.server.replace("tierwall.toml", text).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    assert_eq!(add("9m"), 0);
    assert_eq!(site.status()["ending"], Value::Array(vec![]));
    daemon.stop().unwrap();
}
