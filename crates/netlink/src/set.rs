//! Sets: their specification as the kernel has it.
//!
//! Userdata tells `nft list` in which byte order to print keys; without it names and numbers come
//! out wrong. It holds what `nft` 1.0.6 writes there.

use crate::attribute::{Attribute, Malformed, Table};
use crate::object::SetHead;
use crate::uapi::*;
use crate::userdata::{self, Userdata};
use ruleset::{Family, KeyType, SetSpec};

/// nftables' numbers of data types (`enum datatypes` in its `datatype.h`).
const TYPE_IPADDR: u32 = 7;
const TYPE_IP6ADDR: u32 = 8;
const TYPE_INET_PROTOCOL: u32 = 12;
const TYPE_INET_SERVICE: u32 = 13;
const TYPE_MARK: u32 = 19;
const TYPE_UID: u32 = 24;

/// libnftnl's types of userdata attributes (`enum nftnl_udata_set_types`).
const UDATA_KEYBYTEORDER: u8 = 0;
const UDATA_DATABYTEORDER: u8 = 1;
const UDATA_DATA_INTERVAL: u8 = 6;
const UDATA_COMMENT: u8 = 7;

/// nftables' `enum byteorder`, as it stands in userdata: 32 bits of the host.
const BYTEORDER_INVALID: u32 = 0;
const BYTEORDER_HOST: u32 = 1;
const BYTEORDER_NETWORK: u32 = 2;

/// Whether keys stand in the kernel in the byte order of the host.
pub(crate) fn host_order(key: KeyType) -> bool {
    key == KeyType::Uid
}

/// What the kernel is told about a set; `id` is any number that is unique in the batch.
///
/// # Errors
/// In words, when it is none of ours.
pub(crate) fn encode(spec: &SetSpec, id: u32) -> Result<SetHead, String> {
    let key_type = match spec.key {
        KeyType::Address(Family::V4) => TYPE_IPADDR,
        KeyType::Address(Family::V6) => TYPE_IP6ADDR,
        KeyType::Port => TYPE_INET_SERVICE,
        KeyType::Protocol => TYPE_INET_PROTOCOL,
        KeyType::Uid => TYPE_UID,
        KeyType::Other { datatype, .. } => return Err(format!("its key is of type {datatype}")),
    };
    if let Some(foreign) = spec.foreign.first() {
        return Err(format!("tierwall never makes sets with {foreign}"));
    }
    // Intervals are compared byte by byte, which for the host's order would not be by number.
    if spec.interval && host_order(spec.key) {
        return Err("intervals of user ids are not supported".into());
    }
    let odd = spec.interval || spec.map || !spec.timeout || spec.size.is_none();
    if spec.dynamic.is_some_and(|seconds| odd || seconds == 0) {
        return Err("a dynamic set has single keys, a size, and a timeout".into());
    }
    let flag = |flag, on| if on { flag } else { 0 };
    Ok(SetHead {
        flags: flag(NFT_SET_INTERVAL, spec.interval)
            | flag(NFT_SET_MAP, spec.map)
            | flag(NFT_SET_TIMEOUT, spec.timeout)
            | flag(NFT_SET_EVAL, spec.dynamic.is_some()),
        key_type,
        key_length: spec.key.length() as u32,
        verdicts: spec.map,
        size: spec.size,
        timeout: spec.dynamic.map(|seconds| seconds.saturating_mul(1000)),
        id,
        userdata: key_userdata(spec).unwrap_or_default(),
    })
}

/// `mark`, as it is read back: tierwall has such keys in the set of its state only.
pub(crate) const MARK: KeyType = KeyType::Other { datatype: TYPE_MARK, length: 4 };

/// What the kernel is told about a set of marks.
pub(crate) fn marks(id: u32) -> SetHead {
    let order = BYTEORDER_HOST.to_ne_bytes();
    SetHead {
        flags: 0,
        key_type: TYPE_MARK,
        key_length: MARK.length() as u32,
        verdicts: false,
        size: None,
        timeout: None,
        id,
        userdata: Userdata::default().with(UDATA_KEYBYTEORDER, &order).unwrap_or_default(),
    }
}

fn key_userdata(spec: &SetSpec) -> Option<Userdata> {
    let order = if host_order(spec.key) { BYTEORDER_HOST } else { BYTEORDER_NETWORK };
    let userdata = Userdata::default().with(UDATA_KEYBYTEORDER, &order.to_ne_bytes())?;
    if !spec.map {
        return Some(userdata);
    }
    userdata
        .with(UDATA_DATABYTEORDER, &BYTEORDER_INVALID.to_ne_bytes())?
        .with(UDATA_DATA_INTERVAL, &0u32.to_ne_bytes())
}

/// Decodes the attributes of a set into its name and specification.
pub(crate) fn decode(set: &Table<'_, 20>) -> Result<(String, SetSpec), Malformed> {
    let name = set.require(NFTA_SET_NAME)?.text();
    let flags = set.u32_or_zero(NFTA_SET_FLAGS)?;
    let datatype = set.u32_or_zero(NFTA_SET_KEY_TYPE)?;
    let length = set.require(NFTA_SET_KEY_LEN)?.u32()?;
    let size = match set.get(NFTA_SET_DESC) {
        Some(desc) => desc.table::<2>()?.get(NFTA_SET_DESC_SIZE).map(Attribute::u32).transpose()?,
        None => None,
    };
    let dynamic = dynamic(set, flags, size)?;
    let spec = SetSpec {
        key: key_type(datatype, length),
        map: flags & NFT_SET_MAP != 0,
        interval: flags & NFT_SET_INTERVAL != 0,
        timeout: flags & NFT_SET_TIMEOUT != 0,
        size: size.filter(|size| *size != 0),
        dynamic,
        foreign: foreign(set, flags, dynamic.is_some())?,
    };
    Ok((name, spec))
}

/// After how many seconds the elements are forgotten that rules add; none where it is no set as
/// ours are.
fn dynamic(set: &Table<'_, 20>, flags: u32, size: Option<u32>) -> Result<Option<u64>, Malformed> {
    let timeout = set.get(NFTA_SET_TIMEOUT).map(Attribute::u64).transpose()?;
    let ours = flags == NFT_SET_TIMEOUT | NFT_SET_EVAL && size.is_some_and(|size| size != 0);
    let whole = timeout.filter(|timeout| ours && *timeout != 0 && timeout % 1000 == 0);
    Ok(whole.map(|milliseconds| milliseconds / 1000))
}

fn key_type(datatype: u32, length: u32) -> KeyType {
    let known = match datatype {
        TYPE_IPADDR => KeyType::Address(Family::V4),
        TYPE_IP6ADDR => KeyType::Address(Family::V6),
        TYPE_INET_SERVICE => KeyType::Port,
        TYPE_INET_PROTOCOL => KeyType::Protocol,
        TYPE_UID => KeyType::Uid,
        _ => return KeyType::Other { datatype, length },
    };
    if known.length() == length as usize { known } else { KeyType::Other { datatype, length } }
}

/// What our sets never have. Attributes that say nothing about what the set holds or lists as
/// (handle, count, implementation) are passed over, so that a newer kernel's don't disturb.
fn foreign(set: &Table<'_, 20>, flags: u32, is_dynamic: bool) -> Result<Vec<String>, Malformed> {
    let mut foreign = Vec::new();
    for (flag, name) in [
        (NFT_SET_ANONYMOUS, "the flag anonymous"),
        (NFT_SET_CONSTANT, "the flag constant"),
        (NFT_SET_EVAL, "the flag dynamic"),
        (NFT_SET_OBJECT, "objects"),
        (NFT_SET_CONCAT, "concatenated intervals"),
    ] {
        if flags & flag != 0 && !(flag == NFT_SET_EVAL && is_dynamic) {
            foreign.push(name.to_owned());
        }
    }
    let known = NFT_SET_ANONYMOUS
        | NFT_SET_CONSTANT
        | NFT_SET_INTERVAL
        | NFT_SET_MAP
        | NFT_SET_TIMEOUT
        | NFT_SET_EVAL
        | NFT_SET_OBJECT
        | NFT_SET_CONCAT
        | NFT_SET_EXPR;
    if flags & !known != 0 {
        foreign.push(format!("flags {:#x}", flags & !known));
    }
    for (kind, what) in [
        (NFTA_SET_DATA_TYPE, "data of type"),
        (NFTA_SET_POLICY, "the policy"),
        (NFTA_SET_GC_INTERVAL, "a collection interval of"),
        (NFTA_SET_OBJ_TYPE, "objects of type"),
    ] {
        let Some(number) = set.get(kind).map(Attribute::u32).transpose()? else { continue };
        let ours = kind == NFTA_SET_DATA_TYPE && number == NFT_DATA_VERDICT;
        // The default, which older kernels send.
        let default = kind != NFTA_SET_DATA_TYPE && number == 0;
        if !ours && !default {
            foreign.push(format!("{what} {number}"));
        }
    }
    if let Some(timeout) = set.get(NFTA_SET_TIMEOUT).filter(|_| !is_dynamic) {
        foreign.push(format!("a default timeout of {} ms", timeout.u64()?));
    }
    for kind in [NFTA_SET_EXPR, NFTA_SET_EXPRESSIONS] {
        if let Some(expressions) = set.get(kind) {
            foreign.push(format!("expressions {:?}", names(expressions, kind)?));
        }
    }
    let comment = set.get(NFTA_SET_USERDATA).and_then(|data| userdata::text(data, UDATA_COMMENT));
    if let Some(comment) = comment {
        foreign.push(format!("the comment {comment:?}"));
    }
    Ok(foreign)
}

/// The names of the expressions that each element of a set carries.
fn names(attribute: Attribute<'_>, kind: u16) -> Result<Vec<String>, Malformed> {
    let name =
        |attribute: Attribute<'_>| Ok(attribute.table::<3>()?.require(NFTA_EXPR_NAME)?.text());
    if kind == NFTA_SET_EXPR {
        return Ok(vec![name(attribute)?]);
    }
    attribute.nested().map(|element| name(element?)).collect()
}
