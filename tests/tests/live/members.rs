//! Members by command: at once, for good, apart from those of the files.

use crate::fixture::*;
use crate::listing::Listing;
use netlink::Object;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};
use tierwall_tests::server::Server;

const POLICY: &str = r#"# the whole site
role = "app"

[tiers]
# those in front
web = [
  "10.0.0.0/30",   # the old ones
]
app = ["10.0.1.2"]
cdn = { file = "cdn.list" }
idle = ["10.9.0.1"]

[[allow]]
from = ["web", "cdn"]
to = "app"
service = "tcp/8080"
"#;

fn server() -> Server {
    let server = alone(POLICY);
    server.write("cdn.list", "10.2.0.1 # one\n").unwrap();
    server
}

fn web(server: &Server) -> Vec<String> {
    Listing::of(&server.host().namespace).elements("web_v4")
}

const OLD: &str = "10.0.0.0/30";

#[test]
fn a_member_holds_when_the_reply_comes_and_after_a_crash() {
    let server = server();
    let daemon = start(&server);
    let mut monitor = Monitor::open(&server);
    let told = tierwall_ok(&server, &["member", "add", "web", "10.0.7.7", "--reason", "new rack"]);
    assert!(told.contains("+ web gains 10.0.7.7"), "{told}");
    kill(daemon);
    assert_eq!(web(&server), [OLD, "10.0.7.7"]);
    let heard = monitor.heard();
    assert!(heard.len() == 1 && heard.iter().all(is_elements_only), "{heard:?}");

    let _daemon = start(&server);
    assert_eq!(web(&server), [OLD, "10.0.7.7"]);
    let listed = tierwall_ok(&server, &["member", "list"]);
    for word in ["web", "10.0.7.7", "new rack", "uid 0"] {
        assert!(listed.contains(word), "{listed}");
    }
    assert!(tierwall_ok(&server, &["member", "list", "cdn"]).contains("no member"));
    let json = tierwall_ok(&server, &["member", "list", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["tier"], &json[0]["member"]), (&"web".into(), &"10.0.7.7".into()));
    let tiers = status(&server).tiers;
    let web_tier = tiers.iter().find(|tier| tier.name == "web").unwrap();
    assert_eq!((web_tier.v4, web_tier.by_command), (4, 1));

    // Gone for good, too.
    tierwall_ok(&server, &["member", "remove", "web", "10.0.7.7"]);
    assert_eq!(web(&server), [OLD]);
}

#[test]
fn what_was_removed_stays_removed_after_a_crash() {
    let server = server();
    let daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "2001:db8::7"]);
    tierwall_ok(&server, &["member", "remove", "web", "2001:0db8::7"]);
    kill(daemon);
    let _daemon = start(&server);
    assert!(Listing::of(&server.host().namespace).elements("web_v6").is_empty());
    assert!(tierwall_ok(&server, &["member", "list"]).contains("no member"));
}

#[test]
fn a_member_survives_edits_and_reloads() {
    let server = server();
    let _daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7"]);
    rename(&server, "tierwall.toml", &POLICY.replace("10.0.0.0/30", "10.0.0.0/31"));
    let expected = ["10.0.0.0/31", "10.0.7.7"];
    eventually("the edit applies", || (web(&server) == expected).then_some(()));
    rename(&server, "tierwall.toml", &POLICY.replace("8080", "8081"));
    tierwall_ok(&server, &["reload"]);
    assert_eq!(web(&server), [OLD, "10.0.7.7"]);
}

#[test]
fn requests_that_make_no_sense_are_refused_with_a_hint() {
    let server = server();
    let _daemon = start(&server);
    let mut monitor = Monitor::open(&server);
    let refused: [(&[&str], &str); 8] = [
        (&["add", "web", "10.0.0.2"], "10.0.0.2 is in web already, by the policy files"),
        (&["add", "wep", "10.0.7.7"], "no tier is named `wep`; there are: app, cdn, idle, web"),
        (&["add", "web", "10.0.7.256"], "hint:"),
        (&["add", "web", "example.org"], "is not"),
        (&["remove", "web", "10.0.0.2"], "hint: remove it there"),
        (&["remove", "web", "10.0.7.7"], "not a member of web that was added by command"),
        (&["promote", "web", "10.0.7.7"], "not a member of web that was added by command"),
        (&["promote", "wep", "10.0.7.7"], "no tier is named `wep`"),
    ];
    for (arguments, message) in refused {
        let said = tierwall(&server, &[&["member"], arguments].concat());
        assert!(said.code == 1 && said.error.contains(message), "{arguments:?}: {said:?}");
    }
    assert!(monitor.heard().is_empty());
    assert_eq!(fs::read_to_string(server.config()).unwrap(), POLICY);

    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7"]);
    let said = tierwall(&server, &["member", "add", "web", "10.0.7.7"]);
    assert!(said.code == 1 && said.error.contains("in web already"), "{said:?}");
}

#[test]
fn a_tier_that_nothing_here_uses_is_recorded_only() {
    let server = server();
    let _daemon = start(&server);
    let mut monitor = Monitor::open(&server);
    let told = tierwall_ok(&server, &["member", "add", "idle", "10.9.0.9"]);
    assert!(told.contains("recorded"), "{told}");
    assert!(monitor.heard().is_empty());
    assert!(tierwall_ok(&server, &["member", "list", "idle"]).contains("10.9.0.9"));
}

/// As an edit of the files is warned of: in the answer, the log and `status`, once each.
#[test]
fn a_member_that_is_the_whole_world_is_warned_of() {
    let server = server();
    let daemon = start(&server);
    let warned = |arguments: &[&str]| {
        let said = tierwall(&server, arguments);
        assert_eq!(said.code, 0, "{said:?}");
        said.error
    };
    assert!(!warned(&["member", "add", "web", "10.8.0.0/16"]).contains("holds"));
    let half = "with its runtime members, holds at least half of all IPv4 addresses";
    let told = warned(&["member", "add", "web", "0.0.0.0/1"]);
    assert!(told.contains("warning:") && told.contains(half), "{told}");
    let whole = "with its runtime members, holds every IPv4 address";
    // The other half for a time, and another family.
    let told = warned(&["member", "add", "web", "128.0.0.0/1", "--for", "1h"]);
    assert!(told.contains(whole) && !told.contains(half), "{told}");
    let told = warned(&["member", "add", "idle", "::/0", "--for", "2h"]);
    assert!(told.contains("holds every IPv6 address"), "{told}");
    let status = tierwall_ok(&server, &["status"]);
    assert!(status.contains(whole), "{status}");
    for line in [half, whole] {
        assert_eq!(daemon.log().matches(line).count(), 1, "{}", daemon.log());
    }
    tierwall_ok(&server, &["member", "remove", "web", "128.0.0.0/1"]);
    tierwall_ok(&server, &["member", "remove", "web", "0.0.0.0/1"]);
    let status = tierwall_ok(&server, &["status"]);
    assert!(!status.contains(half) && !status.contains(whole), "{status}");

    // Of a list that somebody edits the log and `status` say the same.
    server.replace("cdn.list", "10.2.0.1\n0.0.0.0/1\n128.0.0.0/1\n").unwrap();
    let said = "the tier `cdn` holds every IPv4 address";
    status_when(&server, "it is warned of", |status| {
        status.warnings.iter().any(|line| line.contains(said))
    });
    assert!(daemon.log().contains(said), "{}", daemon.log());
}

#[test]
fn of_two_overlapping_members_the_other_keeps_its_addresses() {
    let server = server();
    let _daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.0.2-10.0.0.9"]);
    assert_eq!(web(&server), ["10.0.0.0-10.0.0.9"]);
    tierwall_ok(&server, &["member", "remove", "web", "10.0.0.2-10.0.0.9"]);
    assert_eq!(web(&server), [OLD]);

    tierwall_ok(&server, &["member", "add", "web", "10.0.7.0/25"]);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.0/24"]);
    tierwall_ok(&server, &["member", "remove", "web", "10.0.7.0/24"]);
    assert_eq!(web(&server), [OLD, "10.0.7.0/25"]);
}

#[test]
fn a_promoted_member_is_in_the_file_and_never_leaves_the_kernel() {
    let server = server();
    let daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7"]);
    tierwall_ok(&server, &["member", "add", "cdn", "10.2.0.9"]);
    let mut monitor = Monitor::open(&server);
    tierwall_ok(&server, &["member", "promote", "web", "10.0.7.7"]);
    tierwall_ok(&server, &["member", "promote", "cdn", "10.2.0.9"]);

    let old = "  \"10.0.0.0/30\",   # the old ones\n";
    let expected = POLICY.replace(old, &format!("{old}  \"10.0.7.7\",\n"));
    assert_eq!(fs::read_to_string(server.config()).unwrap(), expected);
    let list = fs::read_to_string(path(&server, "cdn.list")).unwrap();
    assert_eq!(list, "10.2.0.1 # one\n10.2.0.9\n");
    assert!(tierwall_ok(&server, &["member", "list"]).contains("no member"));
    // The watcher has seen the files as well by the time that an edit after them applies.
    server.write("cdn.list", "10.2.0.1\n10.2.0.9\n10.2.0.20\n").unwrap();
    let cdn = || Listing::of(&server.host().namespace).elements("cdn_v4");
    eventually("the edit applies", || (cdn().len() == 3).then_some(()));
    assert_eq!(elements(&monitor.heard()), ["add an element of set cdn_v4"]);
    assert_eq!(web(&server), [OLD, "10.0.7.7"]);

    kill(daemon);
    let _daemon = start(&server);
    assert_eq!(web(&server), [OLD, "10.0.7.7"]);
}

#[test]
fn promotions_at_the_same_time_lose_nothing() {
    let server = server();
    let _daemon = start(&server);
    let members: Vec<String> = (0..12).map(|number| format!("10.0.7.{}", 2 * number)).collect();
    for member in &members {
        tierwall_ok(&server, &["member", "add", "web", member]);
    }
    std::thread::scope(|scope| {
        for member in &members {
            scope.spawn(|| tierwall_ok(&server, &["member", "promote", "web", member]));
        }
    });
    let file = fs::read_to_string(server.config()).unwrap();
    for member in &members {
        assert!(file.contains(&format!("\"{member}\"")), "{member} isn't in\n{file}");
    }
    assert_eq!(web(&server).len(), 1 + members.len());
    assert!(tierwall_ok(&server, &["member", "list"]).contains("no member"));
}

/// The addresses that `nft` lists in the set of members that end.
fn timed(server: &Server) -> Vec<String> {
    let tables = Listing::of(&server.host().namespace);
    let elements = tables.elements("web_v4_timed");
    // Then follow its timeout, what is left of it, and the comment.
    elements.iter().map(|element| element.split(' ').next().unwrap().to_owned()).collect()
}

fn json_list(server: &Server) -> serde_json::Value {
    serde_json::from_str(&tierwall_ok(server, &["member", "list", "--json"])).unwrap()
}

#[test]
fn a_member_for_a_time_ends_with_the_daemon_alive_or_dead() {
    let server = server();
    let daemon = start(&server);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7", "--for", "1h"]);
    // The set is there now: what follows is elements only.
    let mut monitor = Monitor::open(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.8", "--for", "8s"]);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.9", "--for", "2h"]);
    let heard = monitor.heard();
    assert!(heard.len() == 2 && heard.iter().all(is_elements_only), "{heard:?}");
    assert_eq!(timed(&server), ["10.0.7.7", "10.0.7.8", "10.0.7.9"]);
    assert_eq!(web(&server), [OLD]);
    let until = json_list(&server)[1]["until"].as_u64().unwrap();
    assert!((1..=8).contains(&(until - now())) || now() >= until, "until {until}, now {}", now());

    // Without a daemon the kernel ends it.
    kill(daemon);
    let left = ["10.0.7.7", "10.0.7.9"];
    eventually("it ends by itself", || (timed(&server) == left).then_some(()));
    let mut monitor = Monitor::open(&server);
    let _daemon = start(&server);
    // It adopts the table and sends nothing else.
    let heard = monitor.heard();
    let mut changes = heard.iter().flat_map(|transaction| &transaction.changes);
    assert!(changes.all(|change| matches!(change.object, Object::Table)), "{heard:?}");
    assert_eq!(json_list(&server).as_array().unwrap().len(), 2);

    // With one too, and neither hears of it; it can come again.
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.8", "--for", "1s"]);
    eventually("it ends by itself", || (timed(&server) == left).then_some(()));
    assert_eq!(json_list(&server).as_array().unwrap().len(), 2);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.8", "--for", "1h"]);
    assert_eq!(timed(&server), ["10.0.7.7", "10.0.7.8", "10.0.7.9"]);

    // For good in place of for a time; and away before its time.
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7"]);
    assert_eq!(
        (web(&server), timed(&server)),
        (vec![OLD.into(), "10.0.7.7".into()], vec!["10.0.7.8".to_owned(), "10.0.7.9".to_owned()])
    );
    tierwall_ok(&server, &["member", "remove", "web", "10.0.7.9"]);
    assert_eq!(timed(&server), ["10.0.7.8"]);
    for time in ["0s", "900ms", "11years"] {
        let said = tierwall(&server, &["member", "add", "web", "10.0.7.10", "--for", time]);
        assert!(said.code == 1 && said.error.contains("to ten years"), "{said:?}");
    }
}

#[test]
fn a_member_that_ended_by_the_clock_alone_is_taken_out_of_the_kernel() {
    let server = server();
    let daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7", "--for", "1h"]);
    daemon.stop().unwrap();
    // As it is after the clock was set forward: the kernel counts its own time.
    let late = |address: &str| {
        let element = format!("{address} timeout 1h comment \"until @1000000000\"");
        nft(&server, &format!("add element inet filter web_v4_timed {{ {element} }}")).unwrap();
    };
    nft(&server, "delete element inet filter web_v4_timed { 10.0.7.7 }").unwrap();
    late("10.0.7.7");
    late("10.0.8.8");
    let _daemon = start(&server);
    assert_eq!(timed(&server), ["10.0.7.7"]);
    let listed = nft(&server, "list set inet filter web_v4_timed").unwrap();
    assert!(!listed.contains("until @1000000000"), "{listed}");
    tierwall_ok(&server, &["member", "add", "web", "10.0.8.0/24", "--for", "1h"]);
    assert_eq!(timed(&server), ["10.0.7.7", "10.0.8.0/24"]);
}

#[test]
fn a_member_that_outlives_the_clock_in_the_kernel_is_taken_out_when_it_ends() {
    let server = server();
    let daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7", "--for", "1h"]);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.8", "--for", "1h"]);
    daemon.stop().unwrap();
    // As if the clock had been set forward by nearly an hour: of that the kernel's own time knows
    // nothing.
    let file = server.state_directory().join("members.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let until = now + 4;
    record["members"][0]["added"] = (until - 3600).into();
    record["members"][0]["until"] = until.into();
    fs::write(&file, record.to_string()).unwrap();
    nft(&server, "delete element inet filter web_v4_timed { 10.0.7.7 }").unwrap();
    let element = format!("10.0.7.7 timeout 1h comment \"until @{until}\"");
    nft(&server, &format!("add element inet filter web_v4_timed {{ {element} }}")).unwrap();
    let _daemon = start(&server);
    eventually("it is out of the kernel", || (timed(&server) == ["10.0.7.8"]).then_some(()));
    assert_eq!(json_list(&server).as_array().unwrap().len(), 1);
}

#[test]
fn a_member_does_not_bring_back_a_table_that_was_taken_away() {
    let server = server();
    let _daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.8.8"]);
    tierwall_ok(&server, &["teardown"]);
    let said = tierwall(&server, &["member", "add", "web", "10.0.7.7"]);
    assert!(said.code == 1 && said.error.contains("hint: `tierwall reload`"), "{said:?}");
    assert_eq!(tierwall(&server, &["member", "remove", "web", "10.0.8.8"]).code, 1);
    assert_eq!(Listing::find(&server.host().namespace), None);
    tierwall_ok(&server, &["reload"]);
    assert_eq!(web(&server), [OLD, "10.0.8.8"]);
}
