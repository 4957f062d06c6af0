//! Lists that aren't taken as their files are: still being written, emptied by accident, on a mount
//! that is away.

use crate::fixture::*;
use crate::listing::Listing;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tierwall_tests::server::Server;

const POLICY: &str = r#"
role = "app"

[tiers]
app = ["10.0.0.2"]
admin = ["10.0.0.5"]
web = { file = "web.list" }

[[allow]]
from = ["admin", "web"]
to = "app"
service = "tcp/8080"
"#;

fn server(list: &str) -> Server {
    let server = alone(POLICY);
    server.write("web.list", list).unwrap();
    server
}

fn elements(server: &Server, set: &str) -> Vec<String> {
    Listing::of(&server.host().namespace).elements(set)
}

fn web_becomes(server: &Server, members: &[&str]) {
    eventually(&format!("web is {members:?}"), || {
        let (mut found, mut members) = (elements(server, "web_v4"), members.to_vec());
        found.sort();
        members.sort();
        (found == members).then_some(())
    });
}

/// Waits until lists are held for what is said here, or none is if nothing is.
fn held(server: &Server, what: &str) -> control::Status {
    status_when(server, &format!("held: {what:?}"), |status| match what {
        "" => status.held_lists.is_empty(),
        what => matches!(&status.held_lists[..], [held] if held.contains(what)),
    })
}

fn append(server: &Server) -> File {
    OpenOptions::new().append(true).open(path(server, "web.list")).unwrap()
}

#[test]
fn a_list_that_is_emptied_stays_until_somebody_reloads() {
    let server = server("10.0.7.1\n10.0.7.3\n");
    let daemon = server.start(&["--group", "daemon"]).unwrap();
    let both = ["10.0.7.1", "10.0.7.3"];
    web_becomes(&server, &both);
    // Taking out one of two is no accident.
    server.replace("web.list", "10.0.7.3\n").unwrap();
    web_becomes(&server, &["10.0.7.3"]);
    server.replace("web.list", "10.0.7.1\n10.0.7.3\n").unwrap();
    web_becomes(&server, &both);

    server.replace("web.list", "").unwrap();
    held(
        &server,
        "web.list (web) is empty; its 2 members stay until `tierwall reload`, which would remove 10.0.7.1, 10.0.7.3",
    );
    assert_eq!(elements(&server, "web_v4"), both);
    assert!(daemon.log().contains("is empty; its 2 members stay"), "{}", daemon.log());
    let told = server.tierwall(&["status"]).unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("held: the list") && told.contains("is empty"), "{told}");
    // Who may ask for the status needn't be able to read the list.
    let told = server.tierwall_in_group("daemon", &["status"]).unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("is empty; its 2 members stay") && !told.contains("10.0.7."), "{told}");
    // Nor is it taken by who only looks.
    assert!(tierwall_ok(&server, &["plan"]).contains("loses"));
    // Nor by who has the files take over a member.
    tierwall_ok(&server, &["member", "add", "admin", "10.0.0.7"]);
    tierwall_ok(&server, &["member", "promote", "admin", "10.0.0.7"]);
    held(&server, "is empty");
    assert_eq!(elements(&server, "web_v4"), both);
    // Other edits apply meanwhile.
    rename(&server, "tierwall.toml", &POLICY.replace("10.0.0.5", "10.0.0.6"));
    eventually("the edit applies", || {
        (elements(&server, "admin_v4") == ["10.0.0.6"]).then_some(())
    });
    assert_eq!(elements(&server, "web_v4"), both);
    // Over a restart, too.
    daemon.stop().unwrap();
    let daemon = start(&server);
    held(&server, "is empty");
    assert_eq!(elements(&server, "web_v4"), both);
    tierwall_ok(&server, &["reload"]);
    held(&server, "");
    assert!(elements(&server, "web_v4").is_empty());

    // Missing until it is back.
    server.replace("web.list", "10.0.7.1\n10.0.7.3\n").unwrap();
    web_becomes(&server, &both);
    fs::remove_file(path(&server, "web.list")).unwrap();
    held(&server, "is missing");
    assert_eq!(elements(&server, "web_v4"), both);
    let reload = server.tierwall(&["reload"]).unwrap();
    assert_eq!(reload.status.code(), Some(3), "whoever asks is told that it is missing");
    assert_eq!(elements(&server, "web_v4"), both);
    server.replace("web.list", "10.0.7.1\n").unwrap();
    web_becomes(&server, &["10.0.7.1"]);
    held(&server, "");
    // Meant to be empty.
    server.replace("web.list", "none # any more\n").unwrap();
    web_becomes(&server, &[]);
    daemon.stop().unwrap();
}

#[test]
fn a_list_that_lost_most_of_its_members_stays_until_somebody_reloads() {
    let lines = |count: u32| -> String { (1..=count).map(|n| format!("10.0.7.{n}\n")).collect() };
    let server = server(&lines(20));
    let _daemon = start(&server);
    web_becomes(&server, &["10.0.7.1-10.0.7.20"]);
    server.replace("web.list", lines(10)).unwrap();
    web_becomes(&server, &["10.0.7.1-10.0.7.10"]);
    server.replace("web.list", lines(4)).unwrap();
    held(&server, "lost 6 of its 10 members");
    web_becomes(&server, &["10.0.7.1-10.0.7.10"]);
    // Put right by whoever wrote it.
    server.replace("web.list", lines(9)).unwrap();
    web_becomes(&server, &["10.0.7.1-10.0.7.9"]);
    held(&server, "");
    server.replace("web.list", lines(2)).unwrap();
    held(&server, "lost 7 of its 9 members");
    tierwall_ok(&server, &["reload"]);
    web_becomes(&server, &["10.0.7.1-10.0.7.2"]);
    held(&server, "");
}

#[test]
fn no_trigger_takes_a_list_that_is_being_written() {
    let server = server("10.0.7.1\n");
    let daemon = start(&server);
    web_becomes(&server, &["10.0.7.1"]);
    let mut writer = append(&server);
    // The rest of the address is still to come.
    writer.write_all(b"10.0.7.1").unwrap();
    rename(&server, "tierwall.toml", &POLICY.replace("10.0.0.5", "10.0.0.6"));
    eventually("the edit elsewhere applies", || {
        (elements(&server, "admin_v4") == ["10.0.0.6"]).then_some(())
    });
    held(&server, "is open for writing");
    let reload = server.tierwall(&["reload"]).unwrap();
    let told = String::from_utf8([reload.stdout, reload.stderr].concat()).unwrap();
    assert!(reload.status.success() && told.contains("is open for writing"), "{told}");
    assert_eq!(elements(&server, "web_v4"), ["10.0.7.1"]);
    writer.write_all(b"23\n").unwrap();
    drop(writer);
    web_becomes(&server, &["10.0.7.1", "10.0.7.123"]);
    held(&server, "");

    // One that is held open for ever.
    let mut writer = append(&server);
    writer.write_all(b"10.0.7.9\n").unwrap();
    tierwall_ok(&server, &["reload"]);
    held(&server, "is open for writing");
    tierwall_ok(&server, &["reload", "--force"]);
    web_becomes(&server, &["10.0.7.1", "10.0.7.9", "10.0.7.123"]);
    held(&server, "");
    drop(writer);

    // A start takes what it held, if that is known.
    let mut writer = append(&server);
    writer.write_all(b"10.0.7.4").unwrap();
    daemon.stop().unwrap();
    let daemon = start(&server);
    held(&server, "is open for writing");
    web_becomes(&server, &["10.0.7.1", "10.0.7.9", "10.0.7.123"]);
    writer.write_all(b"2\n").unwrap();
    drop(writer);
    web_becomes(&server, &["10.0.7.1", "10.0.7.9", "10.0.7.42", "10.0.7.123"]);
    daemon.stop().unwrap();
}

/// What `check` and `plan` say is what a reload would do, or they say that it isn't.
#[test]
fn who_only_looks_is_told_of_a_list_that_is_being_written() {
    let server = server("10.0.7.1\n");
    let daemon = start(&server);
    web_becomes(&server, &["10.0.7.1"]);
    let mut writer = append(&server);
    writer.write_all(b"10.0.7.1").unwrap();
    for command in ["check", "plan"] {
        let ended = server.tierwall(&[command]).unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success(), "{told}");
        assert!(told.contains("web.list is still being written"), "{command}: {told}");
        assert!(told.contains("judged by what it holds now"), "{command}: {told}");
    }
    // A writer that is done soon is waited for.
    std::thread::scope(|scope| {
        let plan = scope.spawn(|| server.tierwall(&["plan"]).unwrap());
        writer.write_all(b"23\n").unwrap();
        drop(writer);
        let plan = plan.join().unwrap();
        let told = String::from_utf8([plan.stdout, plan.stderr].concat()).unwrap();
        assert!(!told.contains("written"), "{told}");
    });
    web_becomes(&server, &["10.0.7.1", "10.0.7.123"]);
    // Of a policy file nothing is known but what it holds, so a reload refuses it, and they too.
    let writer = OpenOptions::new().append(true).open(server.config()).unwrap();
    for command in ["check", "plan", "matrix"] {
        let ended = server.tierwall(&[command]).unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(3), "{command}: {told}");
        assert!(told.contains("tierwall.toml is still being written"), "{command}: {told}");
    }
    drop(writer);
    tierwall_ok(&server, &["check"]);
    daemon.stop().unwrap();
}

/// As Samba holds for a client that writes to a list.
#[test]
fn a_list_under_a_lease_is_read_when_that_is_given_back() {
    const HOLD: &str = "$SIG{IO} = 'IGNORE'; open(my $list, '<', $ARGV[0]) or die; \
                        fcntl($list, 1024, 1) or die; $| = 1; print \"held\\n\"; <STDIN>;";
    let server = server("10.0.7.1\n");
    let daemon = start(&server);
    web_becomes(&server, &["10.0.7.1"]);
    let mut holder = Command::new("perl")
        .args(["-e", HOLD])
        .arg(path(&server, "web.list"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    rename(&server, "tierwall.toml", &POLICY.replace("10.0.0.5", "10.0.0.6"));
    let status = held(&server, "is open for writing");
    assert_eq!(status.problem, None);
    eventually("the edit elsewhere applies", || {
        (elements(&server, "admin_v4") == ["10.0.0.6"]).then_some(())
    });
    assert_eq!(elements(&server, "web_v4"), ["10.0.7.1"]);
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    held(&server, "");
    assert!(!daemon.log().contains("unavailable"), "{}", daemon.log());
    daemon.stop().unwrap();
}

#[test]
fn a_first_start_waits_for_a_writer_and_takes_nothing_that_is_cut_off() {
    let server = server("10.0.7.1");
    let mut writer = append(&server);
    let begun = Instant::now();
    let ended = server.tierwalld(&[]).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2), "it didn't wait");
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(3), "{told}");
    assert!(told.contains("web.list is still being written"), "{told}");
    std::thread::scope(|scope| {
        let daemon = scope.spawn(|| start(&server));
        writer.write_all(b"23\n").unwrap();
        drop(writer);
        let daemon = daemon.join().unwrap();
        web_becomes(&server, &["10.0.7.123"]);
        daemon.stop().unwrap();
    });
}

#[test]
fn a_policy_file_that_is_being_written_is_read_when_it_is_closed() {
    let server = server("10.0.7.1\n");
    let _daemon = start(&server);
    web_becomes(&server, &["10.0.7.1"]);
    let mut writer = OpenOptions::new().append(true).open(server.config()).unwrap();
    // What stands there by now is a good policy.
    writer.write_all(b"\n[[allow]]\nfrom = \"web\"\nto = \"app\"\nservice = \"tcp/80\"\n").unwrap();
    let reload = server.tierwall(&["reload"]).unwrap();
    let told = String::from_utf8(reload.stderr).unwrap();
    assert_eq!(reload.status.code(), Some(3), "{told}");
    assert!(told.contains("tierwall.toml is still being written"), "{told}");
    assert!(told.contains("reload --force"), "{told}");
    writer.write_all(b"user = \"root\"\n").unwrap();
    drop(writer);
    status_when(&server, "it is read", |status| {
        status.problem.is_none() && status.waiting.iter().any(|line| line.contains("tcp/80"))
    });
}

/// A mount that is taken away when the test ends.
struct Mount(std::path::PathBuf);

impl Mount {
    fn of(path: &std::path::Path) -> Self {
        let arguments = ["-t", "tmpfs", "-o", "mode=755", "tmpfs"];
        let mounted = Command::new("mount").args(arguments).arg(path).status().unwrap();
        assert!(mounted.success());
        Self(path.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.unwrap().success() || std::thread::panicking());
    }
}

#[test]
fn a_list_on_a_mount_that_was_away_is_looked_at_again() {
    for is_used in [true, false] {
        let policy = POLICY.replace("web.list", "lists/web.list");
        let policy = match is_used {
            true => policy,
            // Nothing is let in by it, so it isn't held: the policy can't be applied.
            false => policy.replace("[\"admin\", \"web\"]", "\"admin\""),
        };
        let server = alone(&policy);
        let lists = path(&server, "lists");
        fs::create_dir(&lists).unwrap();
        let mount = Mount::of(&lists);
        server.write("lists/web.list", "10.0.7.1\n").unwrap();
        let daemon = start(&server);
        drop(mount);
        rename(&server, "tierwall.toml", &policy.replace("10.0.0.5", "10.0.0.6"));
        match is_used {
            true => drop(held(&server, "is missing")),
            false => drop(status_when(&server, "a problem", |status| status.problem.is_some())),
        }
        let mount = Mount::of(&lists);
        server.write("lists/web.list", "10.0.7.1\n10.0.7.2\n").unwrap();
        // Nothing tells of that.
        status_when(&server, "it is looked at again", |status| {
            status.problem.is_none() && status.held_lists.is_empty()
        });
        assert_eq!(elements(&server, "admin_v4"), ["10.0.0.6"]);
        if is_used {
            web_becomes(&server, &["10.0.7.1-10.0.7.2"]);
            // And what is edited there from now on is noticed.
            server.write("lists/beside", "10.0.7.3\n10.0.7.2\n").unwrap();
            fs::rename(lists.join("beside"), lists.join("web.list")).unwrap();
            web_becomes(&server, &["10.0.7.2/31"]);
        }
        daemon.stop().unwrap();
        drop(mount);
    }
}
