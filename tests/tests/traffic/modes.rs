//! A side that only observes lets everything through and counts what it would deny; one that is
//! off has no chain.

use super::icmp::{UNTRACKED, redirect};
use super::packet::Path::{In, Out, Through};
use super::packet::{LINK_LOCAL, RST, SYN, V4, V6, error, icmpv6, send, tcp, udp};
use super::stage::{CLOSED, Stage, Step, play};

fn policy(input: &str, output: &str) -> String {
    format!("mode = {{ input = \"{input}\", output = \"{output}\" }}\n{CLOSED}")
}

#[test]
fn observe_lets_everything_pass_and_counts_it() {
    let mut steps = Vec::new();
    for (path, back) in [(In, Out), (Out, In)] {
        let about = send(path, V4, udp(4000, 80));
        steps.extend([
            about.clone().would_be_denied(),
            send(path, V4, tcp(4000, 80, SYN)).would_be_denied(),
            send(path, V6, tcp(4000, 80, SYN)).would_be_denied(),
            send(path, V4, tcp(4001, 80, RST)).invalid_but_passes(),
            send(path, V6, tcp(4001, 80, RST)).invalid_but_passes(),
            // The answer to what passed is established, a redirect about it is related.
            send(back, V4, udp(80, 4000)).passes(),
            send(back, V4, error(5, 1, &about)).would_be_denied(),
            send(path, LINK_LOCAL, icmpv6(135, 0, &[0; 20])).would_be_denied(),
            send(path, LINK_LOCAL, icmpv6(135, 0, &[0; 20])).hops(255).passes(),
        ]);
    }
    play(&policy("observe", "observe"), &steps);
}

/// Each is counted once, though two rules would deny it.
#[test]
fn observe_counts_a_packet_once() {
    let mut steps = Vec::new();
    for path in [In, Out] {
        for addresses in [V4, V6] {
            let about = send(path, addresses, udp(4000, 4001));
            steps.push(redirect(path, addresses, &about).would_be_denied());
        }
    }
    let mut stage = Stage::new();
    stage.rehearse(&steps);
    stage.server().namespace.command_with_input("nft", &["-f", "-"], UNTRACKED).unwrap();
    stage.enforce(&policy("observe", "observe")).take(&steps);
}

#[test]
fn a_side_that_is_off_has_no_chain() {
    for (input, output) in [("off", "enforce"), ("enforce", "off"), ("off", "off")] {
        let steps: Vec<Step> = [(In, input), (Out, output)]
            .into_iter()
            .flat_map(|(path, mode)| {
                let denied = [
                    send(path, V4, udp(4000, 80)),
                    send(path, V6, udp(4000, 80)),
                    send(path, LINK_LOCAL, icmpv6(135, 0, &[0; 20])),
                ];
                let invalid =
                    [send(path, V4, tcp(4001, 80, RST)), send(path, V6, tcp(4001, 80, RST))];
                let off = mode == "off";
                let denied =
                    denied.map(|packet| if off { packet.passes() } else { packet.denied() });
                let invalid =
                    invalid.map(|packet| if off { packet.passes() } else { packet.invalid() });
                denied.into_iter().chain(invalid)
            })
            .collect();
        let mut stage = Stage::new();
        stage.rehearse(&steps);
        let mut enforced = stage.enforce(&policy(input, output));
        let ruleset =
            enforced.stage.server().namespace.command("nft", &["list", "ruleset"]).unwrap();
        for (side, mode) in [("input", input), ("output", output), ("forward", input)] {
            let hooked = ruleset.contains(&format!("hook {side}"));
            let chains = ruleset.contains(&format!("chain {side}"));
            assert_eq!((hooked, chains), (mode != "off", mode != "off"), "{side}:\n{ruleset}");
        }
        enforced.take(&steps);
    }
}

#[test]
fn forward_is_off_with_input() {
    let steps =
        [send(Through, V4, udp(4000, 80)).passes(), send(Through, V6, udp(4000, 80)).passes()];
    Stage::router().enforce(&policy("off", "enforce")).take(&steps);
}
