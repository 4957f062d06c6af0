//! An ordinary site, and a week of what one of its application servers saw while it observed.

use super::proof::denial;
use super::spec::Flow;
use super::world::random::Random;
use policy::explain::Server;
use policy::model::{Policy, Service};
use policy::suggest::Denial;
use policy::{Addresses, Fate, Options, Style, Wanted, role_of};
use ruleset::Hook;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The server's own addresses.
pub(crate) const OWN: [&str; 2] = ["10.10.1.20", "fd00:10::20"];

/// What the site lets through before anybody looked.
pub(crate) fn policy(role: &str, mode: &str) -> String {
    format!(
        r#"role = "{role}"
mode = "{mode}"
include = ["conf.d/*.toml"]
{REST}"#
    )
}

const REST: &str = r#"
[tiers]
admin   = ["10.10.0.0/26", "fd00:10:0:a::/64"]
web     = ["10.10.1.10-10.10.1.19", "fd00:10::10"]
edge    = ["10.10.1.10-10.10.1.12"]
app     = ["10.10.1.20-10.10.1.29", "fd00:10::20-fd00:10::29"]
db      = ["10.10.1.30-10.10.1.39", "fd00:10::30"]
monitor = ["10.10.2.5", "fd00:10:2::5"]
site    = ["10.10.0.0/16", "fd00:10::/32"]

[services]
ssh      = "tcp/22"
postgres = "tcp/5432"
web      = ["tcp/80", "tcp/443"]
cluster  = ["tcp/7000-7003", "udp/7000"]

[[allow]]
from    = "admin"
to      = "*"
service = "ssh"

[[allow]]
from    = "*"
to      = "10.10.2.53"
service = ["udp/53", "tcp/53"]
"#;

pub(crate) fn load(text: &str) -> (Policy, BTreeMap<String, Service>) {
    let options = Options { check_permissions: false, ..Options::default() };
    let loaded = policy::load_text(Path::new("tierwall.toml"), text, &options);
    let told = loaded.diagnostics.render(Style::Plain);
    (loaded.policy.unwrap_or_else(|| panic!("{told}")), loaded.services)
}

pub(crate) fn server(policy: &Policy) -> Server {
    let own = OWN.map(|address| address.parse::<IpAddr>().unwrap());
    let role = role_of(policy, &own.map(Into::into));
    Server { role, addresses: own.into_iter().map(Addresses::single).collect() }
}

/// A kind of traffic: who, whom, on what, by whom, and how much of all it is.
struct Kind {
    hook: Hook,
    peers: &'static [&'static str],
    services: &'static [&'static str],
    users: &'static [u32],
    share: usize,
}

/// What goes on in such a site, right and wrong.
const KINDS: [Kind; 15] = [
    Kind {
        hook: Hook::Input,
        peers: &["10.10.1.10+10", "fd00:10::10+1"],
        services: &["tcp/8080", "tcp/8443"],
        users: &[],
        share: 20,
    },
    Kind {
        hook: Hook::Input,
        peers: &["10.10.1.10+3"],
        services: &["tcp/9000"],
        users: &[],
        share: 4,
    },
    Kind {
        hook: Hook::Output,
        peers: &["10.10.1.30+10", "fd00:10::30+1"],
        services: &["tcp/5432"],
        users: &[33, 1000],
        share: 20,
    },
    Kind {
        hook: Hook::Input,
        peers: &["10.10.1.21+8", "fd00:10::21+8"],
        services: &["tcp/7000", "tcp/7001", "tcp/7002", "tcp/7003", "udp/7000"],
        users: &[],
        share: 8,
    },
    Kind {
        hook: Hook::Output,
        peers: &["10.10.1.21+8", "fd00:10::21+8"],
        services: &["tcp/7000", "tcp/7001", "tcp/7002", "tcp/7003", "udp/7000"],
        users: &[33],
        share: 8,
    },
    Kind {
        hook: Hook::Input,
        peers: &["10.10.2.5+1", "fd00:10:2::5+1"],
        services: &["tcp/9100", "udp/161", "icmp type 13"],
        users: &[],
        share: 5,
    },
    Kind {
        hook: Hook::Output,
        peers: &["198.51.100.40+3", "2001:db8:40::1+2"],
        services: &["tcp/80", "tcp/443"],
        users: &[33],
        share: 6,
    },
    Kind {
        hook: Hook::Output,
        peers: &["203.0.113.0+60"],
        services: &["tcp/443"],
        users: &[0],
        share: 6,
    },
    Kind {
        hook: Hook::Input,
        peers: &["10.10.0.1+50", "fd00:10:0:a::1+9"],
        services: &["tcp/22", "tcp/8080", "gre"],
        users: &[],
        share: 6,
    },
    Kind {
        hook: Hook::Output,
        peers: &["10.10.2.53+1"],
        services: &["udp/53", "tcp/53", "udp/123"],
        users: &[0, 33],
        share: 4,
    },
    // Not welcome.
    Kind {
        hook: Hook::Input,
        peers: &["192.0.2.0+250", "2001:db8:bad::1+90"],
        services: &["tcp/22", "tcp/23", "tcp/445", "tcp/3389", "udp/161"],
        users: &[],
        share: 8,
    },
    Kind {
        hook: Hook::Input,
        peers: &["10.10.3.77+1"],
        services: &["tcp/1000+400"],
        users: &[],
        share: 2,
    },
    Kind {
        hook: Hook::Input,
        peers: &["10.10.1.30+1"],
        services: &["icmpv6 type 150", "tcp/0", "53", "icmp type 17"],
        users: &[],
        share: 1,
    },
    Kind {
        hook: Hook::Output,
        peers: &["224.0.0.251+1", "ff02::fb+1"],
        services: &["udp/5353"],
        users: &[101],
        share: 1,
    },
    Kind {
        hook: Hook::Forward,
        peers: &["10.10.1.30+3"],
        services: &["tcp/5432"],
        users: &[],
        share: 1,
    },
];

/// What was denied in a week, of so many connections of different kinds.
pub(crate) fn sample(random: &mut Random, connections: usize) -> Vec<Denial> {
    let mut denials: BTreeMap<Flow, Denial> = BTreeMap::new();
    let kinds: Vec<&Kind> =
        KINDS.iter().flat_map(|kind| std::iter::repeat_n(kind, kind.share)).collect();
    for _ in 0..connections {
        let kind = random.pick(&kinds);
        let flow = one(random, kind);
        if flow.source.is_ipv4() != flow.destination.is_ipv4() {
            continue;
        }
        let new = denial(random, &flow);
        match denials.get_mut(&flow) {
            None => drop(denials.insert(flow, new)),
            Some(known) => {
                known.count.connections += 1;
                known.count.retries += new.count.retries;
                known.last = known.last.max(new.last);
            }
        }
    }
    let mut denials: Vec<Denial> = denials.into_values().collect();
    // Late answers, which connection tracking knows nothing of.
    let mut late: Vec<Denial> = denials.iter().step_by(40).cloned().collect();
    late.iter_mut().for_each(|denial| denial.mark.fate = Fate::WouldDropInvalid);
    denials.extend(late);
    denials
}

fn one(random: &mut Random, kind: &Kind) -> Flow {
    let peer = random_of(kind.peers, random);
    let peer = nth(random, peer);
    let own: IpAddr = OWN[usize::from(peer.is_ipv6())].parse().unwrap();
    let wanted = random_of(kind.services, random);
    let (wanted, more) = wanted.split_once('+').unwrap_or((wanted, "1"));
    let mut wanted: Wanted = wanted.parse().unwrap();
    let more = random.below(more.parse().unwrap()) as u16;
    wanted.detail = wanted.detail.map(|port| port + more);
    let (source, destination) = match kind.hook {
        Hook::Output => (own, peer),
        _ => (peer, own),
    };
    let user = (!kind.users.is_empty()).then(|| random.pick(kind.users));
    // What the kernel sends by itself has no user.
    let user = user.filter(|_| random.below(2_000) > 0);
    Flow { hook: kind.hook, source, destination, wanted, user }
}

fn random_of(all: &[&'static str], random: &mut Random) -> &'static str {
    all[random.below(all.len())]
}

/// One of `ADDRESS+NUMBER` addresses.
fn nth(random: &mut Random, text: &str) -> IpAddr {
    let (first, number) = text.split_once('+').unwrap();
    let offset = random.below(number.parse().unwrap());
    match first.parse().unwrap() {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + offset as u32).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + offset as u128).into(),
    }
}
