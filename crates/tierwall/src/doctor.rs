//! `tierwall doctor`: what on this host stands in tierwall's way, or beside it.
//!
//! ```text
//! observe ─► Facts ─► one check a group, each a function of plain values ─► Finding ─► Report
//! ```
//!
//! It needs neither the daemon nor a policy, changes nothing and runs no program. What it couldn't
//! look at, it says. Each finding has an id, under which `docs/doctor.md` tells more.

mod chains;
mod clock;
mod conntrack;
mod daemon;
mod facts;
mod files;
mod finding;
mod firewalls;
mod forwarding;
mod kernel;
mod listeners;
mod observe;
mod policy;
mod product;
mod release;
mod show;
mod spoofing;
mod sysctl;
#[cfg(test)]
mod testing;
mod walk;

use crate::error::Error;
use crate::options::{Common, Doctor};
use crate::output::{print, print_json};
use daemon::Traces;
use facts::Facts;
use netlink::survey::Family;
use show::Report;

pub(crate) use chains::beside;

pub(crate) fn run(common: &Common, options: &Doctor) -> Result<u8, Error> {
    if options.sysctl && common.json {
        let hint = Some("leave --json away: what is printed is a file for /etc/sysctl.d".into());
        return Err(Error::Question("there is no JSON of --sysctl".into(), hint));
    }
    if options.sysctl {
        print(sysctl::SHIPPED)?;
        return Ok(control::exit::OK);
    }
    let facts = observe::observe(common, options)?;
    let report = examine(&facts, &common.config.display().to_string());
    match common.json {
        true => print_json(&report.as_json())?,
        false => print(&report.as_text())?,
    }
    Ok(if report.is_bad() { control::exit::FINDINGS } else { control::exit::OK })
}

/// Everything that is to be said of the facts. `file` is the policy file.
fn examine(facts: &Facts, file: &str) -> Report {
    let Facts { kernel, survey, services, links, sysctls, policy, .. } = facts;
    let mut findings = kernel::check(kernel);
    let mut by_rule = walk::ReversePath::default();
    if let Some(survey) = survey {
        findings.extend(firewalls::check(survey, services));
        findings.extend(chains::check(survey, policy));
        by_rule = chains::reverse_path(survey);
    }
    findings.extend(policy::check(policy, file));
    findings.extend(policy::check_role(policy));
    findings.extend(files::check(&facts.paths));
    let traces = Traces {
        table: survey.as_ref().is_some_and(|survey| survey.is_ours(Family::Inet, ruleset::TABLE)),
        enabled: services.enabled.contains("tierwalld.service"),
    };
    findings.extend(daemon::check(&facts.daemon, traces));
    findings.extend(forwarding::check(sysctls, links, policy));
    findings.extend(conntrack::check(kernel));
    findings.extend(spoofing::check(sysctls, links, policy, by_rule));
    findings.extend(sysctl::check(sysctls, links));
    findings.extend(clock::check(&facts.clock));
    findings.extend(listeners::check(&facts.listeners));
    let mut not_judged = facts.not_judged.clone();
    if policy.says().is_none() {
        not_judged.push(
            "how forwarding and other chains meet the policy: there is none that can be read"
                .into(),
        );
    }
    Report::new(findings, not_judged)
}
