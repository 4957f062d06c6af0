//! Whoever else changes the table: refused, put back or reported; and restarts.
//!
//! Where the kernel can't refuse it (before 6.9), `ownership = "exclusive"` is no more than
//! `"repair"`: what is refused elsewhere is put back.

use crate::fixture::*;
use crate::listing::{Listing, Meaning};
use control::TableState;
use netlink::Object;
use std::fs;
use tierwall_tests::daemon::Daemon;
use tierwall_tests::features::keeps_owned_tables;
use tierwall_tests::server::Server;

const BODY: &str = r#"
[tiers]
web = ["10.0.0.1", "10.0.0.9"]
app = ["10.0.0.2"]
[[allow]]
from = "web"
to = "app"
service = "tcp/8080"
"#;

/// Each a command that changes our table.
const CHANGES: [&str; 6] = [
    "delete element inet filter web_v4 { 10.0.0.9 }",
    "add element inet filter web_v4 { 10.66.0.0/16 }",
    "add rule inet filter input tcp dport 23 accept",
    "flush chain inet filter input",
    "add chain inet filter input { policy accept; }",
    "delete table inet filter",
];

fn policy(ownership: &str) -> String {
    format!("role = \"app\"\nownership = \"{ownership}\"\n{BODY}")
}

fn listing(server: &Server) -> Listing {
    Listing::of(&server.host().namespace)
}

fn meaning(server: &Server) -> Option<Meaning> {
    Listing::find(&server.host().namespace).map(|listing| listing.meaning())
}

/// Changes the table by `nft`. Its process, as the kernel announces it.
fn change(server: &Server, monitor: &mut Monitor, command: &str) -> (String, u32) {
    monitor.heard();
    nft(server, command).unwrap();
    let heard = monitor.heard();
    let foreign = heard.iter().find(|transaction| transaction.process == "nft");
    let foreign = foreign.unwrap_or_else(|| panic!("{command} isn't announced: {heard:?}"));
    (foreign.process.clone(), foreign.pid)
}

fn log_names(daemon: &Daemon, (process, pid): &(String, u32)) -> bool {
    daemon.log().lines().any(|line| {
        line.contains("another process changed the table")
            && line.contains(&format!("process=\"{process}\" pid={pid} "))
    })
}

/// Tries a change of the table, which is refused or, where it can't be, put back.
fn is_held(server: &Server, command: &str) {
    let before = meaning(server);
    let changed = nft(server, command);
    if keeps_owned_tables() {
        let error = format!("{:#}", changed.unwrap_err());
        assert!(error.contains("Operation not permitted"), "{command}: {error}");
        assert_eq!(meaning(server), before);
    } else {
        changed.unwrap();
        eventually(&format!("{command} is put back"), || (meaning(server) == before).then_some(()));
    }
}

#[test]
fn what_is_owned_nobody_else_changes() {
    let server = alone(&policy("exclusive"));
    let _daemon = start(&server);
    let before = listing(&server);
    let mut monitor = Monitor::open(&server);
    for command in CHANGES {
        is_held(&server, command);
    }
    if !keeps_owned_tables() {
        return;
    }
    // This one passes over what belongs to others.
    let _ = nft(&server, "flush ruleset");
    assert_eq!(listing(&server), before);
    assert!(monitor.heard().iter().all(|transaction| !transaction.ours));
}

#[test]
fn an_orphan_that_was_changed_is_repaired_by_the_next_daemon() {
    let server = alone(&policy("exclusive"));
    let mut daemon = start(&server);
    let before = meaning(&server);
    for command in CHANGES.into_iter().chain(["flush ruleset"]) {
        kill(daemon);
        assert_eq!(meaning(&server), before, "a crash changes nothing");
        nft(&server, command).unwrap();
        assert_ne!(meaning(&server), before, "{command}");
        daemon = start(&server);
        assert_eq!(meaning(&server), before, "{command}");
        // Owned again.
        is_held(&server, CHANGES[0]);
    }
}

/// Starts again; all that may be sent is the message that adopts the table, where it can be.
fn restart(server: &Server) -> Daemon {
    let mut monitor = Monitor::open(server);
    let before = listing(server);
    let daemon = start(server);
    let heard = monitor.heard();
    assert_eq!(heard.len(), usize::from(keeps_owned_tables()), "{heard:?}");
    let mut changes = heard.iter().flat_map(|transaction| &transaction.changes);
    assert!(changes.all(|change| change.object == Object::Table), "{heard:?}");
    assert_eq!(listing(server), before);
    assert_eq!(status(server).problem, None);
    daemon
}

#[test]
fn a_restart_sends_nothing_but_the_adoption() {
    let server = alone(&policy("exclusive"));
    kill(start(&server));
    restart(&server).stop().unwrap();
    kill(restart(&server));

    // Whatever became of the note of our last commit.
    let note = server.state_directory().join("kernel.json");
    let text = fs::read_to_string(&note).unwrap();
    let generation = status_of_note(&text);
    let wrong = text.replace(&format!(":{generation}"), &format!(":{}", generation + 7));
    assert_ne!(wrong, text);
    for content in [wrong.as_str(), "", "{}", "\0garbage"] {
        fs::write(&note, content).unwrap();
        kill(restart(&server));
    }
    fs::remove_file(&note).unwrap();
    kill(restart(&server));
    // And where nothing at all is remembered.
    fs::remove_dir_all(server.state_directory()).unwrap();
    kill(restart(&server));

    // An edit while no daemon ran is all that the next one sends beside.
    let before = listing(&server);
    let mut monitor = Monitor::open(&server);
    rename(&server, "tierwall.toml", &policy("exclusive").replace("10.0.0.9", "10.0.0.19"));
    let _daemon = start(&server);
    let heard = monitor.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    let sent = ["delete an element of set web_v4", "add an element of set web_v4"];
    assert_eq!(elements(&heard), sent);
    assert_eq!(listing(&server).rules, before.rules);
}

fn status_of_note(text: &str) -> u64 {
    let note: serde_json::Value = serde_json::from_str(text).unwrap();
    note["generation"].as_u64().unwrap()
}

#[test]
fn a_foreign_change_is_put_back_and_named() {
    let server = alone(&policy("repair"));
    let daemon = start(&server);
    let before = meaning(&server);
    let mut monitor = Monitor::open(&server);
    for command in CHANGES.into_iter().chain(["flush ruleset"]) {
        let who = change(&server, &mut monitor, command);
        eventually(&format!("{command} is named in the log"), || {
            log_names(&daemon, &who).then_some(())
        });
        eventually(&format!("{command} is put back"), || {
            (meaning(&server) == before).then_some(())
        });
    }
    assert_eq!(status(&server).drift, None);
    // It goes on to follow the files.
    rename(&server, "tierwall.toml", &policy("repair").replace("10.0.0.9", "10.0.0.19"));
    eventually("an edit applies", || {
        (listing(&server).elements("web_v4") == ["10.0.0.1", "10.0.0.19"]).then_some(())
    });
}

#[test]
fn a_storm_of_foreign_changes_ends_in_our_table() {
    let server = alone(&policy("repair"));
    let daemon = start(&server);
    let before = meaning(&server);
    for number in 0..30 {
        let command = match number % 3 {
            0 => "flush ruleset",
            // None of these makes a table, which would be theirs and stay.
            1 => "add chain inet filter input { policy accept; }",
            _ => "add element inet filter web_v4 { 10.66.0.0/16 }",
        };
        // Some meet the table in a state in which they fail.
        let _ = nft(&server, command);
    }
    eventually("our table is back", || (meaning(&server) == before).then_some(()));
    tierwall_ok(&server, &["reload"]);
    assert_eq!(meaning(&server), before);
    assert_eq!(status(&server).pid, daemon.id());
}

#[test]
fn a_foreign_change_is_reported_and_left_until_the_next_commit() {
    let server = alone(&policy("report"));
    let daemon = start(&server);
    let before = meaning(&server);
    let mut monitor = Monitor::open(&server);
    let who = change(&server, &mut monitor, CHANGES[0]);
    let drift =
        status_when(&server, "it is reported", |status| status.drift.is_some()).drift.unwrap();
    assert!(drift.contains(&format!("nft (pid {})", who.1)) && drift.contains("web_v4"), "{drift}");
    assert!(log_names(&daemon, &who), "{}", daemon.log());
    let text = tierwall_ok(&server, &["status"]);
    assert!(text.contains("changed by another process: nft"), "{text}");
    assert_eq!(listing(&server).elements("web_v4"), ["10.0.0.1"]);

    // Neither does a file put it back that says nothing new, or only what waits.
    let more = "[[allow]]\nfrom = \"web\"\nto = \"app\"\nservice = \"tcp/9\"\n";
    rename(&server, "tierwall.toml", &format!("{}{more}", policy("report")));
    status_when(&server, "an edit waits", |status| !status.waiting.is_empty());
    rename(&server, "tierwall.toml", &policy("report"));
    status_when(&server, "none waits", |status| status.waiting.is_empty());
    assert!(status(&server).drift.is_some());
    assert_eq!(listing(&server).elements("web_v4"), ["10.0.0.1"]);

    // Who changed it changes it back: nothing is left to report.
    change(&server, &mut monitor, "add element inet filter web_v4 { 10.0.0.9 }");
    status_when(&server, "nothing is reported", |status| status.drift.is_none());

    change(&server, &mut monitor, CHANGES[3]);
    status_when(&server, "it is reported", |status| status.drift.is_some());
    assert_ne!(meaning(&server), before);
    tierwall_ok(&server, &["member", "add", "web", "10.0.0.77"]);
    assert_eq!(listing(&server).elements("web_v4"), ["10.0.0.1", "10.0.0.77", "10.0.0.9"]);
    assert_eq!(status(&server).drift, None);
    tierwall_ok(&server, &["member", "remove", "web", "10.0.0.77"]);
    assert_eq!(meaning(&server), before);
}

#[test]
fn a_member_that_ended_is_no_change_by_others() {
    let server = alone(&policy("report"));
    let daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7", "--for", "1s"]);
    let timed = || listing(&server).elements("web_v4_timed");
    eventually("its time is over", || timed().is_empty().then_some(()));
    // By the clock, too, which counts whole seconds.
    eventually("nobody is listed", || {
        tierwall_ok(&server, &["member", "list"]).contains("no member").then_some(())
    });
    let mut monitor = Monitor::open(&server);
    change(&server, &mut monitor, CHANGES[0]);
    status_when(&server, "it is reported", |status| status.drift.is_some());
    change(&server, &mut monitor, "add element inet filter web_v4 { 10.0.0.9 }");
    status_when(&server, "nothing is reported", |status| status.drift.is_none());
    assert!(daemon.log().contains("it is as it should be"), "{}", daemon.log());
}

const FOREIGN: &str = "table inet filter { chain input { type filter hook input priority 0; \
                       policy accept; tcp dport 22 accept; }; }";

#[test]
fn a_table_in_place_of_ours_is_told_where_the_user_looks_until_it_is_gone() {
    let server = alone(&policy("repair"));
    let daemon = start(&server);
    let before = meaning(&server);
    nft(&server, &format!("delete table inet filter; {FOREIGN}")).unwrap();
    let told = status_when(&server, "it is told", |status| status.table == TableState::Foreign);
    let problem = told.kernel_problem.expect("why the table isn't ours");
    assert!(problem.contains("did not make"), "{problem}");
    assert_eq!(told.problem, None, "the files have none");
    let text = tierwall_ok(&server, &["status"]);
    assert!(text.starts_with("the kernel doesn't hold what was wanted"), "{text}");
    assert!(text.contains("\nnot enforced: a table that tierwall did not make"), "{text}");
    // Longer than until the first tries.
    std::thread::sleep(std::time::Duration::from_millis(3500));
    let log = daemon.log();
    assert_eq!(log.matches("ERROR").count(), 1, "told once:\n{log}");

    nft(&server, "delete table inet filter").unwrap();
    status_when(&server, "all is well again", |status| {
        status.table == TableState::Ours && status.kernel_problem.is_none()
    });
    assert_eq!(meaning(&server), before);
}

#[test]
fn a_table_that_was_taken_away_is_not_told_as_enforced() {
    let server = alone(&policy("report"));
    let _daemon = start(&server);
    nft(&server, "delete table inet filter").unwrap();
    status_when(&server, "it is told", |status| status.table == TableState::Gone);
    let text = tierwall_ok(&server, &["status"]);
    assert!(text.starts_with("not enforced: the table is gone"), "{text}");
    tierwall_ok(&server, &["reload"]);
    let text = tierwall_ok(&server, &["status"]);
    assert!(text.starts_with("enforce,"), "{text}");
}

#[test]
fn other_tables_neither_disturb_nor_are_reported() {
    for ownership in ["exclusive", "repair", "report"] {
        let server = alone(&policy(ownership));
        let daemon = start(&server);
        let before = listing(&server);
        for command in [
            "add table inet other",
            "add chain inet other input { type filter hook input priority 10; policy accept; }",
            "add rule inet other input tcp dport 23 drop",
            "add table ip filter",
            "add set ip filter web_v4 { type ipv4_addr; }",
            "delete table ip filter",
        ] {
            nft(&server, command).unwrap();
        }
        // Our own work goes on although the generation moved.
        rename(&server, "tierwall.toml", &policy(ownership).replace("10.0.0.9", "10.0.0.19"));
        eventually("an edit applies", || {
            (listing(&server).elements("web_v4") == ["10.0.0.1", "10.0.0.19"]).then_some(())
        });
        tierwall_ok(&server, &["reload"]);
        assert_eq!(listing(&server).rules, before.rules);
        assert_eq!(status(&server).drift, None);
        assert!(!daemon.log().contains("another process"), "{}", daemon.log());
        let other = nft(&server, "list table inet other").unwrap();
        assert!(other.contains("tcp dport 23 drop"), "{other}");
    }
}

#[test]
fn ownership_is_switched_by_a_reload() {
    let server = alone(&policy("repair"));
    let _daemon = start(&server);
    let before = meaning(&server);
    let mut monitor = Monitor::open(&server);
    let mut switch = |ownership| {
        monitor.heard();
        rename(&server, "tierwall.toml", &policy(ownership));
        tierwall_ok(&server, &["reload"]);
        assert_eq!(meaning(&server), before);
        // Where nobody can own it, nothing has to be sent.
        let batches = usize::from(keeps_owned_tables());
        assert_eq!(monitor.heard().len(), batches, "one batch, no moment without a table");
    };
    switch("exclusive");
    is_held(&server, CHANGES[0]);
    switch("report");
    nft(&server, CHANGES[0]).unwrap();
    status_when(&server, "it is reported", |status| status.drift.is_some());
    assert_eq!(listing(&server).elements("web_v4"), ["10.0.0.1"]);
    rename(&server, "tierwall.toml", &policy("repair"));
    tierwall_ok(&server, &["reload"]);
    assert_eq!(meaning(&server), before);
    nft(&server, CHANGES[0]).unwrap();
    eventually("it is put back", || (meaning(&server) == before).then_some(()));
}
