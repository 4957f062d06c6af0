//! One literal of a service: a port, a range of ports, or a whole IP protocol.

use crate::model::Service;
use crate::quoting::{cut, quote};
use crate::{name, protocol};
use ruleset::Transport;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What one text of a service says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// `any`
    Any,
    /// `gre`, `47`
    Protocol(u8),
    /// `tcp/22`, `tcp/1000-2000`
    Ports(Transport, RangeInclusive<u16>),
    /// Something else: a name of `[services]`, if it is defined.
    Name,
}

/// Why a text is no service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PartError {
    #[error("no protocol is named {}", quote(.name))]
    UnknownProtocol { name: String, hint: Option<String> },
    #[error("{} has no ports", quote(.name))]
    NoPorts { name: String },
    #[error("{} is a port, not a protocol", quote(.text))]
    BarePort { text: String },
    #[error("no IP protocol has the number {}", quote(.text))]
    NumberTooLarge { text: String },
    #[error("port 0 can't be opened")]
    PortZero { text: String },
    #[error("port {} is too large", quote(.text))]
    PortTooLarge { text: String },
    #[error("the port range {first}-{last} is inverted")]
    Inverted { transport: Transport, first: u16, last: u16 },
    #[error("{} has no port", quote(.text))]
    NoPort { text: String, transport: Transport },
    #[error("{} is half a range", quote(.text))]
    HalfRange { text: String, meant: String },
    #[error("{} is not a port", quote(.text))]
    NotAPort { text: String, hint: Option<String> },
    #[error("{} has blanks in it", quote(.text))]
    Blanks { text: String, meant: String },
    #[error("{} is not a service", quote(.text))]
    NotAService { text: String, hint: String },
}

impl PartError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::UnknownProtocol { .. } | Self::NumberTooLarge { .. } => "unknown-protocol",
            Self::NotAService { .. } | Self::Blanks { .. } => "bad-service",
            _ => "bad-port",
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownProtocol { hint, .. } | Self::NotAPort { hint, .. } => {
                return hint.clone();
            }
            Self::NoPorts { name } => format!("write \"{name}\" for all of it"),
            Self::BarePort { text } | Self::NumberTooLarge { text } => match text.parse::<u16>() {
                Ok(port) => format!("write \"tcp/{port}\" or \"udp/{port}\" for the port"),
                Err(_) => "protocols have numbers up to 255, ports up to 65535".into(),
            },
            Self::PortZero { .. } | Self::PortTooLarge { .. } => {
                "ports lie between 1 and 65535".into()
            }
            Self::Inverted { transport, first, last } => {
                format!("write \"{transport}/{last}-{first}\"")
            }
            Self::NoPort { transport, .. } => format!("write \"{transport}\" for every port"),
            Self::HalfRange { meant, .. } | Self::Blanks { meant, .. } => {
                format!("write \"{meant}\"")
            }
            Self::NotAService { hint, .. } => hint.clone(),
        })
    }
}

impl FromStr for Part {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        parse(text).map_err(|error| match without_blanks(text) {
            Some(meant) => PartError::Blanks { text: text.into(), meant },
            None => error,
        })
    }
}

fn parse(text: &str) -> Result<Part, PartError> {
    if let Some((protocol, ports)) = text.split_once('/') {
        return literal(text, protocol, ports);
    }
    if text == "any" {
        return Ok(Part::Any);
    }
    if let Some(number) = protocol::number(text) {
        return Ok(Part::Protocol(number));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.parse().map_err(|_| PartError::NumberTooLarge { text: text.into() })?;
        if protocol::is_rather_a_port(number) {
            return Err(PartError::BarePort { text: text.into() });
        }
        return Ok(Part::Protocol(number));
    }
    if name::check(text).is_ok() {
        return Ok(Part::Name);
    }
    Err(PartError::NotAService { text: text.into(), hint: service_hint(text) })
}

/// The literal that a text is but for blanks around its parts.
fn without_blanks(text: &str) -> Option<String> {
    let (protocol, ports) = text.split_once('/').unwrap_or((text, ""));
    let ports: Vec<&str> = ports.split('-').map(str::trim).collect();
    let meant = match text.contains('/') {
        true => format!("{}/{}", protocol.trim(), ports.join("-")),
        false => protocol.trim().to_owned(),
    };
    (meant != text && parse(&meant).is_ok()).then_some(meant)
}

impl Part {
    /// As a service of its own. A name has nothing in it yet.
    pub(crate) fn into_service(self) -> Service {
        let mut service = Service::default();
        match self {
            Self::Any => service.any = true,
            Self::Protocol(number) => {
                service.protocols.insert(number);
            }
            Self::Ports(transport, range) => {
                service.ports.insert(transport, vec![range]);
            }
            Self::Name => {}
        }
        service
    }
}

/// Adds `other` to `service`. [`merge`] must follow the last one.
pub(crate) fn append(service: &mut Service, other: Service) {
    service.any |= other.any;
    service.protocols.extend(other.protocols);
    for (transport, ranges) in other.ports {
        service.ports.entry(transport).or_default().extend(ranges);
    }
}

/// Makes ports sorted, disjoint and not adjacent.
pub(crate) fn merge(service: &mut Service) {
    for ports in service.ports.values_mut() {
        ports.sort_unstable_by_key(|range| *range.start());
        ports.dedup_by(|next, kept| {
            let touches = u32::from(*next.start()) <= u32::from(*kept.end()) + 1;
            if touches {
                *kept = *kept.start()..=(*kept.end()).max(*next.end());
            }
            touches
        });
    }
}

fn literal(text: &str, protocol: &str, ports: &str) -> Result<Part, PartError> {
    let transport = Transport::ALL.into_iter().find(|transport| transport.name() == protocol);
    let Some(transport) = transport else {
        let is_known = protocol::number(protocol).is_some();
        return Err(match is_known {
            true => PartError::NoPorts { name: protocol.into() },
            false => unknown_protocol(text, protocol, ports),
        });
    };
    let half = |meant: String| Err(PartError::HalfRange { text: text.into(), meant });
    let (first, last) = match ports.split_once('-') {
        None if ports.is_empty() => {
            return Err(PartError::NoPort { text: text.into(), transport });
        }
        Some((first, "")) => {
            return half(format!("{transport}/{}-65535", port(transport, first)?));
        }
        Some(("", last)) => return half(format!("{transport}/1-{}", port(transport, last)?)),
        Some((first, last)) => (port(transport, first)?, port(transport, last)?),
        None => {
            let port = port(transport, ports)?;
            (port, port)
        }
    };
    if first > last {
        return Err(PartError::Inverted { transport, first, last });
    }
    Ok(Part::Ports(transport, first..=last))
}

fn port(transport: Transport, text: &str) -> Result<u16, PartError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PartError::NotAPort { text: text.into(), hint: port_hint(transport, text) });
    }
    match text.parse() {
        Ok(0) => Err(PartError::PortZero { text: text.into() }),
        Ok(port) => Ok(port),
        Err(_) => Err(PartError::PortTooLarge { text: text.into() }),
    }
}

fn port_hint(transport: Transport, text: &str) -> Option<String> {
    const MOST: usize = 8;
    let number = |part: &str| part.trim().parse::<u16>().ok();
    if text == "*" || text == "any" {
        return Some(format!("write \"{transport}\" for every port"));
    }
    let several: Option<Vec<u16>> = text.split(',').map(number).collect();
    if let Some(ports) = several {
        let parts: Vec<String> =
            ports.iter().take(MOST).map(|port| format!("\"{transport}/{port}\"")).collect();
        let more = if ports.len() > MOST { ", …" } else { "" };
        return Some(format!("write a list: [{}{more}]", parts.join(", ")));
    }
    let ends = text.split_once(':').and_then(|(first, last)| number(first).zip(number(last)));
    if let Some((first, last)) = ends {
        return Some(format!("write \"{transport}/{first}-{last}\""));
    }
    Some("ports are numbers; [services] gives them names".into())
}

fn unknown_protocol(text: &str, protocol: &str, ports: &str) -> PartError {
    let transports = Transport::ALL.map(Transport::name);
    if transports.contains(&ports) {
        let hint = format!("the protocol comes first: \"{ports}/{}\"", cut(protocol));
        return PartError::NotAService { text: text.into(), hint };
    }
    let hint = name::suggest(protocol, transports, "protocols with ports");
    PartError::UnknownProtocol { name: protocol.into(), hint }
}

/// What may have been meant by a text that is neither literal nor name.
fn service_hint(text: &str) -> String {
    let is_transport = |name: &str| Transport::ALL.iter().any(|known| known.name() == name);
    let parts = text.split_once([':', ' ']).filter(|(protocol, _)| is_transport(protocol));
    if let Some((protocol, port)) = parts {
        return format!("write \"{protocol}/{}\"", cut(port.trim()));
    }
    if text.contains(',') {
        return "write a list: [\"tcp/80\", \"tcp/443\"]".into();
    }
    if text == "*" {
        return "write \"any\" for every service".into();
    }
    "write a port such as \"tcp/443\", a protocol such as \"gre\", or a name of [services]".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Part, PartError> {
        text.parse()
    }

    #[test]
    fn reads_ports_ranges_protocols_and_any() {
        assert_eq!(parse("tcp/22"), Ok(Part::Ports(Transport::Tcp, 22..=22)));
        assert_eq!(parse("udplite/1-65535"), Ok(Part::Ports(Transport::UdpLite, 1..=65535)));
        assert_eq!(parse("tcp"), Ok(Part::Protocol(6)));
        assert_eq!(parse("gre"), Ok(Part::Protocol(47)));
        assert_eq!(parse("47"), Ok(Part::Protocol(47)));
        assert_eq!(parse("any"), Ok(Part::Any));
        assert_eq!(parse("web"), Ok(Part::Name));
    }

    #[test]
    fn a_bare_number_is_not_mistaken_for_a_port() {
        assert_eq!(parse("22"), Err(PartError::BarePort { text: "22".into() }));
        assert_eq!(parse("443"), Err(PartError::NumberTooLarge { text: "443".into() }));
    }

    #[test]
    fn merges_ports_into_disjoint_ranges_that_do_not_touch() {
        let mut service = Service::default();
        for text in ["tcp/5-9", "tcp/1-3", "tcp/65535", "tcp/4", "tcp/7-20", "tcp/22", "udp/4"] {
            append(&mut service, parse(text).expect("a literal").into_service());
        }
        merge(&mut service);
        assert_eq!(service.ports[&Transport::Tcp], [1..=20, 22..=22, 65535..=65535]);
        assert_eq!(service.ports[&Transport::Udp], [4..=4]);
    }
}
