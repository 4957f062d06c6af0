//! What the kernel executes: the expressions of a rule, between [statements](ruleset::Statement)
//! and bytes.
//!
//! Only the shapes that we write have a variant. Every other expression, and every known one with
//! an attribute or value that we don't write, is [`Expression::Unknown`]: nothing is dropped in
//! reading, so what decodes to our shapes is exactly that.

use crate::attribute::{Attribute, Attributes, Malformed, Table};
use crate::uapi::*;
use ruleset::{Limit, Log, LogTarget, Opaque, Reject, Verdict};

/// An expression. Values travel in register 1, as in what `nft` compiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Load a packet's metadata (`NFT_META_…`).
    Meta(u32),
    /// Load connection tracking data (`NFT_CT_…`).
    Conntrack(u32),
    /// Load what the routing tables say of the source address (`fib saddr type`).
    SourceType,
    /// Load data of the socket that the packet is for (`NFT_SOCKET_…`).
    Socket(u32),
    /// Load bytes of the packet.
    Payload(Payload),
    /// And the register with a mask.
    Mask(Vec<u8>),
    /// Go on only if the register equals the bytes, or, with `equal` false, only if it doesn't.
    Compare { equal: bool, bytes: Vec<u8> },
    /// Go on only if the set holds the register.
    Lookup(String),
    /// Take the verdict that the map holds for the register, if any.
    Dispatch(String),
    /// End with a verdict.
    Verdict(Verdict),
    /// Count in a named counter.
    Counter(String),
    /// Go on only below a rate.
    Limit(Limit),
    /// Add the register to a dynamic set, with a rate of its own; go on only above that.
    Over { set: String, limit: Limit },
    /// Log.
    Log(Log),
    /// End with a refusal.
    Reject(Reject),
    /// Anything else.
    Unknown,
}

/// Where in a packet bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Payload {
    /// `NFT_PAYLOAD_…_HEADER`
    pub(crate) base: u32,
    /// From the start of that header, in bytes.
    pub(crate) offset: u32,
    /// In bytes.
    pub(crate) length: u32,
}

/// Names of expressions, each with the modules of the kernel that it takes, so that none is added
/// without them.
macro_rules! names {
    ($($constant:ident = $name:literal: [$($module:expr),*];)*) => {
        /// The kernel's names of the expressions that we write.
        pub(crate) mod name {
            use crate::kernel_module::KernelModule;

            $(pub(crate) const $constant: &str = $name;)*

            /// All of them, and the modules that they are in. The others are in nf_tables itself.
            pub(crate) const ALL: &[(&str, &[KernelModule])] = &[$(($name, &[$($module),*]),)*];
        }
    };
}

names! {
    META = "meta": [];
    CT = "ct": [KernelModule::new("nft_ct")];
    FIB = "fib": [KernelModule::new("nft_fib_inet"), KernelModule::new("nft_fib")];
    SOCKET = "socket": [KernelModule::new("nft_socket")];
    PAYLOAD = "payload": [];
    BITWISE = "bitwise": [];
    CMP = "cmp": [];
    LOOKUP = "lookup": [];
    IMMEDIATE = "immediate": [];
    OBJREF = "objref": [
        KernelModule::part_since("nft_objref", (6, 2)),
        KernelModule::part_since("nft_counter", (5, 17))
    ];
    LIMIT = "limit": [KernelModule::new("nft_limit")];
    DYNSET = "dynset": [];
    LOG = "log": [KernelModule::new("nft_log")];
    REJECT = "reject": [KernelModule::new("nft_reject_inet"), KernelModule::new("nft_reject")];
}

/// An expression of a dump, with its bytes for the case that no statement stands for it.
#[derive(Debug, Clone)]
pub(crate) struct Decoded {
    pub(crate) expression: Expression,
    pub(crate) raw: Opaque,
}

/// Decodes the expressions of a rule (`NFTA_RULE_EXPRESSIONS`).
///
/// # Errors
/// When the bytes are no list of named expressions. What is inside an expression can't fail: at
/// worst the expression is unknown.
pub(crate) fn decode(list: Attribute<'_>) -> Result<Vec<Decoded>, Malformed> {
    list.nested().map(|element| decode_one(element?)).collect()
}

fn decode_one(element: Attribute<'_>) -> Result<Decoded, Malformed> {
    let parts = element.table::<3>()?;
    let name = parts.require(NFTA_EXPR_NAME)?.text();
    let data = parts.get(NFTA_EXPR_DATA).map_or(&[][..], |data| data.payload);
    let expression = recognise(&name, data).unwrap_or(Expression::Unknown);
    let data = without_state(&name, data);
    Ok(Decoded { expression, raw: Opaque { name, data } })
}

/// The attributes of an expression, less what changes as packets pass: two dumps of one rule are
/// equal.
fn without_state(name: &str, data: &[u8]) -> Vec<u8> {
    match name {
        "counter" | "last" => Vec::new(),
        "quota" => {
            let mut kept = Vec::new();
            for attribute in Attributes::new(data).flatten() {
                if attribute.kind != NFTA_QUOTA_CONSUMED {
                    crate::attribute::put(&mut kept, attribute.kind, attribute.payload);
                }
            }
            kept
        }
        _ => data.to_vec(),
    }
}

fn recognise(name: &str, data: &[u8]) -> Option<Expression> {
    let table = Table::<16>::new(data).ok()?;
    match name {
        name::META => meta(&table),
        name::CT => conntrack(&table),
        name::FIB => source_type(&table),
        name::SOCKET => socket(&table),
        name::PAYLOAD => payload(&table),
        name::BITWISE => mask(&table),
        name::CMP => compare(&table),
        name::LOOKUP => lookup(&table),
        name::IMMEDIATE => immediate(&table),
        name::OBJREF => counter(&table),
        name::LIMIT => limit(&table, 0).map(Expression::Limit),
        name::DYNSET => over(&table),
        name::LOG => log(&table),
        name::REJECT => reject(&table),
        _ => None,
    }
}

type Fields<'a> = Table<'a, 16>;

fn number(fields: &Fields<'_>, kind: u16) -> Option<u32> {
    fields.get(kind)?.u32().ok()
}

fn is_register(fields: &Fields<'_>, kind: u16) -> Option<()> {
    (number(fields, kind)? == NFT_REG_1).then_some(())
}

/// The value in a `struct nft_data` attribute.
fn value(fields: &Fields<'_>, kind: u16) -> Option<Vec<u8>> {
    let data = fields.get(kind)?.table::<3>().ok()?;
    Some(data.get(NFTA_DATA_VALUE)?.payload.to_vec())
}

fn meta(fields: &Fields<'_>) -> Option<Expression> {
    is_register(fields, NFTA_META_DREG)?;
    let key = number(fields, NFTA_META_KEY)?;
    fields.only(&[NFTA_META_DREG, NFTA_META_KEY]).then_some(Expression::Meta(key))
}

fn conntrack(fields: &Fields<'_>) -> Option<Expression> {
    is_register(fields, NFTA_CT_DREG)?;
    let key = number(fields, NFTA_CT_KEY)?;
    fields.only(&[NFTA_CT_DREG, NFTA_CT_KEY]).then_some(Expression::Conntrack(key))
}

fn source_type(fields: &Fields<'_>) -> Option<Expression> {
    is_register(fields, NFTA_FIB_DREG)?;
    let plain = number(fields, NFTA_FIB_RESULT)? == NFT_FIB_RESULT_ADDRTYPE
        && number(fields, NFTA_FIB_FLAGS)? == NFTA_FIB_F_SADDR
        && fields.only(&[NFTA_FIB_DREG, NFTA_FIB_RESULT, NFTA_FIB_FLAGS]);
    plain.then_some(Expression::SourceType)
}

fn socket(fields: &Fields<'_>) -> Option<Expression> {
    is_register(fields, NFTA_SOCKET_DREG)?;
    let key = number(fields, NFTA_SOCKET_KEY)?;
    fields.only(&[NFTA_SOCKET_KEY, NFTA_SOCKET_DREG]).then_some(Expression::Socket(key))
}

fn payload(fields: &Fields<'_>) -> Option<Expression> {
    is_register(fields, NFTA_PAYLOAD_DREG)?;
    let payload = Payload {
        base: number(fields, NFTA_PAYLOAD_BASE)?,
        offset: number(fields, NFTA_PAYLOAD_OFFSET)?,
        length: number(fields, NFTA_PAYLOAD_LEN)?,
    };
    let known = [NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_OFFSET, NFTA_PAYLOAD_LEN];
    fields.only(&known).then_some(Expression::Payload(payload))
}

fn mask(fields: &Fields<'_>) -> Option<Expression> {
    is_register(fields, NFTA_BITWISE_SREG)?;
    is_register(fields, NFTA_BITWISE_DREG)?;
    let mask = value(fields, NFTA_BITWISE_MASK)?;
    let plain = fields.u32_or_zero(NFTA_BITWISE_OP) == Ok(NFT_BITWISE_BOOL)
        && number(fields, NFTA_BITWISE_LEN)? as usize == mask.len()
        && value(fields, NFTA_BITWISE_XOR)?.iter().all(|byte| *byte == 0)
        && fields.only(&[
            NFTA_BITWISE_SREG,
            NFTA_BITWISE_DREG,
            NFTA_BITWISE_LEN,
            NFTA_BITWISE_MASK,
            NFTA_BITWISE_XOR,
            NFTA_BITWISE_OP,
        ]);
    plain.then_some(Expression::Mask(mask))
}

fn compare(fields: &Fields<'_>) -> Option<Expression> {
    is_register(fields, NFTA_CMP_SREG)?;
    let equal = match number(fields, NFTA_CMP_OP)? {
        NFT_CMP_EQ => true,
        NFT_CMP_NEQ => false,
        _ => return None,
    };
    let bytes = value(fields, NFTA_CMP_DATA)?;
    let known = fields.only(&[NFTA_CMP_SREG, NFTA_CMP_OP, NFTA_CMP_DATA]);
    known.then_some(Expression::Compare { equal, bytes })
}

fn lookup(fields: &Fields<'_>) -> Option<Expression> {
    is_register(fields, NFTA_LOOKUP_SREG)?;
    let set = fields.get(NFTA_LOOKUP_SET)?.text();
    let known = [NFTA_LOOKUP_SET, NFTA_LOOKUP_SREG, NFTA_LOOKUP_DREG, NFTA_LOOKUP_FLAGS];
    // The flags invert the lookup, which we never do.
    if fields.u32_or_zero(NFTA_LOOKUP_FLAGS) != Ok(0) || !fields.only(&known) {
        return None;
    }
    match fields.get(NFTA_LOOKUP_DREG) {
        None => Some(Expression::Lookup(set)),
        Some(register) if register.u32() == Ok(NFT_REG_VERDICT) => Some(Expression::Dispatch(set)),
        Some(_) => None,
    }
}

fn immediate(fields: &Fields<'_>) -> Option<Expression> {
    let is_verdict = number(fields, NFTA_IMMEDIATE_DREG)? == NFT_REG_VERDICT;
    let data = fields.get(NFTA_IMMEDIATE_DATA)?;
    let known = fields.only(&[NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA]);
    (is_verdict && known).then(|| verdict(data))?.map(Expression::Verdict)
}

/// The verdict in a `struct nft_data` attribute, if it is one that we have a word for.
pub(crate) fn verdict(data: Attribute<'_>) -> Option<Verdict> {
    let verdict = data.table::<3>().ok()?.get(NFTA_DATA_VERDICT)?.table::<4>().ok()?;
    let chain = || verdict.get(NFTA_VERDICT_CHAIN).map(Attribute::text);
    // The code is a signed number.
    match verdict.get(NFTA_VERDICT_CODE)?.u32().ok()? as i32 {
        NF_ACCEPT => Some(Verdict::Accept),
        NF_DROP => Some(Verdict::Drop),
        NFT_RETURN => Some(Verdict::Return),
        NFT_JUMP => chain().map(Verdict::Jump),
        NFT_GOTO => chain().map(Verdict::Goto),
        _ => None,
    }
}

/// A verdict's code and chain, as the kernel has them.
pub(crate) fn verdict_code(verdict: &Verdict) -> (i32, Option<&str>) {
    match verdict {
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Drop => (NF_DROP, None),
        Verdict::Return => (NFT_RETURN, None),
        Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
    }
}

fn counter(fields: &Fields<'_>) -> Option<Expression> {
    let is_counter = number(fields, NFTA_OBJREF_IMM_TYPE)? == NFT_OBJECT_COUNTER;
    let name = fields.get(NFTA_OBJREF_IMM_NAME)?.text();
    let known = fields.only(&[NFTA_OBJREF_IMM_TYPE, NFTA_OBJREF_IMM_NAME]);
    (is_counter && known).then_some(Expression::Counter(name))
}

/// A rate limit by packets, with just these flags.
fn limit(fields: &Fields<'_>, flags: u32) -> Option<Limit> {
    let long = |kind| fields.get(kind)?.u64().ok();
    let limit = Limit { rate: long(NFTA_LIMIT_RATE)?, burst: number(fields, NFTA_LIMIT_BURST)? };
    // The unit is in seconds; a flag inverts the limit. Attribute 6 is padding.
    let plain = long(NFTA_LIMIT_UNIT)? == 1
        && fields.u32_or_zero(NFTA_LIMIT_TYPE) == Ok(NFT_LIMIT_PKTS)
        && fields.u32_or_zero(NFTA_LIMIT_FLAGS) == Ok(flags)
        && fields.only(&[1, 2, 3, 4, 5, 6]);
    plain.then_some(limit)
}

fn over(fields: &Fields<'_>) -> Option<Expression> {
    is_register(fields, NFTA_DYNSET_SREG_KEY)?;
    let set = fields.get(NFTA_DYNSET_SET_NAME)?.text();
    let element = fields.get(NFTA_DYNSET_EXPR)?.table::<3>().ok()?;
    let rate = Table::new(element.get(NFTA_EXPR_DATA)?.payload).ok()?;
    let limit = limit(&rate, NFT_LIMIT_F_INV)?;
    // Of the set's own timeout the kernel says 0 here.
    let timeout = fields.get(NFTA_DYNSET_TIMEOUT).map_or(Ok(0), Attribute::u64);
    let known = [
        NFTA_DYNSET_SET_NAME,
        NFTA_DYNSET_SET_ID,
        NFTA_DYNSET_OP,
        NFTA_DYNSET_SREG_KEY,
        NFTA_DYNSET_TIMEOUT,
        NFTA_DYNSET_EXPR,
        NFTA_DYNSET_PAD,
        NFTA_DYNSET_FLAGS,
    ];
    let plain = element.get(NFTA_EXPR_NAME)?.is_text(name::LIMIT)
        && number(fields, NFTA_DYNSET_OP)? == NFT_DYNSET_OP_ADD
        && timeout == Ok(0)
        && fields.u32_or_zero(NFTA_DYNSET_FLAGS) == Ok(0)
        && fields.only(&known);
    plain.then_some(Expression::Over { set, limit })
}

fn log(fields: &Fields<'_>) -> Option<Expression> {
    let prefix = fields.get(NFTA_LOG_PREFIX).map(Attribute::text).unwrap_or_default();
    let short = |kind| fields.get(kind).map_or(Some(0), |attribute| attribute.u16().ok());
    let target = if let Some(group) = fields.get(NFTA_LOG_GROUP) {
        let group = group.u16().ok()?;
        let threshold = short(NFTA_LOG_QTHRESHOLD)?;
        let snaplen = fields.u32_or_zero(NFTA_LOG_SNAPLEN).ok()?;
        LogTarget::Group { group, threshold, snaplen }
    } else {
        (number(fields, NFTA_LOG_LEVEL)? == NFT_LOGLEVEL_INFO).then_some(LogTarget::Kernel)?
    };
    let plain = fields.u32_or_zero(NFTA_LOG_FLAGS) == Ok(0) && fields.only(&[1, 2, 3, 4, 5, 6]);
    plain.then_some(Expression::Log(Log { prefix, target }))
}

fn reject(fields: &Fields<'_>) -> Option<Expression> {
    let code = fields.get(NFTA_REJECT_ICMP_CODE).map_or(Some(0), |code| code.u8().ok())?;
    let reject = match number(fields, NFTA_REJECT_TYPE)? {
        NFT_REJECT_TCP_RST => Reject::TcpReset,
        NFT_REJECT_ICMPX_UNREACH if code == NFT_REJECT_ICMPX_ADMIN_PROHIBITED => {
            Reject::AdminProhibited
        }
        _ => return None,
    };
    fields.only(&[NFTA_REJECT_TYPE, NFTA_REJECT_ICMP_CODE]).then_some(Expression::Reject(reject))
}
