//! The same probes without a network: what `explain` says of each on the sending and on the
//! receiving server is what its line says.

use super::Scenario;
use super::files::{Expectation, HostLine, ProbeLine};
use crate::service::Service;
use anyhow::{Context, Result, ensure};
use nix::unistd::User;
use policy::explain::{Answer, Fate, Ground, Party, Question, Server};
use policy::{Addresses, Direction, HostAddress, Policy, load, load_text, role_of};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

/// One connection between two addresses.
pub(super) struct Asked<'a> {
    pub(super) probe: &'a ProbeLine,
    pub(super) source: IpAddr,
    pub(super) target: IpAddr,
}

/// What one end does with it.
pub(super) struct Explained {
    pub(super) fate: Fate,
    /// What says so: the place of an allow, or in words.
    pub(super) ground: String,
    /// An allow that would let it through.
    missing: Option<String>,
}

impl Scenario {
    /// Asks for every probe, and for what is denied also whether the allow that is said to be
    /// missing lets it through. Returns how many were asked for.
    ///
    /// # Errors
    /// For the first that is explained otherwise than its line says.
    pub fn explained(&self) -> Result<usize> {
        let file = self.directory.join("policy.toml");
        let options = policy::Options { check_permissions: false, ..policy::Options::default() };
        let policy = load(&file, &options).policy.context("a policy with errors")?;
        let text = fs::read_to_string(&file)?;
        let mut count = 0;
        for probe in &self.probes {
            for asked in self.asked(probe)? {
                count += 1;
                let place =
                    format!("probes.tsv:{} {} -> {}", probe.number, asked.source, asked.target);
                let (fates, missing) = self.fates(&policy, &asked).context(place.clone())?;
                ensure!(
                    as_expected(probe.expected, &fates),
                    "{place}: {:?} explained as {fates:?}",
                    probe.expected
                );
                let Some(allow) = missing else { continue };
                let more = format!("{text}\n{allow}");
                let mended = load_text(&file, more, &options).policy;
                let mended = mended.with_context(|| format!("{place}: no allow:\n{allow}"))?;
                let (fates, _) = self.fates(&mended, &asked)?;
                ensure!(
                    as_expected(Expectation::Open, &fates),
                    "{place}: still {fates:?} with\n{allow}"
                );
            }
        }
        Ok(count)
    }

    pub(super) fn host(&self, name: &str) -> Result<&HostLine> {
        self.hosts.iter().find(|host| host.name == name).context("an unknown host")
    }

    /// As the network would try it: over each family that both have, unless an address is named.
    fn asked<'a>(&self, probe: &'a ProbeLine) -> Result<Vec<Asked<'a>>> {
        let (from, to) = (self.host(&probe.from.host)?, self.host(&probe.to.host)?);
        let mut asked = Vec::new();
        for ipv4 in [true, false] {
            let fits = |address: &&IpAddr| address.is_ipv4() == ipv4;
            let source = probe.from.address.as_ref().or(from.addresses.iter().find(fits));
            let target = probe.to.address.as_ref().or(to.addresses.iter().find(fits));
            if let (Some(&source), Some(&target)) = (source.filter(fits), target.filter(fits)) {
                asked.push(Asked { probe, source, target });
            }
        }
        Ok(asked)
    }

    /// What becomes of it at each end that runs tierwalld, the sender's first, and the allow that
    /// is missing.
    fn fates(&self, policy: &Policy, asked: &Asked<'_>) -> Result<(Vec<Fate>, Option<String>)> {
        let (mut fates, mut allow) = (Vec::new(), None);
        for (direction, name) in
            [(Direction::Output, &asked.probe.from.host), (Direction::Input, &asked.probe.to.host)]
        {
            let host = self.host(name)?;
            if !host.is_server {
                continue;
            }
            let explained = explain(policy, host, asked, direction)?;
            fates.push(explained.fate);
            allow = allow.or(explained.missing);
        }
        Ok((fates, allow))
    }
}

/// What `host` does with it, and the allow that it misses.
pub(super) fn explain(
    policy: &Policy,
    host: &HostLine,
    asked: &Asked<'_>,
    direction: Direction,
) -> Result<Explained> {
    let own = host.addresses.iter().copied().map(Addresses::single).collect();
    let set: Vec<HostAddress> = host.addresses.iter().map(|address| (*address).into()).collect();
    let server = Server { role: role_of(policy, &set), addresses: own };
    let party = |address: IpAddr| Party::Addresses {
        name: address.to_string(),
        addresses: Addresses::single(address),
    };
    let uid = |name: &str| -> Result<u32> {
        Ok(User::from_name(name)?.with_context(|| format!("no user {name}"))?.uid.as_raw())
    };
    let mut users = BTreeMap::new();
    for user in policy.allows.iter().flat_map(|allow| &allow.users) {
        if let policy::model::User::Name { name, .. } = user {
            users.insert(name.clone(), uid(name)?);
        }
    }
    let user = asked.probe.user.as_deref().unwrap_or("root");
    let question = Question {
        from: party(asked.source),
        to: party(asked.target),
        service: service(asked.probe.service)?,
        user: Some(uid(user)?),
    };
    let explanation = policy.explain(&server, &users, &question)?;
    let ends: Vec<_> = explanation.ends.iter().filter(|end| end.is_here).collect();
    let [end] = &ends[..] else { anyhow::bail!("{} ends are {}", ends.len(), host.name) };
    ensure!(end.direction == direction, "{} is asked for its {}", host.name, end.direction);
    let [answer] = &end.answers[..] else { anyhow::bail!("several answers: {end:?}") };
    let ground = match &answer.verdict.ground {
        Ground::Allow(allow) => allow.location.to_string(),
        Ground::BuiltIn(name) => name.clone(),
        Ground::Closing => "closing".into(),
        Ground::Unfiltered => "off".into(),
        Ground::NoServer => "no server".into(),
    };
    let missing = missing_allow(policy, answer, user);
    Ok(Explained { fate: answer.verdict.fate, ground, missing })
}

fn missing_allow(policy: &Policy, answer: &Answer<'_>, user: &str) -> Option<String> {
    let missing = answer.missing.as_ref().filter(|_| answer.verdict.fate.is_denied())?;
    missing.to_toml(policy, Some(user))
}

fn service(service: Service) -> Result<policy::model::Service> {
    Ok(service.to_string().parse::<policy::model::Service>()?)
}

/// Whether a probe that passes these ends meets what its line says.
fn as_expected(expected: Expectation, fates: &[Fate]) -> bool {
    // What the sender's end denies nobody else sees.
    let denied = fates.iter().find(|fate| fate.is_denied());
    match (expected, denied) {
        (Expectation::Open, denied) => denied.is_none(),
        (Expectation::Denied, denied) => denied.is_some(),
        (Expectation::Rejected, Some(Fate::Refused(_)))
        | (Expectation::Dropped, Some(Fate::Dropped)) => true,
        (Expectation::Rejected | Expectation::Dropped, _) => false,
    }
}
