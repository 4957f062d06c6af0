//! What a start knows that finds bad files, or a damaged state directory: nobody who was let in
//! is forgotten.

use crate::fixture::*;
use crate::listing::Listing;
use std::fs;
use std::thread;
use std::time::Duration;
use tierwall_tests::daemon::Daemon;
use tierwall_tests::server::Server;

const POLICY: &str = r#"role = "app"
[tiers]
web = ["10.0.0.1"]
app = ["10.0.1.2"]
idle = ["10.9.0.1"]
[[allow]]
from = "web"
to = "app"
service = "tcp/8080"
"#;

fn web(server: &Server) -> Vec<String> {
    Listing::of(&server.host().namespace).elements("web_v4")
}

/// Waits until the state directory is up to date: two seconds after the last change.
fn rest(server: &Server) {
    eventually("the last good policy is kept", || {
        server.state_directory().join("last-good").exists().then_some(())
    });
    thread::sleep(Duration::from_millis(2500));
}

/// Starts a daemon that finds a policy file with an error in it.
fn start_with_a_bad_file(server: &Server) -> Daemon {
    let text = fs::read_to_string(server.config()).unwrap();
    rename(server, "tierwall.toml", &format!("{text}\ngarbage = [\n"));
    let daemon = start(server);
    assert!(status(server).problem.is_some());
    daemon
}

#[test]
fn a_member_that_was_just_promoted() {
    let server = alone(POLICY);
    let daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7"]);
    rest(&server);
    tierwall_ok(&server, &["member", "promote", "web", "10.0.7.7"]);
    kill(daemon);
    let _daemon = start_with_a_bad_file(&server);
    assert_eq!(web(&server), ["10.0.0.1", "10.0.7.7"]);
}

#[test]
fn a_member_by_command_that_was_typed_into_the_file() {
    let server = alone(POLICY);
    let daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7"]);
    rest(&server);
    let typed = POLICY.replace("\"10.0.0.1\"", "\"10.0.0.1\", \"10.0.7.7\"");
    rename(&server, "tierwall.toml", &typed);
    status_when(&server, "the edit applies", |status| {
        status.tiers.iter().any(|tier| tier.name == "web" && tier.v4 == 2)
    });
    tierwall_ok(&server, &["member", "remove", "web", "10.0.7.7"]);
    kill(daemon);
    let _daemon = start_with_a_bad_file(&server);
    assert_eq!(web(&server), ["10.0.0.1", "10.0.7.7"]);
}

#[test]
fn an_edit_of_a_tier_that_nothing_here_uses() {
    let server = alone(POLICY);
    let daemon = start(&server);
    rest(&server);
    rename(&server, "tierwall.toml", &POLICY.replace("10.9.0.1", "10.9.0.1\", \"10.9.0.7"));
    let idle = |v4: u64| {
        status_when(&server, "idle has its members", |status| {
            status.tiers.iter().any(|tier| tier.name == "idle" && tier.v4 == v4)
        })
    };
    idle(2);
    rest(&server);
    kill(daemon);
    let _daemon = start_with_a_bad_file(&server);
    idle(2);
}

#[test]
fn a_promotion_that_cannot_be_recorded_is_told_as_such() {
    let server = alone(POLICY);
    let daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7"]);
    rest(&server);
    // Root may write to any directory, but not a file where there is a directory.
    let obstacle = server.state_directory().join(".last-good.new");
    fs::create_dir(&obstacle).unwrap();
    let said = tierwall(&server, &["member", "promote", "web", "10.0.7.7"]);
    assert!(said.code == 1 && said.error.contains("stays a member by command"), "{said:?}");
    assert!(said.error.contains("tierwall.toml names 10.0.7.7 now"), "{said:?}");
    assert!(tierwall_ok(&server, &["member", "list"]).contains("10.0.7.7"));
    let file = fs::read_to_string(server.config()).unwrap();
    assert_eq!(file.matches("10.0.7.7").count(), 1, "{file}");

    // Once more: the file has it already.
    fs::remove_dir(&obstacle).unwrap();
    tierwall_ok(&server, &["member", "promote", "web", "10.0.7.7"]);
    assert_eq!(fs::read_to_string(server.config()).unwrap(), file);
    assert!(tierwall_ok(&server, &["member", "list"]).contains("no member"));
    assert_eq!(web(&server), ["10.0.0.1", "10.0.7.7"]);
    kill(daemon);
}

#[test]
fn a_removal_that_cannot_be_recorded_holds_and_is_told_as_such() {
    let server = alone(POLICY);
    let daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7"]);
    // Root may write to any directory, but not a file where there is a directory.
    let obstacle = server.state_directory().join(".members.json.new");
    fs::create_dir(&obstacle).unwrap();
    let remove = || {
        let said = tierwall(&server, &["member", "remove", "web", "10.0.7.7"]);
        assert!(said.code == 1 && said.error.contains("a restart would bring it back"), "{said:?}");
        assert!(tierwall_ok(&server, &["member", "list"]).contains("no member"));
        assert_eq!(web(&server), ["10.0.0.1"]);
    };
    remove();
    let said = tierwall(&server, &["member", "add", "web", "10.0.7.8"]);
    assert!(said.code == 1 && said.error.contains("nothing was changed"), "{said:?}");
    assert_eq!(web(&server), ["10.0.0.1"]);
    kill(daemon);
    let daemon = start(&server);
    assert_eq!(web(&server), ["10.0.0.1", "10.0.7.7"]);

    // With room again, it is recorded at the latest when the daemon ends, whatever failed meanwhile.
    remove();
    assert_eq!(tierwall(&server, &["member", "add", "web", "10.0.7.8"]).code, 1);
    fs::remove_dir(&obstacle).unwrap();
    daemon.stop().unwrap();
    let _daemon = start(&server);
    assert_eq!(web(&server), ["10.0.0.1"]);
    assert!(tierwall_ok(&server, &["member", "list"]).contains("no member"));
}

#[test]
fn members_by_command_whose_record_was_lost() {
    let server = alone(POLICY);
    let daemon = start(&server);
    tierwall_ok(&server, &["member", "add", "web", "10.0.7.7"]);
    daemon.stop().unwrap();
    // As a crash of the machine can leave it.
    fs::write(server.state_directory().join("members.json"), "").unwrap();
    let daemon = start(&server);
    assert_eq!(web(&server), ["10.0.0.1", "10.0.7.7"]);
    assert!(tierwall_ok(&server, &["member", "list"]).contains("10.0.7.7"));
    let log = daemon.log();
    let told = log.lines().any(|line| line.contains("ERROR") && line.contains("last copy hold"));
    assert!(told, "{log}");
    tierwall_ok(&server, &["member", "remove", "web", "10.0.7.7"]);
    kill(daemon);
    let _daemon = start(&server);
    assert_eq!(web(&server), ["10.0.0.1"]);
}
