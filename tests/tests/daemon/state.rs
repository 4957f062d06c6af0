//! A state directory that can't be used costs the memory of it, never the enforcement.

use super::{app_server, kernel};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tierwall_tests::server::Server;

/// Makes every file that the daemon may want to write there within the next minutes one on a full
/// disk: /dev/full.
pub(crate) fn fill(server: &Server) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let copies = (now..now + 300).map(|second| format!(".foreign-{second}.nft.new"));
    for name in
        copies.chain([".role.json.new", ".last-good.new", ".kernel.json.new"].map(str::to_owned))
    {
        symlink("/dev/full", server.state_directory().join(name)).unwrap();
    }
}

fn enforces_and_warns(server: &Server, warning: &str) {
    let daemon = server.start(&[]).unwrap();
    assert!(kernel(server).listing.contains("allow web -> app tcp/8080"));
    daemon.stop().unwrap();
    let log = fs::read_to_string(server.path("log")).unwrap();
    let warned = log.lines().any(|line| line.contains("WARN") && line.contains(warning));
    assert!(warned, "no warning with {warning:?}:\n{log}");
}

#[test]
fn a_missing_one_is_made() {
    let server = app_server();
    fs::remove_dir(server.state_directory()).unwrap();
    let daemon = server.start(&[]).unwrap();
    assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
    daemon.stop().unwrap();
    assert!(server.state_directory().join("role.json").is_file());
}

#[test]
fn one_that_cannot_be_made() {
    let server = app_server();
    fs::remove_dir(server.state_directory()).unwrap();
    fs::write(server.state_directory(), "").unwrap();
    enforces_and_warns(&server, "can't use the state directory; going on without");
    let daemon = server.start(&[]).unwrap();
    let told = server.tierwall(&["status"]).unwrap().stdout;
    let told = String::from_utf8(told).unwrap();
    for part in [
        "the state directory can't be written for",
        "a restart or reboot applies the policy files as they are, held back or not",
    ] {
        assert!(told.contains(part), "{told}");
    }
    daemon.stop().unwrap();
}

#[test]
fn one_that_is_full() {
    let server = app_server();
    fill(&server);
    enforces_and_warns(&server, "can't write the last good policy to the state directory");
    // The full file was removed with what was in it, so that another try may have found room.
    if let Ok(role) = fs::read(server.state_directory().join("role.json")) {
        let role: serde_json::Value = serde_json::from_slice(&role).expect("half a file stays");
        assert_eq!(role["tiers"], serde_json::json!(["app"]));
    }
}

#[test]
fn one_that_cannot_be_written() {
    let server = app_server();
    // Root may write to any directory, but not a file where there is a directory.
    fs::create_dir(server.state_directory().join(".last-good.new")).unwrap();
    enforces_and_warns(&server, "can't write the last good policy to the state directory");
}

#[test]
fn forged_times_and_numbers_are_no_way_to_stop_it() {
    let server = app_server();
    let state = server.state_directory();
    fs::create_dir(state.join("history")).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let member = format!(
        "{{\"tier\":\"web\",\"member\":\"10.10.9.9\",\"added\":{now},\"until\":{},\"by\":0,\
         \"reason\":null}}",
        u64::MAX
    );
    let observing = format!("{{\"input\":{0},\"output\":{0}}}", u64::MAX);
    for (name, text) in [
        ("members.json", format!("{{\"members\":[{member}]}}")),
        ("observing.json", observing),
        (&format!("history/policy-{}", u64::MAX), String::new()),
    ] {
        fs::write(state.join(name), text).unwrap();
    }
    let daemon = server.start(&[]).unwrap();
    for arguments in [&["member", "list"][..], &["status"], &["history"], &["reload"]] {
        let output = server.tierwall(arguments).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let listing = kernel(&server).listing;
    assert!(listing.contains("allow web -> app tcp/8080") && listing.contains("10.10.9.9"));
    daemon.stop().unwrap();

    // Numbers go on from those that are there.
    let list = state.join("history/generations.json");
    let marker = server.runtime_directory().join("generation");
    let listed = fs::read_to_string(&list).unwrap();
    let forged = listed.replacen("\"number\": 1,", &format!("\"number\": {},", u64::MAX), 1);
    assert_ne!(listed, forged);
    for (path, text, port) in [(list, forged, 81), (marker, u64::MAX.to_string(), 82)] {
        fs::write(path, text).unwrap();
        let edited = super::POLICY.replace("8080", &format!("80{port}"));
        let daemon = server.start(&[]).unwrap();
        server.write("tierwall.toml", edited).unwrap();
        for arguments in [&["reload"][..], &["history"]] {
            let output = server.tierwall(arguments).unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        daemon.stop().unwrap();
    }
}

#[test]
fn the_last_good_policy_is_written_only_when_the_files_say_something_else() {
    let server = app_server();
    let daemon = server.start(&[]).unwrap();
    let inode =
        |name: &str| fs::metadata(server.state_directory().join(name)).map(|file| file.ino()).ok();
    // Every record is a new file; the two are written together unless one of them is not due.
    let written = |name: &str, before: Option<u64>| {
        let start = Instant::now();
        while inode(name).is_none_or(|now| Some(now) == before) {
            assert!(start.elapsed() < Duration::from_secs(30), "{name} isn't written");
            sleep(Duration::from_millis(20));
        }
        inode(name)
    };
    let policy = written("last-good", None);
    let role = written("role.json", None);
    let added = server.tierwall(&["member", "add", "web", "10.10.9.9"]).unwrap();
    assert!(added.status.success());
    let role = written("role.json", role);
    assert_eq!(inode("last-good"), policy, "a member by command isn't in it");
    let edited = super::POLICY.replace("10.10.1.30", "10.10.1.31");
    server.replace("tierwall.toml", &edited).unwrap();
    written("last-good", policy);
    written("role.json", role);
    daemon.stop().unwrap();
}

#[test]
fn a_last_good_policy_that_is_damaged_is_told_and_not_used() {
    let server = app_server();
    server.start(&[]).unwrap().stop().unwrap();
    let path = server.state_directory().join("last-good");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    server.write("tierwall.toml", super::POLICY.replace("app\"\n", "nobody\"\n")).unwrap();
    let output = server.tierwalld(&[]).unwrap();
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("can't be used") && told.contains("checksum"), "{told}");
}
