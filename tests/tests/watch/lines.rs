//! Lines and JSON, where no terminal is.

use super::{PEER, network, send, server};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;
use tierwall_tests::server::Server;

/// How long the next line may take.
const LINE: Duration = Duration::from_secs(20);

/// `tierwall watch` whose output is read line by line.
struct Lines {
    child: Child,
    lines: Receiver<String>,
}

impl Lines {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let mut command = server.tierwall_command().unwrap();
        command.args(["watch", "--interval", "100ms"]).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = server.spawn(&mut command).unwrap();
        let output: ChildStdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if line.is_err() || sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(LINE).expect("a line")
    }

    /// The first object that is as wanted.
    fn object(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let object: Value = serde_json::from_str(&self.next()).unwrap();
            if wanted(&object) {
                return object;
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn each_new_denial_is_a_line() {
    let network = network();
    let server = server(&network);
    let daemon = server.start(&[]).unwrap();
    let peer = network.host("peer");
    send(peer, "10.0.0.1", [1000]);
    let lines = Lines::start(&server, &[]);
    // What was before comes first.
    let first = lines.next();
    assert!(first.ends_with("10.0.0.1 (server) udp/1000 eth0: 1 connection, 0 retries"), "{first}");
    send(peer, "10.0.0.1", [1000, 1000]);
    let mut connections = 0;
    while connections < 2 {
        let line = lines.next();
        let (what, new) = line.split_once(" eth0: ").unwrap();
        assert!(what.contains("Z input denied 10.0.0.2 (peers) to 10.0.0.1 (server) udp/1000"));
        connections += new.split(' ').next().unwrap().parse::<u32>().unwrap();
    }
    assert_eq!(connections, 2);
    send(peer, "fd00:1111:2222:3333:4444:5555:6666:1", [1001]);
    let line = lines.next();
    let from = format!("input denied {PEER} (a-tier-with-quite-a-long-name) to fd00:");
    assert!(line.contains(&from) && line.contains("udp/1001"), "{line}");
    drop(lines);
    daemon.stop().unwrap();
}

#[test]
fn each_poll_is_an_object_and_the_news_add_up() {
    const SENT: u64 = 500;
    let network = network();
    let server = server(&network);
    let daemon = server.start(&[]).unwrap();
    let lines = Lines::start(&server, &["--json", "--by", "service"]);
    let first = lines.object(|_| true);
    assert_eq!((&first["new"], &first["generation"]), (&Value::Array(vec![]), &Value::from(1)));
    assert_eq!(first["table"], "ours");
    send(network.host("peer"), "10.0.0.1", 2000..2000 + SENT as u16);
    // A line tells so many flows; the others are a sum.
    let (mut connections, mut flows) = (0, 0);
    while connections < SENT {
        let object = lines.object(|_| true);
        for flow in object["new"].as_array().unwrap() {
            connections += flow["new"]["connections"].as_u64().unwrap();
            flows += 1;
        }
        connections += object["more_new"]["connections"].as_u64().unwrap();
    }
    assert!(connections == SENT && flows > 0, "{connections} in {flows} flows");
    let object = lines.object(|object| object["heaviest"]["left_out"] == SENT - 20);
    assert_eq!(object["heaviest"]["by"], "service");
    assert!(object["rates"]["denied"]["connections"].as_f64().unwrap() > 0.0, "{object}");
    assert_eq!(object["totals"][0]["connections"], SENT);
    // A daemon that is away is told, and asked again.
    daemon.kill().unwrap();
    lines.object(|object| object["error"].as_str().is_some_and(|why| why.contains("not running")));
    let daemon = server.start(&[]).unwrap();
    lines.object(|object| object["error"].is_null());
    drop(lines);
    daemon.stop().unwrap();
}

#[test]
fn a_last_poll_without_an_answer_is_a_failure() {
    let network = network();
    let server = server(&network);
    for arguments in [&["watch", "--lines"][..], &["watch", "--json"]] {
        let output = server.tierwall(&[arguments, &["--polls", "1"]].concat()).unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(!told.contains("trying again"), "{told}");
    }
}

#[test]
fn members_of_the_group_may_watch_and_nobody_else() {
    let network = network();
    let server = server(&network);
    let run = |group: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--regid", group, "--clear-groups", "--"]);
        let tierwall = server.tierwall_command().unwrap();
        command.arg(tierwall.get_program()).args(tierwall.get_args());
        command.args(["watch", "--json", "--polls", "1"]).stdin(Stdio::null());
        server.run(&mut command).unwrap()
    };
    let daemon = server.start(&["--group", "nogroup"]).unwrap();
    let output = run("nogroup");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["role"], serde_json::json!(["server"]));
    let output = run("daemon");
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no right"), "{output:?}");
    daemon.stop().unwrap();
}
