//! A daemon that runs: what changes around it, and how little of the kernel changes with it.
//!
//! Each test has a `tierwalld` in a network namespace of its own. What the kernel holds is read by
//! `nft`, and what is sent to it is seen by a listener to nftables in the same namespace. Nothing
//! is awaited by time: a condition is polled until it holds, and the limit only ends a failure.

#![allow(clippy::unwrap_used)]

mod advertised;
mod clients;
mod fd_store;
mod fixture;
mod held;
mod listing;
mod members;
mod ownership;
mod remembering;
mod role;
mod smallest;
mod watching;
