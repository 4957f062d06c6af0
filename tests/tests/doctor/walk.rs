//! Whether the doctor's reading of other chains agrees with the kernel, on chains at random and real
//! packets.

use super::*;
use crate::random::Random;
use std::fmt::Write;
use std::net::UdpSocket;

const ROUNDS: usize = 60;
const PORT: u16 = 9;
/// Jumps lead to later ones only: the kernel refuses loops.
const CHAINS: [&str; 4] = ["in", "a", "b", "c"];

fn end(random: &mut Random, chain: usize) -> String {
    let later = CHAINS.get(chain + 1..).filter(|later| !later.is_empty());
    match (random.below(8), later) {
        (0, _) => "accept".into(),
        (1, _) => "drop".into(),
        (2, _) => "return".into(),
        (3..=5, Some(later)) => format!("jump {}", random.pick(later)),
        (6, Some(later)) => format!("goto {}", random.pick(later)),
        _ => "counter".into(),
    }
}

/// A rule, with `conditions` behind some of which the packet is.
fn rule(random: &mut Random, chain: usize, conditions: bool) -> String {
    let end = end(random, chain);
    if !conditions || random.percent(40) {
        return end;
    }
    match random.below(4) {
        0 => format!("udp dport {PORT} {end}"),
        1 => format!("udp dport != {PORT} {end}"),
        2 => format!("meta mark 7 {end}"),
        // A map takes verdicts only.
        _ if end == "counter" => end,
        _ => format!("udp dport vmap {{ {PORT} : {end}, 100-200 : accept }}"),
    }
}

fn ruleset(random: &mut Random, conditions: bool) -> String {
    let mut text = String::from("flush ruleset\ntable inet mine {\n");
    // Chains are made before they are jumped to.
    for (index, chain) in CHAINS.iter().enumerate().rev() {
        let _ = writeln!(text, "  chain {chain} {{");
        if *chain == "in" {
            let policy = random.pick(&["accept", "accept", "drop"]);
            let _ = writeln!(text, "    type filter hook input priority 0; policy {policy};");
        }
        for _ in 0..random.below(4) {
            let _ = writeln!(text, "    {}", rule(random, index, conditions));
        }
        text.push_str("  }\n");
    }
    text + "}\n"
}

/// Whether a packet to this host arrives.
fn passes(host: &Host) -> bool {
    host.namespace.run(|| {
        let receiver = UdpSocket::bind(("127.0.0.1", PORT)).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"x", ("127.0.0.1", PORT)).unwrap();
        // Over loopback it has arrived, or never will, when sending returns.
        receiver.recv(&mut [0; 8]).is_ok()
    })
}

fn round(server: &Server, random: &mut Random, conditions: bool) -> (bool, bool, bool) {
    let text = ruleset(random, conditions);
    server.host().namespace.command_with_input("nft", &["-f", "-"], &text).unwrap();
    let found = found(server);
    let by_default = found.contains(&"warning foreign-drop".to_owned());
    let some = found.contains(&"warning foreign-drop-some".to_owned());
    let passes = passes(server.host());
    if !conditions {
        assert_eq!(by_default, !passes, "{text}");
        assert!(!some, "{text}");
    }
    // What a packet proves is told; behind a condition it may be that no packet is denied.
    assert!(passes || by_default || some, "{text}");
    (passes, by_default, some)
}

#[test]
fn what_the_kernel_denies_is_told() {
    let host = Host::alone("app1", ["10.10.1.20".parse().unwrap()]).unwrap();
    let server = server(&host, POLICY);
    let mut random = Random(std::process::id().into());
    println!("seed {}", std::process::id());
    for conditions in [false, true] {
        let seen: Vec<_> = (0..ROUNDS).map(|_| round(&server, &mut random, conditions)).collect();
        // The chains are of both kinds: neither answer is right for all.
        let passed = seen.iter().filter(|(passes, ..)| *passes).count();
        assert!((1..ROUNDS).contains(&passed), "{passed} of {ROUNDS} pass");
        let clean = seen.iter().filter(|(_, by_default, some)| !by_default && !some).count();
        assert!(clean > 0 || conditions, "none is clean");
    }
}
