//! The role: which tiers this server is in.

use std::collections::BTreeSet;

/// The tiers of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// Names of tiers.
    pub tiers: BTreeSet<String>,
    /// Whether the tiers follow from the server's addresses; accepts then match those addresses.
    pub auto: bool,
}
