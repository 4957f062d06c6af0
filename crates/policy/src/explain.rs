//! What becomes of a new connection, end by end: which allow lets it through, or what is missing.
//!
//! A question names two parties, and each may be many addresses. They are cut into pieces that no
//! tier and no literal of the policy divides, so that one address of a piece stands for all; then
//! each end's compiled table is walked for each pair ([`Judge`](crate::Judge)). Answers are thus those of the
//! kernel, for every member, and the policy isn't read a second time here.

mod walk;

use crate::addresses::Addresses;
pub use crate::judge::Fate;
use crate::missing::Missing;
use crate::model::{Allow, Policy, Service};
pub use crate::question::{Party, Question};
use crate::reach::Direction;
use crate::role::Role;
use std::collections::BTreeMap;
use walk::Explainer;

/// The server that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The tiers it is in.
    pub role: Role,
    /// Its own addresses.
    pub addresses: Addresses,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation<'p> {
    /// Both ends: the asked server's first, if it is one of them, and otherwise the sender's.
    pub ends: [End<'p>; 2],
}

/// One end of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End<'p> {
    /// Which side of that server sees it.
    pub direction: Direction,
    /// Whether that is the server that was asked.
    pub is_here: bool,
    /// One where all is the same, else one for each that differs.
    pub answers: Vec<Answer<'p>>,
}

/// What becomes of the connection between these addresses on these services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<'p> {
    /// Of those who open it, these.
    pub from: Addresses,
    /// To these.
    pub to: Addresses,
    /// On these.
    pub service: Service,
    /// The verdict and its ground.
    pub verdict: Verdict<'p>,
    /// What is missing, of what no allow lets through.
    pub missing: Option<Missing<'p>>,
}

/// The verdict at one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict<'p> {
    /// What becomes of it.
    pub fate: Fate,
    /// What says so.
    pub ground: Ground<'p>,
}

/// What says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ground<'p> {
    /// An allow.
    Allow(&'p Allow),
    /// A built-in rule, by its name in the kernel's listing.
    BuiltIn(String),
    /// No allow names it.
    Closing,
    /// The side isn't filtered: its mode is off.
    Unfiltered,
    /// The address is in no tier: this policy says nothing of such a host.
    NoServer,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// A tier without members, or a server without addresses.
    #[error("{0} has no address")]
    NoAddress(String),
    /// One has IPv4 addresses only, the other IPv6.
    #[error("{0} and {1} have no address family in common")]
    NoCommonFamily(String, String),
    /// `any`
    #[error("no connection is on every service at once")]
    AnyService,
    /// Neither party is in a tier.
    #[error("neither {0} nor {1} is a server of this policy")]
    Strangers(String, String),
}

impl ExplainError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoAddress(_) => "name one that has: --from and --to take addresses too",
            Self::NoCommonFamily(..) => "they can't talk to each other, whatever the policy says",
            Self::AnyService => "name one, such as tcp/443; `tierwall who-can` lists all",
            Self::Strangers(..) => "ask about an address in a tier, a tier, or self",
        }
    }
}

impl Policy {
    /// What becomes of a connection, as `server` and the servers at its other end see it. `users`
    /// are the ids of users by name, at every end.
    ///
    /// # Errors
    /// Where there is no such connection.
    pub fn explain<'p>(
        &'p self,
        server: &Server,
        users: &BTreeMap<String, u32>,
        question: &Question,
    ) -> Result<Explanation<'p>, ExplainError> {
        Explainer::new(self, server, users, question)?.explain()
    }
}

impl End<'_> {
    /// Whether no server of the policy is there.
    pub fn is_nobodys(&self) -> bool {
        self.answers.iter().all(|answer| answer.verdict.ground == Ground::NoServer)
    }
}

impl Explanation<'_> {
    /// Whether none, some or all of it gets through both ends: the worst fate, and the best.
    pub fn fates(&self) -> (Fate, Fate) {
        // Of two ends the worse one decides; what differs by member is told as such.
        let worst = |end: &End<'_>| end.answers.iter().map(|answer| answer.verdict.fate).max();
        let best = |end: &End<'_>| end.answers.iter().map(|answer| answer.verdict.fate).min();
        let worst = self.ends.iter().filter_map(worst).max();
        let best = self.ends.iter().filter_map(best).max();
        (worst.unwrap_or(Fate::Allowed), best.unwrap_or(Fate::Allowed))
    }
}
