//! Open connections that the policy wouldn't let be opened again. A first enforcement keeps them as
//! established, so it cuts nobody off, but a connection that reconnects ends for good: who made the
//! policy wants to hear of it while it still lives.
//!
//! TCP only: what a UDP socket talks to shows in what is denied.

use netlink::{TcpSocket, TcpState, tcp_listeners, tcp_sockets};
use ruleset::evaluate::{Outcome, Packet};
use ruleset::{Hook, Ruleset, Transport};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Connections of one kind between this server and one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    /// Whether the peer opened it.
    is_input: bool,
    /// The port that it was opened to.
    port: u16,
    peer: IpAddr,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_input, port, peer } = self;
        match is_input {
            true => write!(f, "from {peer} to this server's tcp/{port}"),
            false => write!(f, "from this server to {peer} tcp/{port}"),
        }
    }
}

/// A line for each kind of open connection that `table` would deny as a new one, the most numerous
/// first.
///
/// # Errors
/// When the kernel can't list its sockets.
pub(crate) fn denied(table: &Ruleset) -> Result<Vec<String>, netlink::Error> {
    // First the sockets: one that is accepted meanwhile has a listener.
    let sockets = tcp_sockets()?;
    let listeners = tcp_listeners()?;
    Ok(lines(table, &sockets, |socket| listeners.accept(socket.local)))
}

fn lines(
    table: &Ruleset,
    sockets: &[TcpSocket],
    is_input: impl Fn(&TcpSocket) -> bool,
) -> Vec<String> {
    let Some(table) = &table.table else { return Vec::new() };
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    for socket in sockets.iter().filter(|socket| socket.state == TcpState::Established) {
        let (local, peer) = (socket.local, socket.remote);
        let (kind, packet) = if is_input(socket) {
            let packet = Packet::opening(Hook::Input, Transport::Tcp, peer, local);
            (Kind { is_input: true, port: local.port(), peer: packet.source }, packet)
        } else {
            let packet = Packet::opening(Hook::Output, Transport::Tcp, local, peer);
            let packet = Packet { user: Some(socket.uid), ..packet };
            (Kind { is_input: false, port: peer.port(), peer: packet.destination }, packet)
        };
        if table.evaluate(&packet).outcome != Outcome::Accept {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    let mut kinds: Vec<(Kind, usize)> = kinds.into_iter().collect();
    kinds.sort_by_key(|(kind, count)| (std::cmp::Reverse(*count), *kind));
    kinds.into_iter().map(|(kind, count)| counted(kind, count)).collect()
}

fn counted(kind: Kind, count: usize) -> String {
    match count {
        1 => kind.to_string(),
        count => format!("{kind} ({count} connections)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Host, Options, Role, compile, load_text};
    use std::collections::BTreeSet;
    use std::path::Path;

    fn socket(local: &str, remote: &str, state: TcpState, uid: u32) -> TcpSocket {
        let end = |text: &str| text.parse().expect("an address and a port");
        TcpSocket {
            local: end(local),
            remote: end(remote),
            state,
            interface: 0,
            uid,
            inode: 1,
            cookie: 0,
        }
    }

    #[test]
    fn names_both_directions_and_counts_what_is_alike() {
        let text = "role = \"app\"\n[tiers]\napp = [\"10.0.0.1\"]\nweb = [\"10.0.0.2\"]\n\
                    [[allow]]\nfrom = \"web\"\nto = \"app\"\nservice = \"tcp/80\"\n\
                    [[allow]]\nfrom = \"app\"\nto = \"web\"\nservice = \"tcp/443\"\nuser = \"backup\"\n";
        let policy = load_text(Path::new("t.toml"), text, &Options::default()).policy;
        let role = Role { tiers: BTreeSet::from(["app".to_owned()]), auto: false };
        let users = BTreeMap::from([("backup".to_owned(), 34)]);
        let host = Host { role: &role, users: &users, previous: None };
        let table = compile(&policy.expect("a good policy"), host);
        let open = TcpState::Established;
        let sockets = [
            socket("10.0.0.1:80", "10.0.0.2:4001", open, 0),
            socket("10.0.0.1:80", "10.0.0.9:4001", open, 0),
            socket("10.0.0.1:80", "10.0.0.9:4002", open, 0),
            socket("10.0.0.1:5000", "10.0.0.2:443", open, 34),
            socket("10.0.0.1:5001", "10.0.0.2:443", open, 0),
            // It ends anyway.
            socket("10.0.0.1:5002", "10.0.0.2:444", TcpState::LastAck, 0),
            socket("127.0.0.1:5003", "127.0.0.1:444", open, 0),
        ];
        let lines = lines(&table, &sockets, |socket| socket.local.port() == 80);
        assert_eq!(
            lines,
            [
                "from 10.0.0.9 to this server's tcp/80 (2 connections)",
                "from this server to 10.0.0.2 tcp/443",
            ]
        );
    }
}
