//! TCP connections of which both ends are held here, though they are on different hosts.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use tierwall_tests::network::Host;

/// A byte that was sent arrives in microseconds; one that was dropped never does.
const ARRIVES: Duration = Duration::from_secs(10);
/// How long a connection may take to be opened before that counts as denied.
const DENIED: Duration = Duration::from_millis(300);

/// How a connection is addressed by its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    V4,
    V6,
    /// IPv4, which the server's end holds as `::ffff:…` in an IPv6 socket.
    Mapped,
}

impl Form {
    pub(crate) const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Mapped];

    fn address(self, host: &Host) -> IpAddr {
        let v4 = self != Self::V6;
        *host.addresses.iter().find(|address| address.is_ipv4() == v4).unwrap()
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connected {
    /// What it is, for messages.
    name: String,
    opener: TcpStream,
    accepter: TcpStream,
}

/// Where connections to a host are accepted.
pub(crate) struct Door {
    name: String,
    listener: TcpListener,
    address: SocketAddr,
    /// Whether who connects uses an IPv6 socket for an IPv4 address.
    opens_mapped: bool,
}

impl Door {
    /// For connections that others open to the server.
    pub(crate) fn inbound(server: &Host, form: Form) -> Self {
        let bound: IpAddr = match form {
            Form::V4 | Form::V6 => form.address(server),
            Form::Mapped => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self::bind(server, bound, form.address(server), format!("inbound {form:?}"))
    }

    /// For connections that the server opens.
    pub(crate) fn outbound(peer: &Host, form: Form) -> Self {
        let address = form.address(peer);
        let door = Self::bind(peer, address, address, format!("outbound {form:?}"));
        Self { opens_mapped: form == Form::Mapped, ..door }
    }

    fn bind(host: &Host, bound: IpAddr, address: IpAddr, name: String) -> Self {
        let listener = host.namespace.run(|| TcpListener::bind((bound, 0)).unwrap());
        let address = SocketAddr::new(address, listener.local_addr().unwrap().port());
        Self { name, listener, address, opens_mapped: false }
    }

    /// Opens a connection from a host.
    pub(crate) fn open(&self, from: &Host, number: usize) -> Connected {
        self.try_open(from, number, ARRIVES).expect("nothing denies it")
    }

    /// Opens a connection from a host; none where it is denied.
    pub(crate) fn open_or_denied(&self, from: &Host, number: usize) -> Option<Connected> {
        self.try_open(from, number, DENIED)
    }

    fn try_open(&self, from: &Host, number: usize, limit: Duration) -> Option<Connected> {
        let address = match self.address.ip() {
            IpAddr::V4(v4) if self.opens_mapped => {
                SocketAddr::new(v4.to_ipv6_mapped().into(), self.address.port())
            }
            _ => self.address,
        };
        let opener = from.namespace.run(|| TcpStream::connect_timeout(&address, limit)).ok()?;
        let (accepter, _) = self.listener.accept().unwrap();
        let own = opener.local_addr().unwrap();
        assert_eq!(accepter.peer_addr().unwrap().port(), own.port(), "not the one just opened");
        for stream in [&opener, &accepter] {
            stream.set_read_timeout(Some(ARRIVES)).unwrap();
            stream.set_nodelay(true).unwrap();
        }
        Some(Connected { name: format!("{} {number}", self.name), opener, accepter })
    }
}

/// Has every connection carry data in both directions; which end begins alternates. Data of all of
/// them is on its way at once.
pub(crate) fn carry_data(connections: &mut [Connected], when: &str) {
    for turn in [0, 1] {
        for (number, connection) in connections.iter_mut().enumerate() {
            let sent = connection.ends(number + turn).0.write_all(&token(number, turn));
            assert!(sent.is_ok(), "{when}: {} can't send: {sent:?}", connection.name);
        }
        for (number, connection) in connections.iter_mut().enumerate() {
            let mut arrived = [0; 8];
            let read = connection.ends(number + turn).1.read_exact(&mut arrived);
            assert!(read.is_ok(), "{when}: {} is broken: {read:?}", connection.name);
            assert_eq!(arrived, token(number, turn), "{when}: {}", connection.name);
        }
    }
}

fn token(number: usize, turn: usize) -> [u8; 8] {
    (number as u64 * 2 + turn as u64 + 1).to_be_bytes()
}

impl Connected {
    /// The end that sends and the end that receives.
    fn ends(&mut self, turn: usize) -> (&mut TcpStream, &mut TcpStream) {
        match turn % 2 {
            0 => (&mut self.opener, &mut self.accepter),
            _ => (&mut self.accepter, &mut self.opener),
        }
    }
}
