//! What a packet wanted, as a log tells it: its protocol, and its destination port or ICMP type.

use crate::protocol;
use std::fmt;
use std::str::FromStr;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A protocol, and what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    /// IANA number.
    pub protocol: u8,
    /// The destination port, or the type of an ICMP message; none where the protocol has neither.
    pub detail: Option<u16>,
}

impl Wanted {
    /// Whether it is an ICMP message, of either family.
    pub fn is_icmp(self) -> bool {
        matches!(self.protocol, ICMP | ICMPV6)
    }
}

/// `tcp/22`, `icmp type 8`, `gre`
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The policy's first name for it is another one than people use.
        let name = match self.protocol {
            ICMPV6 => "icmpv6".to_owned(),
            protocol => protocol::name(protocol),
        };
        match self.detail {
            None => f.write_str(&name),
            Some(kind) if self.is_icmp() => write!(f, "{name} type {kind}"),
            Some(port) => write!(f, "{name}/{port}"),
        }
    }
}

/// A text that says none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not what a packet wants", crate::quoting::quote(.0))]
pub struct WantedError(String);

/// What [`Display`](fmt::Display) writes.
impl FromStr for Wanted {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Self, WantedError> {
        let error = || WantedError(text.to_owned());
        let (name, detail) = match text.split_once(" type ").or_else(|| text.split_once('/')) {
            Some((name, detail)) => (name, Some(detail.parse().map_err(|_| error())?)),
            None => (text, None),
        };
        let protocol = protocol::number(name).or_else(|| name.parse().ok()).ok_or_else(error)?;
        Ok(Self { protocol, detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_as_people_say_it_and_read_back() {
        let cases = [
            (6, Some(22), "tcp/22"),
            (1, Some(8), "icmp type 8"),
            (58, Some(128), "icmpv6 type 128"),
            (47, None, "gre"),
            (200, None, "200"),
            (53, None, "53"),
            (200, Some(7), "200/7"),
        ];
        for (protocol, detail, text) in cases {
            let wanted = Wanted { protocol, detail };
            assert_eq!(wanted.to_string(), text);
            assert_eq!(text.parse(), Ok(wanted));
        }
        for text in ["", "tcp/", "tcp/x", "tcp/65536", "icmp type", "300", "no such"] {
            assert!(text.parse::<Wanted>().is_err(), "{text}");
        }
    }
}
