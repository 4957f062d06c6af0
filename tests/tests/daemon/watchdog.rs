//! The service manager's watchdog: fed while work gets done, and not while it doesn't.

use super::{POLICY, edited, server};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Waits until a notification says so; false where none does within this time.
fn says(notifications: &UnixDatagram, what: &str, within: Duration) -> bool {
    let start = Instant::now();
    let mut bytes = [0; 4096];
    while start.elapsed() < within {
        match notifications.recv(&mut bytes) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                if text.lines().any(|line| line == what) {
                    return true;
                }
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    false
}

#[test]
fn is_fed_only_while_work_gets_done() {
    const LONG: Duration = Duration::from_secs(30);
    let server = server(&["10.10.1.20"], POLICY);
    let notifications = UnixDatagram::bind(server.path("notify")).unwrap();
    notifications.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let log = fs::File::create(server.path("log")).unwrap();
    let mut command = server.tierwalld_command().unwrap();
    command.env("NOTIFY_SOCKET", server.path("notify")).env("WATCHDOG_USEC", "2000000");
    let mut daemon = server.spawn(command.stdout(Stdio::null()).stderr(log)).unwrap();
    assert!(says(&notifications, "READY=1", LONG));
    // For longer than a piece of work may take.
    for _ in 0..6 {
        assert!(says(&notifications, "WATCHDOG=1", LONG), "nothing is to do, and it is fed");
    }

    // A kept policy that can't be read, as on a disk that hangs.
    server.write("tierwall.toml", edited("tcp/80", "tcp/81")).unwrap();
    assert!(server.tierwall(&["reload"]).unwrap().status.success());
    let kept = server.state_directory().join("history/policy-1");
    let start = Instant::now();
    while fs::remove_file(&kept).is_err() {
        assert!(start.elapsed() < LONG, "the policy of generation 1 isn't kept");
    }
    mkfifo(&kept, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let mut command = server.tierwall_command().unwrap();
    command.args(["diff", "1"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = server.spawn(&mut command).unwrap();
    let start = Instant::now();
    while !fs::read_to_string(server.path("log")).unwrap().contains("doesn't end") {
        assert!(start.elapsed() < LONG, "it isn't told");
        let _ = says(&notifications, "", Duration::from_millis(50));
    }
    while says(&notifications, "WATCHDOG=1", Duration::from_millis(50)) {}
    assert!(!says(&notifications, "WATCHDOG=1", Duration::from_secs(4)), "it hangs and is fed");

    // The disk answers.
    drop(OpenOptions::new().write(true).open(&kept).unwrap());
    client.wait().unwrap();
    assert!(says(&notifications, "WATCHDOG=1", LONG));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
