//! What a probe asks for, and the message that it sends.

use anyhow::{Context, Error, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;

/// A port or an IP protocol, spelled as in a policy: `tcp/443`, `udp/53`, `esp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// A TCP port.
    Tcp(u16),
    /// A UDP port.
    Udp(u16),
    /// An IP protocol without ports that the kernel itself doesn't answer; sent and received
    /// through raw sockets, so by root only.
    ///
    /// Connection tracking knows a flow of such a protocol by its addresses alone: once a
    /// direction is open, the other one is its answer.
    Protocol(u8),
}

/// The protocols without ports that have a name here.
const PROTOCOLS: [(&str, u8); 3] = [("gre", 47), ("esp", 50), ("vrrp", 112)];

impl Service {
    /// The port; 0 for a protocol that has none.
    pub fn port(self) -> u16 {
        match self {
            Self::Tcp(port) | Self::Udp(port) => port,
            Self::Protocol(_) => 0,
        }
    }

    /// A socket that speaks it, of the family of `address`, in the namespace of this thread.
    ///
    /// # Errors
    /// Of the kernel: raw sockets need CAP_NET_RAW.
    pub fn socket(self, address: IpAddr) -> io::Result<Socket> {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        match self {
            Self::Tcp(_) => Socket::new(domain, Type::STREAM, Some(Protocol::TCP)),
            Self::Udp(_) => Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)),
            Self::Protocol(number) => {
                Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(number))))
            }
        }
    }

    /// The message in what such a socket received from `peer`. A raw IPv4 socket gets the IP
    /// header too, a raw IPv6 socket doesn't.
    pub fn message(self, received: &[u8], peer: IpAddr) -> Option<Message> {
        let header = match self {
            Self::Protocol(_) if peer.is_ipv4() => usize::from(received.first()? & 0x0f) * 4,
            _ => 0,
        };
        Message::decode(received.get(header..)?)
    }
}

impl FromStr for Service {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some((transport, port)) = text.split_once('/') {
            let port = port.parse().with_context(|| format!("`{port}` is not a port"))?;
            return match transport {
                "tcp" => Ok(Self::Tcp(port)),
                "udp" => Ok(Self::Udp(port)),
                _ => bail!("can't probe `{text}`: only tcp and udp have ports here"),
            };
        }
        match PROTOCOLS.iter().find(|(name, _)| *name == text) {
            Some((_, number)) => Ok(Self::Protocol(*number)),
            None => {
                bail!("can't probe `{text}`: expected tcp/PORT, udp/PORT, gre, esp or vrrp")
            }
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp/{port}"),
            Self::Udp(port) => write!(f, "udp/{port}"),
            Self::Protocol(number) => match PROTOCOLS.iter().find(|known| known.1 == *number) {
                Some((name, _)) => f.write_str(name),
                None => write!(f, "protocol {number}"),
            },
        }
    }
}

/// What tells one probe from every other: the listener remembers which ones it saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// The one message of the probe protocol. Requests are answered, answers never: two raw listeners
/// would otherwise answer each other forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// From the prober.
    Request(Token),
    /// From the listener, with the token of the request.
    Answer(Token),
}

impl Message {
    /// The length of an encoded message in bytes.
    pub const LENGTH: usize = 24;

    /// Eight zero bytes, `request:` or `answer: `, the token. The zeros are what connection
    /// tracking takes for a plain GRE header.
    pub fn encode(self) -> [u8; Self::LENGTH] {
        let (kind, token) = match self {
            Self::Request(token) => (b"request:", token),
            Self::Answer(token) => (b"answer: ", token),
        };
        let mut bytes = [0; Self::LENGTH];
        bytes[8..16].copy_from_slice(kind);
        bytes[16..].copy_from_slice(&token.0.to_be_bytes());
        bytes
    }

    /// The message that `bytes` begin with, none if they are anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..Self::LENGTH)?;
        let token = Token(u64::from_be_bytes(bytes[16..].try_into().ok()?));
        match &bytes[..16] {
            b"\0\0\0\0\0\0\0\0request:" => Some(Self::Request(token)),
            b"\0\0\0\0\0\0\0\0answer: " => Some(Self::Answer(token)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_print_as_they_are_written() {
        for text in ["tcp/443", "udp/53", "esp", "gre"] {
            let service: Service = text.parse().expect("a service");
            assert_eq!(service.to_string(), text);
        }
        for wrong in ["tcp/65536", "tcp/", "sctp/5", "https", ""] {
            assert!(wrong.parse::<Service>().is_err(), "{wrong} is no service");
        }
    }

    #[test]
    fn messages_survive_the_wire() {
        for message in [Message::Request(Token(7)), Message::Answer(Token(u64::MAX))] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        assert_eq!(Message::decode(b"HTTP/1.1 200 OK"), None);
    }
}
