//! A server with one large tier: its files, what they compile to, and the same by hand.

use crate::generate::{List, Shape};
use anyhow::{Context, Result};
use policy::{Host as CompileHost, Options, compile, role_of};
use ruleset::{Family, Ruleset};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The list file beside the policy.
pub(crate) const LIST: &str = "peers.list";

/// One tier from a list file, and one allow.
pub(crate) const POLICY: &str = "\
role = \"server\"
[tiers]
server = \"10.0.0.2\"
peers = { file = \"peers.list\" }
[[allow]]
from = \"peers\"
to = \"server\"
service = \"tcp/443\"
";

/// A host in a namespace of its own, with the policy and the list on its disk.
pub(crate) fn server(list: &str) -> Result<Server> {
    let server = Server::new(&host()?, POLICY)?;
    server.write(LIST, list)?;
    Ok(server)
}

pub(crate) fn host() -> Result<Host> {
    Host::alone("server", [IpAddr::V4(ADDRESS)])
}

/// Reads and compiles the files of a server, as its daemon does.
pub(crate) fn compiled(server: &Server) -> Result<Ruleset> {
    let loaded = policy::load(&server.config(), &Options::default());
    let policy = loaded.policy.context("the policy of the benchmark has errors")?;
    let role = role_of(&policy, &[]);
    let host = CompileHost { role: &role, users: &BTreeMap::new(), previous: None };
    Ok(compile(&policy, host).noted())
}

/// How `nft` is told of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Declared,
    Undeclared,
}

/// The same filter by hand, for `nft -f`.
pub(crate) fn by_hand(list: &List, size: Size) -> String {
    let (kind, ip) = match list.family {
        Family::V4 => ("ipv4_addr", "ip"),
        Family::V6 => ("ipv6_addr", "ip6"),
    };
    let flags = match (list.shape, size) {
        (Shape::Ranges, _) if list.is_neat => "flags interval;".to_owned(),
        (Shape::Ranges, _) => "flags interval; auto-merge;".to_owned(),
        (Shape::Addresses, Size::Declared) => format!("size {};", declared(list)),
        (Shape::Addresses, Size::Undeclared) => String::new(),
    };
    let mut text =
        format!("table inet filter {{\n set peers {{\n  type {kind}; {flags}\n  elements = {{\n");
    text += &list.joined(",\n");
    let _ = write!(
        text,
        "  }}\n }}\n chain input {{\n  type filter hook input priority 0; policy drop;\n  \
         ct state established,related accept\n  ct state invalid drop\n  iif lo accept\n  \
         meta l4proto {{ icmp, ipv6-icmp }} accept\n  {ip} saddr @peers tcp dport 443 accept\n }}\n}}\n"
    );
    text
}

/// A declared size with a quarter of headroom.
pub(crate) fn declared(list: &List) -> usize {
    list.members.len() + list.members.len() / 4 + 100
}

/// All members of a set by hand exchanged for those of `list`, for `nft -f`.
pub(crate) fn exchanged_by_hand(list: &List) -> String {
    let members = list.joined(",\n");
    format!("flush set inet filter peers\nadd element inet filter peers {{\n{members}}}\n")
}

/// A list as an ipset, for `ipset restore`.
pub(crate) fn ipset(list: &List) -> String {
    let family = if list.family == Family::V4 { "inet" } else { "inet6" };
    let size = declared(list);
    let mut text = format!(
        "create peers hash:ip family {family} hashsize {} maxelem {size}\n",
        size.next_power_of_two()
    );
    for member in &list.members {
        let _ = writeln!(text, "add peers {member}");
    }
    text
}
