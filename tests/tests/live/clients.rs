//! Many clients, and those that behave badly.

use crate::fixture::*;
use control::{Request, Response, encode, socket_path};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use tierwall_tests::server::Server;

const POLICY: &str = r#"
role = "app"
[tiers]
web = ["10.0.0.1"]
app = ["10.0.0.2"]
[[allow]]
from = "web"
to = "app"
service = "tcp/8080"
"#;

fn connect(server: &Server) -> UnixStream {
    UnixStream::connect(socket_path(&server.runtime_directory())).unwrap()
}

#[test]
fn everybody_gets_an_answer_while_reloads_run() {
    let server = alone(POLICY);
    let daemon = start(&server);
    let mut monitor = Monitor::open(&server);
    rename(&server, "tierwall.toml", &POLICY.replace("8080", "9090"));
    thread::scope(|scope| {
        let ask = |request: Request| {
            let server = &server;
            scope.spawn(move || ask(server, &request))
        };
        let asked: Vec<_> = (0..50)
            .map(|_| (ask(Request::Reload(control::Reload::default())), ask(Request::Status)))
            .collect();
        for (reload, status) in asked {
            let (reload, status) = (reload.join().unwrap(), status.join().unwrap());
            assert!(matches!(reload, Response::Done(_)), "{reload:?}");
            assert!(matches!(status, Response::Status(_)), "{status:?}");
        }
    });
    assert_eq!(monitor.heard().len(), 1, "all of them together changed one thing");
    assert_eq!(status(&server).pid, daemon.id());
}

#[test]
fn reloads_that_wait_are_one() {
    let server = alone(POLICY);
    let daemon = start(&server);
    // All of them have asked before the first is served.
    daemon.signal(Signal::SIGSTOP).unwrap();
    let mut clients: Vec<UnixStream> = (0..50).map(|_| connect(&server)).collect();
    for client in &mut clients {
        client.write_all(&encode(&Request::Reload(control::Reload::default()))).unwrap();
    }
    daemon.signal(Signal::SIGCONT).unwrap();
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("done"), "{answer}");
    }
    let log = daemon.log();
    let reloads = log.lines().filter(|line| line.contains("reason=\"reload\"")).count();
    assert!((1..=25).contains(&reloads), "{reloads} reloads:\n{log}");
}

#[test]
fn a_client_that_goes_away_disturbs_nobody() {
    let server = alone(POLICY);
    let daemon = start(&server);
    let request = encode(&Request::Reload(control::Reload::default()));
    for length in [0, 1, request.len() / 2, request.len() - 1] {
        connect(&server).write_all(&request[..length]).unwrap();
    }
    // Asked, and gone before the answer: it is done all the same.
    rename(&server, "tierwall.toml", &POLICY.replace("8080", "9090"));
    for _ in 0..10 {
        connect(&server).write_all(&request).unwrap();
    }
    status_when(&server, "the reload was done", |status| {
        status.last_commit.as_ref().is_some_and(|commit| commit.reason == "reload")
    });
    assert_eq!(status(&server).pid, daemon.id());
}

#[test]
fn a_client_that_stalls_or_sends_garbage_disturbs_nobody() {
    let server = alone(POLICY);
    let daemon = start(&server);
    let mut stalled = connect(&server);
    stalled.write_all(b"{\"version\":").unwrap();
    let garbage: [&[u8]; 4] =
        [b"\n", b"\0\xff\xfe\n", b"{\"version\":99,\"body\":\"status\"}\n", &[b'['; 100_000]];
    for bytes in garbage {
        let mut client = connect(&server);
        // What is too long is refused before all of it was taken.
        let _ = client.write_all(bytes);
        let _ = client.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.contains("bad-request"), "{answer}");
    }
    tierwall_ok(&server, &["reload"]);
    tierwall_ok(&server, &["status"]);
    assert_eq!(status(&server).pid, daemon.id());
    drop(stalled);
}
