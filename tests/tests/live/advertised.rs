//! A neighbour that announces prefixes: what that does to the role.

use crate::fixture::*;
use crate::listing::Listing;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt,
    socket, sockopt,
};
use std::fs::Permissions;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use tierwall_tests::namespace::Namespace;
use tierwall_tests::server::Server;

const POLICY: &str = r#"
[tiers]
web = ["10.0.0.1"]
app = ["10.0.0.2"]
db = ["fd00:5:1::/64"]
backup = ["fd00:5:2::ff:fe00:7"]

[[allow]]
from = "web"
to = ["app", "db", "backup"]
service = "tcp/8080"
"#;

/// How the kernel ends an address of the server's interface, out of its MAC address.
const IDENTIFIER: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xff, 0xfe00, 7);

fn ip(namespace: &Namespace, arguments: &str) {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    namespace.command("ip", &arguments).unwrap();
}

/// The neighbour's own address on the link, and the server's.
const NEIGHBOUR: &str = "fe80::1";
const SERVER: &str = "fe80::ff:fe00:7";

/// A server with an address in `app`, and a neighbour on its link.
fn server() -> (Server, Namespace) {
    let (server, neighbour) = (alone(POLICY), Namespace::new().unwrap());
    let here = &server.host().namespace;
    let peer = neighbour.path();
    let peer = peer.to_str().unwrap();
    ip(
        here,
        &format!("link add eth0 address 02:00:00:00:00:07 type veth peer name peer netns {peer}"),
    );
    for (namespace, link) in [(&**here, "eth0"), (&neighbour, "peer")] {
        // Otherwise an address is of no use for a second.
        namespace.sysctl(&format!("net.ipv6.conf.{link}.accept_dad"), "0").unwrap();
        ip(namespace, &format!("link set {link} up"));
    }
    ip(here, "address add 10.0.0.2/32 dev eth0");
    ip(&neighbour, &format!("address add {NEIGHBOUR}/64 dev peer nodad"));
    (server, neighbour)
}

/// Sends a router advertisement for `prefix`/64, from which each host on the link is to make itself
/// an address (RFC 4861, 4.2 and 4.6.2), until the server has one.
fn announce(server: &Server, neighbour: &Namespace, prefix: &str) {
    let prefix: Ipv6Addr = prefix.parse().unwrap();
    // Type and code; the kernel fills the checksum in. Hop limit, flags, 1800 s as a router, two
    // times of which it says nothing.
    let mut packet = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    // A prefix of 64 bits on this link, to make addresses of; valid and preferred for an hour.
    packet.extend([3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
    packet.extend(prefix.octets());
    let made = Ipv6Addr::from_bits(prefix.to_bits() | IDENTIFIER.to_bits()).to_string();
    let send = || {
        let raw = (AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let socket = socket(raw.0, raw.1, raw.2, SockProtocol::IcmpV6).unwrap();
        // Nobody takes one that a router may have forwarded.
        setsockopt(&socket, sockopt::Ipv6Ttl, &255).unwrap();
        let index = if_nametoindex("peer").unwrap();
        let to: SockaddrIn6 = SocketAddrV6::new(SERVER.parse().unwrap(), 0, 0, index).into();
        sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
    };
    eventually("the server takes the prefix", || {
        neighbour.run(send);
        let listed = ["-6", "address", "show", "dev", "eth0"];
        let listed = server.host().namespace.command("ip", &listed).unwrap();
        listed.contains(&format!("{made}/64")).then_some(())
    });
}

fn has_role(status: &control::Status, tiers: &[&str]) -> bool {
    status.role.iter().map(String::as_str).eq(tiers.iter().copied())
}

fn chains(server: &Server) -> Vec<String> {
    let chains = Listing::of(&server.host().namespace).chains.into_keys();
    chains.filter(|chain| chain.starts_with("in.")).collect()
}

#[test]
fn a_neighbour_who_announces_a_prefix_chooses_no_role() {
    let (server, neighbour) = server();
    let daemon = start(&server);
    status_when(&server, "the role is that of its own address", |status| {
        has_role(status, &["app"])
    });
    let before = chains(&server);
    announce(&server, &neighbour, "fd00:5:1::");
    // The daemon has seen it, says so, and changes nothing.
    let told = "fd00:5:1::ff:fe00:7 lies in the tier `db` and doesn't put this server into it";
    let is_told = |status: &control::Status| status.warnings.iter().any(|line| line.contains(told));
    status_when(&server, "the address is told", |status| is_told(status));
    status_when(&server, "the role stays", |status| has_role(status, &["app"]));
    assert!(daemon.log().contains(told), "{}", daemon.log());
    tierwall_ok(&server, &["reload"]);
    status_when(&server, "the role stays", |status| has_role(status, &["app"]));
    assert_eq!(chains(&server), before);

    // A tier that names the very address: no neighbour chose its second half.
    announce(&server, &neighbour, "fd00:5:2::");
    status_when(&server, "it is in `backup`", |status| has_role(status, &["app", "backup"]));

    // Whoever trusts all neighbours says so.
    rename(&server, "tierwall.toml", &format!("role = {{ auto = \"any\" }}\n{POLICY}"));
    tierwall_ok(&server, &["reload"]);
    let all = |status: &control::Status| has_role(status, &["app", "backup", "db"]);
    status_when(&server, "it is in `db`", |status| all(status) && !is_told(status));
}

#[test]
fn a_role_of_a_file_holds_whatever_is_announced() {
    let (server, neighbour) = server();
    server.write("role", "# this server\nbackup\n").unwrap();
    rename(&server, "tierwall.toml", &format!("role = {{ file = \"role\" }}\n{POLICY}"));
    let _daemon = start(&server);
    status_when(&server, "the role is that of the file", |status| has_role(status, &["backup"]));
    announce(&server, &neighbour, "fd00:5:1::");
    tierwall_ok(&server, &["reload"]);
    status_when(&server, "the role stays", |status| has_role(status, &["backup"]));
    // An edit of it is one of a setting.
    server.replace("role", "web\n").unwrap();
    status_when(&server, "the edit waits", |status| !status.waiting.is_empty());
    tierwall_ok(&server, &["reload"]);
    status_when(&server, "it has the new role", |status| has_role(status, &["web"]));
    // Others may not write it.
    let path = path(&server, "role");
    std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    status_when(&server, "it is refused", |status| {
        status
            .problem
            .as_ref()
            .is_some_and(|problem| problem.contains("may be written by everybody"))
    });
    status_when(&server, "the role stays", |status| has_role(status, &["web"]));
}
