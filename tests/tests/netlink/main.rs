//! The netlink crate against the real kernel, in network namespaces of its own.

#![allow(clippy::unwrap_used)]

mod addresses;
mod events;
mod features;
mod fixture;
mod foreign;
mod headers;
mod large;
mod ownership;
mod packet_log;
mod readers;
mod refusals;
mod rights;
mod round_trip;
mod state;
mod survey;
mod timed;
mod transactions;
