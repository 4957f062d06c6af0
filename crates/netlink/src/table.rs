//! Tables, chains and objects as the kernel dumps them.
//!
//! What we never make is described in words, so that a foreign table is never mistaken for ours or
//! for an empty one.

use crate::attribute::{Attribute, Malformed, Table as Fields};
use crate::uapi::*;
use crate::userdata;
use ruleset::{Base, Hook, Policy};

/// The table's own message.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableHead {
    pub(crate) comment: Option<String>,
    pub(crate) flags: u32,
    /// The port of the socket that owns the table.
    pub(crate) owner: Option<u32>,
}

impl TableHead {
    pub(crate) fn decode(fields: &Fields<'_, 12>) -> Result<Self, Malformed> {
        let userdata = fields.get(NFTA_TABLE_USERDATA);
        Ok(Self {
            comment: userdata.and_then(|data| userdata::text(data, userdata::COMMENT)),
            flags: fields.u32_or_zero(NFTA_TABLE_FLAGS)?,
            owner: fields.get(NFTA_TABLE_OWNER).map(Attribute::u32).transpose()?,
        })
    }

    /// Flags that change what the table does. Who owns it doesn't.
    pub(crate) fn foreign(&self) -> Option<String> {
        let known = NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST;
        match self.flags & !known {
            0 => None,
            NFT_TABLE_F_DORMANT => Some("table: flags dormant".to_owned()),
            flags => Some(format!("table: flags {flags:#x}")),
        }
    }
}

/// A chain's message, without rules.
#[derive(Debug, Clone)]
pub(crate) struct ChainHead {
    pub(crate) name: String,
    pub(crate) base: Option<Base>,
    pub(crate) foreign: Vec<String>,
}

impl ChainHead {
    pub(crate) fn decode(fields: &Fields<'_, 16>) -> Result<Self, Malformed> {
        let name = fields.require(NFTA_CHAIN_NAME)?.text();
        let mut foreign = Vec::new();
        let base = match fields.get(NFTA_CHAIN_HOOK) {
            Some(hook) => Some(base(fields, hook, &mut foreign)?),
            None => None,
        };
        let flags = fields.u32_or_zero(NFTA_CHAIN_FLAGS)? & !NFT_CHAIN_BASE;
        if flags != 0 {
            foreign.push(format!("flags {flags:#x}"));
        }
        if fields.get(NFTA_CHAIN_COUNTERS).is_some() {
            foreign.push("a counter of its own".to_owned());
        }
        let comment = fields.get(NFTA_CHAIN_USERDATA);
        if let Some(text) = comment.and_then(|data| userdata::text(data, userdata::COMMENT)) {
            foreign.push(format!("comment {text:?}"));
        }
        for what in &mut foreign {
            *what = format!("chain {name}: {what}");
        }
        Ok(Self { name, base, foreign })
    }
}

fn base(
    fields: &Fields<'_, 16>,
    hook: Attribute<'_>,
    foreign: &mut Vec<String>,
) -> Result<Base, Malformed> {
    let hook = hook.table::<8>()?;
    if let Some(device) = hook.get(NFTA_HOOK_DEV) {
        foreign.push(format!("device {}", device.text()));
    }
    if let Some(devices) = hook.get(NFTA_HOOK_DEVS) {
        for device in devices.nested() {
            foreign.push(format!("device {}", device?.text()));
        }
    }
    let policy = match fields.get(NFTA_CHAIN_POLICY).map(Attribute::u32).transpose()? {
        Some(code) if code as i32 == NF_DROP => Policy::Drop,
        Some(code) if code as i32 == NF_ACCEPT => Policy::Accept,
        Some(code) => {
            foreign.push(format!("policy {code}"));
            Policy::Accept
        }
        None => Policy::Accept,
    };
    Ok(Base {
        kind: fields.get(NFTA_CHAIN_TYPE).map(Attribute::text).unwrap_or_default(),
        hook: match hook.require(NFTA_HOOK_HOOKNUM)?.u32()? {
            NF_INET_LOCAL_IN => Hook::Input,
            NF_INET_FORWARD => Hook::Forward,
            NF_INET_LOCAL_OUT => Hook::Output,
            number => Hook::Other(number),
        },
        priority: hook.u32_or_zero(NFTA_HOOK_PRIORITY)? as i32,
        policy,
    })
}

/// A stateful object's message.
#[derive(Debug, Clone)]
pub(crate) enum ObjectHead {
    /// A named counter, with packets and bytes.
    Counter { name: String, packets: u64, bytes: u64, comment: Option<String> },
    /// Another, in words.
    Foreign(String),
}

impl ObjectHead {
    pub(crate) fn decode(fields: &Fields<'_, 12>) -> Result<Self, Malformed> {
        let name = fields.require(NFTA_OBJ_NAME)?.text();
        let kind = fields.require(NFTA_OBJ_TYPE)?.u32()?;
        if kind != NFT_OBJECT_COUNTER {
            // The order of `NFT_OBJECT_…` in the kernel's header.
            const KINDS: [&str; 10] = [
                "object",
                "counter",
                "quota",
                "ct helper",
                "limit",
                "connlimit",
                "tunnel",
                "ct timeout",
                "secmark",
                "ct expectation",
            ];
            let kind = KINDS.get(kind as usize).copied().unwrap_or("object");
            return Ok(Self::Foreign(format!("{kind} {name}")));
        }
        let data = fields.require(NFTA_OBJ_DATA)?.table::<8>()?;
        let comment = fields.get(NFTA_OBJ_USERDATA);
        Ok(Self::Counter {
            name,
            packets: data.require(NFTA_COUNTER_PACKETS)?.u64()?,
            bytes: data.require(NFTA_COUNTER_BYTES)?.u64()?,
            comment: comment.and_then(|data| userdata::text(data, userdata::COMMENT)),
        })
    }
}
