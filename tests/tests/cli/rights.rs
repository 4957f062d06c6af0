//! Without CAP_NET_ADMIN: one sentence and exit code 4 where it is needed, and nothing of that
//! where it isn't.

use super::{app_server, fails, kernel, stderr, stdout};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use tierwall_tests::server::Server;

/// Runs `tierwall` as an ordinary user, or as a root that may not change the network.
fn lesser(server: &Server, user: &str, arguments: &[&str]) -> Output {
    let tierwall = server.tierwall_command().unwrap();
    let mut command = Command::new("setpriv");
    match user {
        "root" => command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]),
        user => command.args(["--reuid", user, "--regid", "nogroup", "--clear-groups"]),
    };
    command.arg(tierwall.get_program()).args(tierwall.get_args()).args(arguments);
    server.run(&mut command).unwrap()
}

#[test]
fn what_needs_the_right_says_so() {
    let server = app_server();
    server.start(&[]).unwrap().stop().unwrap();
    let before = kernel(&server);
    for user in ["nobody", "root"] {
        for arguments in [
            &["plan"][..],
            &["plan", "--json"],
            &["teardown"],
            &["trace", "--from", "any"],
            &["trace", "--from", "any", "--json"],
        ] {
            let output = lesser(&server, user, arguments);
            let told = stderr(&output);
            assert_eq!(output.status.code(), Some(4), "{user} {arguments:?}: {told}");
            assert!(told.contains("run as root, or with CAP_NET_ADMIN"), "{told}");
            assert_eq!(told.trim().lines().count(), 1, "{told}");
            assert_eq!(stdout(&output), "");
        }
        for arguments in [&["check"][..], &["check", "--as", "db"], &["export"]] {
            let output = lesser(&server, user, arguments);
            assert!(output.status.success(), "{user} {arguments:?}: {}", stderr(&output));
        }
    }
    assert_eq!(kernel(&server), before);
}

#[test]
fn whether_a_daemon_runs_is_not_told_by_a_closed_directory() {
    let server = app_server();
    fs::set_permissions(server.runtime_directory(), Permissions::from_mode(0o700)).unwrap();
    let output = lesser(&server, "nobody", &["status"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("no right to talk to tierwalld"), "{}", stderr(&output));
    // For root nothing runs.
    assert!(fails(&server, &["status"], 1).contains("not running"));
}
