//! What says that a new connection gets in: the allow and its line, a built-in rule, or nobody.

use ruleset::evaluate::{Outcome, Packet};
use ruleset::{Hook, Reject, Ruleset, States, Transport};
use std::net::SocketAddr;
use std::path::Path;
use tierwall_policy::judge::{By, Judge};
use tierwall_policy::{Host, Options, Policy, Role, compile, load_text};

const POLICY: &str = r#"role = "app"
deny = { input = "reject" }
[tiers]
admin = ["10.10.0.0/26"]
web = ["10.10.1.10", "2001:db8::10"]
app = ["10.10.1.20", "2001:db8::20"]
[[allow]]
from = "admin"
to = "*"
service = "tcp/22"
[[allow]]
name = "payments api"
from = "app"
to = "198.51.100.40"
service = "tcp/443"
user = 1000
"#;

fn judged(text: &str) -> (Policy, Ruleset) {
    let options = Options { check_permissions: false, ..Options::default() };
    let policy = load_text(Path::new("tierwall.toml"), text, &options).policy.expect("a policy");
    let role = Role { tiers: ["app".to_owned()].into(), auto: false };
    let host = Host { role: &role, users: &Default::default(), previous: None };
    let ruleset = compile(&policy, host);
    (policy, ruleset)
}

fn opening(hook: Hook, source: &str, destination: &str) -> Packet {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    Packet::opening(hook, Transport::Tcp, address(source), address(destination))
}

/// What is said of each packet under a policy.
fn said(text: &str, packets: &[Packet]) -> Vec<String> {
    let (policy, ruleset) = judged(text);
    let judge = Judge::new(&policy, &ruleset);
    packets.iter().map(|packet| judge.rule_on(packet).to_string()).collect()
}

#[test]
fn a_session_is_let_in_by_an_allow_that_has_a_place() {
    let (policy, ruleset) = judged(POLICY);
    let judge = Judge::new(&policy, &ruleset);
    let ruling = judge.rule_on(&opening(Hook::Input, "10.10.0.7:50000", "10.10.1.20:22"));
    assert_eq!(ruling.outcome, Outcome::Accept);
    assert!(!ruling.is_denied());
    let By::Allow(allow) = ruling.by else { panic!("{ruling}") };
    assert_eq!((allow.location.line, &allow.key), (7, &policy.allows[0].key));
    assert_eq!(ruling.counters, ["allow.admin.all.tcp/22"]);
    assert_eq!(
        ruling.to_string(),
        "accepted by the allow admin -> * tcp/22 (tierwall.toml:7), counted in allow.admin.all.tcp/22"
    );
}

/// A VRF has addresses of its own, which may be others' elsewhere. Of IPv4 the kernel sees to it.
#[test]
fn an_own_address_from_outside_is_no_peer_but_in_a_vrf() {
    let own = "[[allow]]\nfrom = \"app\"\nto = \"app\"\nservice = \"tcp/80\"\n";
    let (policy, ruleset) = judged(&format!("{POLICY}{own}"));
    let judge = Judge::new(&policy, &ruleset);
    let first = opening(Hook::Input, "[2001:db8::20]:50000", "[2001:db8::20]:80");
    let outside = Packet { interface: 2, is_from_own: true, ..first };
    assert!(judge.rule_on(&outside).is_denied());
    assert!(!judge.rule_on(&Packet { is_in_vrf: true, ..outside }).is_denied());
}

/// As sshd has them, whose socket is of both families.
#[test]
fn a_mapped_address_is_an_ipv4_address() {
    let mapped = opening(Hook::Input, "[::ffff:10.10.0.7]:50000", "[::ffff:10.10.1.20]:22");
    assert_eq!(mapped, opening(Hook::Input, "10.10.0.7:50000", "10.10.1.20:22"));
}

#[test]
fn a_stranger_is_denied_since_no_allow_names_it() {
    let (policy, ruleset) = judged(POLICY);
    let judge = Judge::new(&policy, &ruleset);
    let ruling = judge.rule_on(&opening(Hook::Input, "10.10.0.64:50000", "10.10.1.20:22"));
    assert_eq!(ruling.by, By::Closing);
    assert_eq!(ruling.outcome, Outcome::Reject(Reject::TcpReset));
    assert!(ruling.is_denied() && !ruling.would_be_denied());
    assert_eq!(
        ruling.to_string(),
        "rejected with a TCP reset: no allow names it, counted in denied.input"
    );
}

#[test]
fn a_user_is_asked_for_on_the_way_out() {
    let packet = opening(Hook::Output, "10.10.1.20:50000", "198.51.100.40:443");
    let by_user = Packet { user: Some(1000), ..packet.clone() };
    assert_eq!(
        said(POLICY, &[packet, by_user]),
        [
            "rejected with a TCP reset: no allow names it, counted in denied.output",
            "accepted by the allow payments api (tierwall.toml:11), counted in allow.payments_api",
        ]
    );
}

#[test]
fn built_in_rules_go_by_their_names() {
    let packet = opening(Hook::Input, "10.10.0.64:50000", "10.10.1.20:22");
    let icmp = |kind| Packet { protocol: 1, ports: None, icmp_type: Some(kind), ..packet.clone() };
    let packets = [
        Packet { state: States::ESTABLISHED, ..packet.clone() },
        Packet { state: States::INVALID, ..packet.clone() },
        opening(Hook::Input, "127.0.0.1:50000", "127.0.0.1:22"),
        opening(Hook::Output, "10.10.1.20:50000", "10.10.1.20:22"),
        icmp(8),
        icmp(5),
        Packet { state: States::RELATED, ..icmp(5) },
    ];
    assert_eq!(
        said(POLICY, &packets),
        [
            "accepted by the built-in rule established",
            "dropped by the built-in rule invalid, counted in invalid.input",
            "accepted by the built-in rule loopback",
            "accepted by the built-in rule loopback",
            "accepted by the built-in rule ICMP",
            "dropped by the built-in rule no redirects, counted in denied.input",
            "dropped by the built-in rule no redirects, counted in denied.input",
        ]
    );
}

#[test]
fn what_is_only_observed_passes() {
    let observed = format!("mode = {{ input = \"observe\", output = \"off\" }}\n{POLICY}");
    let packet = opening(Hook::Input, "10.10.0.64:50000", "10.10.1.20:22");
    let packets = [
        packet.clone(),
        Packet { state: States::INVALID, ..packet.clone() },
        Packet { protocol: 1, ports: None, icmp_type: Some(5), ..packet },
        opening(Hook::Output, "10.10.1.20:50000", "192.0.2.1:443"),
    ];
    assert_eq!(
        said(&observed, &packets),
        [
            "would be denied: no allow names it, counted in would-deny.input",
            "would be denied by the built-in rule invalid, counted in invalid.input",
            "would be denied by the built-in rule no redirects, counted in would-deny.input",
            "accepted: nothing is filtered here",
        ]
    );
}

#[test]
fn without_a_table_nothing_is_filtered() {
    let (policy, _) = judged(POLICY);
    let nothing = Ruleset::default();
    let judge = Judge::new(&policy, &nothing);
    let ruling = judge.rule_on(&opening(Hook::Input, "192.0.2.1:50000", "10.10.1.20:22"));
    assert_eq!((ruling.outcome, ruling.by), (Outcome::Accept, By::Unfiltered));
}

/// Two packets of forwarded traffic, of which no allow speaks.
#[test]
fn what_is_forwarded_is_judged_too() {
    let forwarded = opening(Hook::Forward, "192.0.2.1:50000", "192.0.2.2:22");
    let open = format!("forward = \"accept\"\n{POLICY}");
    assert_eq!(
        said(POLICY, std::slice::from_ref(&forwarded)),
        ["dropped: no allow names it, counted in denied.forward"]
    );
    assert_eq!(said(&open, &[forwarded]), ["accepted: nothing is filtered here"]);
}
