//! What is on the disk, and a disk that fails.

use super::{LONG, gone_back, shut_out, with_more};
use std::fs;
use std::os::unix::fs::symlink;
use tierwall_tests::site::{ADMIN, Site, policy};

#[test]
fn where_it_cannot_be_recorded_nothing_is_changed() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let state = site.server.state_directory();
    symlink("/dev/full", state.join(".pending-back.new")).unwrap();
    let before = site.kernel();
    site.server.replace("tierwall.toml", with_more()).unwrap();
    let (code, told) = site.tierwall(&["reload", "--confirm", LONG]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("nothing was changed") && told.contains("No space left"), "{told}");
    assert_eq!(site.kernel(), before);
    assert!(site.status()["pending"].is_null());
    // Without waiting for anybody it is a change as any other.
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    assert_eq!(site.status()["generation"], 2);
    daemon.stop().unwrap();
}

#[test]
fn a_confirmation_that_cannot_be_recorded_is_none() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    site.server.replace("tierwall.toml", with_more()).unwrap();
    assert_eq!(site.tierwall(&["reload", "--confirm", LONG]).0, 0);
    // Root may remove any file, but not a directory as one.
    let record = site.server.state_directory().join("pending.json");
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    let (code, told) = site.tierwall(&["confirm"]);
    assert!(code == 1 && told.contains("still waits"), "{told}");
    assert_eq!(site.status()["pending"]["generation"], 2);
    fs::remove_dir(&record).unwrap();
    assert_eq!(site.tierwall(&["confirm"]).0, 0);
    daemon.stop().unwrap();
}

#[test]
fn a_damaged_record_means_the_last_good_policy() {
    for file in ["pending.json", "pending-back", "pending-new"] {
        let site = Site::new(&policy(ADMIN));
        site.server.start(&[]).unwrap().stop().unwrap();
        let daemon = site.server.start(&[]).unwrap();
        let session = site.session("admin", 22);
        shut_out(&site, LONG);
        daemon.kill().unwrap();
        drop(session);
        let path = site.server.state_directory().join(file);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let daemon = site.server.start(&[]).unwrap();
        gone_back(&site);
        let log = daemon.log();
        assert!(
            log.contains("ERROR") && log.contains("the record of a change that waited"),
            "{log}"
        );
        daemon.stop().unwrap();
        let daemon = site.server.start(&[]).unwrap();
        gone_back(&site);
        daemon.stop().unwrap();
    }
}

/// Whoever asked was never told that it was made.
#[test]
fn one_that_was_not_known_to_be_made_is_gone_back_from() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let session = site.session("admin", 22);
    shut_out(&site, LONG);
    daemon.kill().unwrap();
    drop(session);
    let path = site.server.state_directory().join("pending.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["sessions"] = serde_json::Value::Null;
    fs::write(&path, record.to_string()).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    gone_back(&site);
    daemon.stop().unwrap();
}
