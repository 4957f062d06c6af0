//! A server that is to be enforced, and a peer to which its policy allows nothing.

use nix::sys::socket::{setsockopt, sockopt};
use policy::{Host, Options, compile, load_text, role_of};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tierwall_tests::namespace::Namespace;
use tierwall_tests::network::Network;

const POLICY: &str = r#"
role = "app"
mode = "MODE"

[tiers]
app   = ["10.0.0.1", "2001:db8::1"]
admin = ["10.0.0.100", "2001:db8::100"]

[[allow]]
from    = "admin"
to      = "app"
service = "tcp/22"
"#;

/// How long a connection may take to be made where nothing is in its way.
const CONNECT: Duration = Duration::from_secs(5);

/// How the two ends of a connection name each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
    /// An IPv6 socket at the server, IPv4 on the wire.
    Mapped,
}

/// Who opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opener {
    Server,
    Peer,
}

/// The two hosts, and a listener for each family at either.
pub(crate) struct Segment {
    _network: Network,
    pub(crate) server: Arc<Namespace>,
    pub(crate) peer: Arc<Namespace>,
    listeners: Vec<(Opener, Family, TcpListener)>,
}

impl Segment {
    pub(crate) fn new() -> Self {
        let own = |last: u8| -> Vec<IpAddr> {
            [format!("10.0.0.{last}"), format!("2001:db8::{last}")]
                .map(|address| address.parse().unwrap())
                .to_vec()
        };
        let network = Network::new([("server", own(1)), ("peer", own(2))]).unwrap();
        let server = Arc::clone(&network.host("server").namespace);
        let peer = Arc::clone(&network.host("peer").namespace);
        let mut listeners = Vec::new();
        for family in [Family::V4, Family::V6, Family::Mapped] {
            let any = match family {
                Family::V4 => "0.0.0.0:0",
                Family::V6 => "[2001:db8::1]:0",
                Family::Mapped => "[::]:0",
            };
            let listener = server.run(|| TcpListener::bind(any).unwrap());
            listeners.push((Opener::Peer, family, listener));
            let any = if family == Family::V6 { "[::]:0" } else { "0.0.0.0:0" };
            let listener = peer.run(|| TcpListener::bind(any).unwrap());
            listeners.push((Opener::Server, family, listener));
        }
        Self { _network: network, server, peer, listeners }
    }

    /// Where to connect to, and the listener there.
    pub(crate) fn target(&self, opener: Opener, family: Family) -> (SocketAddr, &TcpListener) {
        let mut listeners = self.listeners.iter();
        let (.., listener) = listeners.find(|(o, f, _)| (*o, *f) == (opener, family)).unwrap();
        let address = match (opener, family) {
            (Opener::Server, Family::V4) => "10.0.0.2",
            (Opener::Server, Family::V6) => "2001:db8::2",
            (Opener::Server, Family::Mapped) => "::ffff:10.0.0.2",
            (Opener::Peer, Family::V4 | Family::Mapped) => "10.0.0.1",
            (Opener::Peer, Family::V6) => "2001:db8::1",
        };
        let port = listener.local_addr().unwrap().port();
        (SocketAddr::new(address.parse().unwrap(), port), listener)
    }

    /// A connection: the server's end and the peer's.
    pub(crate) fn connect(&self, opener: Opener, family: Family) -> (TcpStream, TcpStream) {
        self.try_connect(opener, family, CONNECT).unwrap()
    }

    /// The same where it may be forbidden.
    pub(crate) fn try_connect(
        &self,
        opener: Opener,
        family: Family,
        limit: Duration,
    ) -> io::Result<(TcpStream, TcpStream)> {
        let (target, listener) = self.target(opener, family);
        let namespace = match opener {
            Opener::Server => &self.server,
            Opener::Peer => &self.peer,
        };
        let opened = namespace.run(|| TcpStream::connect_timeout(&target, limit))?;
        let accepted = listener.accept()?.0;
        for end in [&opened, &accepted] {
            // Small buffers: they can be filled.
            setsockopt(end, sockopt::SndBuf, &16384)?;
            setsockopt(end, sockopt::RcvBuf, &16384)?;
            end.set_nodelay(true)?;
        }
        Ok(match opener {
            Opener::Server => (opened, accepted),
            Opener::Peer => (accepted, opened),
        })
    }

    /// Commits the server's part of the policy, in this mode.
    pub(crate) fn commit(&self, mode: &str) {
        let options = Options { check_permissions: false, ..Options::default() };
        let text = POLICY.replace("MODE", mode);
        let policy = load_text(Path::new("tierwall.toml"), text, &options).policy.unwrap();
        let users = BTreeMap::new();
        let host = Host { role: &role_of(&policy, &[]), users: &users, previous: None };
        let script = compile(&policy, host).to_nft_script();
        self.server.command_with_input("nft", &["-f", "-"], &script).unwrap();
    }

    /// Has the server adopt its connections.
    pub(crate) fn adopt(&self) -> netlink::Adopted {
        let adopted = self.server.run(|| netlink::adopt_connections().unwrap());
        assert_eq!(adopted.failed, []);
        assert_eq!(adopted.found, adopted.inserted + adopted.existed);
        adopted
    }
}
