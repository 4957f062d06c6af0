//! nftables over netlink: carries the values of the ruleset crate to the kernel as one atomic
//! batch, and reads the kernel's table back into the same values.
//!
//! ```text
//! Plan ─ Batch::encode ─► bytes ─ Connection::commit ─► kernel ─ Connection::dump ─► Ruleset
//! ```
//!
//! A rule passes through an intermediate value in both directions: [statements](ruleset::Statement)
//! are what `nft` prints, `expression::Expression` is what the kernel executes. `lower` goes from
//! the first to the second and `lift` back.
//!
//! Tables, chains, rules, sets and counters are encoded by libnftnl (`object`); the elements of
//! sets, of which there can be millions, are written straight into the batch (`element`).
//! Everything the kernel sends is decoded by one checked reader (`attribute`) and not by libnftnl,
//! which refuses a whole rule for one expression it doesn't know, drops attributes newer than
//! itself without a word, and trusts strings to be terminated. Encoder and decoder being two
//! implementations, a round trip through both also proves something.
//!
//! Invariants: one commit is one datagram; nothing is reported as committed before the kernel
//! acknowledged it; no bytes from the kernel make this crate panic; no handle of a C library
//! leaves it.

#![allow(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks)]

mod address;
#[cfg(test)]
mod arbitrary;
mod attribute;
mod batch;
mod collect;
mod commit;
mod connection;
mod dump;
mod element;
mod error;
mod expression;
mod lift;
mod lower;
mod message;
mod object;
mod probe;
mod refusal;
mod rule;
mod set;
mod socket;
mod table;
#[cfg(test)]
mod tests;
mod uapi;
mod userdata;

pub use address::addresses;
pub use batch::Batch;
pub use commit::Committed;
pub use connection::{Connection, Generation};
pub use dump::{Handles, KernelTable};
pub use error::{CommitError, EncodeError, Error};
pub use probe::Features;
pub use refusal::{Place, Refusal, Verb};
