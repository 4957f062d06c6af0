//! One step of a traced packet, as the kernel tells it (`nft_trace_notify` in `nf_tables_trace.c`).
//!
//! The headers come with the first step in each base chain only. What a step doesn't say is none
//! here, never a default.

use crate::attribute::{Attribute, Malformed, Table};
use crate::connection::nft;
use crate::headers::Headers;
use crate::message::{FAMILY_HEADER, Message};
use crate::survey::Family;
use crate::uapi::*;
use ruleset::States;
use std::fmt;

/// One step of a packet through a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What the steps of one packet share. Later packets may have the same.
    pub packet: u32,
    /// The family of the table.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// What happened there.
    pub event: Event,
    /// What the packet's headers say: in the first step in a base chain.
    pub headers: Option<Headers>,
    /// The index of the interface it came in by, in that step; 0 for none.
    pub input: u32,
    /// The index of the interface it goes out by, in that step; 0 for none.
    pub output: u32,
    /// The packet's mark, where it has one.
    pub mark: Option<u32>,
    /// The state of its connection, in that step too, where the kernel tells it (6.16).
    pub state: Option<States>,
}

/// What happened in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A rule matched to its end.
    Rule {
        /// The kernel's handle of the rule.
        handle: u64,
        /// What it says of the packet.
        verdict: Verdict,
    },
    /// A rule returned to the chain that jumped here, or the chain ended.
    Return {
        /// The rule, where it was one.
        handle: Option<u64>,
    },
    /// No rule decided: the policy of the base chain did.
    Policy {
        /// Whether it accepts.
        accepts: bool,
    },
}

/// What a rule says of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on with the next rule.
    Continue,
    /// Through this base chain.
    Accept,
    /// Nowhere; also of what is refused with an error.
    Drop,
    /// To a chain, and back from its end.
    Jump(String),
    /// To a chain, not to come back.
    Goto(String),
    /// To a program, which decides.
    Queue,
    /// Taken by the kernel, which goes on with it elsewhere.
    Stolen,
    /// Another one, by the kernel's number.
    Other(i32),
}

/// As `nft` writes it.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("continue"),
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Queue => f.write_str("queue"),
            Self::Stolen => f.write_str("stolen"),
            Self::Other(code) => write!(f, "verdict {code}"),
        }
    }
}

impl Step {
    /// Reads a message of the group; none if it is no step.
    pub(super) fn decode(message: &Message<'_>) -> Result<Option<Self>, Malformed> {
        if message.kind != nft(NFT_MSG_TRACE) {
            return Ok(None);
        }
        let fields: Table<'_, 24> =
            Table::new(message.payload.get(FAMILY_HEADER..).ok_or(Malformed)?)?;
        let family = message.payload.first().copied().ok_or(Malformed)?;
        let Some(event) = event(&fields)? else { return Ok(None) };
        let bytes = |kind| fields.get(kind).map_or(&[][..], |attribute| attribute.payload);
        Ok(Some(Self {
            packet: fields.require(NFTA_TRACE_ID)?.u32()?,
            family: Family::of(family),
            table: fields.require(NFTA_TRACE_TABLE)?.text(),
            chain: fields.require(NFTA_TRACE_CHAIN)?.text(),
            event,
            headers: Headers::read_parts(
                bytes(NFTA_TRACE_NETWORK_HEADER),
                bytes(NFTA_TRACE_TRANSPORT_HEADER),
            ),
            input: fields.u32_or_zero(NFTA_TRACE_IIF)?,
            output: fields.u32_or_zero(NFTA_TRACE_OIF)?,
            mark: fields.get(NFTA_TRACE_MARK).map(Attribute::u32).transpose()?,
            state: fields.get(NFTA_TRACE_CT_STATE).map(Attribute::u32).transpose()?.map(States),
        }))
    }
}

/// None for a type that is newer than this crate.
fn event(fields: &Table<'_, 24>) -> Result<Option<Event>, Malformed> {
    let handle = fields.get(NFTA_TRACE_RULE_HANDLE).map(Attribute::u64).transpose()?;
    Ok(match fields.require(NFTA_TRACE_TYPE)?.u32()? {
        NFT_TRACETYPE_POLICY => {
            let policy = fields.require(NFTA_TRACE_POLICY)?.u32()? as i32;
            Some(Event::Policy { accepts: policy == NF_ACCEPT })
        }
        NFT_TRACETYPE_RETURN => Some(Event::Return { handle }),
        NFT_TRACETYPE_RULE => match (handle, verdict(fields.require(NFTA_TRACE_VERDICT)?)?) {
            (Some(handle), Some(verdict)) => Some(Event::Rule { handle, verdict }),
            (Some(handle), None) => Some(Event::Return { handle: Some(handle) }),
            // The end of a chain, whose last rule didn't match (`nft_trace_verdict` of 6.4 and
            // later).
            (None, None | Some(Verdict::Continue)) => Some(Event::Return { handle: None }),
            (None, Some(_)) => return Err(Malformed),
        },
        _ => None,
    })
}

/// None for a return.
fn verdict(attribute: Attribute<'_>) -> Result<Option<Verdict>, Malformed> {
    let fields = attribute.table::<4>()?;
    let chain = || Ok(fields.require(NFTA_VERDICT_CHAIN)?.text());
    let code = fields.require(NFTA_VERDICT_CODE)?.u32()? as i32;
    Ok(Some(match code {
        NFT_CONTINUE => Verdict::Continue,
        NFT_RETURN => return Ok(None),
        NFT_JUMP => Verdict::Jump(chain()?),
        NFT_GOTO => Verdict::Goto(chain()?),
        code if code < 0 => Verdict::Other(code),
        // Above these bits a drop has an error number and a queue its own.
        code => match code & NF_VERDICT_MASK {
            NF_DROP => Verdict::Drop,
            NF_ACCEPT => Verdict::Accept,
            NF_STOLEN => Verdict::Stolen,
            NF_QUEUE => Verdict::Queue,
            _ => Verdict::Other(code),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::{close, open, put, put_text, put_u32};
    use crate::message::{self, Messages};
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    /// An IPv4 header and the beginning of a TCP segment.
    const NETWORK: [u8; 20] =
        [0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 10, 1, 10, 10, 10, 1, 20];
    const TRANSPORT: [u8; 20] =
        [0x9c, 0x40, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 0, 0xa0, 2, 0, 0, 0, 0, 0, 0];

    fn step(kind: u32, more: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let start = message::open(&mut bytes, nft(NFT_MSG_TRACE), 0, 0, (NFPROTO_INET, 0));
        put_u32(&mut bytes, NFTA_TRACE_TYPE, kind);
        put_u32(&mut bytes, NFTA_TRACE_ID, 0xfeed);
        put_text(&mut bytes, NFTA_TRACE_TABLE, "filter");
        put_text(&mut bytes, NFTA_TRACE_CHAIN, "input");
        more(&mut bytes);
        message::close(&mut bytes, start);
        bytes
    }

    fn with_verdict(bytes: &mut Vec<u8>, code: i32, chain: Option<&str>) {
        put(bytes, NFTA_TRACE_RULE_HANDLE, &12u64.to_be_bytes());
        let verdict = open(bytes, NFTA_TRACE_VERDICT);
        put_u32(bytes, NFTA_VERDICT_CODE, code as u32);
        chain.into_iter().for_each(|chain| put_text(bytes, NFTA_VERDICT_CHAIN, chain));
        close(bytes, verdict);
    }

    fn decode(bytes: &[u8]) -> Result<Option<Step>, Malformed> {
        Step::decode(&Messages::new(bytes).next().expect("one")?)
    }

    fn verdict_of(code: i32, chain: Option<&str>) -> Result<Event, Malformed> {
        let bytes = step(NFT_TRACETYPE_RULE, |bytes| with_verdict(bytes, code, chain));
        Ok(decode(&bytes)?.expect("a step").event)
    }

    #[test]
    fn a_first_step_has_the_headers() {
        let bytes = step(NFT_TRACETYPE_RULE, |bytes| {
            with_verdict(bytes, NFT_JUMP, Some("input_icmp"));
            put_u32(bytes, NFTA_TRACE_IIF, 2);
            put_u32(bytes, NFTA_TRACE_MARK, 7);
            put_u32(bytes, NFTA_TRACE_CT_STATE, 8);
            put(bytes, NFTA_TRACE_NETWORK_HEADER, &NETWORK);
            put(bytes, NFTA_TRACE_TRANSPORT_HEADER, &TRANSPORT);
        });
        let read = decode(&bytes).expect("well-formed").expect("a step");
        assert_eq!((read.packet, read.family), (0xfeed, Family::Inet));
        assert_eq!((read.table.as_str(), read.chain.as_str()), ("filter", "input"));
        let verdict = Verdict::Jump("input_icmp".into());
        assert_eq!(read.event, Event::Rule { handle: 12, verdict });
        assert_eq!((read.input, read.output, read.mark), (2, 0, Some(7)));
        assert_eq!(read.state, Some(States::NEW));
        let headers = read.headers.expect("headers");
        assert_eq!(headers.source, IpAddr::from(Ipv4Addr::new(10, 10, 1, 10)));
        assert_eq!((headers.ports, headers.tcp_flags), (Some((40_000, 8080)), Some(2)));
    }

    #[test]
    fn verdicts_are_told_by_their_lower_bits() {
        let rule = |verdict| Ok(Event::Rule { handle: 12, verdict });
        assert_eq!(verdict_of(NF_ACCEPT, None), rule(Verdict::Accept));
        assert_eq!(verdict_of(NF_DROP, None), rule(Verdict::Drop));
        assert_eq!(verdict_of(13 << 16, None), rule(Verdict::Drop));
        assert_eq!(verdict_of(5 << 16 | NF_QUEUE, None), rule(Verdict::Queue));
        assert_eq!(verdict_of(NFT_CONTINUE, None), rule(Verdict::Continue));
        assert_eq!(verdict_of(-9, None), rule(Verdict::Other(-9)));
        assert_eq!(verdict_of(NFT_GOTO, Some("x")), rule(Verdict::Goto("x".into())));
        assert_eq!(verdict_of(NFT_GOTO, None), Err(Malformed));
        assert_eq!(verdict_of(NFT_RETURN, None), Ok(Event::Return { handle: Some(12) }));
    }

    #[test]
    fn policies_and_ends_of_chains_have_no_rule() {
        let bytes = step(NFT_TRACETYPE_POLICY, |bytes| put_u32(bytes, NFTA_TRACE_POLICY, 0));
        let event = decode(&bytes).expect("well-formed").expect("a step").event;
        assert_eq!(event, Event::Policy { accepts: false });
        let event = decode(&step(NFT_TRACETYPE_RETURN, |_| {})).expect("well-formed");
        assert_eq!(event.expect("a step").event, Event::Return { handle: None });
        let bytes = step(NFT_TRACETYPE_RULE, |bytes| {
            let verdict = open(bytes, NFTA_TRACE_VERDICT);
            put_u32(bytes, NFTA_VERDICT_CODE, NFT_CONTINUE as u32);
            close(bytes, verdict);
        });
        let event = decode(&bytes).expect("well-formed").expect("a step").event;
        assert_eq!(event, Event::Return { handle: None });
        assert_eq!(decode(&step(9, |_| {})), Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            kind in 0u32..5,
            code in prop::sample::select(vec![-1i32, -3, -4, -5, 0, 1, 3, 0x10003]),
            damages in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..8),
            rest in prop::collection::vec(any::<u8>(), 0..60),
            cut in 0usize..80,
        ) {
            let mut bytes = step(kind, |bytes| {
                with_verdict(bytes, code, Some("chain"));
                put_u32(bytes, NFTA_TRACE_POLICY, 1);
                put(bytes, NFTA_TRACE_NETWORK_HEADER, &NETWORK);
                put(bytes, NFTA_TRACE_TRANSPORT_HEADER, &rest);
            });
            for (index, value) in damages {
                let index = index.index(bytes.len() - 16) + 16;
                bytes[index] = value;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            for message in Messages::new(&bytes).flatten() {
                let _ = Step::decode(&message);
            }
        }
    }
}
