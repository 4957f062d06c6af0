//! A disk that is full, slow or of another time, when a change begins to wait or ends.

use super::{LONG, SHORT, gone_back, in_two_tiers, shut_out, with_more};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tierwall_tests::site::{ADMIN, Site, policy};

/// Nobody asked for it: the log and `status` tell, until it can be or isn't wanted any more.
#[test]
fn an_edit_that_cannot_be_recorded_is_told_and_tried_again() {
    let ruled = |text: String| {
        text.replace("[tiers]", &format!("watch = \"all\"\nconfirm = \"{LONG}\"\n[tiers]"))
    };
    let site = Site::new(&ruled(policy(ADMIN)));
    let daemon = site.server.start(&[]).unwrap();
    let full = site.server.state_directory().join(".pending-back.new");
    fs::create_dir(&full).unwrap();
    site.server.replace("tierwall.toml", ruled(with_more())).unwrap();
    let start = Instant::now();
    let told = || daemon.log().contains("a change that has to be confirmed isn't made");
    while !told() {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", daemon.log());
        sleep(Duration::from_millis(20));
    }
    let status = site.status_when(|status| status["waiting"] != serde_json::json!([]));
    assert!(status["waiting"][0].as_str().unwrap().contains("can't be recorded"), "{status}");
    assert_eq!(status["generation"], 1);
    // It is tried again, and told once.
    sleep(Duration::from_millis(2500));
    fs::remove_dir(&full).unwrap();
    let status = site.status_when(|status| status["pending"]["generation"] == 2);
    assert_eq!(status["waiting"], serde_json::json!([]));
    let log = daemon.log();
    assert_eq!(site.tierwall(&["confirm"]).0, 0);

    // Bad files are what is told in its place.
    fs::create_dir(&full).unwrap();
    site.server.replace("tierwall.toml", ruled(policy(ADMIN))).unwrap();
    site.status_when(|status| status["waiting"] != serde_json::json!([]));
    site.server.replace("tierwall.toml", "nonsense").unwrap();
    let status = site.status_when(|status| status["problem"].is_string());
    assert_eq!(status["waiting"], serde_json::json!([]));
    assert_eq!(log.matches("a change that has to be confirmed isn't made").count(), 1, "{log}");
    daemon.stop().unwrap();
}

#[test]
fn what_was_gone_back_from_on_a_disk_that_takes_nothing_is_not_enforced_by_a_start() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let session = site.session("admin", 22);
    shut_out(&site, SHORT);
    let state = site.server.state_directory();
    let full = [".refused.json.new", ".last-good.new"].map(|name| state.join(name));
    // Root may write to any directory, but not a file where there is a directory.
    full.iter().for_each(|name| fs::create_dir(name).unwrap());
    gone_back(&site);
    // Longer than anything that is kept soon takes to be kept.
    sleep(Duration::from_secs(3));
    daemon.kill().unwrap();
    drop(session);
    let daemon = site.server.start(&[]).unwrap();
    gone_back(&site);
    // There is room again.
    full.iter().for_each(|name| fs::remove_dir(name).unwrap());
    daemon.stop().unwrap();
    assert!(!state.join("pending.json").exists(), "it isn't tried again");
    let daemon = site.server.start(&[]).unwrap();
    gone_back(&site);
    daemon.stop().unwrap();
}

#[test]
fn a_rollback_that_was_confirmed_outlives_a_crash() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    site.server.replace("tierwall.toml", with_more()).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    assert_eq!(site.tierwall(&["rollback", &format!("--confirm={LONG}")]).0, 0);
    assert_eq!(site.tierwall(&["confirm"]).0, 0);
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let status = site.status();
    assert_eq!(status["differs"]["kind"], "rolled-back", "{status}");
    let listing = site.kernel().listing;
    assert!(listing.contains("allow any -> app tcp/80"), "{listing}");
    daemon.stop().unwrap();
}

/// A pipe that nobody reads holds up who opens it to write, as a disk does that hangs.
#[test]
fn a_confirmation_that_failed_on_a_slow_disk_does_not_come_to_hold_later() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    site.server.replace("tierwall.toml", with_more()).unwrap();
    assert_eq!(site.tierwall(&["reload", "--confirm", LONG]).0, 0);
    let state = site.server.state_directory();
    let pipe = state.join(".kernel.json.new");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    assert_eq!(site.tierwall(&["member", "add", "admin", "10.0.0.77"]).0, 0);
    let (code, told) = site.tierwall(&["confirm"]);
    assert!(code == 1 && told.contains("still waits"), "{told}");
    // The disk answers.
    fs::read(&pipe).unwrap();
    daemon.stop().unwrap();
    // It was renamed to its place.
    fs::remove_file(state.join("kernel.json")).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let status = site.status();
    assert_eq!(status["pending"]["generation"], 2, "{status}");
    assert_eq!(site.tierwall(&["confirm"]).0, 0);
    daemon.stop().unwrap();
}

/// As after an upgrade to a version that reads none of the policies that were kept.
#[test]
fn a_record_without_a_way_back_holds_nothing_back_later() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    site.server.replace("tierwall.toml", with_more()).unwrap();
    assert_eq!(site.tierwall(&["reload", "--confirm", LONG]).0, 0);
    daemon.stop().unwrap();
    let state = site.server.state_directory();
    for name in ["pending-back", "pending-new", "last-good"] {
        let mut bytes = fs::read(state.join(name)).unwrap();
        // The version, behind eight letters.
        bytes[8] += 1;
        fs::write(state.join(name), bytes).unwrap();
    }
    for _ in 0..2 {
        let daemon = site.server.start(&[]).unwrap();
        let status = site.status();
        assert_eq!((&status["pending"], &status["differs"]), (&Value::Null, &Value::Null));
        assert!(site.kernel().listing.contains("allow any -> app tcp/81"));
        assert!(daemon.log().contains("there is no way back"), "{}", daemon.log());
        daemon.stop().unwrap();
    }
    assert!(!state.join("pending.json").exists());
}

/// What is enforced isn't held back, though nobody knows any more what waited.
#[test]
fn a_damaged_record_holds_nothing_back_that_the_files_say_already() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    site.server.replace("tierwall.toml", with_more()).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    assert_eq!(site.tierwall(&["rollback", &format!("--confirm={LONG}")]).0, 0);
    daemon.kill().unwrap();
    let state = site.server.state_directory();
    fs::write(state.join("pending.json"), "{").unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let status = site.status();
    let told = (&status["pending"], &status["differs"], &status["refused"]);
    assert_eq!(told, (&Value::Null, &Value::Null, &Value::Null), "{status}");
    assert!(site.kernel().listing.contains("allow any -> app tcp/81"));
    daemon.stop().unwrap();
}

#[test]
fn a_member_that_comes_back_on_a_disk_that_takes_nothing_is_recorded_later() {
    let (site, daemon) = in_two_tiers(SHORT);
    let session = site.session("admin", 22);
    let (code, told) = site.tierwall(&["member", "remove", "admin", ADMIN]);
    assert!(code == 0 && told.contains("waits to be confirmed"), "{told}");
    let full = site.server.state_directory().join(".members.json.new");
    fs::create_dir(&full).unwrap();
    site.status_when(|status| status["pending"].is_null());
    let owes = |status: &Value| {
        let files = status["unrecorded"]["files"].as_array();
        files.is_some_and(|files| files.contains(&"runtime members".into()))
    };
    site.status_when(owes);
    let log = daemon.log();
    assert_eq!(log.matches("can't write the runtime members").count(), 1, "{log}");
    fs::remove_dir(&full).unwrap();
    drop(session);
    // Or within a minute.
    daemon.stop().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let (_, told) = site.tierwall(&["member", "list"]);
    assert_eq!(told.matches(ADMIN).count(), 2, "{told}");
    daemon.stop().unwrap();
}
