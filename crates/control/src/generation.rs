//! What is said of generations: the policies that were committed on this server, one after the
//! other, and the one that waits to be confirmed.

use crate::after_change::DenialRates;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A TCP connection, as `SSH_CONNECTION` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Connection {
    /// The other end.
    pub peer: SocketAddr,
    /// This server's end.
    pub local: SocketAddr,
}

/// Who asked for a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// The user it runs as, as the kernel says.
    pub uid: u32,
    /// The process, as the kernel says.
    pub pid: u32,
    /// Its name then; empty where that isn't known.
    pub process: String,
    /// The user who logged in (`/proc/PID/loginuid`), whoever they became since.
    pub login: Option<u32>,
    /// Whether the name and the login are by its own word, since they couldn't be looked up.
    #[serde(default)]
    pub claimed: bool,
}

/// A policy that was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number, counted on this server from 1.
    pub number: u64,
    /// When it was committed, in seconds since the epoch.
    pub time: u64,
    /// Why: `start`, `reload`, …
    pub reason: String,
    /// Who asked for it; none where nobody did.
    pub by: Option<Requester>,
    /// What it meant, a line each: the first of them.
    pub changes: Vec<ChangeLine>,
    /// What was edited in the policy, a line each: the first of them.
    pub edits: Vec<String>,
    /// How many more lines there were of both.
    pub more: usize,
    /// Whether it was forced against the lockout guard.
    pub forced: bool,
    /// What became of it where it had to be confirmed.
    pub confirmation: Option<Confirmation>,
    /// The generation that it went back to.
    pub back_to: Option<u64>,
    /// Whether somebody rolled back from it.
    pub rolled_back: bool,
}

/// What became of a change that had to be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmation {
    /// It waits.
    Waiting,
    /// Somebody showed that they can get in.
    Confirmed,
    /// Somebody insisted.
    Forced,
    /// Nobody did in time, somebody went back, or too much was denied.
    Reverted,
    /// Another change took its place before.
    Replaced,
}

/// A generation in the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// What is known of it.
    #[serde(flatten)]
    pub generation: Generation,
    /// Whether it is the one that is enforced.
    pub current: bool,
    /// Whether its policy is kept, so that there is a way back to it.
    pub kept: bool,
    /// Denials before it and in it; none of a generation of an earlier run of the daemon.
    #[serde(default)]
    pub denials: Option<DenialRates>,
}

/// What differs between two generations on this server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// From this generation,
    pub from: u64,
    /// to that one.
    pub to: u64,
    /// What the step means, a line each, members aside.
    pub changes: Vec<ChangeLine>,
    /// What differs in the policy, a line each, members aside.
    pub edits: Vec<String>,
    /// How many addresses the tiers of both gain and lose.
    pub members: Vec<MemberDifference>,
}

/// What a tier gains and loses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDifference {
    /// Its name.
    pub tier: String,
    /// Addresses that it gains, however they are written; none if they are more than anybody counts,
    /// as a /64 is.
    pub gained: Option<u64>,
    /// Those that it loses.
    pub lost: Option<u64>,
}

/// A change that waits to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The generation that waits.
    pub generation: u64,
    /// The one that is gone back to unless it is confirmed.
    pub back_to: u64,
    /// Whether what is rolled back to denies nothing: nothing was enforced before, or the table was
    /// taken away.
    #[serde(default)]
    pub observes: bool,
    /// When that is, in seconds since the epoch.
    pub until: u64,
    /// Why the change was made.
    pub reason: String,
    /// Who asked for it.
    pub by: Option<Requester>,
    /// The addresses of the sessions that were guarded at the commit: from one of them a new
    /// connection has to come. Where there is none, a plain `confirm` does.
    pub from: Vec<std::net::IpAddr>,
}

/// Why the policy files aren't what is enforced and aren't applied by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldBack {
    /// They would have locked somebody out.
    Refused,
    /// Nobody confirmed them in time, or they made denied what was let through before.
    Reverted,
    /// Somebody rolled back from them.
    RolledBack,
}

/// That the policy files aren't what is enforced, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differs {
    /// The kind of reason.
    pub kind: HeldBack,
    /// A sentence.
    pub why: String,
    /// Since when, in seconds since the epoch.
    pub since: u64,
}

/// One consequence of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLine {
    /// Whether more passes than before, or less.
    pub more: bool,
    /// A sentence.
    pub text: String,
}
