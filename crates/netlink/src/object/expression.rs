//! Expressions as libnftnl encodes them.

use super::{Text, allocated};
use crate::expression::{Expression, Payload, name, verdict_code};
use crate::uapi::*;
use nftnl::nftnl_sys as sys;
use ruleset::{Limit, Log, LogTarget, Reject, Verdict};
use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;

/// The most bytes that we compare with or mask: an IPv6 address. libnftnl copies values into a
/// fixed buffer without checking.
const VALUE_LENGTH: usize = 16;

/// An owned expression of libnftnl.
pub(super) struct Expr(NonNull<sys::nftnl_expr>);

/// libnftnl's functions for one expression. The setters are unsafe because libnftnl trusts that an
/// attribute is set with the type it has.
impl Expr {
    fn new(name: &'static str) -> Self {
        let name = CString::new(name).unwrap_or_default();
        // SAFETY: the name is a string. libnftnl knows every name that this module uses since
        // before 1.2.1, the oldest version that the crate links with.
        Self(allocated(unsafe { sys::nftnl_expr_alloc(name.as_ptr()) }))
    }

    /// Gives the expression away.
    pub(super) fn into_raw(self) -> *mut sys::nftnl_expr {
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        raw
    }

    unsafe fn u8(&mut self, attribute: u32, value: u8) {
        // SAFETY: the expression is valid; the caller gives an attribute of 8 bits.
        unsafe { sys::nftnl_expr_set_u8(self.0.as_ptr(), attribute as u16, value) };
    }

    unsafe fn u16(&mut self, attribute: u32, value: u16) {
        // SAFETY: the expression is valid; the caller gives an attribute of 16 bits.
        unsafe { sys::nftnl_expr_set_u16(self.0.as_ptr(), attribute as u16, value) };
    }

    unsafe fn u32(&mut self, attribute: u32, value: u32) {
        // SAFETY: the expression is valid; the caller gives an attribute of 32 bits.
        unsafe { sys::nftnl_expr_set_u32(self.0.as_ptr(), attribute as u16, value) };
    }

    unsafe fn u64(&mut self, attribute: u32, value: u64) {
        // SAFETY: the expression is valid; the caller gives an attribute of 64 bits.
        unsafe { sys::nftnl_expr_set_u64(self.0.as_ptr(), attribute as u16, value) };
    }

    unsafe fn text(&mut self, attribute: u32, value: &CStr) {
        // SAFETY: the expression is valid and copies the string; the caller gives a string
        // attribute.
        unsafe { sys::nftnl_expr_set_str(self.0.as_ptr(), attribute as u16, value.as_ptr()) };
    }

    unsafe fn add(&mut self, attribute: u32, inner: Self) {
        // SAFETY: both are valid, and this expression takes the other over: `into_raw` leaves it to
        // this one to free it. The caller gives an attribute that is an expression.
        unsafe { sys::nftnl_expr_add_expr(self.0.as_ptr(), attribute, inner.into_raw()) };
    }

    /// # Errors
    /// In words, when the value is longer than any that we write.
    unsafe fn value(&mut self, attribute: u32, value: &[u8]) -> Result<(), String> {
        if value.len() > VALUE_LENGTH {
            return Err(format!("a value of {} bytes is too long", value.len()));
        }
        let (data, length) = (value.as_ptr().cast::<c_void>(), value.len() as u32);
        // SAFETY: the expression is valid and copies at most `VALUE_LENGTH` bytes into a buffer of
        // `NFT_DATA_VALUE_MAXLEN`, 64; the caller gives an attribute that is a value.
        unsafe { sys::nftnl_expr_set(self.0.as_ptr(), attribute as u16, data, length) };
        Ok(())
    }
}

impl Drop for Expr {
    fn drop(&mut self) {
        // SAFETY: the expression is valid and nobody else has it.
        unsafe { sys::nftnl_expr_free(self.0.as_ptr()) };
    }
}

/// # Errors
/// In words, when a name or value is longer than the kernel takes, or the expression is unknown.
pub(super) fn encode(expression: &Expression) -> Result<Expr, String> {
    // SAFETY: each attribute is set with the type that libnftnl declares for it.
    unsafe {
        Ok(match expression {
            Expression::Meta(key) => {
                let mut expr = Expr::new(name::META);
                expr.u32(sys::NFTNL_EXPR_META_KEY, *key);
                expr.u32(sys::NFTNL_EXPR_META_DREG, NFT_REG_1);
                expr
            }
            Expression::Conntrack(key) => {
                let mut expr = Expr::new(name::CT);
                expr.u32(sys::NFTNL_EXPR_CT_KEY, *key);
                expr.u32(sys::NFTNL_EXPR_CT_DREG, NFT_REG_1);
                expr
            }
            Expression::SourceType => {
                let mut expr = Expr::new(name::FIB);
                expr.u32(sys::NFTNL_EXPR_FIB_DREG, NFT_REG_1);
                expr.u32(sys::NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                expr.u32(sys::NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_SADDR);
                expr
            }
            Expression::Socket(key) => {
                let mut expr = Expr::new(name::SOCKET);
                expr.u32(sys::NFTNL_EXPR_SOCKET_KEY, *key);
                expr.u32(sys::NFTNL_EXPR_SOCKET_DREG, NFT_REG_1);
                expr
            }
            Expression::Payload(Payload { base, offset, length }) => {
                let mut expr = Expr::new(name::PAYLOAD);
                expr.u32(sys::NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
                expr.u32(sys::NFTNL_EXPR_PAYLOAD_BASE, *base);
                expr.u32(sys::NFTNL_EXPR_PAYLOAD_OFFSET, *offset);
                expr.u32(sys::NFTNL_EXPR_PAYLOAD_LEN, *length);
                expr
            }
            Expression::Mask(mask) => {
                let mut expr = Expr::new(name::BITWISE);
                expr.u32(sys::NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
                expr.u32(sys::NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
                expr.u32(sys::NFTNL_EXPR_BITWISE_LEN, mask.len() as u32);
                expr.value(sys::NFTNL_EXPR_BITWISE_MASK, mask)?;
                expr.value(sys::NFTNL_EXPR_BITWISE_XOR, &vec![0; mask.len()])?;
                expr
            }
            Expression::Compare { equal, bytes } => {
                let mut expr = Expr::new(name::CMP);
                expr.u32(sys::NFTNL_EXPR_CMP_SREG, NFT_REG_1);
                let operator = if *equal { NFT_CMP_EQ } else { NFT_CMP_NEQ };
                expr.u32(sys::NFTNL_EXPR_CMP_OP, operator);
                expr.value(sys::NFTNL_EXPR_CMP_DATA, bytes)?;
                expr
            }
            Expression::Lookup(set) => lookup(set)?,
            Expression::Dispatch(map) => {
                let mut expr = lookup(map)?;
                expr.u32(sys::NFTNL_EXPR_LOOKUP_DREG, NFT_REG_VERDICT);
                expr
            }
            Expression::Verdict(verdict) => immediate(verdict)?,
            Expression::Counter(counter) => {
                let mut expr = Expr::new(name::OBJREF);
                expr.u32(sys::NFTNL_EXPR_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
                expr.text(sys::NFTNL_EXPR_OBJREF_IMM_NAME, named(counter)?.as_c_str());
                expr
            }
            Expression::Limit(rate) => limit(*rate, 0),
            Expression::Over { set, limit: rate } => {
                let mut expr = Expr::new(name::DYNSET);
                expr.u32(sys::NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_ADD);
                expr.u32(sys::NFTNL_EXPR_DYNSET_SREG_KEY, NFT_REG_1);
                expr.text(sys::NFTNL_EXPR_DYNSET_SET_NAME, named(set)?.as_c_str());
                expr.add(sys::NFTNL_EXPR_DYNSET_EXPR, limit(*rate, NFT_LIMIT_F_INV));
                expr
            }
            Expression::Log(log) => self::log(log)?,
            Expression::Reject(reject) => {
                let (kind, code) = match reject {
                    Reject::TcpReset => (NFT_REJECT_TCP_RST, 0),
                    Reject::AdminProhibited => {
                        (NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_ADMIN_PROHIBITED)
                    }
                };
                let mut expr = Expr::new(name::REJECT);
                expr.u32(sys::NFTNL_EXPR_REJECT_TYPE, kind);
                expr.u8(sys::NFTNL_EXPR_REJECT_CODE, code);
                expr
            }
            Expression::Unknown => return Err("it has an unknown expression".into()),
        })
    }
}

fn limit(Limit { rate, burst }: Limit, flags: u32) -> Expr {
    let mut expr = Expr::new(name::LIMIT);
    // SAFETY: rate and unit are numbers of 64 bits, the others of 32.
    unsafe {
        expr.u64(sys::NFTNL_EXPR_LIMIT_RATE, rate);
        expr.u64(sys::NFTNL_EXPR_LIMIT_UNIT, 1);
        expr.u32(sys::NFTNL_EXPR_LIMIT_BURST, burst);
        expr.u32(sys::NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
        expr.u32(sys::NFTNL_EXPR_LIMIT_FLAGS, flags);
    }
    expr
}

fn named(name: &str) -> Result<Text, String> {
    Text::new(name, NAME_LENGTH)
        .ok_or_else(|| format!("the name {name:?} is longer than {NAME_LENGTH} bytes or has a NUL"))
}

fn lookup(set: &str) -> Result<Expr, String> {
    let mut expr = Expr::new(name::LOOKUP);
    // SAFETY: the register is a number of 32 bits and the set a string.
    unsafe {
        expr.u32(sys::NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
        expr.text(sys::NFTNL_EXPR_LOOKUP_SET, named(set)?.as_c_str());
    }
    Ok(expr)
}

fn immediate(verdict: &Verdict) -> Result<Expr, String> {
    let (code, chain) = verdict_code(verdict);
    let mut expr = Expr::new(name::IMMEDIATE);
    // SAFETY: register and verdict are numbers of 32 bits and the chain is a string.
    unsafe {
        expr.u32(sys::NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
        expr.u32(sys::NFTNL_EXPR_IMM_VERDICT, code as u32);
        if let Some(chain) = chain {
            expr.text(sys::NFTNL_EXPR_IMM_CHAIN, named(chain)?.as_c_str());
        }
    }
    Ok(expr)
}

fn log(log: &Log) -> Result<Expr, String> {
    let prefix = Text::new(&log.prefix, LOG_PREFIX_LENGTH).ok_or_else(|| {
        format!("the log prefix {:?} is longer than {LOG_PREFIX_LENGTH} bytes", log.prefix)
    })?;
    let mut expr = Expr::new(name::LOG);
    // SAFETY: the prefix is a string, group and threshold are numbers of 16 bits, snaplen and level
    // of 32.
    unsafe {
        if !log.prefix.is_empty() {
            expr.text(sys::NFTNL_EXPR_LOG_PREFIX, prefix.as_c_str());
        }
        match log.target {
            LogTarget::Kernel => expr.u32(sys::NFTNL_EXPR_LOG_LEVEL, NFT_LOGLEVEL_INFO),
            LogTarget::Group { group, threshold, snaplen } => {
                expr.u16(sys::NFTNL_EXPR_LOG_GROUP, group);
                // Zero is what the kernel assumes, and `nft list` prints what is set.
                if snaplen != 0 {
                    expr.u32(sys::NFTNL_EXPR_LOG_SNAPLEN, snaplen);
                }
                if threshold != 0 {
                    expr.u16(sys::NFTNL_EXPR_LOG_QTHRESHOLD, threshold);
                }
            }
        }
    }
    Ok(expr)
}
