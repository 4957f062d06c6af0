//! The lines of `hosts.tsv` and `probes.tsv`.

use crate::service::Service;
use crate::verdict::Verdict;
use anyhow::{Context, Error, Result, bail, ensure};
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

/// A line of `hosts.tsv`.
#[derive(Debug)]
pub(super) struct HostLine {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) is_server: bool,
}

/// A line of `probes.tsv`.
#[derive(Debug)]
pub(super) struct ProbeLine {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) service: Service,
    pub(super) expected: Expectation,
    /// None for root.
    pub(super) user: Option<String>,
}

/// A host, or one of its addresses: `app1`, `app1@10.10.1.20`.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) address: Option<IpAddr>,
}

/// What a new connection must meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expectation {
    Open,
    /// In whatever way.
    Denied,
    /// With an error at once.
    Rejected,
    /// With silence, or with EPERM where the sender's own output chain dropped it.
    Dropped,
}

impl Expectation {
    pub(super) fn is_met_by(self, verdict: Verdict) -> bool {
        match (self, verdict) {
            (Self::Open, verdict) => verdict == Verdict::Open,
            (Self::Denied, verdict) => matches!(verdict, Verdict::Denied(_)),
            (Self::Rejected, Verdict::Denied(how)) => how.is_prompt(),
            (Self::Dropped, Verdict::Denied(how)) => !how.is_prompt(),
            (Self::Rejected | Self::Dropped, _) => false,
        }
    }
}

impl FromStr for Expectation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "open" => Ok(Self::Open),
            "denied" => Ok(Self::Denied),
            "denied:reject" => Ok(Self::Rejected),
            "denied:drop" => Ok(Self::Dropped),
            _ => bail!("`{text}` is neither open, denied, denied:reject nor denied:drop"),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Denied => "denied",
            Self::Rejected => "denied:reject",
            Self::Dropped => "denied:drop",
        })
    }
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.split_once('@') {
            None => Self { host: text.into(), address: None },
            Some((host, address)) => {
                Self { host: host.into(), address: Some(address.parse().context("bad address")?) }
            }
        })
    }
}

/// Reads `hosts.tsv`.
pub(super) fn read_hosts(path: &Path) -> Result<Vec<HostLine>> {
    let hosts = read_lines(path, |_, columns| {
        let [name, addresses, is_server] = columns else {
            bail!("expected name, addresses and yes or no");
        };
        let addresses: Result<Vec<IpAddr>, _> = addresses.split(',').map(str::parse).collect();
        let is_server = match *is_server {
            "yes" => true,
            "no" => false,
            other => bail!("`{other}` is neither yes nor no"),
        };
        Ok(HostLine {
            name: (*name).into(),
            addresses: addresses.context("bad address")?,
            is_server,
        })
    })?;
    ensure!(
        hosts.iter().any(|host| host.is_server),
        "no host of {} runs tierwalld",
        path.display()
    );
    Ok(hosts)
}

/// Reads `probes.tsv`, and checks that its hosts and addresses are among `hosts`.
pub(super) fn read_probes(path: &Path, hosts: &[HostLine]) -> Result<Vec<ProbeLine>> {
    let place = |text: &str| -> Result<Place> {
        let place: Place = text.parse()?;
        let host = hosts.iter().find(|host| host.name == place.host);
        let host = host.with_context(|| format!("no host is called `{}`", place.host))?;
        let known = place.address.is_none_or(|address| host.addresses.contains(&address));
        ensure!(known, "{} has no such address: {text}", host.name);
        Ok(place)
    };
    let probes = read_lines(path, |number, columns| {
        let ([from, to, service, expected], user) = match columns {
            [from, to, service, expected] => ([from, to, service, expected], "root"),
            [from, to, service, expected, user] => ([from, to, service, expected], *user),
            _ => bail!("expected from, to, service, verdict and perhaps a user"),
        };
        Ok(ProbeLine {
            number,
            from: place(from)?,
            to: place(to)?,
            service: service.parse()?,
            expected: expected.parse()?,
            user: (user != "root").then(|| user.into()),
        })
    })?;
    ensure!(!probes.is_empty(), "{} has no probes", path.display());
    Ok(probes)
}

/// The tab-separated lines of a file, but for empty ones and those that start with `#`.
fn read_lines<T>(path: &Path, parse: impl Fn(usize, &[&str]) -> Result<T>) -> Result<Vec<T>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            let columns: Vec<&str> = line.split('\t').collect();
            parse(number, &columns).with_context(|| format!("{}:{number}", path.display()))
        })
        .collect()
}
