//! Which tiers a server is in: what the file says, or what follows from its addresses.
//!
//! Everything here is a function of the policy and of what the caller knows of a server, so that
//! a policy can be judged for any server, from anywhere.

use crate::diagnostic::{Diagnostic, Diagnostics, Label};
use crate::model::{Policy, RoleSetting, Tier};
use crate::name;
use crate::quoting::quote;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// A server's part in the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// The tiers it is in. Empty if none holds an address of it that counts: `"*"` still means it.
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

/// One of a server's own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostAddress {
    /// The address.
    pub address: IpAddr,
    /// Who chose it.
    pub origin: Origin,
}

/// Who chose an address of a server, as far as the kernel knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Somebody who administers the server: it is there for good.
    Set,
    /// Somebody in the network gave it for a time, all of its bits, as DHCP does.
    Leased,
    /// Perhaps a neighbour chose its first bits, by a router advertisement.
    Advertised,
}

/// An address that was set.
impl From<IpAddr> for HostAddress {
    fn from(address: IpAddr) -> Self {
        Self { address, origin: Origin::Set }
    }
}

impl Origin {
    /// What follows from the kernel's word on an address. Somebody set it if it `is_permanent`, which
    /// an address with an infinite lifetime is; but not if it `shows_advertisement`: by a lifetime, by
    /// the protocol that it came by, or by temporary addresses that are made from it. An IPv6 address
    /// of 128 bits isn't made from a prefix.
    pub fn of(
        address: IpAddr,
        prefix_length: u8,
        is_permanent: bool,
        shows_advertisement: bool,
    ) -> Self {
        let has_prefix = address.is_ipv6() && prefix_length != 128;
        match (has_prefix, is_permanent, shows_advertisement) {
            (true, true, false) | (false, true, _) => Self::Set,
            (true, ..) => Self::Advertised,
            (false, ..) => Self::Leased,
        }
    }
}

/// The role of a server with these addresses.
pub fn role_of(policy: &Policy, addresses: &[HostAddress]) -> Role {
    match &policy.role {
        RoleSetting::Auto => {
            let tiers = policy
                .tiers
                .iter()
                .filter(|(_, tier)| addresses.iter().any(|address| grants(tier, *address)));
            Role { tiers: tiers.map(|(name, _)| name.clone()).collect(), auto: true }
        }
        RoleSetting::AutoAny => Role { tiers: tiers_of(policy, &plain(addresses)), auto: true },
        RoleSetting::Tiers { tiers, .. } => Role { tiers: tiers.clone(), auto: false },
    }
}

/// What there is to say of the role of a server with these addresses: a warning where it is in no
/// tier, where a tier holds an address of it that doesn't count, since a neighbour may have chosen
/// it, and where the file names a tier that holds none of its addresses.
///
/// Without addresses nothing can be said of a role that the file names. A policy without tiers
/// leaves no tier to be in.
pub fn check_role(policy: &Policy, role: &Role, addresses: &[HostAddress]) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    if policy.role == RoleSetting::Auto {
        diagnostics
            .extend(addresses.iter().flat_map(|address| not_counted(policy, role, *address)));
    }
    match &policy.role {
        RoleSetting::Tiers { tiers, location } => {
            let addresses = plain(addresses);
            let tiers = tiers.iter().filter_map(|name| Some((name, policy.tiers.get(name)?)));
            for (name, tier) in tiers.filter(|_| !addresses.is_empty()) {
                if addresses.iter().any(|address| holds(tier, *address)) {
                    continue;
                }
                let message = format!(
                    "the tier {} holds no address of this server: {}",
                    quote(name),
                    list(&addresses)
                );
                let label = Label::at(location.clone(), "");
                let hint = "other servers don't know it as one of that tier: add its address, or set another role";
                let diagnostic = Diagnostic::warning("foreign-role", label, message)
                    .related(Label::at(tier.location.clone(), "the tier"));
                diagnostics.push(diagnostic.hint(hint.to_owned()));
            }
        }
        RoleSetting::Auto | RoleSetting::AutoAny => {
            diagnostics.extend(in_no_tier(policy, role, &plain(addresses)));
        }
    }
    diagnostics
}

/// That a server is in no tier although its policy has some.
fn in_no_tier(policy: &Policy, role: &Role, addresses: &[IpAddr]) -> Option<Diagnostic> {
    if !role.tiers.is_empty() || policy.tiers.is_empty() {
        return None;
    }
    let why = match addresses {
        [] => "it has no address yet".to_owned(),
        _ => format!("its addresses put it into none: {}", list(addresses)),
    };
    let message = format!(
        "this server is in no tier, so only built-in traffic and allows of `*` pass: {why}"
    );
    let hint = "add its address to a tier, or name its tier: role = \"…\"";
    Some(Diagnostic::warning("no-role", None, message).hint(hint.to_owned()))
}

/// That an address of this server lies in a tier and doesn't put the server there.
fn not_counted(policy: &Policy, role: &Role, host: HostAddress) -> Option<Diagnostic> {
    let HostAddress { address, origin: Origin::Advertised } = host else { return None };
    let (name, tier) = policy.tiers.iter().find(|(name, tier)| {
        !role.tiers.contains(*name) && holds(tier, address) && !grants(tier, host)
    })?;
    let name = quote(name);
    let message = format!(
        "{address} lies in the tier {name} and doesn't put this server into it: any neighbour may \
         have announced its prefix"
    );
    let hint = "name this server's tiers in a file: role = { file = \"/etc/tierwall/role\" }; or add \
                this very address to the tier";
    let label = Label::at(tier.location.clone(), "");
    Some(Diagnostic::warning("advertised-address", label, message).hint(hint.to_owned()))
}

/// How many addresses a range of IPv6 may hold to count as single addresses. Single addresses that
/// are next to each other are one range, as in [`AddressSet`](ruleset::AddressSet).
const FEW: u128 = 256;

/// Whether an address of a server puts it into a tier. A neighbour who announces a prefix chooses the
/// first half of an IPv6 address and not the second, so it can't meet a single one.
fn grants(tier: &Tier, host: HostAddress) -> bool {
    match (host.address.to_canonical(), host.origin) {
        (IpAddr::V6(address), Origin::Advertised) => tier
            .v6
            .range_with(address)
            .is_some_and(|range| range.last.to_bits() - range.first.to_bits() < FEW),
        (address, _) => holds(tier, address),
    }
}

/// The tiers that a server is in only by addresses that somebody in the network gave it, each with
/// such an address: whoever is on its link may answer in place of the one who should.
pub fn roles_by_network<'p>(
    policy: &'p Policy,
    addresses: &[HostAddress],
) -> Vec<(&'p str, IpAddr)> {
    let role = role_of(policy, addresses);
    let tiers = policy.tiers.iter().filter(|(name, _)| role.auto && role.tiers.contains(*name));
    let given = tiers.filter_map(|(name, tier)| {
        let mut holding = addresses.iter().filter(|host| holds(tier, host.address));
        let first = holding.clone().next()?;
        let is_given = holding.all(|host| host.origin != Origin::Set);
        is_given.then_some((name.as_str(), first.address))
    });
    given.collect()
}

fn plain(addresses: &[HostAddress]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.address).collect()
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
