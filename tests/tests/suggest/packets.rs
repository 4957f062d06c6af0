//! From observing to enforcing, with the binaries and real packets: what was sent while the server
//! observed passes when what was suggested is enforced, and its neighbours don't.

use super::week;
use serde_json::Value;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::listener::Listener;
use tierwall_tests::network::Network;
use tierwall_tests::probe::{self, DENIED_LIMIT, OPEN_LIMIT, Probe};
use tierwall_tests::server::Server;
use tierwall_tests::service::Service;
use tierwall_tests::verdict::Verdict;

/// How long it may take until something is listed.
const LISTED: Duration = Duration::from_secs(10);

const HOSTS: [(&str, &[&str]); 8] = [
    ("app1", &week::OWN),
    ("app2", &["10.10.1.21"]),
    ("web1", &["10.10.1.10", "fd00:10::10"]),
    ("web2", &["10.10.1.15"]),
    ("db1", &["10.10.1.30", "fd00:10::30"]),
    ("admin1", &["10.10.0.5"]),
    ("pay", &["198.51.100.40"]),
    ("stranger", &["192.0.2.7"]),
];

/// From where to where, on what, in which family, by whose program, and how often.
const TRAFFIC: &str = "
    web1 app1 tcp/8080 4 root 3
    web1 app1 tcp/8080 6 root 1
    web1 app1 tcp/9000 4 root 2
    app2 app1 tcp/7000 4 root 1
    app2 app1 tcp/7001 4 root 1
    app2 app1 tcp/7002 4 root 1
    app2 app1 tcp/7003 4 root 1
    app2 app1 udp/7000 4 root 1
    app1 app2 tcp/7000 4 daemon 1
    app1 app2 tcp/7001 4 daemon 1
    app1 app2 tcp/7002 4 daemon 1
    app1 app2 tcp/7003 4 daemon 1
    app1 app2 udp/7000 4 daemon 1
    app1 db1 tcp/5432 4 daemon 2
    app1 db1 tcp/5432 6 daemon 2
    app1 db1 udp/514 4 root 1
    app1 pay tcp/80 4 nobody 1
    app1 pay tcp/443 4 nobody 4";

/// What the policy lets through as it is.
const ALLOWED: &str = "
    admin1 app1 tcp/22 4 root 1";

/// What looks like an attack.
const STRANGE: &str = "
    stranger app1 tcp/22 4 root 2
    stranger app1 tcp/23 4 root 1";

/// What nobody sent while the server observed, but that is between the same two tiers.
const OPENED: &str = "
    web2 app1 tcp/8080 4 root 1
    app1 db1 udp/514 6 root 1";

/// What isn't: other tiers, ports, users, addresses, directions.
const NEIGHBOURS: &str = "
    web2 app1 tcp/9000 4 root 1
    web1 app1 tcp/8081 4 root 1
    web1 app1 udp/7000 4 root 1
    db1 app1 tcp/8080 4 root 1
    app2 app1 tcp/7004 4 root 1
    app1 app2 tcp/7000 4 root 1
    app1 web1 tcp/8080 4 root 1
    app1 db1 tcp/5432 4 root 1
    app1 db1 tcp/5432 6 nobody 1
    app1 db1 udp/514 4 nobody 1
    app1 pay tcp/443 4 daemon 1
    app1 stranger tcp/443 4 nobody 1
    pay app1 tcp/443 4 root 1";

struct Line<'a> {
    from: &'a str,
    to: &'a str,
    service: Service,
    ipv4: bool,
    user: &'a str,
    times: usize,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let line = |line| {
        let words: Vec<&str> = str::split_whitespace(line).collect();
        let [from, to, service, family, user, times] = words[..] else { panic!("{line}") };
        let (service, times) = (service.parse().unwrap(), times.parse().unwrap());
        Line { from, to, service, ipv4: family == "4", user, times }
    };
    text.lines().filter(|text| !text.trim().is_empty()).map(line).collect()
}

fn connections(text: &str) -> u64 {
    lines(text).iter().map(|line| line.times as u64).sum()
}

struct Site {
    network: Network,
    listeners: Vec<Listener>,
}

impl Site {
    fn new() -> Self {
        let addresses = |all: &[&str]| all.iter().map(|a| a.parse().unwrap()).collect();
        let network =
            Network::new(HOSTS.iter().map(|(name, all)| (*name, addresses(all)))).unwrap();
        let all = [TRAFFIC, ALLOWED, STRANGE, OPENED, NEIGHBOURS].concat();
        let mut services: Vec<Service> = lines(&all).iter().map(|line| line.service).collect();
        services.sort_unstable();
        services.dedup();
        let listeners =
            network.hosts().iter().map(|host| Listener::start(host, &services).unwrap()).collect();
        Self { network, listeners }
    }

    /// Sends it all, and says of what nobody expected.
    fn send(&self, text: &str, open: bool) {
        let limit = if open { OPEN_LIMIT } else { DENIED_LIMIT };
        let lines = lines(text);
        let host = |name: &str| HOSTS.iter().position(|(host, _)| *host == name).unwrap();
        let address = |line: &Line<'_>, name| {
            let addresses = &self.network.hosts()[host(name)].addresses;
            *addresses.iter().find(|address| address.is_ipv4() == line.ipv4).unwrap()
        };
        let tries: Vec<(&Line<'_>, Probe)> = lines
            .iter()
            .flat_map(|line| std::iter::repeat_n(line, line.times))
            .map(|line| {
                let probe = Probe::new(address(line, line.to), line.service, limit);
                let user = (line.user != "root").then(|| line.user.to_owned());
                let source: Option<IpAddr> = Some(address(line, line.from));
                (line, Probe { source, user, ..probe })
            })
            .collect();
        let attempts: Vec<probe::Attempt<'_>> = tries
            .iter()
            .map(|(line, probe)| {
                (probe, &self.network.hosts()[host(line.from)], &self.listeners[host(line.to)])
            })
            .collect();
        let outcomes = probe::run_all(&attempts).unwrap();
        for ((line, _), outcome) in tries.iter().zip(outcomes) {
            let is_right = match outcome.verdict {
                Verdict::Open => open,
                Verdict::Denied(_) => !open,
                Verdict::Stalled => false,
            };
            let Line { from, to, service, ipv4, user, .. } = line;
            let verdict = outcome.verdict;
            assert!(is_right, "{from} -> {to} {service} by {user}, IPv4 {ipv4}: {verdict}");
        }
    }
}

pub(crate) fn run(server: &Server, arguments: &[&str]) -> String {
    let output = server.tierwall(arguments).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tierwall {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn json(server: &Server, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(server, &[&["suggest", "--json"], arguments].concat())).unwrap()
}

/// Waits until as many connections are listed as were sent.
fn wait_for(server: &Server, connections: u64) {
    let start = Instant::now();
    loop {
        let text = run(server, &["denied", "--json", "--limit", "10000"]);
        let answer: control::Denials = serde_json::from_str(&text).unwrap();
        let listed: u64 = answer.groups.iter().map(|group| group.count.connections).sum();
        if listed == connections {
            return;
        }
        assert!(start.elapsed() < LISTED, "{listed} and not {connections}: {answer:#?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The allows in an answer that are there to be pasted.
fn asked_for(answer: &Value) -> Vec<&Value> {
    let allows = answer["allows"].as_array().unwrap().iter();
    allows.filter(|allow| allow["asked_for"] == true).collect()
}

#[test]
fn what_was_suggested_lets_the_same_through_and_nothing_else() {
    let site = Site::new();
    let server = Server::new(site.network.host("app1"), &week::policy("auto", "observe")).unwrap();
    std::fs::create_dir(server.path("etc/conf.d")).unwrap();
    let daemon = server.start(&[]).unwrap();
    let sent = connections(TRAFFIC) + connections(STRANGE);
    for text in [TRAFFIC, ALLOWED, STRANGE] {
        site.send(text, true);
    }
    wait_for(&server, sent);

    // The numbers are those of the probes.
    let answer = json(&server, &[]);
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(
        keys(&answer),
        ["allows", "incomplete", "notes", "passing", "role", "since", "unsayable", "until"]
    );
    assert_eq!(
        keys(&answer["allows"][0]),
        [
            "asked_for",
            "evidence",
            "from",
            "other_end",
            "scan",
            "services",
            "stranger",
            "to",
            "toml",
            "user",
            "user_name"
        ]
    );
    assert_eq!(
        keys(&answer["allows"][0]["evidence"]),
        [
            "also_held_by",
            "denied",
            "destinations",
            "directions",
            "first",
            "last",
            "retries",
            "sources",
            "uncertain",
            "would_be_denied"
        ]
    );
    for (from, to, user, connections) in [
        ("web", "app", Value::Null, 4),
        ("edge", "app", Value::Null, 2),
        ("app", "app", Value::from("daemon"), 10),
        ("app", "db", Value::from("daemon"), 4),
        ("app", "db", Value::from("root"), 1),
        ("app", "198.51.100.40", Value::from("nobody"), 5),
        ("192.0.2.7", "app", Value::Null, 3),
    ] {
        let is_it = |allow: &&Value| {
            allow["from"][0] == from && allow["to"][0] == to && allow["user_name"] == user
        };
        let found: Vec<&Value> =
            answer["allows"].as_array().unwrap().iter().filter(is_it).collect();
        let [allow] = found[..] else { panic!("{from} -> {to}: {answer:#}") };
        assert_eq!(allow["evidence"]["would_be_denied"], connections, "{allow:#}");
        assert_eq!(allow["evidence"]["denied"], 0);
        assert_eq!(allow["asked_for"], from != "192.0.2.7");
    }
    assert_eq!(answer["allows"].as_array().unwrap().len(), 7, "{answer:#}");
    let of_user = json(&server, &["--user", "daemon"]);
    assert_eq!(asked_for(&of_user).len(), 2, "{of_user:#}");
    let of_tier = json(&server, &["--tier", "db", "--since", "1h"]);
    assert_eq!(asked_for(&of_tier).len(), 2, "{of_tier:#}");
    assert_eq!(asked_for(&json(&server, &["--strangers"])).len(), 7);

    let text = run(&server, &["suggest"]);
    insta::with_settings!({
        filters => [
            // One time, or two where they took longer than that: a long line is broken.
            (r"\d{4}-\d\d-\d\dT[\d:]+Z", "WHEN"),
            (r"(at|since)\s(# )?WHEN", "$1 WHEN"),
            (r"first\s(# )?WHEN,\s(# )?last\s(# )?WHEN", "at WHEN"),
            (r", \d+ retr\w+ beside", ""),
        ],
    }, {
        insta::assert_snapshot!("observed", text);
    });

    // As it is printed, it is a file of the policy.
    server.write("conf.d/suggested.toml", &text).unwrap();
    run(&server, &["check"]);
    server.write("tierwall.toml", week::policy("auto", "enforce")).unwrap();
    run(&server, &["reload"]);
    for text in [TRAFFIC, ALLOWED, OPENED] {
        site.send(text, true);
    }
    let answer = json(&server, &[]);
    let passing = &answer["passing"];
    assert_eq!(passing["would_be_denied"], connections(TRAFFIC), "{answer:#}");
    assert!(asked_for(&answer).is_empty(), "{answer:#}");
    assert!(run(&server, &["suggest"]).contains("Nothing is suggested outright."));

    for text in [STRANGE, NEIGHBOURS] {
        site.send(text, false);
    }
    daemon.stop().unwrap();
}

#[test]
fn what_the_record_lacks_is_told() {
    let site = Site::new();
    let server = Server::new(site.network.host("app1"), &week::policy("app", "enforce")).unwrap();
    let empty = server.tierwall(&["suggest"]).unwrap();
    assert_eq!(empty.status.code(), Some(1), "no daemon, no denials");
    let daemon = server.start(&[]).unwrap();
    let text = run(&server, &["suggest"]);
    assert!(
        text.contains("There is nothing to suggest.") && !text.contains("incomplete"),
        "{text}"
    );
    let unknown = server.tierwall(&["suggest", "--user", "nobody-here"]).unwrap();
    let told = String::from_utf8(unknown.stderr).unwrap();
    assert!(told.contains("there is no user `nobody-here`"), "{told}");
    let unknown = server.tierwall(&["suggest", "--tier", "wbe"]).unwrap();
    let told = String::from_utf8(unknown.stderr).unwrap();
    assert!(told.contains("no tier is named `wbe`") && told.contains("tiers: admin"), "{told}");

    site.network.host("web1").namespace.run(|| {
        let socket = UdpSocket::bind("10.10.1.10:0").unwrap();
        for _ in 0..3000 {
            socket.send_to(b"?", "10.10.1.20:3000").unwrap();
        }
    });
    wait_for(&server, 1);
    let text = run(&server, &["suggest"]);
    assert!(
        text.contains("incomplete: ") && text.contains("held back by the rate limits"),
        "{text}"
    );
    // Nobody but a member of the tier says what it wants: the fragment is whole all the same.
    assert!(text.contains("service = \"udp/3000\""), "{text}");
    daemon.stop().unwrap();
}
