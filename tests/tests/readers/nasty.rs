//! Policies made to be difficult to write, to read back, or to list.

use policy::model::AllowKey;
use policy::{Options, Policy, Style};
use std::fmt::Write;
use std::path::Path;

/// All of them, by name.
pub(crate) fn policies() -> Vec<(String, Policy)> {
    let mut policies: Vec<(String, Policy)> = vec![
        ("names".into(), names()),
        ("tier names".into(), parse(TIER_NAMES)),
        ("ports".into(), parse(PORTS)),
        ("ends of the address space".into(), parse(ENDS)),
        ("protocols".into(), parse(PROTOCOLS)),
        ("users".into(), parse(USERS)),
        ("literal peers".into(), parse(&literals())),
        ("large tiers".into(), parse(&large())),
    ];
    policies.extend(modes());
    policies
}

/// The policy of a text without errors.
pub(crate) fn parse(text: &str) -> Policy {
    let options = Options { check_permissions: false, ..Options::default() };
    let loaded = policy::load_text(Path::new("tierwall.toml"), text, &options);
    loaded.policy.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(Style::Plain)))
}

/// What the allows of [`names`] are called. The parser refuses some of these, which must not be
/// what a listing relies on.
fn nasty_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "a quote \" drop",
        "\"",
        "back\\slash",
        "a line\n\t\taccept",
        "\u{1b}[2J clears a terminal",
        "\u{202e}backwards",
        "\u{0} ends a string of C",
        "Zahlungen für Ärzte",
        "漢字かな",
        "🔥",
        "e\u{301} combined",
        "$variable",
        "@set",
        "# no comment",
        "{ brace",
        "}; flush ruleset",
        "'single'",
        "percent %s %n",
        "built-in: drop",
        "dispatch by port",
        "allow a b",
        "a b",
        "a-b",
        "a_b",
        "A_B",
        "a_b.1234abcd",
        "***",
        "*",
        "-",
        " ",
        "",
        "deadbeef",
    ]
    .map(String::from)
    .into();
    // At the limit of a comment, which has 127 bytes, `allow ` among them, and beyond.
    names.extend([120, 121, 122, 127, 128, 129, 4000].map(|length| "x".repeat(length)));
    names.extend(["y", "z"].map(|end| format!("{}{end}", "x".repeat(200))));
    names.extend([59, 60, 61, 100].map(|length| "ü".repeat(length)));
    names
}

fn names() -> Policy {
    let names = nasty_names();
    let mut text = String::from("[tiers]\nserver = [\"10.0.0.1\", \"fd00::1\"]\n");
    for index in 0..names.len() {
        let (from, to) = if index % 2 == 0 { ("any", "server") } else { ("server", "any") };
        write_allow(&mut text, from, to, &format!("tcp/{}", 1000 + index / 2));
    }
    // A key of 40 literals: its comment is cut.
    let many: Vec<String> = (0..40).map(|n| format!("\"192.0.2.{}\"", 2 * n)).collect();
    let many = many.join(", ");
    write!(text, "[[allow]]\nfrom = [{many}]\nto = \"server\"\nservice = \"tcp/22\"\n")
        .expect("a string takes all");
    let mut policy = parse(&text);
    for (allow, name) in policy.allows.iter_mut().zip(names) {
        allow.key = AllowKey::Named(name);
    }
    policy
}

fn write_allow(text: &mut String, from: &str, to: &str, service: &str) {
    let allow = format!("[[allow]]\nfrom = \"{from}\"\nto = \"{to}\"\nservice = \"{service}\"\n");
    text.push_str(&allow);
}

/// Names that look like those of our own sets and maps, and like words of the `nft` language.
const TIER_NAMES: &str = r#"
[tiers]
input          = ["10.0.0.1"]
input_tcp      = ["10.0.0.2"]
input_tcp_80   = ["10.0.0.3"]
input_tcp_80_v4 = ["10.0.0.4"]
output_tcp_80  = ["10.0.0.5"]
tcp            = ["10.0.0.6"]
counter        = ["10.0.0.7"]
drop           = ["10.0.0.8", "fd00::8"]
a-b            = ["10.0.0.9"]
a_b            = ["10.0.0.10"]
A_B            = ["10.0.0.11"]
in             = ["10.0.0.12"]
x_v4_hosts     = ["10.0.0.13"]
xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx = ["10.0.0.14"]

[[allow]]
from = "10.1.0.1"
to = "*"
service = "tcp/80"

[[allow]]
from = "10.1.0.2"
to = "*"
service = "tcp/80"

[[allow]]
from = "*"
to = ["10.1.0.3"]
service = "tcp/80"

[[allow]]
from = "*"
to = ["10.1.0.4"]
service = "tcp/80"

[[allow]]
from = "*"
to = "*"
service = ["tcp/80", "tcp/22"]

[[allow]]
from = "drop"
to = ["input", "input_tcp", "input_tcp_80", "input_tcp_80_v4"]
service = "tcp/23"
"#;

const PORTS: &str = r#"
[tiers]
server = ["10.0.0.1"]
a = ["10.0.1.0/24"]
b = ["10.0.2.0/24"]

[[allow]]
from = "any"
to = "server"
service = "tcp/1-65535"

[[allow]]
from = "a"
to = "server"
service = ["tcp/1", "tcp/65535", "tcp/2-3", "udp/1-65535"]

[[allow]]
from = "b"
to = "server"
service = ["tcp/65534-65535", "tcp/3-4", "tcp/100-200", "tcp/150-250", "tcp/251"]

[[allow]]
from = "a"
to = "server"
service = ["sctp/5000", "dccp/5000-5001", "udplite/65535", "udp/65535"]

[[allow]]
from = "server"
to = "a"
service = ["tcp/80", "tcp/82", "tcp/81", "udp/1"]

[[allow]]
from = "server"
to = "b"
service = ["tcp/80-81", "tcp/83"]
"#;

const ENDS: &str = r#"
[tiers]
server   = ["10.0.0.1"]
all      = ["0.0.0.0/0", "::/0"]
halves   = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]
last     = ["255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
upper    = ["255.255.255.0-255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
odd      = ["255.255.255.251-255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffb-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
first    = ["0.0.0.0", "::"]
lower    = ["0.0.0.0-0.0.0.6", "::-::6"]
both     = ["0.0.0.0-0.0.0.2", "255.255.255.254-255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
no-first = ["0.0.0.1-255.255.255.255", "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
no-last  = ["0.0.0.0-255.255.255.254", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"]
four-like = ["::102:304", "::fffe:0:0-::1:0:0:0", "64:ff9b::/96", "64:ff9b::1.2.3.4"]
touching = ["10.0.0.0-10.0.0.9", "10.0.0.10", "10.0.0.11-10.0.0.15", "10.0.0.3", "fd00::-fd00::7", "fd00::8/125"]
none     = []

[[allow]]
from = "*"
to = "server"
service = "tcp/1"

[[allow]]
from = ["0.0.0.0/0", "::/0"]
to = "server"
service = "tcp/2"

[[allow]]
from = ["255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
to = "server"
service = "tcp/3"

[[allow]]
from = ["255.255.255.254-255.255.255.255", "0.0.0.0", "::-::2", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
to = "server"
service = "tcp/4"

[[allow]]
from = "server"
to = ["0.0.0.0/1", "8000::/1", "fe80::/10"]
service = "tcp/5"

[[allow]]
from = "server"
to = ["10.0.0.0/8", "fd00::/8"]
service = "tcp/6"

[[allow]]
from = "server"
to = ["10.0.0.0/31", "fd00::/127"]
service = "tcp/6"

[[allow]]
from = ["128.0.0.0-255.255.255.255", "10.0.0.0-10.0.0.2"]
to = "server"
service = "tcp/7"

[[allow]]
from = ["10.0.0.4-10.0.0.6", "8000::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
to = "server"
service = "tcp/7"

[[allow]]
from = "server"
to = ["all", "halves", "last", "upper", "odd", "first", "lower", "both", "no-first", "no-last", "four-like", "touching", "none"]
service = "tcp/8"
"#;

const PROTOCOLS: &str = r#"
[tiers]
server = ["10.0.0.1", "fd00::1"]
peer   = ["10.0.0.2", "fd00::2"]

[[allow]]
from = "peer"
to = "server"
service = ["0", "2", "4", "47", "50", "51", "89", "112", "132", "200", "255"]

[[allow]]
from = "any"
to = "server"
service = ["gre", "tcp", "icmp"]

[[allow]]
from = "server"
to = "peer"
service = ["ipv6-icmp", "udp", "udplite", "254", "tcp/1-10"]

[[allow]]
from = "peer"
to = "server"
service = "any"

[[allow]]
from = "server"
to = ["peer", "10.0.0.3"]
service = "any"

[[allow]]
from = "server"
to = "10.0.0.4"
service = ["any", "tcp/5"]
"#;

const USERS: &str = r#"
[tiers]
server = ["10.0.0.1", "fd00::1"]
peer   = ["10.0.0.2", "fd00::2"]

[[allow]]
from = "server"
to = "peer"
service = "tcp/1"
user = ["root", "daemon", 33, 33, 4294967294, 256, 65536]

[[allow]]
from = "server"
to = "peer"
service = ["tcp/1", "gre"]
user = "last"

[[allow]]
from = "server"
to = "any"
service = "any"
user = 0

[[allow]]
from = "server"
to = ["10.0.0.9", "10.0.0.11-10.0.0.12", "peer"]
service = "tcp/1"
user = ["nobody", "last"]
"#;

/// Three hundred peers in one allow, three hundred allows of one peer each on one service, and
/// peers that overlap.
fn literals() -> String {
    let mut text = String::from("[tiers]\nserver = [\"10.0.0.1\", \"fd00::1\"]\n");
    let peers: Vec<String> = (0..300)
        .map(|n| format!("\"10.{}.{}.1\", \"fd00:{n:x}::/48\"", n / 100, n % 100))
        .collect();
    let peers = peers.join(", ");
    for (from, to) in [(&*peers, "\"server\""), ("\"server\"", &peers)] {
        let allow = format!("[[allow]]\nfrom = [{from}]\nto = [{to}]\nservice = \"tcp/443\"\n");
        text.push_str(&allow);
    }
    for n in 0..300 {
        let peer = match n % 3 {
            0 => format!("192.0.{}.{}", n / 200, n % 200),
            1 => format!("192.0.{}.{}-192.0.{}.{}", n / 200, n % 200, n / 200, n % 200 + 1),
            _ => format!("2001:db8:{n:x}::/64"),
        };
        write_allow(&mut text, &peer, "server", "tcp/8443");
        write_allow(&mut text, "server", &peer, "udp/53");
    }
    for peer in ["192.0.0.0/16", "192.0.0.0/24", "0.0.0.0/0", "2001:db8::/32", "any"] {
        write_allow(&mut text, peer, "server", "tcp/8443");
    }
    text
}

/// Tiers whose single addresses have a hash set of their own, in either family, with ranges beside
/// them and without.
fn large() -> String {
    let v4 = (0..10_100u32).map(|n| format!("\"10.{}.{}.{}\"", n / 8192, n / 32 % 256, n % 32 * 8));
    let v6 = (0..10_001u32).map(|n| format!("\"fd00::{:x}:{:x}\"", n / 100, n % 100 * 16));
    let ranges = (0..50u32).map(|n| format!("\"172.16.{n}.0/25\", \"fd01:{n:x}::/64\""));
    let join = |members: Vec<String>| members.join(", ");
    let (v4, v6, ranges) = (join(v4.collect()), join(v6.collect()), join(ranges.collect()));
    let mut text = format!(
        "[tiers]\nserver = [\"10.0.0.1\", \"fd00::1\"]\nfour = [{v4}]\nsix = [{v6}]\n\
         mixed = [{v4}, {v6}, {ranges}]\n"
    );
    write_allow(&mut text, "four", "server", "tcp/1");
    write_allow(&mut text, "mixed", "server", "tcp/2");
    write_allow(&mut text, "server", "six", "tcp/1");
    text
}

/// Every mode of input with every mode of output, and with every way to forward.
fn modes() -> Vec<(String, Policy)> {
    let modes = ["enforce", "observe", "off"];
    let mut policies = Vec::new();
    for (row, input) in modes.into_iter().enumerate() {
        for (column, output) in modes.into_iter().enumerate() {
            let forward = ["drop", "accept", "unmanaged"][(row + column) % 3];
            let deny = match (row + column) % 2 {
                0 => "{ input = \"reject\", output = \"drop\" }",
                _ => "{ input = \"drop\", output = \"reject\" }",
            };
            let text = format!(
                "mode = {{ input = \"{input}\", output = \"{output}\" }}\n\
                 forward = \"{forward}\"\ndeny = {deny}\n\
                 [tiers]\na = [\"10.0.0.1\"]\nb = [\"fd00::1\"]\n\
                 [[allow]]\nfrom = \"a\"\nto = \"b\"\nservice = \"tcp/22\"\n"
            );
            policies.push((format!("modes {input} {output} {forward}"), parse(&text)));
        }
    }
    policies
}
