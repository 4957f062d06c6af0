//! Sockets of the hosts on the stage, of any user's.

use super::wire::ARRIVED;
use nix::unistd::{Uid, setfsuid};
use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::network::Host;

pub(crate) const ROOT: u32 = 0;

/// What `open` makes in a host as that user, in a thread that ends with it.
fn as_user<T: Send>(host: &Host, user: u32, open: impl FnOnce() -> T + Send) -> T {
    host.namespace.run(|| {
        setfsuid(Uid::from_raw(user));
        open()
    })
}

/// A UDP socket of that user's. One that was just closed may still be open for a moment in a process
/// that another test starts, until that executes its program.
pub(crate) fn bind(host: &Host, user: u32, address: IpAddr, port: u16) -> UdpSocket {
    let start = Instant::now();
    let socket = loop {
        match as_user(host, user, || UdpSocket::bind((address, port))) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && start.elapsed() < ARRIVED => {
                thread::sleep(Duration::from_millis(5));
            }
            socket => break socket.unwrap(),
        }
    };
    socket.set_read_timeout(Some(ARRIVED)).unwrap();
    socket
}

/// A connection that this user of `opener` has to a port of `target`: first the opener's end.
pub(crate) fn connect(
    (opener, user): (&Host, u32),
    target: &Host,
    address: IpAddr,
    port: u16,
) -> (TcpStream, TcpStream) {
    let listener = target.namespace.run(|| TcpListener::bind((address, port))).unwrap();
    let opened = as_user(opener, user, || TcpStream::connect((address, port))).unwrap();
    let accepted = listener.accept().unwrap().0;
    for stream in [&opened, &accepted] {
        stream.set_read_timeout(Some(ARRIVED)).unwrap();
    }
    (opened, accepted)
}
