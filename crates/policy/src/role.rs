//! Which tiers a server is in: what the file says, or what follows from its addresses.
//!
//! Everything here is a function of the policy and of what the caller knows of a server, so that
//! a policy can be judged for any server, from anywhere.

use crate::diagnostic::{Diagnostic, Diagnostics, Label, quote};
use crate::model::{Policy, RoleSetting, Tier};
use crate::name;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// A server's part in the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// The tiers it is in. Empty where no tier holds its addresses: `"*"` still means it.
    pub tiers: BTreeSet<String>,
    /// Whether they follow from its addresses. An accept then also matches the address of this
    /// server that the tier holds.
    pub auto: bool,
}

/// The tiers, joined by commas.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tiers.is_empty() {
            true => f.write_str("no tier"),
            false => f.write_str(&Vec::from_iter(self.tiers.iter().map(String::as_str)).join(",")),
        }
    }
}

/// Why `--as` names no server of this policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AsError {
    /// An address that no tier holds.
    #[error("no tier holds {}", list(.addresses))]
    InNoTier {
        /// The addresses, of a host or given as such.
        addresses: Vec<IpAddr>,
    },
    /// Neither a tier nor a host.
    #[error("{} is neither a tier nor a host with an address", quote(.name))]
    Unknown {
        /// The name.
        name: String,
        /// The tier that is most like it.
        closest: Option<String>,
    },
    /// One of several names is no tier.
    #[error("no tier is named {}", quote(.name))]
    UnknownTier {
        /// The name.
        name: String,
        /// The tier that is most like it.
        closest: Option<String>,
    },
}

impl AsError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InNoTier { .. } => Some("add the address to a tier, or name a tier".into()),
            Self::Unknown { closest, .. } | Self::UnknownTier { closest, .. } => {
                Some(match closest {
                    Some(closest) => format!("did you mean {}?", quote(closest)),
                    None => "name a tier, several joined by commas, an address or a host".into(),
                })
            }
        }
    }
}

impl Role {
    /// The server that somebody names: tiers joined by commas, an address, or a host, whose
    /// addresses `resolve` finds (none for an unknown one). An address's tiers are those that hold
    /// it, whatever role the file sets.
    pub fn parse_as(
        policy: &Policy,
        text: &str,
        resolve: impl Fn(&str) -> Vec<IpAddr>,
    ) -> Result<Self, AsError> {
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        let closest = |name: &str| closest_tier(policy, name).map(str::to_owned);
        let unknown = names.iter().find(|name| !policy.tiers.contains_key(**name));
        let Some(name) = unknown else {
            let tiers = names.into_iter().map(str::to_owned).collect();
            return Ok(Self { tiers, auto: false });
        };
        if names.len() > 1 {
            let (name, closest) = ((*name).to_owned(), closest(name));
            return Err(AsError::UnknownTier { name, closest });
        }
        let addresses = match name.parse() {
            Ok(address) => vec![address],
            Err(_) if name.is_empty() => Vec::new(),
            Err(_) => resolve(name),
        };
        if addresses.is_empty() {
            let (name, closest) = ((*name).to_owned(), closest(name));
            return Err(AsError::Unknown { name, closest });
        }
        let tiers = tiers_of(policy, &addresses);
        match tiers.is_empty() {
            true => Err(AsError::InNoTier { addresses }),
            false => Ok(Self { tiers, auto: true }),
        }
    }
}

/// The tier whose name is most like `name`, if one is like it at all.
pub fn closest_tier<'p>(policy: &'p Policy, name: &str) -> Option<&'p str> {
    name::closest(name, policy.tiers.keys().map(String::as_str))
}

/// The role of a server with these addresses.
pub fn role_of(policy: &Policy, addresses: &[IpAddr]) -> Role {
    match &policy.role {
        RoleSetting::Auto => Role { tiers: tiers_of(policy, addresses), auto: true },
        RoleSetting::Tiers { tiers, .. } => Role { tiers: tiers.clone(), auto: false },
    }
}

/// What is wrong with the role of a server with these addresses: an error where `auto` finds no
/// tier, a warning where the file names a tier that holds none of them.
///
/// Without addresses nothing can be said of a role that the file names.
pub fn check_role(policy: &Policy, addresses: &[IpAddr]) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    match &policy.role {
        RoleSetting::Auto if tiers_of(policy, addresses).is_empty() => {
            let message = match addresses {
                [] => "the role is auto, and this server has no address yet".to_owned(),
                _ => format!("no tier holds an address of this server: {}", list(addresses)),
            };
            let hint = "add the address to a tier, or name this server's tier: role = \"…\"";
            let diagnostic = Diagnostic::error("no-role", None, message);
            diagnostics.push(diagnostic.hint(hint.to_owned()));
        }
        RoleSetting::Tiers { tiers, location } if !addresses.is_empty() => {
            for name in tiers {
                let Some(tier) = policy.tiers.get(name) else { continue };
                if addresses.iter().any(|address| holds(tier, *address)) {
                    continue;
                }
                let message = format!(
                    "the tier {} holds no address of this server: {}",
                    quote(name),
                    list(addresses)
                );
                let label = Label::at(location.clone(), "");
                let hint = "other servers don't know it as one of that tier: add its address, or set another role";
                let diagnostic = Diagnostic::warning("foreign-role", label, message)
                    .related(Label::at(tier.location.clone(), "the tier"));
                diagnostics.push(diagnostic.hint(hint.to_owned()));
            }
        }
        _ => {}
    }
    diagnostics
}

pub(crate) fn tiers_of(policy: &Policy, addresses: &[IpAddr]) -> BTreeSet<String> {
    let holding = policy
        .tiers
        .iter()
        .filter(|(_, tier)| addresses.iter().any(|address| holds(tier, *address)));
    holding.map(|(name, _)| name.clone()).collect()
}

fn holds(tier: &Tier, address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => tier.v4.contains(address),
        IpAddr::V6(address) => tier.v6.contains(address),
    }
}

/// Addresses for a message: the first few.
fn list(addresses: &[IpAddr]) -> String {
    const SHOWN: usize = 6;
    let mut text =
        addresses.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if addresses.len() > SHOWN {
        text = format!("{text} and {} more", addresses.len() - SHOWN);
    }
    text
}
