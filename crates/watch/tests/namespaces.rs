//! inotify's limits and mounted files, in namespaces of the tests' own.

#![allow(clippy::unwrap_used)]

mod site;

use site::{LONG, load, meaning, policy_of};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tierwall_watch::{LoadStart, WatchError, Watcher};

/// Runs an ignored test of this file again, as root of new user and mount namespaces and in
/// `directory`, after a shell script.
fn run_after(script: &str, test: &str, directory: &Path) {
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg(format!("{script} && exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .current_dir(directory)
        .output()
        .expect("unshare(1) is there");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
}

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    let policy = policy_of("[tiers]\nweb = { file = \"web.list\" }");
    fs::write(directory.path().join("tierwall.toml"), policy).unwrap();
    fs::write(directory.path().join("web.list"), "").unwrap();
    fs::create_dir(directory.path().join("host")).unwrap();
    fs::write(directory.path().join("host/web.list"), "192.0.2.1").unwrap();
    directory
}

fn watch() -> Result<Watcher, WatchError> {
    let start = LoadStart::now();
    Watcher::new(&load(Path::new("tierwall.toml")).inputs, start)
}

#[test]
fn no_instance_left_is_told() {
    let script = "echo 0 > /proc/sys/user/max_inotify_instances";
    run_after(script, "without_instances", directory().path());
}

#[tokio::test]
#[ignore = "run by no_instance_left_is_told"]
async fn without_instances() {
    let error = watch().unwrap_err();
    assert!(matches!(error, WatchError::Instances), "{error:?}");
    assert!(error.to_string().contains("fs.inotify.max_user_instances"), "{error}");
}

#[test]
fn no_watch_left_is_told() {
    let script = "echo 2 > /proc/sys/user/max_inotify_watches";
    run_after(script, "with_two_watches", directory().path());
}

#[tokio::test]
#[ignore = "run by no_watch_left_is_told"]
async fn with_two_watches() {
    let error = watch().unwrap_err();
    assert!(matches!(error, WatchError::Watches(_)), "{error:?}");
    assert!(error.to_string().contains("fs.inotify.max_user_watches"), "{error}");
}

/// As containers have single files of the host.
#[test]
fn a_mounted_file_written_on_the_other_side() {
    run_after("mount --bind host/web.list web.list", "with_a_mounted_file", directory().path());
}

#[tokio::test]
#[ignore = "run by a_mounted_file_written_on_the_other_side"]
async fn with_a_mounted_file() {
    let mut watcher = watch().unwrap();
    while let Ok(told) = tokio::time::timeout(site::QUIET, watcher.changed()).await {
        told.unwrap();
    }
    assert_eq!(meaning(&load(Path::new("tierwall.toml"))), "web 192.0.2.1");
    fs::write("host/web.list", "192.0.2.2").unwrap();
    tokio::time::timeout(LONG, watcher.changed()).await.unwrap().unwrap();
    assert_eq!(meaning(&load(Path::new("tierwall.toml"))), "web 192.0.2.2");
}
