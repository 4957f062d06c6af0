//! `/metrics` over real TCP.

use super::scrape::Scrape;
use super::{LIMIT, POLICY, network, server};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;

const PORT: u16 = 29_815;

/// The policy with numbers served at an address.
fn policy(listen: &str) -> String {
    format!("{POLICY}[metrics]\nlisten = \"{listen}\"\n")
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A connection, as soon as somebody listens.
pub(crate) fn connect(host: &Host, to: SocketAddr) -> TcpStream {
    let start = Instant::now();
    loop {
        match host.namespace.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5))) {
            Ok(stream) => {
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                return stream;
            }
            Err(error) => assert!(start.elapsed() < LIMIT, "{to}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The head and the body of what is answered.
pub(crate) fn answer(mut stream: TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    (head.to_owned(), body.to_owned())
}

pub(crate) fn get(host: &Host, to: SocketAddr, request: &str) -> (String, String) {
    let mut stream = connect(host, to);
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes()).unwrap();
    answer(stream)
}

fn status(server: &Server) -> Value {
    let output = server.tierwall(&["status", "--json"]).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What isn't watched, once that says so.
fn unwatched_when(server: &Server, holds: impl Fn(&str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let status = status(server);
        let lines =
            status["unwatched"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
        let told = lines.collect::<Vec<_>>().join("\n");
        if holds(&told) {
            return told;
        }
        assert!(start.elapsed() < LIMIT, "{told:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_scrape_is_what_the_command_prints() {
    let network = network();
    let host = network.host("server");
    let server = server(host, &policy("127.0.0.1:29815"));
    let daemon = server.start(&[]).unwrap();
    let (head, body) = get(host, local(PORT), "GET /metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for field in [
        "Content-Type: text/plain; version=0.0.4; charset=utf-8".to_owned(),
        format!("Content-Length: {}", body.len()),
        "Connection: close".to_owned(),
    ] {
        assert!(head.lines().any(|line| line == field), "{field}: {head}");
    }
    let (scrape, printed) = (Scrape::read(&body), Scrape::of(&server));
    let names = |scrape: &Scrape| scrape.metrics.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&scrape), names(&printed));
    assert_eq!(scrape.number("tierwall_policy_generation", &[]), 1);

    // A HEAD has the same length and no body; its length may have another digit somewhere.
    let (head, body) = get(host, local(PORT), "HEAD /metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body.is_empty(), "{head}");
    assert!(head.contains("\r\nContent-Length: "), "{head}");
    for (request, code) in [
        ("GET /", "404 Not Found"),
        ("GET /metrics/x", "404 Not Found"),
        ("POST /metrics", "405 Method Not Allowed"),
        ("nonsense", "400 Bad Request"),
    ] {
        let (head, _) = get(host, local(PORT), request);
        assert!(head.starts_with(&format!("HTTP/1.1 {code}\r\n")), "{request}: {head}");
    }
    let (head, _) = get(host, local(PORT), "DELETE /metrics");
    assert!(head.contains("\r\nAllow: GET, HEAD"), "{head}");
    // In pieces, as a slow network may send it.
    let mut stream = connect(host, local(PORT));
    stream.set_nodelay(true).unwrap();
    for byte in b"GET /metrics?a=b HTTP/1.0\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    assert!(answer(stream).0.starts_with("HTTP/1.1 200 OK\r\n"));
    daemon.stop().unwrap();
}

/// However many say nothing, or take nothing, whoever asks is answered.
#[test]
fn who_is_slow_keeps_nobody_waiting() {
    let network = network();
    let host = network.host("server");
    let server = server(host, &policy("127.0.0.1:29815"));
    let daemon = server.start(&[]).unwrap();
    get(host, local(PORT), "GET /metrics");
    let memory = daemon.memory().unwrap();
    let is_answered = || {
        let (head, _) = get(host, local(PORT), "GET /metrics");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    };
    let mut silent: Vec<TcpStream> = (0..50).map(|_| connect(host, local(PORT))).collect();
    is_answered();
    // Whose place somebody else has by now isn't served any more, not even with an error.
    let mut told = Vec::new();
    silent.remove(0).read_to_end(&mut told).unwrap();
    assert!(told.is_empty(), "{}", String::from_utf8_lossy(&told));
    assert_eq!(status(&server)["generation"], 1);
    assert!(server.tierwall(&["member", "add", "peers", "10.0.0.40"]).unwrap().status.success());
    // Nor do those that only begin to ask; their time is over although something came.
    let mut slow: Vec<TcpStream> = (0..50).map(|_| connect(host, local(PORT))).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
    }
    is_answered();
    assert!(answer(slow.pop().unwrap()).0.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    drop((silent, slow));

    // Who sends without end hears so.
    let mut stream = connect(host, local(PORT));
    let mut sent = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
    for _ in 0..100_000 {
        sent = sent
            .and_then(|()| stream.write_all(b"X: 0123456789012345678901234567890123456789\r\n"));
    }
    assert!(sent.is_err(), "it took 4 MB of a head");
    // Many who ask and never read.
    let mut asked = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(host, local(PORT));
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
        asked.push(stream);
    }
    is_answered();
    let grown = daemon.memory().unwrap().saturating_sub(memory);
    assert!(grown < 8 << 10, "{grown} KiB more");
    assert_eq!(status(&server)["generation"], 1);
    daemon.stop().unwrap();
}

#[test]
fn a_changed_address_takes_effect_on_reload() {
    let network = network();
    let host = network.host("server");
    let server = server(host, POLICY);
    let daemon = server.start(&[]).unwrap();
    let refused = |port| {
        let error = host.namespace.run(|| TcpStream::connect(local(port))).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{port}");
    };
    let reload = |policy: &str| {
        server.replace_policy(policy).unwrap();
        let output = server.tierwall(&["reload"]).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    refused(PORT);
    reload(&policy("127.0.0.1:29815"));
    get(host, local(PORT), "GET /metrics");
    reload(&policy("127.0.0.1:29816"));
    get(host, local(PORT + 1), "GET /metrics");
    refused(PORT);
    reload(&policy("[::1]:29816"));
    get(host, "[::1]:29816".parse().unwrap(), "GET /metrics");
    reload(POLICY);
    refused(PORT);
    refused(PORT + 1);

    // Where it can't be had, that is told, everything else works, and it is tried again.
    let taken = host.namespace.run(|| TcpListener::bind(local(PORT)).unwrap());
    reload(&policy("127.0.0.1:29815"));
    let told = unwatched_when(&server, |told| told.contains("29815"));
    assert!(told.contains("can't serve metrics") && told.contains("in use"), "{told}");
    assert!(daemon.log().contains("can't serve metrics"), "{}", daemon.log());
    assert_eq!(Scrape::of(&server).number("tierwall_unwatched", &[]), 1);
    assert_eq!(status(&server)["table"], "ours");
    drop(taken);
    get(host, local(PORT), "GET /metrics");
    unwatched_when(&server, str::is_empty);
    // What isn't wanted any more isn't told any more.
    let _taken = host.namespace.run(|| TcpListener::bind(local(PORT + 1)).unwrap());
    reload(&policy("127.0.0.1:29816"));
    unwatched_when(&server, |told| told.contains("29816"));
    reload(POLICY);
    unwatched_when(&server, str::is_empty);
    daemon.stop().unwrap();
}

/// Off the loopback interface only whom an allow lets in reads them.
#[test]
fn another_host_reads_them_by_an_allow_only() {
    let network = network();
    let allow = "[[allow]]\nfrom = \"second\"\nto = \"server\"\nservice = \"tcp/29815\"\n";
    let server = server(network.host("server"), &(policy("10.0.0.1:29815") + allow));
    let daemon = server.start(&[]).unwrap();
    let to = SocketAddr::from(([10, 0, 0, 1], PORT));
    let (head, _) = get(network.host("both"), to, "GET /metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let stranger = network.host("peer");
    let limit = Duration::from_millis(500);
    let error = stranger.namespace.run(|| TcpStream::connect_timeout(&to, limit)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    daemon.stop().unwrap();
}
