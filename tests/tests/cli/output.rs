//! Where it goes: colours on terminals, readers that leave, disks that are full.

use super::{app_server, edited, server, stderr, stdout};
use nix::pty::openpty;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use tierwall_tests::server::Server;

const ESCAPE: char = '\u{1b}';

/// What a terminal shows of a command.
fn on_a_terminal(server: &Server, command: &mut Command) -> String {
    let pty = openpty(None, None).unwrap();
    let terminal = File::from(pty.slave);
    command.env("TERM", "xterm-256color");
    command.stdout(terminal.try_clone().unwrap()).stderr(terminal);
    let mut child = server.spawn(command).unwrap();
    // The last ends of the terminal's side, so that reading comes to an end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut screen = File::from(pty.master);
    let reader = thread::spawn(move || {
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match screen.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => shown.extend(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // EIO: nobody has the terminal open any more.
                Err(_) => break,
            }
        }
        String::from_utf8(shown).unwrap()
    });
    assert!(child.wait().unwrap().success());
    reader.join().unwrap()
}

#[test]
fn colours_are_for_terminals() {
    let server = server(&edited("\"daemon\"", "\"no-such-user\""));
    let check = || {
        let mut command = server.tierwall_command().unwrap();
        command.arg("check");
        command
    };
    let shown = on_a_terminal(&server, &mut check());
    assert!(shown.contains("\u{1b}[32mgood\u{1b}[0m"), "{shown:?}");
    // The warning too.
    assert!(shown.find(ESCAPE).unwrap() < shown.find("no-such-user").unwrap(), "{shown:?}");
    let plain = on_a_terminal(&server, check().env("NO_COLOR", "1"));
    assert!(plain.contains("is good") && !plain.contains(ESCAPE), "{plain:?}");
    let plain = on_a_terminal(&server, check().args(["--color", "never"]));
    assert!(plain.contains("is good") && !plain.contains(ESCAPE), "{plain:?}");

    let piped = server.tierwall(&["check"]).unwrap();
    assert!(!stdout(&piped).contains(ESCAPE) && !stderr(&piped).contains(ESCAPE));
    let always = server.tierwall(&["check", "--color", "always"]).unwrap();
    assert!(stdout(&always).contains(ESCAPE) && stderr(&always).contains(ESCAPE));
    let json = server.tierwall(&["check", "--color", "always", "--json"]).unwrap();
    assert!(!stdout(&json).contains(ESCAPE));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let server = app_server();
    let daemon = server.start(&[]).unwrap();
    let commands: [&[&str]; 17] = [
        &["check"],
        &["check", "--json"],
        &["check", "--as", "db"],
        &["plan"],
        &["plan", "--json"],
        &["export"],
        &["export", "--json"],
        &["status"],
        &["status", "--json"],
        &["explain", "--from", "web", "--to", "self", "--service", "tcp/8080"],
        &["matrix"],
        &["matrix", "--json"],
        &["matrix", "--format", "html"],
        &["who-can", "app"],
        &["who-can", "app", "--json"],
        &["completions", "bash"],
        &["--help"],
    ];
    for arguments in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        // `tierwall … | head -0`, with a head that was quick.
        drop(reader);
        let mut command = server.tierwall_command().unwrap();
        command.args(arguments).stdout(writer).stderr(Stdio::piped());
        let output = server.spawn(&mut command).unwrap().wait_with_output().unwrap();
        assert_eq!(stderr(&output), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {:?}", output.status.signal());
    }
    daemon.stop().unwrap();
}

#[test]
fn nobody_on_standard_error_is_no_error_either() {
    let server = server(&edited("from    = \"web\"", "from    = \"wbe\""));
    for arguments in [&["check"][..], &["status"], &["--bogus"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = server.tierwall_command().unwrap();
        command.args(arguments).stdout(Stdio::null()).stderr(writer);
        let status = server.spawn(&mut command).unwrap().wait().unwrap();
        assert!([1, 3, 64].contains(&status.code().unwrap()), "{arguments:?}: {status}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = server.tierwalld_command().unwrap();
    let status = server.spawn(command.stderr(writer)).unwrap().wait().unwrap();
    assert_eq!(status.code(), Some(3));
}

#[test]
fn a_full_disk_is_an_error() {
    let server = app_server();
    for arguments in [&["check"][..], &["export"], &["plan", "--json"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = server.tierwall_command().unwrap();
        command.args(arguments).stdout(full).stderr(Stdio::piped());
        let output = server.spawn(&mut command).unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let told = stderr(&output);
        assert!(told.contains("can't write to standard output: No space left"), "{told}");
    }
}
