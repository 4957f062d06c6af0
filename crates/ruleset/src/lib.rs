//! nftables objects as plain values: the table `inet filter` with its chains, sets, rules and
//! elements; the difference of two tables as a plan; rendering as `nft` text and JSON; evaluation
//! of a packet.
//!
//! This crate knows neither policies nor the kernel. The policy crate compiles into its values,
//! the netlink crate carries them to the kernel and back. No I/O, no clock, no environment.

pub mod address;
mod address_set;
pub mod compact;
mod diff;
pub mod evaluate;
mod fingerprint;
mod json;
pub mod known;
pub mod listing;
mod plan;
mod render;
mod statement;
mod table;
mod timed;

pub use address::{Address, AddressRange};
pub use address_set::AddressSet;
pub use known::Flags;
pub use plan::{ApplyError, ElementCount, Operation, Plan, Summary};
pub use statement::{
    Family, Field, Limit, Log, LogTarget, Opaque, Reject, Statement, States, Transport, Value,
    Verdict,
};
pub use table::{
    Base, Chain, Elements, Hook, Interval, KeyType, NameTaken, Policy, Rule, Ruleset, STATE_LENGTH,
    STATE_SET, Set, SetSpec, TABLE, TABLE_COMMENT, Table,
};
pub use timed::{Lifetime, TimedSet};
