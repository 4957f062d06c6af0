//! What to type, and what is said when it was something else.

use super::{app_server, stderr, stdout};
use std::process::Command;

const COMMANDS: &[&str] = &[
    "check",
    "plan",
    "explain",
    "matrix",
    "who-can",
    "export",
    "status",
    "denied",
    "watch",
    "suggest",
    "trace",
    "metrics",
    "reload",
    "confirm",
    "history",
    "diff",
    "rollback",
    "edit",
    "import",
    "member",
    "doctor",
    "teardown",
    "completions",
];

#[test]
fn help_and_version_are_data() {
    let server = app_server();
    let version = env!("CARGO_PKG_VERSION");
    for program in [server.tierwall_command().unwrap(), server.tierwalld_command().unwrap()] {
        let path = program.get_program();
        let name = std::path::Path::new(path).file_name().unwrap().to_str().unwrap();
        for flag in ["--help", "-h", "--version", "-V"] {
            let output = server.run(Command::new(path).arg(flag)).unwrap();
            assert_eq!(output.status.code(), Some(0), "{name} {flag}");
            assert_eq!(stderr(&output), "", "{name} {flag}");
            match flag {
                "--version" | "-V" => assert_eq!(stdout(&output), format!("{name} {version}\n")),
                _ => {
                    // Wrapped somewhere.
                    let help = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
                    for text in ["Exit codes:", "3 the policy has errors", "64 usage"] {
                        assert!(help.contains(text), "{name} {flag}: no {text}");
                    }
                }
            }
        }
    }
    let output = server.tierwall(&["--help"]).unwrap();
    for command in COMMANDS {
        assert!(stdout(&output).contains(&format!("  {command} ")), "{command}");
        let of_command = server.tierwall(&[command, "--help"]).unwrap();
        assert_eq!(of_command.status.code(), Some(0));
        assert!(stdout(&of_command).contains(&format!("Usage: tierwall {command}")));
    }
    for (command, default) in [
        (server.tierwall_command().unwrap(), "/run/tierwall"),
        (server.tierwalld_command().unwrap(), "/run/tierwall"),
        (server.tierwalld_command().unwrap(), "/var/lib/tierwall"),
        (server.tierwalld_command().unwrap(), "/etc/tierwall/tierwall.toml"),
        (server.tierwall_command().unwrap(), "/etc/tierwall/tierwall.toml"),
    ] {
        let output = server.run(Command::new(command.get_program()).arg("--help")).unwrap();
        assert!(stdout(&output).contains(&format!("[default: {default}]")), "{default}");
    }
}

#[test]
fn what_cannot_be_understood_is_64() {
    let server = app_server();
    let wrong: [&[&str]; 12] = [
        &[],
        &["bogus"],
        &["check", "--bogus"],
        &["check", "web"],
        &["check", "--as"],
        &["check", "--color", "sometimes"],
        &["export", "--format", "iptables"],
        &["plan", "--strict=yes"],
        &["status", "status"],
        &["teardown", "--as", "web"],
        &["member", "promote", "web", "10.0.0.1", "--force"],
        // A generation would be next.
        &["rollback", "--confirm", "2m"],
    ];
    for arguments in wrong {
        let message = super::fails(&server, arguments, 64);
        assert!(
            message.contains("Usage: ") || message.contains("--help"),
            "{arguments:?}: {message}"
        );
    }
    let message = super::fails(&server, &["doctor", "--sysctl", "--json"], 1);
    assert!(message.contains("there is no JSON of --sysctl"), "{message}");
    for arguments in [&["--bogus"][..], &["start"], &["--config"]] {
        let output = server.tierwalld(arguments).unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert_eq!(stdout(&output), "");
    }
}
