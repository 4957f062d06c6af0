//! What a register holds, in `nft`'s words, and how its bytes are numbers.

use crate::clock::local_offset;
use crate::uapi::*;
use nix::net::if_::if_indextoname;
use ruleset::listing::{Domain, Selector, Value};
use ruleset::{Family, Transport};

/// `enum nft_meta_keys`, and how many bytes the kernel loads for each.
const META: [(u32, &str, usize); 16] = [
    (0, "meta length", 4),
    (1, "meta protocol", 2),
    (2, "meta priority", 4),
    (3, "meta mark", 4),
    (8, "meta iiftype", 2),
    (9, "meta oiftype", 2),
    (11, "meta skgid", 4),
    (12, "meta nftrace", 1),
    (14, "meta secmark", 4),
    (19, "meta pkttype", 1),
    (20, "meta cpu", 4),
    (21, "iifgroup", 4),
    (22, "oifgroup", 4),
    (23, "meta cgroup", 4),
    (31, "meta day", 1),
    (32, "meta hour", 4),
];
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
/// `NFT_META_PROTOCOL`, the type in the Ethernet header.
const META_PROTOCOL: u32 = 1;
/// `enum nft_ct_keys`.
const CT: [(u32, &str); 21] = [
    (1, "direction"),
    (2, "status"),
    (3, "mark"),
    (4, "secmark"),
    (5, "expiration"),
    (6, "helper"),
    (7, "l3proto"),
    (8, "saddr"),
    (9, "daddr"),
    (10, "protocol"),
    (11, "proto-src"),
    (12, "proto-dst"),
    (13, "label"),
    (14, "packets"),
    (15, "bytes"),
    (16, "avgpkt"),
    (17, "zone"),
    (19, "ip saddr"),
    (20, "ip daddr"),
    (21, "ip6 saddr"),
    (22, "ip6 daddr"),
];

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
    /// Whether it is 1 if there is such a thing, and 0 if there is none.
    pub(super) is_presence: bool,
}

impl Loaded {
    pub(super) fn new(selector: Selector, length: usize) -> Self {
        Self { selector, length, is_host: false, mask: None, is_presence: false }
    }

    fn host(selector: Selector) -> Self {
        Self { is_host: true, ..Self::new(selector, 4) }
    }

    pub(super) fn other(text: impl Into<String>) -> Self {
        Self::new(Selector::Other(text.into()), 4)
    }

    pub(super) fn meta(key: u32) -> Self {
        match key {
            NFT_META_IIF => Self::host(Selector::Iif),
            NFT_META_OIF => Self::host(Selector::Oif),
            META_IIFNAME => Self::new(Selector::IifName, 16),
            META_OIFNAME => Self::new(Selector::OifName, 16),
            NFT_META_SKUID => Self::host(Selector::SkUid),
            NFT_META_NFPROTO => Self::new(Selector::NfProto, 1),
            NFT_META_L4PROTO => Self::new(Selector::L4Proto, 1),
            key => match META.iter().find(|(number, ..)| *number == key) {
                Some((_, text, length)) => {
                    Self { is_host: key != META_PROTOCOL, length: *length, ..Self::other(*text) }
                }
                // Nobody knows its length.
                None => Self { is_host: true, ..Self::other(format!("meta key {key}")) },
            },
        }
    }

    /// `direction` is 0 for the original one, 1 for the reply.
    pub(super) fn conntrack(key: u32, direction: Option<u8>) -> Self {
        let direction = match direction {
            Some(0) => "original ",
            Some(_) => "reply ",
            None => "",
        };
        let name = CT.iter().find(|(number, _)| *number == key).map(|(_, name)| *name);
        match (key, name) {
            (NFT_CT_STATE, _) => Self::host(Selector::CtState),
            (_, Some(name)) => {
                let is_packets = name.contains("addr") || name.contains("proto");
                Self { is_host: !is_packets, ..Self::other(format!("ct {direction}{name}")) }
            }
            _ => Self { is_host: true, ..Self::other(format!("ct {direction}key {key}")) },
        }
    }

    /// What the routes say of an address. None of what isn't known.
    pub(super) fn route(result: u32, flags: u32) -> Option<Self> {
        const FLAGS: [&str; 5] = ["saddr", "daddr", "mark", "iif", "oif"];
        const PRESENT: u32 = 1 << 5;
        let result = *["oif", "oifname", "type"].get(result.checked_sub(1)? as usize)?;
        let asked = FLAGS.iter().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0);
        let asked: Vec<&str> = asked.map(|(_, flag)| *flag).collect();
        let text = format!("fib {} {result}", asked.join(" . "));
        let is_presence = flags & PRESENT != 0;
        Some(Self { is_host: true, is_presence, ..Self::other(text) })
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
        let number = number(&bytes, self.is_host);
        match (self.selector.domain(), i64::try_from(number)) {
            // The kernel counts from midnight in UTC, people by their own clock.
            (Domain::Hour, Ok(seconds)) => {
                let local = seconds.checked_add(local_offset())?.rem_euclid(86_400);
                u128::try_from(local).ok()
            }
            _ => Some(number),
        }
    }

    /// The value of bytes that it is compared with.
    pub(super) fn value(&self, bytes: &[u8]) -> Value {
        if self.selector.domain() == Domain::Interface {
            return interface(bytes, self.is_host);
        }
        if self.is_presence {
            let is_there = bytes.iter().any(|byte| *byte != 0);
            return Value::Word(if is_there { "exists" } else { "missing" }.to_owned());
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

/// An interface by name, or by index, which has the name that it goes by now.
pub(super) fn interface(bytes: &[u8], is_index: bool) -> Value {
    if is_index {
        let index = number(bytes, true);
        return Value::Word(interface_name(index).unwrap_or_else(|| format!("number {index}")));
    }
    let end = bytes.iter().position(|byte| *byte == 0);
    let name = String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned();
    // Without a terminator only the beginning is compared.
    Value::Word(if end.is_none() { name + "*" } else { name })
}

fn interface_name(index: u128) -> Option<String> {
    let index = u32::try_from(index).ok()?;
    if_indextoname(index).ok()?.into_string().ok()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
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
