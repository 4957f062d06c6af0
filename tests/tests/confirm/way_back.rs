//! What is gone back to, and when by request.

use super::{LONG, SHORT, gone_back, history, shut_out, with_more, without_admin};
use std::fs;
use tierwall_tests::site::{ADMIN, Site, policy};

#[test]
fn one_in_its_place_has_the_same_way_back() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    site.server.replace("tierwall.toml", with_more()).unwrap();
    assert_eq!(site.tierwall(&["reload", "--confirm", LONG]).0, 0);
    site.server.replace("tierwall.toml", without_admin()).unwrap();
    let (code, told) = site.tierwall(&["reload", "--replace"]);
    assert_eq!(code, 6, "the guard is asked: {told}");
    assert_eq!(site.status()["pending"]["generation"], 2, "the first still waits");
    let newer = site.session("admin", 22);
    let replace = ["reload", "--replace", "--force", "--confirm", SHORT];
    let (code, told) = site.tierwall(&replace);
    assert_eq!(code, 0, "{told}");
    let status = site.status();
    assert_eq!(
        (&status["pending"]["generation"], &status["pending"]["back_to"]),
        (&3.into(), &1.into())
    );
    assert_eq!(site.tierwall(&["confirm"]).0, 7, "it is older than the second");
    gone_back(&site);
    drop(newer);
    let past = history(&site);
    assert_eq!(past[3]["back_to"], 1);
    let became = (&past[1]["confirmation"], &past[2]["confirmation"]);
    assert_eq!(became, (&"replaced".into(), &"reverted".into()));
    daemon.stop().unwrap();
}

#[test]
fn a_rollback_goes_back_at_once() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    shut_out(&site, LONG);
    let (code, told) = site.tierwall(&["rollback", "1"]);
    assert_eq!(code, 7, "{told}");
    let (code, told) = site.tierwall(&["rollback"]);
    assert_eq!(code, 0, "{told}");
    let status = site.status();
    assert!(status["pending"].is_null(), "{status}");
    assert_eq!(status["differs"]["kind"], "rolled-back");
    assert!(site.is_let_in("admin"));
    daemon.stop().unwrap();
}

#[test]
fn a_rollback_may_have_to_be_confirmed_itself() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    site.server.replace("tierwall.toml", with_more()).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    let (code, told) = site.tierwall(&["rollback", "--confirm=5s"]);
    assert!(code == 0 && told.contains("waits to be confirmed"), "{told}");
    assert_eq!(site.status()["differs"]["kind"], "rolled-back");
    // Back to what the files say.
    let status = site.status_when(|status| status["pending"].is_null());
    assert!(status["differs"].is_null() && status["generation"] == 4, "{status}");
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let status = site.status();
    assert!(status["differs"].is_null() && status["generation"] == 4, "{status}");
    daemon.stop().unwrap();
}

#[test]
fn a_first_enforcement_goes_back_to_observing() {
    let site = Site::new(&without_admin());
    let mut session = site.session("admin", 22);
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(site.status()["input"], "observe");
    let (code, told) = site.tierwall(&["reload", "--force", "--confirm", SHORT]);
    assert_eq!(code, 0, "{told}");
    assert!(!site.is_let_in("admin") && site.status()["input"] == "enforce");
    let status = site.status_when(|status| status["pending"].is_null());
    assert_eq!(
        (&status["input"], &status["differs"]["kind"]),
        (&"observe".into(), &"reverted".into())
    );
    assert!(site.is_let_in("admin") && site.is_let_in("other") && session.is_alive());
    daemon.stop().unwrap();
    drop(session);
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(site.status()["input"], "observe");
    daemon.stop().unwrap();
}

#[test]
fn taking_the_table_away_ends_it() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let session = site.session("admin", 22);
    shut_out(&site, LONG);
    assert_eq!(site.tierwall(&["teardown"]).0, 0);
    let status = site.status();
    assert!(status["pending"].is_null() && status["enforcement"] == "torn-down", "{status}");
    assert_eq!(site.tierwall(&["confirm"]).0, 1);
    drop(session);
    daemon.stop().unwrap();
    // What was never confirmed isn't applied by itself.
    let daemon = site.server.start(&[]).unwrap();
    gone_back(&site);
    daemon.stop().unwrap();
}

/// The change may be what cut off the directory of users, which knows another id here.
#[test]
fn users_are_those_that_were_known_before_the_change() {
    let allow = "[[allow]]\nfrom = \"app\"\nto = \"any\"\nservice = \"tcp/25\"\nuser = \"root\"\n";
    let site = Site::new(&(policy(ADMIN) + allow));
    let daemon = site.server.start(&[]).unwrap();
    site.server.replace("tierwall.toml", policy(ADMIN)).unwrap();
    assert_eq!(site.tierwall(&["reload", "--confirm", LONG]).0, 0);
    assert!(!site.kernel().listing.contains("skuid"));
    daemon.kill().unwrap();
    let path = site.server.state_directory().join("pending.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(record["users"]["root"], 0, "{record}");
    record["users"]["root"] = 4242.into();
    record["sessions"] = serde_json::Value::Null;
    fs::write(&path, record.to_string()).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let listing = site.kernel().listing;
    assert!(listing.contains("skuid 4242"), "{listing}");
    daemon.stop().unwrap();
}
