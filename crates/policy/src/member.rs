//! One member of a tier: an address, a prefix or a range, of IPv4 or IPv6.
//!
//! The text must say exactly what is meant: a prefix with host bits set, an inverted range or an
//! address in another disguise is an error with the probable meaning in its hint, never a guess.

use crate::quoting::quote;
use ruleset::{Address, AddressRange};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses as one text names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// Of IPv4.
    V4(AddressRange<Ipv4Addr>),
    /// Of IPv6.
    V6(AddressRange<Ipv6Addr>),
}

/// As nftables writes it; parses back to the same.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(range) => range.fmt(f),
            Self::V6(range) => range.fmt(f),
        }
    }
}

/// Why a text is no member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Nothing but blanks.
    #[error("a member is empty")]
    Empty,
    /// Not an address, with the probable meaning where there is one.
    #[error("{} is not an address", quote(.text))]
    NotAnAddress {
        /// The text.
        text: String,
        /// The way out.
        hint: Option<String>,
    },
    /// `10.0.0.9-10.0.0.1`
    #[error("the range {first}-{last} is inverted")]
    Inverted {
        /// The end written first.
        first: IpAddr,
        /// The end written last.
        last: IpAddr,
    },
    /// `10.0.0.1-2001:db8::1`
    #[error("the range {first}-{last} mixes IPv4 and IPv6")]
    MixedFamilies {
        /// The end written first.
        first: IpAddr,
        /// The end written last.
        last: IpAddr,
    },
    /// `10.0.0.0/24-10.0.1.0/24`
    #[error("{} is a range of prefixes", quote(.text))]
    RangeOfPrefixes {
        /// The text.
        text: String,
        /// The range from the first address of the one to the last of the other.
        meant: Option<String>,
    },
    /// `10.0.0.1/24`
    #[error("the prefix {address}/{length} has host bits set")]
    HostBits {
        /// The address as written.
        address: IpAddr,
        /// The prefix length.
        length: u8,
        /// The address without its host bits.
        network: IpAddr,
    },
    /// `10.0.0.1-`
    #[error("{} is half a range", quote(.text))]
    HalfRange {
        /// The text.
        text: String,
    },
    /// `10.0.0.0/33`
    #[error("the prefix length {} is too large", quote(.length))]
    LengthTooLarge {
        /// The length as written.
        length: String,
        /// The largest: 32 or 128.
        largest: u8,
    },
    /// `10.0.0.0/x`
    #[error("{} is not a prefix", quote(.text))]
    NotALength {
        /// The whole text.
        text: String,
        /// The length meant, where it is written as a netmask.
        meant: Option<u8>,
    },
    /// `::ffff:10.0.0.1`
    #[error("{} is of IPv4 in IPv6 clothes", quote(.text))]
    Mapped {
        /// The whole text.
        text: String,
        /// What it is in IPv4; none where it is more than that.
        meant: Option<String>,
    },
    /// `fe80::1%eth0`
    #[error("{} names an interface", quote(.text))]
    Zone {
        /// The text.
        text: String,
    },
}

impl MemberError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Empty => "write an address, a prefix or a range".into(),
            Self::NotAnAddress { hint, .. } => return hint.clone(),
            Self::Inverted { first, last } => format!("write {last}-{first}"),
            Self::MixedFamilies { .. } => "write one range for each family".into(),
            Self::RangeOfPrefixes { meant, .. } => {
                return meant.clone().map(|m| format!("write {m}"));
            }
            Self::HostBits { address, length, network } => {
                format!("the network is {network}/{length}; the host alone is {address}")
            }
            Self::LengthTooLarge { largest, .. } => {
                format!("an address has {largest} bits: write /{largest} or less")
            }
            Self::HalfRange { .. } => "a range is two addresses: 10.0.0.1-10.0.0.9".into(),
            Self::NotALength { text, meant: Some(length) } => {
                format!("write {}/{length}", text.split('/').next().unwrap_or_default())
            }
            Self::NotALength { meant: None, .. } => {
                "a prefix ends with its length in bits, such as 10.0.0.0/24".into()
            }
            Self::Mapped { meant: Some(meant), .. } => {
                format!("packets to it are IPv4 packets: write {meant}")
            }
            Self::Mapped { meant: None, .. } => {
                "packets to an IPv4 address are IPv4 packets: write IPv4 addresses".into()
            }
            Self::Zone { text } => {
                let address = text.split('%').next().unwrap_or_default();
                format!("members are addresses on any interface: write {}", quote(address))
            }
        })
    }
}

impl FromStr for Member {
    type Err = MemberError;

    fn from_str(text: &str) -> Result<Self, MemberError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(MemberError::Empty);
        }
        if text.contains('%') {
            return Err(MemberError::Zone { text: text.into() });
        }
        match (text.split_once('-'), text.split_once('/')) {
            (Some((first, last)), None) if first.trim().is_empty() || last.trim().is_empty() => {
                Err(MemberError::HalfRange { text: text.into() })
            }
            (Some((first, last)), None) => range(text, first.trim(), last.trim()),
            (None, Some((address, length))) => prefix(text, address, length),
            (Some((first, last)), Some(_)) => Err(range_of_prefixes(text, first, last)),
            (None, None) => Ok(match address(text)? {
                IpAddr::V4(address) => Self::V4(AddressRange::single(address)),
                IpAddr::V6(address) => Self::V6(AddressRange::single(address)),
            }),
        }
    }
}

impl Member {
    fn last(self) -> IpAddr {
        match self {
            Self::V4(range) => range.last.into(),
            Self::V6(range) => range.last.into(),
        }
    }

    fn first(self) -> IpAddr {
        match self {
            Self::V4(range) => range.first.into(),
            Self::V6(range) => range.first.into(),
        }
    }
}

fn address(text: &str) -> Result<IpAddr, MemberError> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| MemberError::NotAnAddress { text: text.into(), hint: address_hint(text) })?;
    match address {
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(meant) => {
                Err(MemberError::Mapped { text: text.into(), meant: Some(meant.to_string()) })
            }
            None => Ok(address.into()),
        },
        IpAddr::V4(_) => Ok(address),
    }
}

/// The IPv4 address in an IPv6 one.
fn mapped(text: &str) -> Option<Ipv4Addr> {
    text.parse::<Ipv6Addr>().ok()?.to_ipv4_mapped()
}

fn range(text: &str, first: &str, last: &str) -> Result<Member, MemberError> {
    if let Some(first) = mapped(first) {
        let meant = mapped(last).map(|last| format!("{first}-{last}"));
        return Err(MemberError::Mapped { text: text.into(), meant });
    }
    let first: IpAddr = match address(first) {
        Ok(address) => address,
        // A name with a dash in it, not a range.
        Err(_) if first.starts_with(|c: char| c.is_ascii_alphabetic()) && !first.contains(':') => {
            return Err(MemberError::NotAnAddress { text: text.into(), hint: address_hint(text) });
        }
        Err(error) => return Err(error),
    };
    let last = match (address(last), first) {
        // `10.0.0.1-20`, as some tools write it.
        (Err(MemberError::NotAnAddress { .. }), IpAddr::V4(start)) if is_octet(last) => {
            let [a, b, c, _] = start.octets();
            let hint = Some(format!("write {start}-{a}.{b}.{c}.{last}"));
            return Err(MemberError::NotAnAddress { text: last.into(), hint });
        }
        (last, _) => last?,
    };
    let inverted = MemberError::Inverted { first, last };
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            AddressRange::new(first, last).map(Member::V4).ok_or(inverted)
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            AddressRange::new(first, last).map(Member::V6).ok_or(inverted)
        }
        _ => Err(MemberError::MixedFamilies { first, last }),
    }
}

fn prefix(text: &str, network: &str, length: &str) -> Result<Member, MemberError> {
    let (network, length) = (network.trim(), length.trim());
    if let Some(network) = mapped(network) {
        // The first 96 bits are the clothes.
        let length = length.parse::<u8>().ok().and_then(|length| length.checked_sub(96));
        let meant =
            length.filter(|length| *length <= 32).map(|length| format!("{network}/{length}"));
        return Err(MemberError::Mapped { text: text.into(), meant });
    }
    let address = address(network)?;
    let largest = if address.is_ipv4() { 32 } else { 128 };
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        let meant = length.parse().ok().filter(|_| address.is_ipv4()).and_then(mask_length);
        return Err(MemberError::NotALength { text: text.into(), meant });
    }
    let bits: u8 = match length.parse() {
        Ok(bits) if bits <= largest => bits,
        _ => return Err(MemberError::LengthTooLarge { length: length.into(), largest }),
    };
    fn exact<A: Address>(address: A, length: u8) -> Result<AddressRange<A>, MemberError> {
        match AddressRange::prefix(address, length) {
            Some(range) if range.first == address => Ok(range),
            Some(range) => Err(MemberError::HostBits {
                address: address.to_ip(),
                length,
                network: range.first.to_ip(),
            }),
            None => {
                Err(MemberError::LengthTooLarge { length: length.to_string(), largest: A::BITS })
            }
        }
    }
    match address {
        IpAddr::V4(address) => exact(address, bits).map(Member::V4),
        IpAddr::V6(address) => exact(address, bits).map(Member::V6),
    }
}

/// The length of a netmask, if it is one.
fn mask_length(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    (bits.leading_ones() + bits.trailing_zeros() == 32).then(|| bits.leading_ones() as u8)
}

fn range_of_prefixes(text: &str, first: &str, last: &str) -> MemberError {
    let ends = first.trim().parse::<Member>().ok().zip(last.trim().parse::<Member>().ok());
    let meant = ends.map(|(first, last)| format!("{}-{}", first.first(), last.last()));
    MemberError::RangeOfPrefixes { text: text.into(), meant }
}

/// What may have been meant by a text that is no address.
fn address_hint(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
        return Some(format!("write {} without brackets or port", quote(inner)));
    }
    let is_dotted = text.bytes().all(|byte| byte.is_ascii_digit() || b".*:".contains(&byte));
    if is_dotted && text.contains('.') {
        return Some(dotted_hint(text));
    }
    if text.contains([',', ';', ' ', '\t']) {
        return Some("each member stands alone: [\"10.0.0.1\", \"10.0.0.2\"]".into());
    }
    if text.contains(':') {
        return Some("an IPv6 address is up to 8 groups of hex digits, such as 2001:db8::1".into());
    }
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Some("host names are not looked up: write the address".into());
    }
    Some("write an address, a prefix or a range".into())
}

fn is_octet(text: &str) -> bool {
    text.len() <= 3 && text.parse::<u8>().is_ok()
}

fn dotted_hint(text: &str) -> String {
    if let Some((host, _)) = text.split_once(':') {
        return format!("ports belong in `service`: write {}", quote(host));
    }
    let parts: Vec<&str> = text.split('.').collect();
    let stars = parts.iter().filter(|part| **part == "*").count();
    if stars > 0 && parts.len() == 4 && parts[..4 - stars].iter().all(|p| is_octet(p)) {
        let network: Vec<&str> = parts.iter().map(|p| if *p == "*" { "0" } else { *p }).collect();
        return format!("write {}/{}", network.join("."), 8 * (4 - stars));
    }
    if let Some(part) = parts.iter().find(|part| part.parse::<u8>().is_err() && !part.is_empty()) {
        return format!("{} is over 255", quote(part));
    }
    if let Some(part) = parts.iter().find(|part| part.len() > 1 && part.starts_with('0')) {
        return format!("{} starts with a zero, which some read as octal", quote(part));
    }
    "an IPv4 address is four numbers, such as 10.0.0.1".into()
}
