//! nftables over netlink: carries the values of the ruleset crate to the kernel as one atomic
//! batch, and reads the kernel's table back into the same values.
//!
//! ```text
//! Plan ─ Batch::encode ─► bytes ─ Connection::commit ─► kernel ─ Connection::dump ─► Ruleset
//!                                                      └─ Events::read ─► Transaction
//! ```
//!
//! Who may change the table is said with each commit ([`Hold`]). What others change is told by
//! [`Events`], and whether it still is what was committed by [`Connection::summary`].
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
//! The socket of an earlier process can be gone on with ([`inherited`]), so that the table stays owned.
//! Tables of others are read into a [`Listing`](ruleset::listing::Listing) by `listing`, which
//! knows more forms of rules than ours have.
//!
//! Beside the table, what its first enforcement and the role by address need: this host's TCP sockets
//! (`tcp`), connection tracking (`conntrack`), which is told of them by `adopt`, and this host's
//! addresses (`address`) with notice of their changes (`address_events`). And what is asked before
//! tierwall is put to work: what others have on the same hooks ([`survey`], and `legacy` for the old iptables), which interfaces there
//! are (`link`), and whether the clock is right (`clock`).
//!
//! What rules log is read from an NFLOG group (`packet_log`), packets by their first bytes
//! (`headers`). Live packets are followed rule by rule by `trace`, with a table of its own that
//! vanishes with its socket, and `rules` says which rules those are.
//!
//! Invariants: one commit is one datagram; nothing is reported as committed before the kernel
//! acknowledged it; no bytes from the kernel make this crate panic; no handle of a C library
//! leaves it.

#![allow(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks)]

mod accepted;
mod address;
mod address_events;
mod adopt;
#[cfg(test)]
mod arbitrary;
mod attribute;
mod batch;
mod change;
mod clock;
mod collect;
mod commit;
mod connection;
mod conntrack;
mod dump;
mod element;
mod error;
mod events;
mod expression;
mod flow;
mod headers;
mod inherited;
mod kernel_module;
mod lease;
mod legacy;
mod lift;
mod link;
mod listing;
mod lower;
mod memory;
mod message;
mod object;
mod ownership;
mod packet_log;
mod probe;
mod readiness;
mod refusal;
mod rule;
mod rules;
mod set;
mod socket;
mod state;
mod summary;
pub mod survey;
mod table;
mod tcp;
#[cfg(test)]
mod tests;
pub mod trace;
mod uapi;
mod userdata;

pub use accepted::tcp_accepted;
pub use address::{HostAddress, addresses, host_addresses};
pub use address_events::AddressEvents;
pub use adopt::{AdoptError, Adopted, adopt_connections};
pub use batch::{Batch, Terms};
pub use change::{Change, Object};
pub use clock::clock_is_synchronised;
pub use commit::Committed;
pub use connection::{Connection, Generation};
pub use conntrack::{Conntrack, Insertion, Usage};
pub use dump::{Handles, KernelTable};
pub use error::{CommitError, EncodeError, Error};
pub use events::{Events, EventsError, Transaction};
pub use flow::{End, Entry, Flow, Stage, Tuple};
pub use headers::Headers;
pub use inherited::inherited;
pub use kernel_module::{KernelModule, kernel_modules};
pub use lease::is_open_for_writing;
pub use legacy::{LegacyTable, legacy_tables};
pub use link::{Link, links};
pub use memory::{give_back, give_back_large_buffers};
pub use ownership::{Hold, Ownership};
pub use packet_log::{LoggedPacket, PacketLog, PacketLogError};
pub use probe::Features;
pub use readiness::Readiness;
pub use refusal::{Place, Refusal, Verb};
pub use rules::{AllRules, ChainRules, TableRules};
pub use summary::TableSummary;
pub use tcp::{
    Listeners, TcpListener, TcpSocket, TcpState, tcp_listeners, tcp_listening, tcp_sockets,
    tcp_sockets_on,
};
