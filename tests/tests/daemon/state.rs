//! A state directory that can't be used costs the memory of it, never the enforcement.

use super::{app_server, kernel};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{SystemTime, UNIX_EPOCH};
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
}

#[test]
fn one_that_is_full() {
    let server = app_server();
    fill(&server);
    enforces_and_warns(&server, "can't keep the policy in the state directory");
    assert!(!server.state_directory().join("role.json").exists(), "half a file stays");
}

#[test]
fn one_that_cannot_be_written() {
    let server = app_server();
    // Root may write to any directory, but not a file where there is a directory.
    fs::create_dir(server.state_directory().join(".last-good.new")).unwrap();
    enforces_and_warns(&server, "can't keep the policy in the state directory");
}
