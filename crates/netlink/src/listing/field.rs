//! What a register holds, in `nft`'s words, and how its bytes are numbers.

use crate::uapi::*;
use ruleset::listing::{Domain, Selector, Value};
use ruleset::{Family, Transport};

/// Numbers of `enum nft_meta_keys` that rules ask for often.
const META: [(u32, &str); 14] = [
    (0, "length"),
    (1, "protocol"),
    (2, "priority"),
    (3, "mark"),
    (11, "skgid"),
    (8, "iiftype"),
    (9, "oiftype"),
    (19, "pkttype"),
    (20, "cpu"),
    (21, "iifgroup"),
    (22, "oifgroup"),
    (23, "cgroup"),
    (31, "day"),
    (32, "hour"),
];
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
/// Numbers of `enum nft_ct_keys`.
const CT: [(u32, &str); 5] =
    [(1, "direction"), (2, "status"), (3, "mark"), (6, "helper"), (10, "labels")];

/// What the rule has made sure of so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    pub(super) family: Option<Family>,
    pub(super) protocol: Option<u8>,
}

/// What was loaded into a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) selector: Selector,
    /// In bytes; of addresses, the first ones only may be there.
    pub(super) length: usize,
    /// Whether its number is in the byte order of the host.
    pub(super) is_host: bool,
    /// The mask that it was and-ed with.
    pub(super) mask: Option<Vec<u8>>,
}

impl Loaded {
    pub(super) fn new(selector: Selector, length: usize) -> Self {
        Self { selector, length, is_host: false, mask: None }
    }

    fn host(selector: Selector) -> Self {
        Self { selector, length: 4, is_host: true, mask: None }
    }

    pub(super) fn other(text: impl Into<String>) -> Self {
        Self::new(Selector::Other(text.into()), 4)
    }

    pub(super) fn meta(key: u32) -> Self {
        match key {
            NFT_META_IIF => Self::host(Selector::Iif),
            NFT_META_OIF => Self::host(Selector::Oif),
            META_IIFNAME => Self::new(Selector::Iif, 16),
            META_OIFNAME => Self::new(Selector::Oif, 16),
            NFT_META_SKUID => Self::host(Selector::SkUid),
            NFT_META_NFPROTO => Self::new(Selector::NfProto, 1),
            NFT_META_L4PROTO => Self::new(Selector::L4Proto, 1),
            _ => {
                let text = format!("meta {}", word(&META, key));
                // Of those without a name here nobody knows the length.
                Self { is_host: true, ..Self::other(text) }
            }
        }
    }

    pub(super) fn conntrack(key: u32) -> Self {
        match key {
            NFT_CT_STATE => Self::host(Selector::CtState),
            _ => Self { is_host: true, ..Self::other(format!("ct {}", word(&CT, key))) },
        }
    }

    /// Bytes of the packet. Ports of both sides at once are for the caller.
    pub(super) fn payload(base: u32, offset: u32, length: u32, known: Known) -> Self {
        let selector = match base {
            NFT_PAYLOAD_NETWORK_HEADER => network(offset, length, known),
            NFT_PAYLOAD_TRANSPORT_HEADER => transport(offset, length, known),
            _ => None,
        };
        let text = || {
            let base = ["ll", "nh", "th", "ih"].get(base as usize).copied().unwrap_or("?");
            Selector::Other(format!("@{base},{},{}", 8 * u64::from(offset), 8 * u64::from(length)))
        };
        Self::new(selector.unwrap_or_else(text), length as usize)
    }

    /// A number of its bytes. Addresses of which some bytes are missing are filled up with `fill`.
    pub(super) fn number(&self, bytes: &[u8], fill: u8) -> Option<u128> {
        let whole = whole_length(&self.selector).unwrap_or(bytes.len()).max(bytes.len());
        if whole > 16 {
            return None;
        }
        let bytes: Vec<u8> =
            bytes.iter().copied().chain(std::iter::repeat_n(fill, whole - bytes.len())).collect();
        Some(number(&bytes, self.is_host))
    }

    /// The value of bytes that it is compared with.
    pub(super) fn value(&self, bytes: &[u8]) -> Value {
        if self.selector.domain() == Domain::Interface {
            return interface(bytes, self.is_host);
        }
        match (self.number(bytes, 0), self.number(bytes, 0xff)) {
            (Some(first), Some(last)) => Value::Range(first, last),
            _ => Value::Word(hex(bytes)),
        }
    }
}

pub(super) fn number(bytes: &[u8], is_host: bool) -> u128 {
    let push = |number: u128, byte: &u8| number << 8 | u128::from(*byte);
    match is_host && cfg!(target_endian = "little") {
        true => bytes.iter().rev().fold(0, push),
        false => bytes.iter().fold(0, push),
    }
}

/// An interface by name, or by index: of those only that of the loopback interface is the same
/// everywhere.
pub(super) fn interface(bytes: &[u8], is_index: bool) -> Value {
    if is_index {
        return Value::Word(match number(bytes, true) {
            1 => "lo".to_owned(),
            index => format!("number {index}"),
        });
    }
    let end = bytes.iter().position(|byte| *byte == 0);
    let name = String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned();
    // Without a terminator only the beginning is compared.
    Value::Word(if end.is_none() { name + "*" } else { name })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn word(known: &[(u32, &str)], key: u32) -> String {
    let known = known.iter().find(|(number, _)| *number == key);
    known.map_or_else(|| format!("key {key}"), |(_, word)| (*word).to_owned())
}

/// The length of a whole field of which rules may load the beginning only.
fn whole_length(selector: &Selector) -> Option<usize> {
    match selector {
        Selector::Saddr(Family::V4) | Selector::Daddr(Family::V4) => Some(4),
        Selector::Saddr(Family::V6) | Selector::Daddr(Family::V6) => Some(16),
        _ => None,
    }
}

fn network(offset: u32, length: u32, known: Known) -> Option<Selector> {
    let text = |text: &str| Some(Selector::Other(text.to_owned()));
    match (known.family?, offset, length) {
        (Family::V4, 12, 1..=4) => Some(Selector::Saddr(Family::V4)),
        (Family::V4, 16, 1..=4) => Some(Selector::Daddr(Family::V4)),
        (Family::V4, 9, 1) => Some(Selector::Protocol(Family::V4)),
        (Family::V4, 6, 2) => text("ip frag-off"),
        (Family::V4, 8, 1) => text("ip ttl"),
        (Family::V4, 1, 1) => text("ip dscp"),
        (Family::V6, 8, 1..=16) => Some(Selector::Saddr(Family::V6)),
        (Family::V6, 24, 1..=16) => Some(Selector::Daddr(Family::V6)),
        (Family::V6, 6, 1) => Some(Selector::Protocol(Family::V6)),
        (Family::V6, 7, 1) => Some(Selector::HopLimit),
        _ => None,
    }
}

fn transport(offset: u32, length: u32, known: Known) -> Option<Selector> {
    let transport = known.protocol.map(Transport::of_protocol);
    match (offset, length, transport, known.protocol) {
        (0, 2, None | Some(Some(_)), _) => Some(Selector::Sport(transport.flatten())),
        (2, 2, None | Some(Some(_)), _) => Some(Selector::Dport(transport.flatten())),
        (0, 1, _, Some(1)) => Some(Selector::IcmpType(Family::V4)),
        (0, 1, _, Some(58)) => Some(Selector::IcmpType(Family::V6)),
        (1, 1, _, Some(1)) => Some(Selector::Other("icmp code".into())),
        (1, 1, _, Some(58)) => Some(Selector::Other("icmpv6 code".into())),
        (13, 1, _, Some(6)) => Some(Selector::Other("tcp flags".into())),
        _ => None,
    }
}
