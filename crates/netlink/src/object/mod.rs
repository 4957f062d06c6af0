//! Objects as libnftnl encodes them: tables, chains, rules, sets and counters of `inet filter`.
//!
//! libnftnl's objects are owned here by types that free them, and never leave this module: its
//! functions take plain values and append one netlink message to a buffer. The safe types of the
//! `nftnl` crate are not used: they ask for an acknowledgement of every message, refer to sets by
//! objects instead of names, hold comments of at most 125 bytes, and know no userdata, logs,
//! limits, or named counters.
//!
//! libnftnl writes messages without a bound. [`Text`] and the checks of this module keep every
//! message below the size of the buffer it writes into.

mod expression;

use crate::expression::Expression;
use crate::uapi::*;
use crate::userdata::Userdata;
use nftnl::nftnl_sys as sys;
use ruleset::{Base, Hook, Policy, TABLE};
use std::alloc::{Layout, handle_alloc_error};
use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;

/// A string that the kernel can hold.
#[derive(Debug, Clone)]
pub(crate) struct Text(CString);

impl Text {
    /// None if `text` is longer than `limit` bytes, or than any name may be, or has a NUL in it.
    pub(crate) fn new(text: &str, limit: usize) -> Option<Self> {
        (text.len() <= limit.min(NAME_LENGTH)).then(|| CString::new(text).ok())?.map(Self)
    }

    fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

/// The header of a message to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// `NFT_MSG_…`
    pub(crate) kind: u16,
    /// Beside `NLM_F_REQUEST`.
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
}

/// What a set is made of, in the kernel's numbers.
#[derive(Debug, Clone)]
pub(crate) struct SetHead {
    pub(crate) flags: u32,
    pub(crate) key_type: u32,
    pub(crate) key_length: u32,
    pub(crate) verdicts: bool,
    pub(crate) size: Option<u32>,
    /// Of an element that isn't given one, in milliseconds.
    pub(crate) timeout: Option<u64>,
    /// Distinguishes the sets of a batch; the kernel demands one.
    pub(crate) id: u32,
    pub(crate) userdata: Userdata,
}

/// Where a rule goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Position {
    /// By its own handle, to delete it.
    Itself(u64),
    /// Before the rule with this handle.
    Before(u64),
    /// At the end of the chain.
    End,
}

/// The most that one expression takes in a message: its name, its attributes, one string and three
/// values of 16 bytes.
const EXPRESSION_SIZE: usize = 512;
/// Larger than any message this module writes: the expressions of a rule, and names and userdata.
const SCRATCH: usize = NFT_RULE_MAXEXPRS * EXPRESSION_SIZE + 4096;

/// Writes objects as messages, through a buffer that it reuses.
pub(crate) struct Writer {
    // In words of 8 bytes, for the alignment of `struct nlmsghdr`.
    scratch: Box<[u64]>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { scratch: vec![0; SCRATCH / size_of::<u64>()].into_boxed_slice() }
    }

    /// The table, with flags and userdata where it is made, flags alone where it is adopted.
    pub(crate) fn table(
        &mut self,
        out: &mut Vec<u8>,
        head: Head,
        flags: Option<u32>,
        userdata: &Userdata,
    ) {
        let mut table = Table::new();
        table.name(sys::NFTNL_TABLE_NAME);
        if let Some(flags) = flags {
            // SAFETY: libnftnl declares the flags as a number of 32 bits.
            unsafe { table.u32(sys::NFTNL_TABLE_FLAGS, flags) };
        }
        if !userdata.bytes().is_empty() {
            // SAFETY: userdata are bytes of any length, which libnftnl copies.
            unsafe { table.bytes(sys::NFTNL_TABLE_USERDATA, userdata.bytes()) };
        }
        table.append(&mut self.scratch, out, head);
    }

    /// A chain; a base chain where it has a hook.
    pub(crate) fn chain(
        &mut self,
        out: &mut Vec<u8>,
        head: Head,
        name: &Text,
        base: Option<(&Text, &Base)>,
    ) {
        let mut chain = Chain::new();
        chain.name(sys::NFTNL_CHAIN_TABLE);
        // SAFETY: libnftnl declares name and type as strings, which it copies, and hook, priority
        // and policy as numbers of 32 bits.
        unsafe {
            chain.text(sys::NFTNL_CHAIN_NAME, name.as_c_str());
            if let Some((kind, base)) = base {
                chain.text(sys::NFTNL_CHAIN_TYPE, kind.as_c_str());
                chain.u32(sys::NFTNL_CHAIN_HOOKNUM, hook_number(base.hook));
                chain.u32(sys::NFTNL_CHAIN_PRIO, base.priority as u32);
                chain.u32(sys::NFTNL_CHAIN_POLICY, policy_number(base.policy));
            }
        }
        chain.append(&mut self.scratch, out, head);
    }

    /// A base chain that exists, with another policy.
    pub(crate) fn chain_policy(
        &mut self,
        out: &mut Vec<u8>,
        head: Head,
        name: &Text,
        policy: Policy,
    ) {
        let mut chain = Chain::new();
        chain.name(sys::NFTNL_CHAIN_TABLE);
        // SAFETY: as in `chain`.
        unsafe {
            chain.text(sys::NFTNL_CHAIN_NAME, name.as_c_str());
            chain.u32(sys::NFTNL_CHAIN_POLICY, policy_number(policy));
        }
        chain.append(&mut self.scratch, out, head);
    }

    /// A rule; without expressions where it is deleted.
    ///
    /// # Errors
    /// In words, when an expression or the number of them is more than the kernel takes.
    pub(crate) fn rule(
        &mut self,
        out: &mut Vec<u8>,
        head: Head,
        chain: &Text,
        position: Position,
        (expressions, userdata): (&[Expression], &Userdata),
    ) -> Result<(), String> {
        if expressions.len() > NFT_RULE_MAXEXPRS {
            return Err(format!("it has more than {NFT_RULE_MAXEXPRS} expressions"));
        }
        let mut rule = Rule::new();
        rule.name(sys::NFTNL_RULE_TABLE);
        // SAFETY: libnftnl declares the chain as a string and userdata as bytes of any length,
        // both of which it copies, handle and position as numbers of 64 bits.
        unsafe {
            rule.text(sys::NFTNL_RULE_CHAIN, chain.as_c_str());
            match position {
                Position::Itself(handle) => rule.u64(sys::NFTNL_RULE_HANDLE, handle),
                Position::Before(handle) => rule.u64(sys::NFTNL_RULE_POSITION, handle),
                Position::End => {}
            }
            if !userdata.bytes().is_empty() {
                rule.bytes(sys::NFTNL_RULE_USERDATA, userdata.bytes());
            }
        }
        for expression in expressions {
            let owned = expression::encode(expression)?;
            // SAFETY: both are valid, and the rule takes the expression over: `into_raw` leaves it
            // to the rule to free it.
            unsafe { sys::nftnl_rule_add_expr(rule.0.as_ptr(), owned.into_raw()) };
        }
        rule.append(&mut self.scratch, out, head);
        Ok(())
    }

    /// A set or verdict map; by its name only where it is deleted.
    pub(crate) fn set(
        &mut self,
        out: &mut Vec<u8>,
        head: Head,
        name: &Text,
        set_head: Option<&SetHead>,
    ) {
        let mut set = Set::new();
        set.name(sys::NFTNL_SET_TABLE);
        // SAFETY: libnftnl declares the name as a string and userdata as bytes of any length, both
        // of which it copies, the timeout as a number of 64 bits, all others of 32.
        unsafe {
            set.text(sys::NFTNL_SET_NAME, name.as_c_str());
            if let Some(head) = set_head {
                set.u32(sys::NFTNL_SET_FLAGS, head.flags);
                set.u32(sys::NFTNL_SET_KEY_TYPE, head.key_type);
                set.u32(sys::NFTNL_SET_KEY_LEN, head.key_length);
                set.u32(sys::NFTNL_SET_ID, head.id);
                if head.verdicts {
                    set.u32(sys::NFTNL_SET_DATA_TYPE, NFT_DATA_VERDICT);
                    set.u32(sys::NFTNL_SET_DATA_LEN, 0);
                }
                if let Some(size) = head.size {
                    set.u32(sys::NFTNL_SET_DESC_SIZE, size);
                }
                if let Some(timeout) = head.timeout {
                    set.u64(sys::NFTNL_SET_TIMEOUT, timeout);
                }
                set.bytes(sys::NFTNL_SET_USERDATA, head.userdata.bytes());
            }
        }
        set.append(&mut self.scratch, out, head);
    }

    /// A named counter, starting at zero.
    pub(crate) fn counter(&mut self, out: &mut Vec<u8>, head: Head, name: &Text) {
        let mut object = Object::new();
        object.name(sys::NFTNL_OBJ_TABLE);
        // SAFETY: libnftnl declares the name as a string, the type as a number of 32 bits, and for
        // that type of object the counts as numbers of 64 bits.
        unsafe {
            object.text(sys::NFTNL_OBJ_NAME, name.as_c_str());
            object.u32(sys::NFTNL_OBJ_TYPE, NFT_OBJECT_COUNTER);
            object.u64(sys::NFTNL_OBJ_CTR_PKTS, 0);
            object.u64(sys::NFTNL_OBJ_CTR_BYTES, 0);
        }
        object.append(&mut self.scratch, out, head);
    }
}

fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Input => NF_INET_LOCAL_IN,
        Hook::Forward => NF_INET_FORWARD,
        Hook::Output => NF_INET_LOCAL_OUT,
        Hook::Other(number) => number,
    }
}

fn policy_number(policy: Policy) -> u32 {
    match policy {
        Policy::Accept => NF_ACCEPT as u32,
        Policy::Drop => NF_DROP as u32,
    }
}

/// libnftnl returns null only when memory is exhausted; Rust's own allocations end the process
/// then, and so does this.
fn allocated<T>(raw: *mut T) -> NonNull<T> {
    NonNull::new(raw).unwrap_or_else(|| handle_alloc_error(Layout::new::<u64>()))
}

/// The name of our table, for C.
fn table_name() -> CString {
    CString::new(TABLE).unwrap_or_default()
}

/// An owned object of libnftnl, its setters, and its message. The setters are unsafe because
/// libnftnl trusts that an attribute is set with the type it has.
macro_rules! object {
    (
        $name:ident, $raw:ident, $alloc:ident, $free:ident, $build:ident,
        $set_u32:ident, $set_u64:ident, $set_str:ident, $set_data:ident
    ) => {
        struct $name(NonNull<sys::$raw>);

        #[allow(dead_code, unused_must_use)]
        impl $name {
            fn new() -> Self {
                // SAFETY: allocates, no preconditions.
                Self(allocated(unsafe { sys::$alloc() }))
            }

            fn name(&mut self, attribute: u32) {
                // SAFETY: the table is a string attribute of every object.
                unsafe { self.text(attribute, &table_name()) };
            }

            unsafe fn u32(&mut self, attribute: u32, value: u32) {
                // SAFETY: the object is valid; the caller gives an attribute of 32 bits.
                unsafe { sys::$set_u32(self.0.as_ptr(), attribute as u16, value) };
            }

            unsafe fn u64(&mut self, attribute: u32, value: u64) {
                // SAFETY: the object is valid; the caller gives an attribute of 64 bits.
                unsafe { sys::$set_u64(self.0.as_ptr(), attribute as u16, value) };
            }

            unsafe fn text(&mut self, attribute: u32, value: &CStr) {
                // SAFETY: the object is valid and copies the string; the caller gives a string
                // attribute.
                unsafe { sys::$set_str(self.0.as_ptr(), attribute as u16, value.as_ptr()) };
            }

            unsafe fn bytes(&mut self, attribute: u32, value: &[u8]) {
                let (data, length) = (value.as_ptr().cast::<c_void>(), value.len() as u32);
                // SAFETY: the object is valid and copies `length` bytes; the caller gives an
                // attribute of any length.
                unsafe { sys::$set_data(self.0.as_ptr(), attribute as u16, data, length) };
            }

            /// Appends the object's message to `out`.
            fn append(&self, scratch: &mut [u64], out: &mut Vec<u8>, head: Head) {
                let buffer = scratch.as_mut_ptr();
                // SAFETY: `buffer` is aligned for a header and, being `SCRATCH` bytes long, has
                // room for any message of this module: strings are bounded by `Text`, userdata by
                // `Userdata`, the number of expressions and the size of each by `Writer::rule` and
                // `expression::encode`. The header then holds the length that was written.
                let message = unsafe {
                    let header = sys::nftnl_nlmsg_build_hdr(
                        buffer.cast(),
                        head.kind,
                        u16::from(NFPROTO_INET),
                        head.flags,
                        head.sequence,
                    );
                    sys::$build(header, self.0.as_ptr());
                    let length = (*header).nlmsg_len as usize;
                    std::slice::from_raw_parts(buffer.cast::<u8>(), length)
                };
                out.extend_from_slice(message);
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the object is valid and nobody else has it.
                unsafe { sys::$free(self.0.as_ptr()) };
            }
        }
    };
}

object!(
    Table,
    nftnl_table,
    nftnl_table_alloc,
    nftnl_table_free,
    nftnl_table_nlmsg_build_payload,
    nftnl_table_set_u32,
    nftnl_table_set_u64,
    nftnl_table_set_str,
    nftnl_table_set_data
);
object!(
    Chain,
    nftnl_chain,
    nftnl_chain_alloc,
    nftnl_chain_free,
    nftnl_chain_nlmsg_build_payload,
    nftnl_chain_set_u32,
    nftnl_chain_set_u64,
    nftnl_chain_set_str,
    nftnl_chain_set_data
);
object!(
    Rule,
    nftnl_rule,
    nftnl_rule_alloc,
    nftnl_rule_free,
    nftnl_rule_nlmsg_build_payload,
    nftnl_rule_set_u32,
    nftnl_rule_set_u64,
    nftnl_rule_set_str,
    nftnl_rule_set_data
);
object!(
    Set,
    nftnl_set,
    nftnl_set_alloc,
    nftnl_set_free,
    nftnl_set_nlmsg_build_payload,
    nftnl_set_set_u32,
    nftnl_set_set_u64,
    nftnl_set_set_str,
    nftnl_set_set_data
);
object!(
    Object,
    nftnl_obj,
    nftnl_obj_alloc,
    nftnl_obj_free,
    nftnl_obj_nlmsg_build_payload,
    nftnl_obj_set_u32,
    nftnl_obj_set_u64,
    nftnl_obj_set_str,
    nftnl_obj_set_data
);
