//! `confirm` in the policy file: which changes have to be confirmed without being asked to.

use super::{LONG, SHORT, gone_back, history, in_two_tiers, ruled, with_more};
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use tierwall_tests::site::{ADMIN, OTHER, Site, policy};

#[test]
fn rules_have_to_be_confirmed_and_members_only_where_a_session_comes_from_one() {
    let site = Site::new(&ruled(&policy(ADMIN), SHORT));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    assert!(site.status()["pending"].is_null(), "a start waits for nothing");
    // Other members, in files and by command.
    let members = ruled(&policy(&format!("{ADMIN}\", \"10.0.0.9")), SHORT);
    site.server.replace("tierwall.toml", &members).unwrap();
    site.status_when(|status| status["tiers"][0]["v4"] == 2);
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    assert_eq!(site.tierwall(&["member", "add", "admin", "10.0.0.77"]).0, 0);
    assert_eq!(site.tierwall(&["member", "remove", "admin", "10.0.0.77"]).0, 0);
    assert!(site.status()["pending"].is_null());

    // A text that drops the rule, too.
    site.server.replace("tierwall.toml", policy(ADMIN)).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert!(code == 0 && told.contains("waits to be confirmed"), "{told}");
    gone_back(&site);

    site.server.replace("tierwall.toml", ruled(&with_more(), SHORT)).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    let _newer = site.session("admin", 22);
    assert_eq!(site.tierwall(&["confirm"]).0, 0);
    assert_eq!(history(&site).pop().unwrap()["confirmation"], "confirmed");
    daemon.stop().unwrap();
}

#[test]
fn the_member_that_a_session_comes_from_comes_back() {
    let (site, daemon) = in_two_tiers(SHORT);
    let _session = site.session("admin", 22);
    let (code, told) = site.tierwall(&["member", "remove", "admin", ADMIN]);
    assert!(code == 0 && told.contains("waits to be confirmed"), "{told}");
    // One that is removed meanwhile would have to wait itself.
    let (code, told) = site.tierwall(&["member", "remove", "other", ADMIN, "--force"]);
    assert_eq!(code, 7, "{told}");
    site.status_when(|status| status["pending"].is_null());
    let (_, told) = site.tierwall(&["member", "list"]);
    assert_eq!(told.matches(ADMIN).count(), 2, "{told}");
    let past = history(&site);
    assert_eq!(past[1]["reason"], "member removed");
    assert_eq!((&past[1]["confirmation"], &past[2]["back_to"]), (&"reverted".into(), &1.into()));
    daemon.stop().unwrap();

    // In the files, where it is that of somebody who logged in.
    let text = policy(&format!("{ADMIN}\", \"10.0.0.98"))
        .replace("from = \"admin\"", "from = [\"admin\", \"10.0.0.0/24\"]");
    let site = Site::new(&ruled(&text, SHORT));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    site.log_in("3", ADMIN);
    site.server
        .replace("tierwall.toml", ruled(&text, SHORT).replace(&format!("\"{ADMIN}\", "), ""))
        .unwrap();
    site.status_when(|status| !status["pending"].is_null());
    gone_back(&site);
    daemon.stop().unwrap();
}

#[test]
fn members_change_while_a_change_waits_and_stay_when_it_is_gone_back() {
    let text = |rule: &str, members: &str, port: u16| {
        let policy = policy(&format!("{ADMIN}\"{members}, \"10.0.0.1"));
        let policy = policy.replace("[tiers]", &format!("{rule}[tiers]"));
        policy.replace("tcp/80", &format!("tcp/{port}"))
    };
    for watch in ["", "watch = \"all\"\n"] {
        let rule = format!("confirm = \"{SHORT}\"\n{watch}");
        let site = Site::new(&text(&rule, "", 80));
        let daemon = site.server.start(&[]).unwrap();
        let _session = site.session("admin", 22);
        site.server.replace("tierwall.toml", text(&rule, "", 81)).unwrap();
        if watch.is_empty() {
            assert_eq!(site.tierwall(&["reload"]).0, 0);
        }
        site.status_when(|status| status["pending"]["generation"] == 2);
        // In a file, with a rule that has to wait, and by command.
        let more = text(&rule, &format!(", \"{OTHER}\""), 82);
        site.server.replace("tierwall.toml", more).unwrap();
        let status = site.status_when(|status| status["waiting"] != serde_json::json!([]));
        assert!(!status["pending"].is_null(), "{status}");
        assert!(site.is_let_in("other"), "{}", daemon.log());
        assert_eq!(site.tierwall(&["member", "add", "admin", "10.0.0.77"]).0, 0);
        let status = site.status_when(|status| {
            status["pending"].is_null() || status["pending"]["generation"] != 2
        });
        assert!(site.is_let_in("other"), "{status}\n{}", daemon.log());
        assert_eq!(status["tiers"][0]["by_command"], 1);
        daemon.stop().unwrap();
    }
}

/// With the rule, where admin is let in by `members` of its tier and by the network it is in.
fn two_ways(members: &str, port: u16) -> String {
    let text = policy(&format!("{members}10.0.0.98"))
        .replace("from = \"admin\"", "from = [\"admin\", \"10.0.0.0/24\"]")
        .replace("tcp/80", &format!("tcp/{port}"));
    ruled(&text, LONG).replace("[tiers]", "ownership = \"repair\"\n[tiers]")
}

/// The first try fails, and nothing that is heard later asks for another.
#[test]
fn what_others_did_is_put_back_also_while_an_edit_has_to_wait() {
    let with_admin = format!("{ADMIN}\", \"");
    let site = Site::new(&two_ways(&with_admin, 80));
    let daemon = site.server.start(&["--takeover"]).unwrap();
    let _session = site.session("admin", 22);
    site.log_in("3", ADMIN);
    site.server.replace("tierwall.toml", two_ways(&with_admin, 81)).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    site.server.replace("tierwall.toml", two_ways("", 81)).unwrap();
    let status = site.status_when(|status| status["waiting"] != serde_json::json!([]));
    assert_eq!(status["pending"]["generation"], 2, "{status}");

    // No copy of the table can be written that is there in place of ours.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let copies: Vec<PathBuf> = (now..now + 300)
        .map(|second| site.server.state_directory().join(format!(".foreign-{second}.nft.new")))
        .collect();
    copies.iter().for_each(|copy| fs::create_dir(copy).unwrap());
    let foreign = "delete table inet filter; table inet filter { chain input { type filter hook \
                   input priority 0; policy accept; tcp dport 22 accept; }; }";
    site.server.host().namespace.command("nft", &[foreign]).unwrap();
    site.status_when(|status| status["kernel_problem"].is_string());
    copies.iter().for_each(|copy| fs::remove_dir(copy).unwrap());
    let status =
        site.status_when(|status| status["table"] == "ours" && status["kernel_problem"].is_null());
    assert_eq!(status["pending"]["generation"], 2, "{status}");
    daemon.stop().unwrap();
}

#[test]
fn a_removal_that_had_to_wait_is_met_again_also_in_a_text_that_is_held_back() {
    let with_admin = format!("{ADMIN}\", \"");
    let site = Site::new(&two_ways(&with_admin, 80));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    site.log_in("3", ADMIN);
    let confirmed = || {
        let _newer = site.session("admin", 22);
        let (code, told) = site.tierwall(&["confirm"]);
        assert_eq!(code, 0, "{told}");
    };
    site.server.replace("tierwall.toml", two_ways(&with_admin, 81)).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    confirmed();
    assert_eq!(site.tierwall(&["rollback"]).0, 0);
    let before = site.status()["waiting"].clone();
    site.server.replace("tierwall.toml", two_ways("", 81)).unwrap();
    let status = site.status_when(|status| status["waiting"] != before);
    assert_eq!(status["pending"]["reason"], "rollback", "{status}");
    confirmed();
    site.status_when(|status| status["pending"]["reason"] == "members changed");
    assert!(site.kernel().listing.contains("allow any -> app tcp/80"));
    daemon.stop().unwrap();
}
