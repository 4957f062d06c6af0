//! A text that is held back stays so until its rules change or somebody asks for it.

use super::{a_while, with_more};
use control::{Client, Request, Response, socket_path};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use std::fs;
use std::process::Stdio;
use std::thread;
use tierwall_tests::site::{ADMIN, OTHER, SERVER, Site, policy};

/// A table that we didn't make and that does something.
const FOREIGN: &str = "delete table inet filter; table inet filter { chain input { type filter \
                       hook input priority 0; policy accept; tcp dport 22 accept; }; }";

/// With more members of `admin`, and what listens there let in on another port.
fn text(members: &str, port: u16) -> String {
    let text = policy(&format!("{ADMIN}\"{members}, \"10.0.0.1"));
    let text = text.replace("[tiers]", "ownership = \"repair\"\nwatch = \"all\"\n[tiers]");
    text.replace("tcp/80", &format!("tcp/{port}"))
}

fn nft(site: &Site, command: &str) {
    site.server.host().namespace.command("nft", &[command]).unwrap();
}

/// A site whose files say something else than what was rolled back to.
fn rolled_back(site: &Site) {
    site.server.replace("tierwall.toml", text("", 81)).unwrap();
    site.status_when(|status| status["generation"] == 2);
    let (code, told) = site.tierwall(&["rollback"]);
    assert_eq!(code, 0, "{told}");
    is_held_back(site);
}

fn is_held_back(site: &Site) {
    let status = site.status();
    assert_eq!(status["differs"]["kind"], "rolled-back", "{status}");
    let listing = site.kernel().listing;
    assert!(listing.contains("allow any -> app tcp/80"), "{listing}");
}

#[test]
fn where_the_kernel_fails_an_edit_of_it() {
    let site = Site::new(&text("", 80));
    let daemon = site.server.start(&[]).unwrap();
    rolled_back(&site);
    nft(&site, FOREIGN);
    site.status_when(|status| status["table"] == "foreign");
    site.server.replace("tierwall.toml", text(&format!(", \"{OTHER}\""), 81)).unwrap();
    a_while();
    nft(&site, "delete table inet filter");
    site.status_when(|status| status["table"] == "ours" && status["kernel_problem"].is_null());
    assert!(site.is_let_in("other"), "its members aren't");
    is_held_back(&site);
    daemon.stop().unwrap();
}

#[test]
fn where_a_member_cannot_be_promoted_by_an_edit_of_it() {
    let site = Site::new(&text("", 80));
    let daemon = site.server.start(&[]).unwrap();
    rolled_back(&site);
    // A pipe that nobody reads keeps the daemon waiting for the disk, so that it reads the edit for
    // who asks before it does for the watcher.
    let pipe = site.server.state_directory().join(".members.json.new");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let mut command = site.server.tierwall_command().unwrap();
    command.args(["member", "add", "admin", "10.0.0.77"]).stdout(Stdio::null());
    let mut added = site.server.spawn(&mut command).unwrap();
    a_while();
    let socket = socket_path(&site.server.runtime_directory());
    let (tier, member) = ("admin".to_owned(), "10.0.0.78".to_owned());
    let asked = thread::spawn(move || {
        Client::connect(&socket).unwrap().ask(&Request::PromotedMember { tier, member }).unwrap()
    });
    a_while();
    site.server.replace("tierwall.toml", text(&format!(", \"{OTHER}\""), 81)).unwrap();
    a_while();
    fs::read(&pipe).unwrap();
    let answer = asked.join().unwrap();
    assert!(matches!(answer, Response::Failed(_)), "{answer:?}");
    assert!(added.wait().unwrap().success());
    // It was renamed to its place.
    fs::remove_file(site.server.state_directory().join("members.json")).unwrap();
    site.status_when(|status| status["tiers"][0]["v4"] == 3);
    is_held_back(&site);
    daemon.stop().unwrap();
}

#[test]
fn where_it_was_edited_while_no_daemon_ran() {
    let site = Site::new(&text("", 80));
    let daemon = site.server.start(&[]).unwrap();
    rolled_back(&site);
    daemon.stop().unwrap();
    let comment = |text: String| format!("# A note.\n{text}");
    site.server.replace("tierwall.toml", comment(text(", \"10.0.0.9\"", 81))).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    is_held_back(&site);
    assert_eq!(site.status()["tiers"][0]["v4"], 2, "nobody knows which of its members are new");
    // From now on it is known.
    let more = format!(", \"10.0.0.9\", \"{OTHER}\"");
    site.server.replace("tierwall.toml", comment(text(&more, 81))).unwrap();
    site.status_when(|status| status["tiers"][0]["v4"] == 3);
    assert!(site.is_let_in("other"));
    is_held_back(&site);

    // While it doesn't filter, and over a start that finds errors.
    assert_eq!(site.tierwall(&["teardown"]).0, 0);
    site.server.replace("tierwall.toml", text(&more, 81)).unwrap();
    a_while();
    daemon.stop().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    is_held_back(&site);
    daemon.stop().unwrap();
    site.server.replace("tierwall.toml", "role = 7\n").unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert!(site.status()["problem"].is_string());
    site.server.replace("tierwall.toml", comment(text("", 81))).unwrap();
    site.status_when(|status| status["problem"].is_null());
    is_held_back(&site);
    daemon.stop().unwrap();

    // Other rules are another decision.
    site.server.replace("tierwall.toml", text("", 82)).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(site.status()["differs"], Value::Null);
    assert!(site.kernel().listing.contains("allow any -> app tcp/82"));
    daemon.stop().unwrap();
}

/// It is held back for what became of it, not for an edit of its members that is refused later.
#[test]
fn a_refused_edit_of_members_leaves_the_reason_why_a_text_is_held_back() {
    let own = format!("app = [\"{SERVER}\"]");
    let by_address = |text: &str| {
        text.replace("role = \"app\"\n", "").replace(&own, &format!("{own}\nsrv = [\"{SERVER}\"]"))
    };
    let site = Site::new(&by_address(&policy(ADMIN)));
    let daemon = site.server.start(&[]).unwrap();
    let more = by_address(&with_more());
    site.server.replace("tierwall.toml", &more).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    assert_eq!(site.tierwall(&["rollback"]).0, 0);
    let _session = site.session("admin", 22);
    site.log_in("3", ADMIN);
    // This server leaves the tier that the admin may reach.
    let left = more.replace(&own, "app = [\"10.0.1.99\"]");
    site.server.replace("tierwall.toml", left).unwrap();
    site.status_when(|status| status["refused"].is_string());
    assert_eq!(site.status()["differs"]["kind"], "rolled-back");
    assert!(site.is_let_in("admin"));
    daemon.stop().unwrap();
}
