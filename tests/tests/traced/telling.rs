//! What a person reads, and what goes wrong.

use super::{POLICY, network, nft, server, trace};
use std::io::Read;
use std::net::UdpSocket;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::server::Server;

/// Runs a trace while `meanwhile` runs, once it has begun: what it printed and said. Its table is the
/// one beside `other`.
fn told(
    server: &Server,
    other: &str,
    arguments: &[&str],
    meanwhile: impl FnOnce(),
) -> (String, String) {
    let mut command = server.tierwall_command().unwrap();
    command.arg("trace").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = server.spawn(&mut command).unwrap();
    let start = Instant::now();
    let is_its = |line: &str| line.contains("tierwall-trace-") && !line.ends_with(other);
    while !server.nft_list("tables").unwrap().lines().any(is_its) {
        assert!(start.elapsed() < Duration::from_secs(30));
        thread::sleep(Duration::from_millis(5));
    }
    meanwhile();
    let (mut printed, mut said) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    (printed, said)
}

#[test]
fn a_block_for_each_packet() {
    let network = network();
    let (server, peer) = (server(&network), network.host("peer"));
    let policy = POLICY.replace("udp/53", "udp/53\", \"udp/55");
    server.write("tierwall.toml", policy).unwrap();
    let daemon = server.start(&[]).unwrap();
    nft(
        server.host(),
        "table ip other { chain c { type filter hook input priority 10; \
         udp dport 55 counter drop comment \"\u{1b}[2Jnot this\"; }; }",
    );
    // Of another trace nothing is told.
    let other = trace(&server, "--from any");
    let (printed, said) =
        told(&server, &other.table, &["--service", "udp/53-55", "--count", "3"], || {
            peer.namespace.run(|| {
                let socket = UdpSocket::bind("10.0.0.2:4000").unwrap();
                for port in 53..=55 {
                    socket.send_to(b"x", ("10.0.0.1", port)).unwrap();
                }
            });
        });
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(server.path("").to_str().unwrap().trim_end_matches('/'), "ROOT");
    settings.add_filter(r"\+\d+\.\d+s", "+N s");
    // The state of a connection is told since 6.16.
    settings.add_filter("(?m)  new$", "");
    settings.bind(|| insta::assert_snapshot!("trace", printed));
    assert!(said.starts_with("tracing for 1m; ctrl-c ends it\n"), "{said}");
    assert!(said.contains("3 packets in ") && said.contains("1 allowed, 2 denied"), "{said}");
    other.stop().unwrap();
    daemon.stop().unwrap();
}

#[test]
fn what_cannot_be_traced_says_why_and_the_way_out() {
    let network = network();
    let server = server(&network);
    let fails = |arguments: &[&str], code: i32| {
        let output = server.tierwall(&[&["trace"], arguments].concat()).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
        said
    };
    for (arguments, word) in [
        (&[][..], "`tierwall trace any` traces"),
        (&["--from", "webb"], "did you mean"),
        (&["--from", "*"], "nobody in particular"),
        (&["--from", "10.0.0.300"], "is not an address"),
        (&["--from", "fd00::2", "--to", "10.0.0.1"], "no address family in common"),
        (&["--service", "tcp/0"], "ports lie between"),
    ] {
        server
            .write(
                "tierwall.toml",
                POLICY.replace("peers ", "web ").replace("\"peers\"", "\"web\""),
            )
            .unwrap();
        let said = fails(arguments, 1);
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    let many: Vec<String> = (0..20_001u32)
        .map(|n| format!("\"11.{}.{}.{}\"", n >> 15, n >> 7 & 255, (n & 127) * 2))
        .collect();
    let large = POLICY.replace("[\"10.0.0.2\", \"fd00::2\"]", &format!("[{}]", many.join(",")));
    server.write("tierwall.toml", large).unwrap();
    let said = fails(&["--from", "peers"], 1);
    assert!(
        said.contains("20001 ranges") && said.contains("name an address or a prefix"),
        "{said}"
    );
    for wrong in [&["--rate", "0"][..], &["--for", "soon"], &["--count", "0"]] {
        assert!(fails(&[&["--from", "any"], wrong].concat(), 64).contains("invalid value"));
    }
    let tables = server.nft_list("tables").unwrap();
    assert_eq!(tables, "");
}
