//! An edit of the files: what applies by itself, what waits, and what is refused.

use crate::fixture::*;
use crate::listing::Listing;
use nix::sys::signal::Signal;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;
use tierwall_tests::server::Server;

/// A policy with `web` as the members of that tier.
fn policy(web: &str) -> String {
    format!(
        r#"
role = "app"
include = ["conf.d/*.toml"]

[tiers]
web = {web}
app = ["10.0.0.2"]
cdn = {{ file = "cdn.list" }}

[[allow]]
from = ["web", "cdn"]
to = "app"
service = "tcp/8080"

[[allow]]
from = "peers"
to = "app"
service = "tcp/7000"
"#
    )
}

const PEERS: &str = "[tiers]\npeers = [\"10.3.0.1\"]\n";
const MORE: &str = "\n[[allow]]\nfrom = \"web\"\nto = \"app\"\nservice = \"tcp/9090\"\n";

fn server() -> Server {
    let server = alone(&policy(r#"["10.0.0.1"]"#));
    server.write("cdn.list", "10.2.0.1\n").unwrap();
    fs::create_dir(path(&server, "conf.d")).unwrap();
    server.write("conf.d/peers.toml", PEERS).unwrap();
    server
}

fn members(server: &Server, tier: &str) -> Vec<String> {
    Listing::of(&server.host().namespace).elements(&format!("{tier}_v4"))
}

fn members_become(server: &Server, tier: &str, expected: &[&str]) {
    eventually(&format!("{tier} is {expected:?}; {:?}", status(server).problem), || {
        (members(server, tier) == expected).then_some(())
    });
}

#[test]
fn members_apply_by_themselves_and_are_elements_only() {
    let server = server();
    let _daemon = start(&server);
    let before = Listing::of(&server.host().namespace);
    let mut monitor = Monitor::open(&server);
    let mut expect = |tier: &str, members: &[&str], sent: &[&str]| {
        members_become(&server, tier, members);
        let heard = monitor.heard();
        assert!(heard.iter().all(is_elements_only), "{heard:?}");
        assert_eq!(elements(&heard), sent);
        assert_eq!(heard.len(), 1, "one batch: {heard:?}");
    };

    rename(&server, "tierwall.toml", &policy(r#"["10.0.0.1", "10.0.0.9"]"#));
    expect("web", &["10.0.0.1", "10.0.0.9"], &["add an element of set web_v4"]);

    // In place.
    server.write("tierwall.toml", policy(r#"["10.0.0.9"]"#)).unwrap();
    expect("web", &["10.0.0.9"], &["delete an element of set web_v4"]);

    rename(&server, "cdn.list", "10.2.0.1\n10.2.0.5 # new\n");
    expect("cdn", &["10.2.0.1", "10.2.0.5"], &["add an element of set cdn_v4"]);

    server.write("conf.d/peers.toml", "[tiers]\npeers = [\"10.3.0.2\"]\n").unwrap();
    expect(
        "peers",
        &["10.3.0.2"],
        &["delete an element of set peers_v4", "add an element of set peers_v4"],
    );

    // As configuration management with releases does it: a link that changes its target.
    server.write("release-2.list", "10.2.0.7\n").unwrap();
    symlink("release-2.list", path(&server, ".link")).unwrap();
    fs::rename(path(&server, ".link"), path(&server, "cdn.list")).unwrap();
    expect(
        "cdn",
        &["10.2.0.7"],
        &["delete 2 elements of set cdn_v4", "add an element of set cdn_v4"],
    );

    // Deleted and made again.
    fs::remove_file(path(&server, "cdn.list")).unwrap();
    server.write("cdn.list", "10.2.0.7\n10.2.0.9\n").unwrap();
    expect("cdn", &["10.2.0.7", "10.2.0.9"], &["add an element of set cdn_v4"]);

    let after = Listing::of(&server.host().namespace);
    assert_eq!((after.rules, after.chains), (before.rules, before.chains));
    let status = status(&server);
    assert_eq!((status.problem, status.waiting), (None, Vec::new()));
}

#[test]
fn an_edit_of_a_rule_waits_for_a_reload() {
    let server = server();
    let daemon = start(&server);
    let mut monitor = Monitor::open(&server);
    rename(&server, "tierwall.toml", &(policy(r#"["10.0.0.1"]"#) + MORE));
    let waiting = status_when(&server, "something waits", |status| !status.waiting.is_empty());
    assert_eq!(waiting.waiting.len(), 1, "{waiting:?}");
    assert!(waiting.waiting[0].contains("tcp/9090"), "{waiting:?}");
    assert!(monitor.heard().is_empty());
    let text = tierwall_ok(&server, &["status"]);
    assert!(text.contains("waits for a reload: new allow: web -> app tcp/9090"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&tierwall_ok(&server, &["status", "--json"])).unwrap();
    assert_eq!(json["waiting"], serde_json::json!(waiting.waiting));
    assert!(daemon.log().contains("waits for `tierwall reload`"), "{}", daemon.log());

    // Members of the same edit don't wait with it.
    rename(&server, "tierwall.toml", &(policy(r#"["10.0.0.1", "10.0.0.8"]"#) + MORE));
    members_become(&server, "web", &["10.0.0.1", "10.0.0.8"]);
    assert!(monitor.heard().iter().all(is_elements_only));
    assert_eq!(status_when(&server, "it still waits", |s| !s.waiting.is_empty()).allows, 2);

    let told = tierwall_ok(&server, &["reload"]);
    assert!(told.contains("+ app is now reachable from web on tcp/9090"), "{told}");
    assert_eq!(status(&server).waiting, Vec::<String>::new());
    assert_eq!(monitor.heard().len(), 1);
    let again = tierwall_ok(&server, &["reload"]);
    assert!(again.contains("nothing changed"), "{again}");
    assert!(monitor.heard().is_empty());
}

#[test]
fn an_edit_that_is_taken_back_waits_no_more() {
    let server = server();
    let _daemon = start(&server);
    let mut monitor = Monitor::open(&server);
    rename(&server, "tierwall.toml", &(policy(r#"["10.0.0.1"]"#) + MORE));
    status_when(&server, "something waits", |status| !status.waiting.is_empty());
    rename(&server, "tierwall.toml", &policy(r#"["10.0.0.1"]"#));
    status_when(&server, "nothing waits", |status| status.waiting.is_empty());
    assert!(monitor.heard().is_empty());
}

#[test]
fn sighup_applies_what_waits() {
    let server = server();
    let daemon = start(&server);
    rename(&server, "tierwall.toml", &(policy(r#"["10.0.0.1"]"#) + MORE));
    status_when(&server, "something waits", |status| !status.waiting.is_empty());
    daemon.signal(Signal::SIGHUP).unwrap();
    let status = status_when(&server, "it was applied", |status| status.allows == 3);
    assert!(status.waiting.is_empty());
    let chains = Listing::of(&server.host().namespace).chains;
    assert!(chains.contains_key("in.web.app.tcp/9090"), "{chains:?}");
}

#[test]
fn with_watch_all_every_edit_applies_by_itself() {
    let server = server();
    let all = |rest: &str| format!("watch = \"all\"\n{}{rest}", policy(r#"["10.0.0.1"]"#));
    rename(&server, "tierwall.toml", &all(""));
    let _daemon = start(&server);
    rename(&server, "tierwall.toml", &all(MORE));
    let status = status_when(&server, "the allow is there", |status| status.allows == 3);
    assert!(status.waiting.is_empty());
    assert_eq!(status.last_commit.unwrap().reason, "files changed");
    // A new file in an include directory, with an allow of its own.
    server.write("conf.d/db.toml", "[tiers]\ndb = [\"10.4.0.1\"]\n[[allow]]\nfrom = \"db\"\nto = \"app\"\nservice = \"tcp/5000\"\n").unwrap();
    status_when(&server, "the include is there", |status| status.allows == 4);
    assert_eq!(members(&server, "db"), ["10.4.0.1"]);
    fs::remove_file(path(&server, "conf.d/db.toml")).unwrap();
    status_when(&server, "the include is gone", |status| status.allows == 3);
}

#[test]
fn a_bad_file_changes_nothing_and_is_told_until_it_is_mended() {
    let server = server();
    let daemon = start(&server);
    let generation = status(&server).generation;
    let mut monitor = Monitor::open(&server);
    // The good part of it doesn't apply either.
    let bad =
        policy(r#"["10.0.0.1", "10.0.0.4"]"#).replace("from = \"peers\"", "from = \"peeers\"");
    rename(&server, "tierwall.toml", &bad);
    let told = status_when(&server, "the problem is told", |status| status.problem.is_some());
    let problem = told.problem.unwrap();
    assert!(problem.contains("peeers") && problem.contains("tierwall.toml:"), "{problem}");
    assert_eq!((told.allows, told.generation), (2, generation));
    let text = tierwall_ok(&server, &["status"]);
    assert!(text.contains("what was enforced stays") && text.contains("peeers"), "{text}");

    let reload = tierwall(&server, &["reload"]);
    assert_eq!(reload.code, 3, "{reload:?}");
    assert!(reload.error.contains("peeers") && reload.error.contains("hint"), "{reload:?}");
    daemon.signal(Signal::SIGHUP).unwrap();
    // Requests are answered in turn: the signal's reload is over with the next one.
    assert_eq!(tierwall(&server, &["reload"]).code, 3);
    assert!(monitor.heard().is_empty());
    assert_eq!(members(&server, "web"), ["10.0.0.1"]);
    assert!(daemon.log().contains("peeers"));

    rename(&server, "tierwall.toml", &policy(r#"["10.0.0.1", "10.0.0.4"]"#));
    status_when(&server, "the problem is gone", |status| status.problem.is_none());
    assert_eq!(members(&server, "web"), ["10.0.0.1", "10.0.0.4"]);
}

#[test]
fn each_kind_of_bad_file_sends_nothing() {
    let server = server();
    let _daemon = start(&server);
    let mut monitor = Monitor::open(&server);
    let good = policy(r#"["10.0.0.1"]"#);
    let bad: [(&str, &str, String); 6] = [
        ("tierwall.toml", "not TOML", good.replace("[tiers]", "[tiers")),
        ("tierwall.toml", "an unknown key", format!("mood = \"good\"\n{good}")),
        ("tierwall.toml", "a bad address", good.replace("10.0.0.1", "10.0.0.256")),
        ("tierwall.toml", "empty", String::new()),
        ("cdn.list", "a list with garbage", "10.2.0.1\n\u{0}\u{1}x\n".into()),
        ("conf.d/zz.toml", "a tier defined twice", PEERS.into()),
    ];
    for (file, what, text) in bad {
        let old = fs::read(path(&server, file)).ok();
        rename(&server, file, &text);
        status_when(&server, what, |status| status.problem.is_some());
        match old {
            Some(old) => rename(&server, file, &String::from_utf8(old).unwrap()),
            None => fs::remove_file(path(&server, file)).unwrap(),
        }
        status_when(&server, &format!("{what}, mended"), |status| status.problem.is_none());
    }
    // A missing list file, which is held, and one that anybody may write.
    fs::rename(path(&server, "cdn.list"), path(&server, "away")).unwrap();
    status_when(&server, "a missing file", |status| !status.held_lists.is_empty());
    fs::rename(path(&server, "away"), path(&server, "cdn.list")).unwrap();
    status_when(&server, "it is back", |status| status.held_lists.is_empty());
    let mode = |mode| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(path(&server, "cdn.list"), permissions).unwrap();
    };
    mode(0o666);
    status_when(&server, "a file for everybody", |status| status.problem.is_some());
    mode(0o644);
    status_when(&server, "a file for root again", |status| status.problem.is_none());
    assert!(monitor.heard().is_empty());
}

#[test]
fn a_file_caught_half_written_is_read_again_when_it_is_closed() {
    let server = server();
    let _daemon = start(&server);
    let mut options = OpenOptions::new();
    let mut list = options.write(true).truncate(true).open(path(&server, "cdn.list")).unwrap();
    list.write_all(b"10.2.0.1\n10.2.0.5\n10.2.0.").unwrap();
    // Something else makes the daemon look meanwhile.
    rename(&server, "conf.d/peers.toml", "[tiers]\npeers = [\"10.3.0.4\"]\n");
    status_when(&server, "half a list is held", |status| !status.held_lists.is_empty());
    assert_eq!(members(&server, "cdn"), ["10.2.0.1"]);
    members_become(&server, "peers", &["10.3.0.4"]);
    list.write_all(b"9\n").unwrap();
    drop(list);
    members_become(&server, "cdn", &["10.2.0.1", "10.2.0.5", "10.2.0.9"]);
    members_become(&server, "peers", &["10.3.0.4"]);
    status_when(&server, "no list stays held", |status| status.held_lists.is_empty());
}

#[test]
fn a_burst_of_edits_is_few_batches_and_the_last_edit_holds() {
    let server = server();
    let daemon = start(&server);
    let mut monitor = Monitor::open(&server);
    let burst = |base: u32| {
        for number in 1..=100 {
            rename(&server, "cdn.list", &format!("10.2.0.1\n10.2.{base}.{number}\n"));
        }
    };
    burst(1);
    members_become(&server, "cdn", &["10.2.0.1", "10.2.1.100"]);
    assert!(monitor.heard().iter().all(is_elements_only));
    // While the daemon can't look: it finds all of them at once.
    daemon.signal(Signal::SIGSTOP).unwrap();
    burst(2);
    daemon.signal(Signal::SIGCONT).unwrap();
    members_become(&server, "cdn", &["10.2.0.1", "10.2.2.100"]);
    let heard = monitor.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
}

/// systemd waits for it after RELOADING=1, or `systemctl reload` never ends.
#[test]
fn the_service_manager_is_told_of_the_end_of_every_reload() {
    let server = server();
    let _daemon = start(&server);
    let socket = server.state_directory().with_file_name("notify");
    fs::remove_file(&socket).unwrap();
    let notifications = UnixDatagram::bind(&socket).unwrap();
    notifications.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let hear = |expected: &str| {
        let mut buffer = [0; 4096];
        let length = notifications.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(text.lines().any(|line| line == expected), "{text}");
    };
    // Changes nothing, is bad, is as bad as before.
    for text in [policy(r#"["10.0.0.1"]"#), "x".into(), "x".into()] {
        server.write("tierwall.toml", &text).unwrap();
        let ended = status_when(&server, "the edit was seen", |status| {
            status.problem.is_some() == (text == "x")
        });
        drop(ended);
        notifications.set_nonblocking(true).unwrap();
        while notifications.recv(&mut [0; 4096]).is_ok() {}
        notifications.set_nonblocking(false).unwrap();
        let code = tierwall(&server, &["reload"]).code;
        assert_eq!(code, if text == "x" { 3 } else { 0 });
        hear("RELOADING=1");
        hear("READY=1");
    }
}
