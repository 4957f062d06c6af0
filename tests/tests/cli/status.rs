//! `status`

use super::{app_server, assert_keys, assert_text, edited, fails, json, kernel, run};
use serde_json::json as value;

#[test]
fn says_what_the_daemon_holds() {
    let server = app_server();
    let daemon = server.start(&[]).unwrap();
    assert_text!("status", server, run(&server, &["status"], 0));

    let status = json(&server, &["status"], 0);
    assert_keys(
        &status,
        &[
            "after_change",
            "allows",
            "cannot_reconnect",
            "denials",
            "differs",
            "drift",
            "ending",
            "enforcement",
            "first_refused",
            "generation",
            "held_lists",
            "input",
            "kernel_generation",
            "kernel_problem",
            "last_commit",
            "observing",
            "output",
            "pending",
            "pid",
            "policy_file",
            "problem",
            "refused",
            "role",
            "role_auto",
            "since",
            "table",
            "tiers",
            "unrecorded",
            "unwatched",
            "version",
            "waiting",
            "warnings",
        ],
    );
    assert_eq!(status["pid"], daemon.id());
    assert_eq!(status["policy_file"], server.config().to_str().unwrap());
    assert_eq!(status["kernel_generation"], kernel(&server).generation);
    assert_eq!(
        (&status["enforcement"], &status["input"]),
        (&value!("committed"), &value!("enforce"))
    );
    assert_eq!(status["role"], value!(["app"]));
    assert_eq!(
        status["tiers"][3],
        value!({ "name": "web", "v4": 11, "v6": 1, "by_command": 0, "in_use": true })
    );
    let commit = &status["last_commit"];
    assert_keys(
        commit,
        &[
            "bytes",
            "duration_us",
            "generation",
            "kernel_generation",
            "reason",
            "rules_added",
            "rules_deleted",
            "sets",
            "time",
        ],
    );
    // The elements came with the batch before, which observed.
    assert_eq!(commit["sets"], value!({}));
    daemon.stop().unwrap();
}

#[test]
fn says_when_nothing_was_sent_and_what_is_amiss() {
    let server = app_server();
    let policy = edited("\"daemon\"", "\"no-such-user\"");
    let settings = "mode = { input = \"observe\", output = \"off\" }\n";
    server.write("tierwall.toml", format!("{settings}{policy}")).unwrap();
    server.start(&[]).unwrap().stop().unwrap();
    let daemon = server.start(&[]).unwrap();
    assert_text!("status-observe", server, run(&server, &["status"], 0));
    daemon.stop().unwrap();

    server.write("tierwall.toml", &policy).unwrap();
    let daemon = server.start(&[]).unwrap();
    assert_text!("status-warning", server, run(&server, &["status"], 0));
    daemon.stop().unwrap();
}

#[test]
fn says_that_nothing_is_filtered_any_more() {
    let server = app_server();
    let daemon = server.start(&[]).unwrap();
    run(&server, &["teardown"], 0);
    assert_text!("status-torn-down", server, run(&server, &["status"], 0));
    let status = json(&server, &["status"], 0);
    assert_eq!(status["enforcement"], "torn-down");
    assert_eq!(status["kernel_generation"], kernel(&server).generation);
    daemon.stop().unwrap();
}

#[test]
fn its_exit_code_says_how_the_policy_stands() {
    let server = app_server();
    let code = |code: i32| drop(run(&server, &["status", "--exit-code"], code));
    let daemon = server.start(&[]).unwrap();
    code(0);
    server.write("tierwall.toml", edited("tcp/8080", "tcp/8081")).unwrap();
    let start = std::time::Instant::now();
    while json(&server, &["status"], 0)["waiting"] == value!([]) {
        assert!(start.elapsed().as_secs() < 20, "the edit isn't seen");
    }
    code(10);
    json(&server, &["status", "--exit-code"], 10);
    server.write("tierwall.toml", format!("mode = \"observe\"\n{}", super::POLICY)).unwrap();
    run(&server, &["reload"], 0);
    code(11);
    run(&server, &["teardown"], 0);
    code(11);
    daemon.stop().unwrap();
    let message = fails(&server, &["status", "--exit-code"], 12);
    assert!(message.starts_with("error: tierwalld is not running"), "{message}");
}

#[test]
fn needs_a_daemon() {
    let server = app_server();
    for arguments in [&["status"][..], &["status", "--json"]] {
        let message = fails(&server, arguments, 1);
        assert!(message.starts_with("error: tierwalld is not running: nothing listens at "));
        assert_eq!(message.trim().lines().count(), 1, "{message}");
    }
    // Somewhere where nothing can listen.
    let far = format!("/{}", "x".repeat(200));
    let message = fails(&server, &["status", "--runtime-directory", &far], 1);
    assert!(message.starts_with("error: can't connect to tierwalld at "), "{message}");
}
