//! What somebody asks about: a new connection.

use crate::addresses::Addresses;
use crate::model::Service;

/// One side of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    /// The server that is asked.
    Here,
    /// A tier that exists.
    Tier(String),
    /// Addresses, by what somebody called them.
    Addresses {
        /// As it was asked.
        name: String,
        /// At least one.
        addresses: Addresses,
    },
}

/// A new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who opens it.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// On what. ICMP means an echo request, of either family.
    pub service: Service,
    /// By whose program; none is a user whom no allow names.
    pub user: Option<u32>,
}
