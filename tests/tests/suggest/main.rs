//! `tierwall suggest`: the same traffic passes, and nothing else.
//!
//! *The same traffic*: every flow that was denied, and that an allow can say, passes on this server
//! with the suggestions in its policy, as the evaluator walks the compiled table.
//!
//! *Nothing else*: of any other flow, one passes that didn't before if and only if the sample has a
//! flow that says so ([`spec`]): between the same two words (an address in a tier stands for the
//! narrowest tier that holds it, any other for itself, this server for its tier), on the same
//! protocol and port, and where it leaves this server, by the same user; what came in only is about
//! both ends, so it lets this server open the same by anybody.
//!
//! - [`week`]: a week of traffic in an ordinary site
//! - [`proof`]: the two statements above, for random policies and for the week
//! - [`packets`]: from observing to enforcing with the binaries and real packets, and what is printed
//! - [`wire`]: the same with a week of packets

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "other tests take more steps in it")]
#[path = "../world/mod.rs"]
mod world;

mod packets;
mod proof;
mod spec;
mod week;
mod wire;
