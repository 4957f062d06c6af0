//! Who is in the demo, what they try, and what the policy says to that.
//!
//! [`is_allowed`] is the policy read by hand, line by line, apart from the compiler: what the
//! kernel does is compared with it.

use tierwall_tests::service::Service;

/// The policy, the same on every server.
pub(crate) const POLICY: &str = include_str!("../../../scenarios/strict-three-tier/policy.toml");
/// Where it is in the repository.
pub(crate) const POLICY_FILE: &str = "tests/scenarios/strict-three-tier/policy.toml";

/// Where a machine belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Internet,
    Admin,
    Web,
    App,
    Db,
    Backup,
    /// In the servers' subnet, but in no tier.
    Stray,
}

impl Place {
    /// Whether tierwalld runs there.
    pub(crate) fn is_server(self) -> bool {
        matches!(self, Self::Web | Self::App | Self::Db | Self::Backup)
    }
}

/// A machine.
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) address: &'static str,
    pub(crate) place: Place,
}

/// Everybody, in the order of the table.
pub(crate) const MACHINES: &[Machine] = &[
    Machine { name: "internet", address: "203.0.113.7", place: Place::Internet },
    Machine { name: "stray", address: "10.10.1.40", place: Place::Stray },
    Machine { name: "admin", address: "10.10.0.5", place: Place::Admin },
    Machine { name: "web1", address: "10.10.1.10", place: Place::Web },
    Machine { name: "web2", address: "10.10.1.11", place: Place::Web },
    Machine { name: "app1", address: "10.10.1.20", place: Place::App },
    Machine { name: "db1", address: "10.10.1.30", place: Place::Db },
    Machine { name: "backup1", address: "10.10.2.50", place: Place::Backup },
];

/// Who joins in the second act: outside of every tier, until somebody says otherwise. No tierwalld
/// runs there yet.
pub(crate) const NEWCOMER: Machine =
    Machine { name: "web3", address: "10.10.1.41", place: Place::Stray };

/// The policy with the newcomer in the tier of the web servers.
pub(crate) fn policy_with_newcomer() -> String {
    let web = "10.10.1.10-10.10.1.19\"";
    POLICY.replace(web, &format!("{web}, \"{}\"", NEWCOMER.address))
}

/// The policy where somebody took PostgreSQL for a thing of the past.
pub(crate) fn policy_without_postgres() -> String {
    POLICY.replace("[\"tcp/5432\", \"tcp/3306\"]", "\"tcp/3306\"")
}

const SSH: Service = Service::Tcp(22);
const SMTP: Service = Service::Tcp(25);
const HTTP: Service = Service::Tcp(80);
const HTTPS: Service = Service::Tcp(443);
const VEEAM: Service = Service::Tcp(2500);
pub(crate) const POSTGRES: Service = Service::Tcp(5432);
pub(crate) const APP: Service = Service::Tcp(8080);
const DNS: Service = Service::Udp(53);

/// What everybody tries on everybody, with the names of the columns.
pub(crate) const SERVICES: &[(&str, Service)] = &[
    ("ssh", SSH),
    ("http", HTTP),
    ("https", HTTPS),
    ("app", APP),
    ("pgsql", POSTGRES),
    ("veeam", VEEAM),
    ("dns", DNS),
    ("smtp", SMTP),
];

/// Whether a connection is to be open: the sender may open it and the receiver accepts it, as far
/// as tierwalld runs there.
pub(crate) fn is_allowed(from: Place, to: Place, service: Service) -> bool {
    (!from.is_server() || may_open(from, to, service))
        && (!to.is_server() || accepts(to, from, service))
}

fn may_open(from: Place, to: Place, service: Service) -> bool {
    match (from, to) {
        (Place::Web, Place::App) if service == APP => true,
        (Place::App, Place::Db) if service == POSTGRES => true,
        (Place::Db, Place::Backup) if service == VEEAM => true,
        // "minimal egress"
        _ => [DNS, HTTP, HTTPS].contains(&service),
    }
}

fn accepts(to: Place, from: Place, service: Service) -> bool {
    match (from, to) {
        (Place::Admin, _) if service == SSH => true,
        (Place::Web, Place::App) => service == APP,
        (Place::App, Place::Db) => service == POSTGRES,
        (Place::Db, Place::Backup) => service == VEEAM,
        // "public web"
        (_, Place::Web) => [HTTP, HTTPS].contains(&service),
        _ => false,
    }
}
