//! From the first moment to READY=1, and who else may be there.

use super::{POLICY, app_server, kernel, nft, server, status, stderr};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::server::Server;

/// How long anything here may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A child that is killed if the test ends before it does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "{what} didn't happen");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether tierwalld answers at the socket.
fn answers(server: &Server, runtime_directory: &Path) -> bool {
    let mut command = Command::new(server.tierwall_command().unwrap().get_program());
    command.arg("--runtime-directory").arg(runtime_directory).arg("status");
    server.run(&mut command).unwrap().status.success()
}

#[test]
fn the_table_is_there_when_it_says_ready() {
    let server = app_server();
    // A batch that takes its time.
    let mut members = String::new();
    for number in 0..9000 {
        writeln!(members, "10.{}.{}.1", 20 + number / 250, number % 250).unwrap();
    }
    server.write("many.list", members).unwrap();
    let many = r#"{ file = "many.list" }"#;
    server.write("tierwall.toml", POLICY.replace(r#"["10.10.0.0/26"]"#, many)).unwrap();

    let socket = server.path("notify");
    let notifications = UnixDatagram::bind(&socket).unwrap();
    notifications.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command = server.tierwalld_command().unwrap();
    command.env("NOTIFY_SOCKET", &socket).stderr(Stdio::null());
    let daemon = Running(server.spawn(&mut command).unwrap());

    // The first of its messages hands over the socket that owns the table.
    let mut buffer = [0; 4096];
    let message = loop {
        let length = notifications.recv(&mut buffer).unwrap();
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message.lines().any(|line| line == "READY=1") {
            break message;
        }
    };
    // From here on it does nothing more.
    daemon.signal(Signal::SIGSTOP);
    let status = message.lines().find_map(|line| line.strip_prefix("STATUS=")).unwrap();
    assert!(status.contains("enforce, app, 4 tiers"), "{status}");

    let listing = kernel(&server).listing;
    assert_eq!(listing.matches("policy drop").count(), 3, "{listing}");
    assert!(listing.contains("10.20.0.1") && listing.contains("10.55.249.1"));
    let listed = server.nft_list("set inet filter admin_v4").unwrap();
    assert_eq!(listed.split(',').count(), 9000);
}

#[test]
fn directories_are_where_systemd_says() {
    let server = app_server();
    let (run, state) = (server.path("systemd-run"), server.path("systemd-state"));
    let start = |arguments: &[&Path]| {
        let mut command = Command::new(server.tierwalld_command().unwrap().get_program());
        command.arg("--config").arg(server.config()).args(arguments);
        command.env("RUNTIME_DIRECTORY", &run).env("STATE_DIRECTORY", &state);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        Running(server.spawn(&mut command).unwrap())
    };
    let daemon = start(&[]);
    wait_until("an answer", || answers(&server, &run));
    wait_until("the role", || state.join("role.json").is_file());
    drop(daemon);

    let (own_run, own_state) = (server.runtime_directory(), server.state_directory());
    fs::remove_dir_all(&run).unwrap();
    fs::remove_dir_all(&state).unwrap();
    let (runtime_flag, state_flag) = ("--runtime-directory", "--state-directory");
    let _daemon = start(&[runtime_flag.as_ref(), &own_run, state_flag.as_ref(), &own_state]);
    wait_until("an answer", || answers(&server, &own_run));
    wait_until("the role", || own_state.join("role.json").is_file());
    assert!(!run.exists() && !state.exists(), "flags come before the environment");
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let server = app_server();
    let daemon = server.start(&[]).unwrap();
    let before = kernel(&server);
    // It would change something, if it could.
    server.write("tierwall.toml", POLICY.replace("tcp/8080", "tcp/8081")).unwrap();
    let refused = || {
        let second = server.tierwalld(&[]).unwrap();
        let told = stderr(&second);
        assert_eq!(second.status.code(), Some(1), "{told}");
        assert!(told.contains("another tierwalld runs already"), "{told}");
        assert_eq!(kernel(&server), before);
    };
    refused();
    // One that doesn't answer is no dead one.
    daemon.signal(Signal::SIGSTOP).unwrap();
    refused();
    daemon.signal(Signal::SIGCONT).unwrap();
    assert_eq!(status(&server)["pid"], daemon.id());
    daemon.stop().unwrap();
}

#[test]
fn of_several_started_together_one_stays() {
    let server = app_server();
    let mut daemons: Vec<Running> = (0..4)
        .map(|_| {
            let mut command = server.tierwalld_command().unwrap();
            Running(server.spawn(command.stderr(Stdio::null())).unwrap())
        })
        .collect();
    let mut refused = Vec::new();
    wait_until("the end of three", || {
        daemons.retain_mut(|daemon| match daemon.0.try_wait().unwrap() {
            Some(status) => {
                refused.push(status.code());
                false
            }
            None => true,
        });
        refused.len() >= 3
    });
    assert_eq!(refused, [Some(1); 3]);
    wait_until("an answer", || answers(&server, &server.runtime_directory()));
    assert_eq!(status(&server)["pid"], daemons[0].0.id());
    // One batch, whoever sent it.
    assert_eq!(status(&server)["kernel_generation"], kernel(&server).generation);
}

#[test]
fn the_socket_of_a_dead_daemon_is_replaced() {
    let server = app_server();
    let socket = server.runtime_directory().join("control.sock");
    server.start(&[]).unwrap().kill().unwrap();
    assert!(socket.exists(), "a killed daemon can't tidy up");
    let output = server.tierwall(&["status"]).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("tierwalld is not running"), "{}", stderr(&output));

    let daemon = server.start(&[]).unwrap();
    assert_eq!(status(&server)["pid"], daemon.id());
    let metadata = fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    daemon.stop().unwrap();
    assert!(!socket.exists());
}

#[test]
fn a_runtime_directory_that_cannot_be_is_an_error() {
    let server = app_server();
    fs::remove_dir(server.runtime_directory()).unwrap();
    fs::write(server.runtime_directory(), "").unwrap();
    let before = kernel(&server);
    let output = server.tierwalld(&[]).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(told.contains("can't make the runtime directory"), "{told}");
    assert_eq!(kernel(&server), before);
}

#[test]
fn the_end_of_what_reads_the_log_is_not_its_end() {
    let server = app_server();
    let mut command = server.tierwalld_command().unwrap();
    let mut daemon = Running(server.spawn(command.stderr(Stdio::piped())).unwrap());
    let mut log = daemon.0.stderr.take().unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("ready: ") {
        let mut buffer = [0; 1024];
        let length = log.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&said));
        said.extend(&buffer[..length]);
    }
    drop(log);
    // Each of these has something to say in the log.
    assert!(server.tierwall(&["teardown"]).unwrap().status.success());
    assert_eq!(status(&server)["enforcement"], "torn-down");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.0.wait().unwrap().code(), Some(0));
}

#[test]
fn without_the_right_it_says_so_and_nothing_else() {
    let server = app_server();
    // The directories are the user's own: it isn't they that are in the way.
    for path in [server.path(""), server.state_directory(), server.runtime_directory()] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    let before = kernel(&server);
    let program = server.tierwalld_command().unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]);
    command.arg(program.get_program()).args(program.get_args());
    let output = server.run(&mut command).unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("no right to change the network"), "{told}");
    assert_eq!(told.trim().lines().count(), 1, "{told}");
    assert_eq!(kernel(&server), before);
    assert_eq!(fs::read_dir(server.runtime_directory()).unwrap().count(), 0);
}

#[test]
fn sigterm_ends_it_with_the_policy_standing() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = app_server();
        let daemon = server.start(&[]).unwrap();
        let before = kernel(&server);
        daemon.signal(signal).unwrap();
        // `stop` sends SIGTERM only to one that still runs, and asks for success of either.
        daemon.stop().unwrap();
        assert_eq!(kernel(&server), before);
        assert!(before.listing.contains("policy drop"));
        assert!(!server.runtime_directory().join("control.sock").exists());
    }
}

#[test]
fn tables_of_others_stay() {
    let others = "
        table ip nat {
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                oifname \"eth9\" masquerade
            }
        }
        table ip filter {
            chain input { type filter hook input priority 10; policy drop; }
        }
        table inet filters {
            set app_v4 {
                type ipv4_addr
                elements = { 10.0.0.1 }
            }
        }";
    let server = server(&["10.10.1.20"], POLICY);
    nft(&server, others);
    let listed = || {
        let listing = kernel(&server).listing;
        let (own, others): (Vec<&str>, Vec<&str>) =
            listing.split_inclusive("\n}\n").partition(|t| t.starts_with("table inet filter {"));
        (own.len(), others.concat())
    };
    let (_, before) = listed();
    assert_eq!(before.matches("table ").count(), 3);
    let daemon = server.start(&[]).unwrap();
    assert_eq!(listed(), (1, before.clone()));
    assert!(server.tierwall(&["teardown"]).unwrap().status.success());
    assert_eq!(listed(), (0, before.clone()));
    daemon.stop().unwrap();
    server.start(&[]).unwrap().stop().unwrap();
    assert_eq!(listed(), (1, before.clone()));
    assert!(server.tierwall(&["teardown"]).unwrap().status.success());
    assert_eq!(listed(), (0, before));
}
