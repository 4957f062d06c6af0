//! What a rule can do with a packet.

use crate::attribute::{Attribute, Malformed, Table as Fields};
use crate::expression::{self, Decoded, Expression, name};
use crate::uapi::*;
use ruleset::{Opaque, States, Verdict};

/// A rule, as far as it decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The kernel's handle, as `nft --handle list` shows it.
    pub handle: u64,
    /// To which packets it applies.
    pub matches: Matches,
    /// Where it sends them; nowhere where it only counts or logs.
    pub end: Option<End>,
    /// The verdict maps that it looks in.
    pub maps: Vec<Map>,
    /// What it does to packets that no verdict tells.
    pub diverts: Option<Diversion>,
}

/// What a rule does to packets beside their way through the chains: an allowed connection may fail
/// by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Diversion {
    /// Connection tracking doesn't see them.
    Untracked,
    /// The kernel answers the start of a connection in the server's place.
    Synproxy,
    /// They leave by another interface, past all later chains.
    Forwarded,
    /// They go to a local program that none of their ports names.
    Proxied,
}

/// A verdict map that a rule looks in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Map {
    /// Its name.
    pub name: String,
    /// Whether it is asked for the state of the connection.
    pub by_state: bool,
}

/// To which packets a rule applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Matches {
    /// To every packet that reaches it.
    All,
    /// Only to packets that connection tracking calls invalid.
    Invalid,
    /// Only to packets whose source isn't reached through the interface they came in by: a reverse
    /// path filter. `v4`, `v6`: of which families it sees packets, if the rule says so.
    BadSource {
        /// Whether it is for IPv4.
        v4: bool,
        /// Whether it is for IPv6.
        v6: bool,
    },
    /// To some.
    Some,
}

/// Where a packet goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// Through this base chain.
    Accept,
    /// Nowhere.
    Drop,
    /// Nowhere, and its sender is told.
    Reject,
    /// To a program, which decides.
    Queue,
    /// Back to the chain that jumped here, or to the policy.
    Return,
    /// To a chain, and back from its end.
    Jump(String),
    /// To a chain, not to come back.
    Goto(String),
}

impl From<Verdict> for End {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Accept => Self::Accept,
            Verdict::Drop => Self::Drop,
            Verdict::Return => Self::Return,
            Verdict::Jump(chain) => Self::Jump(chain),
            Verdict::Goto(chain) => Self::Goto(chain),
        }
    }
}

/// Expressions that let every packet pass on to the next one. Those that load a register are among
/// them: what compares it is the condition.
const UNCONDITIONAL: &[&str] = &[
    name::META,
    name::CT,
    name::PAYLOAD,
    name::BITWISE,
    name::IMMEDIATE,
    name::LOG,
    name::REJECT,
    "byteorder",
    "counter",
    "exthdr",
    "fib",
    "hash",
    "last",
    "notrack",
    "numgen",
    "queue",
    "rt",
    "socket",
    // Of iptables: what it matches by is `match`.
    "target",
];

impl Rule {
    pub(super) fn decode(fields: &Fields<'_, 16>) -> Result<Self, Malformed> {
        let expressions = match fields.get(NFTA_RULE_EXPRESSIONS) {
            Some(list) => expression::decode(list)?,
            None => Vec::new(),
        };
        Ok(Self {
            handle: fields.require(NFTA_RULE_HANDLE)?.u64()?,
            matches: matches(&expressions),
            end: expressions.iter().find_map(end),
            maps: maps(&expressions),
            diverts: expressions.iter().find_map(diversion),
        })
    }
}

fn end(decoded: &Decoded) -> Option<End> {
    match (&decoded.expression, decoded.raw.name.as_str()) {
        (Expression::Verdict(verdict), _) => Some(verdict.clone().into()),
        (_, name::REJECT) => Some(End::Reject),
        (_, "queue") => Some(End::Queue),
        (_, "target") => match text(&decoded.raw, NFTA_TARGET_NAME)?.as_str() {
            "REJECT" => Some(End::Reject),
            "NFQUEUE" => Some(End::Queue),
            _ => None,
        },
        _ => None,
    }
}

fn diversion(decoded: &Decoded) -> Option<Diversion> {
    let by_name = |name: &str| match name {
        "notrack" | "NOTRACK" => Some(Diversion::Untracked),
        "synproxy" | "SYNPROXY" => Some(Diversion::Synproxy),
        "fwd" => Some(Diversion::Forwarded),
        "tproxy" | "TPROXY" => Some(Diversion::Proxied),
        _ => None,
    };
    if decoded.raw.name != "target" {
        return by_name(&decoded.raw.name);
    }
    match text(&decoded.raw, NFTA_TARGET_NAME)?.as_str() {
        // Its other uses are zones and helpers.
        "CT" => {
            let fields = Fields::<16>::new(&decoded.raw.data).ok()?;
            let flags = fields.get(NFTA_TARGET_INFO)?.payload.first_chunk::<2>().copied()?;
            let untracked = u16::from_ne_bytes(flags) & XT_CT_NOTRACK != 0;
            untracked.then_some(Diversion::Untracked)
        }
        target => by_name(target),
    }
}

fn maps(expressions: &[Decoded]) -> Vec<Map> {
    let before = std::iter::once(None).chain(expressions.iter().map(Some));
    let by_state = before.map(|decoded| {
        decoded.is_some_and(|one| one.expression == Expression::Conntrack(NFT_CT_STATE))
    });
    let lookups = expressions.iter().zip(by_state);
    lookups.filter_map(|(one, by_state)| Some(Map { name: map(one)?, by_state })).collect()
}

/// The verdict map that an expression looks in, whichever register it asks for.
fn map(decoded: &Decoded) -> Option<String> {
    let fields = Fields::<16>::new(&decoded.raw.data).ok()?;
    let is_verdict = decoded.raw.name == name::LOOKUP
        && fields.get(NFTA_LOOKUP_DREG)?.u32() == Ok(NFT_REG_VERDICT);
    is_verdict.then(|| text(&decoded.raw, NFTA_LOOKUP_SET))?
}

fn text(raw: &Opaque, kind: u16) -> Option<String> {
    Fields::<16>::new(&raw.data).ok()?.get(kind).map(Attribute::text)
}

fn matches(expressions: &[Decoded]) -> Matches {
    let conditional = |decoded: &Decoded| {
        // Of objects, limits and quotas are conditions too.
        let counts = matches!(decoded.expression, Expression::Counter(_));
        let passes_on = counts || UNCONDITIONAL.contains(&decoded.raw.name.as_str());
        !passes_on && map(decoded).is_none()
    };
    let invalid = States::INVALID.0.to_ne_bytes();
    let is_invalid = |window: &[Decoded]| match window {
        [state, mask, compare] => {
            state.expression == Expression::Conntrack(NFT_CT_STATE)
                && mask.expression == Expression::Mask(invalid.to_vec())
                && compare.expression == Expression::Compare { equal: false, bytes: vec![0; 4] }
        }
        _ => false,
    };
    let protocol = expressions.windows(2).find_map(|pair| match pair {
        [load, compare] if load.expression == Expression::Meta(NFT_META_NFPROTO) => {
            match &compare.expression {
                Expression::Compare { equal: true, bytes } => bytes.first().copied(),
                _ => None,
            }
        }
        _ => None,
    });
    if expressions.windows(3).any(is_invalid) {
        Matches::Invalid
    } else if expressions.windows(2).any(|pair| is_bad_source(&pair[0], &pair[1])) {
        let sees = |family| protocol.is_none_or(|protocol| protocol == family);
        Matches::BadSource { v4: sees(NFPROTO_IPV4), v6: sees(NFPROTO_IPV6) }
    } else if expressions.iter().any(conditional) {
        Matches::Some
    } else {
        Matches::All
    }
}

/// `fib saddr . … oif missing`: no route leads back.
fn is_bad_source(fib: &Decoded, compare: &Decoded) -> bool {
    let number = |kind| Fields::<16>::new(&fib.raw.data).ok()?.get(kind)?.u32().ok();
    let is_route = fib.raw.name == "fib"
        && number(NFTA_FIB_FLAGS).is_some_and(|flags| flags & NFTA_FIB_F_SADDR != 0)
        && [Some(NFT_FIB_RESULT_OIF), Some(NFT_FIB_RESULT_OIFNAME)]
            .contains(&number(NFTA_FIB_RESULT));
    let Expression::Compare { equal: true, bytes } = &compare.expression else { return false };
    is_route && bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::{close, open, put, put_text};
    use proptest::prelude::*;

    /// A rule of one expression.
    fn rule(name: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, NFTA_RULE_HANDLE, &7u64.to_be_bytes());
        let list = open(&mut bytes, NFTA_RULE_EXPRESSIONS);
        let element = open(&mut bytes, NFTA_LIST_ELEM);
        put_text(&mut bytes, NFTA_EXPR_NAME, name);
        put(&mut bytes, NFTA_EXPR_DATA, data);
        close(&mut bytes, element);
        close(&mut bytes, list);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Rule, Malformed> {
        Rule::decode(&Fields::new(bytes)?)
    }

    #[test]
    fn what_is_not_known_is_a_condition_and_no_end() {
        let rule = decode(&rule("of-tomorrow", &[])).expect("well-formed");
        assert_eq!((rule.handle, rule.matches, rule.end), (7, Matches::Some, None));
    }

    #[test]
    fn what_no_verdict_tells_is_known_by_its_name() {
        let target = |name: &str, info: &[u8]| {
            let mut data = Vec::new();
            put_text(&mut data, NFTA_TARGET_NAME, name);
            put(&mut data, NFTA_TARGET_INFO, info);
            decode(&rule("target", &data)).expect("well-formed").diverts
        };
        let expression = |name: &str| decode(&rule(name, &[])).expect("well-formed").diverts;
        for (name, diverts) in [
            ("notrack", Some(Diversion::Untracked)),
            ("synproxy", Some(Diversion::Synproxy)),
            ("fwd", Some(Diversion::Forwarded)),
            ("tproxy", Some(Diversion::Proxied)),
            ("counter", None),
        ] {
            assert_eq!(expression(name), diverts, "{name}");
        }
        assert_eq!(target("CT", &XT_CT_NOTRACK.to_ne_bytes()), Some(Diversion::Untracked));
        assert_eq!(target("CT", &[0, 0, 0, 0]), None);
        assert_eq!(target("CT", &[1]), None);
        assert_eq!(target("TPROXY", &[]), Some(Diversion::Proxied));
        assert_eq!(target("LOG", &[]), None);
    }

    #[test]
    fn targets_of_iptables_end_a_packet_by_their_names() {
        let ends = [("REJECT", Some(End::Reject)), ("NFQUEUE", Some(End::Queue)), ("LOG", None)];
        for (name, end) in ends {
            let mut data = Vec::new();
            put_text(&mut data, NFTA_TARGET_NAME, name);
            let rule = decode(&rule("target", &data)).expect("well-formed");
            assert_eq!((rule.matches, rule.end), (Matches::All, end), "{name}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(
            name in prop::sample::select(vec!["lookup", "fib", "target", "immediate", "cmp"]),
            data in prop::collection::vec(any::<u8>(), 0..60),
            bytes in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let _ = decode(&rule(name, &data));
            let _ = decode(&bytes);
        }
    }
}
