//! Connections that are older than the table: real ones, between network namespaces.
//!
//! Every test that shows that connections survive also shows that without adoption they don't.

#![allow(clippy::unwrap_used)]

mod addresses;
mod entries;
mod opening;
mod pair;
mod room;
mod segment;
mod survival;
