//! What answers on a host: every probed service, on each of its addresses.
//!
//! One thread a host waits for all its sockets. They are bound to single addresses, so that an
//! answer leaves from the address that was asked. Every token that arrives is remembered: a probe
//! that is denied must not have been seen here.

use crate::network::Host;
use crate::service::{Message, Service, Token};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockAddr;
use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Answers until it is dropped.
#[derive(Debug)]
pub struct Listener {
    seen: Arc<Mutex<HashSet<Token>>>,
    /// Closing it wakes the thread and ends it.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Answers on `host`; when it returns, the sockets listen.
    ///
    /// # Errors
    /// When an address or a port can't be bound.
    pub fn start(host: &Host, services: &[Service]) -> Result<Self> {
        let endpoints = host.namespace.run(|| {
            let each = host.addresses.iter().flat_map(|ip| services.iter().map(move |s| (*ip, *s)));
            each.map(|(address, service)| {
                Endpoint::bind(address, service).with_context(|| {
                    format!("can't listen on {address} {service} of {}", host.name)
                })
            })
            .collect::<Result<Vec<_>>>()
        })?;
        let seen = Arc::<Mutex<HashSet<Token>>>::default();
        let (stop, stopped) = UnixStream::pair()?;
        let memory = Arc::clone(&seen);
        let remember = move |token| {
            memory.lock().unwrap_or_else(PoisonError::into_inner).insert(token);
        };
        let thread = thread::spawn(move || answer_all(endpoints, &stopped, &remember));
        Ok(Self { seen, stop: Some(stop), thread: Some(thread) })
    }

    /// Whether a request with that token arrived.
    pub fn saw(&self, token: Token) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(&token)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A socket that is waited for.
enum Endpoint {
    /// Accepts TCP connections.
    Accept(TcpListener),
    /// One accepted connection.
    Stream(TcpStream),
    /// UDP, or a raw socket, which takes the same calls.
    Datagram(UdpSocket, Service),
}

impl Endpoint {
    fn bind(address: IpAddr, service: Service) -> io::Result<Self> {
        let socket = service.socket(address)?;
        if address.is_ipv6() && !matches!(service, Service::Protocol(_)) {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(SocketAddr::new(address, service.port())))?;
        Ok(match service {
            Service::Tcp(_) => {
                socket.listen(128)?;
                Self::Accept(socket.into())
            }
            Service::Udp(_) | Service::Protocol(_) => Self::Datagram(socket.into(), service),
        })
    }

    /// Takes what is there and answers it. What is waited for afterwards: the socket, the socket
    /// and a new connection, or nothing when the other side has closed.
    fn answer(self, remember: &impl Fn(Token)) -> Vec<Self> {
        match self {
            Self::Accept(listening) => match listening.accept() {
                Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => {
                    vec![Self::Stream(stream), Self::Accept(listening)]
                }
                // The other side may be gone already.
                _ => vec![Self::Accept(listening)],
            },
            Self::Stream(mut stream) => match answer_stream(&mut stream, remember) {
                ControlFlow::Continue(()) => vec![Self::Stream(stream)],
                ControlFlow::Break(()) => Vec::new(),
            },
            Self::Datagram(socket, service) => {
                answer_datagram(&socket, service, remember);
                vec![Self::Datagram(socket, service)]
            }
        }
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Accept(socket) => socket.as_fd(),
            Self::Stream(socket) => socket.as_fd(),
            Self::Datagram(socket, _) => socket.as_fd(),
        }
    }
}

/// Answers one request; a break is the end of the connection. A request of 24 bytes comes in one
/// segment.
fn answer_stream(stream: &mut TcpStream, remember: &impl Fn(Token)) -> ControlFlow<()> {
    let mut buffer = [0; Message::LENGTH];
    match stream.read(&mut buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
        Ok(length) => match Message::decode(&buffer[..length]) {
            Some(Message::Request(token)) => {
                remember(token);
                match stream.write_all(&Message::Answer(token).encode()) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            }
            _ => ControlFlow::Break(()),
        },
    }
}

/// Answers one datagram, if there is one and it is a request. Errors are those of earlier answers
/// (ICMP); the prober notices what they mean.
fn answer_datagram(socket: &UdpSocket, service: Service, remember: &impl Fn(Token)) {
    let mut buffer = [0; 512];
    let Ok((length, peer)) = socket.recv_from(&mut buffer) else { return };
    if let Some(Message::Request(token)) = service.message(&buffer[..length], peer.ip()) {
        remember(token);
        let _ = socket.send_to(&Message::Answer(token).encode(), peer);
    }
}

fn answer_all(mut endpoints: Vec<Endpoint>, stopped: &UnixStream, remember: &impl Fn(Token)) {
    loop {
        let mut polled: Vec<PollFd<'_>> = std::iter::once(stopped.as_fd())
            .chain(endpoints.iter().map(AsFd::as_fd))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => panic!("can't wait for the sockets of a listener: {error}"),
        }
        let ready: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        if ready[0] {
            return;
        }
        let waited = std::mem::take(&mut endpoints);
        for (endpoint, ready) in waited.into_iter().zip(&ready[1..]) {
            match ready {
                true => endpoints.extend(endpoint.answer(remember)),
                false => endpoints.push(endpoint),
            }
        }
    }
}
