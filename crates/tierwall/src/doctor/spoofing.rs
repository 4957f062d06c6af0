//! Forged senders: a tier is a set of source addresses, so who can forge one is in it.

use super::facts::{Policy, Sysctls};
use super::finding::{Finding, Id};
use super::sysctl::{effective, listed};
use super::walk::ReversePath;
use netlink::Link;

/// `rp_filter`: the source must be reached through the interface that the packet came in by.
const STRICT: i64 = 1;

pub(super) fn check(
    sysctls: &Sysctls,
    links: &[Link],
    policy: &Policy,
    by_rule: ReversePath,
) -> Vec<Finding> {
    let links: Vec<&Link> = links.iter().filter(|link| link.up && !link.loopback).collect();
    let mut findings = Vec::new();
    if !by_rule.v4 {
        findings.extend(ipv4(sysctls, &links));
    }
    // Without a policy it may have IPv6 members.
    let has_ipv6 = policy.says().is_none_or(|good| good.has_ipv6);
    if !by_rule.v6 && has_ipv6 && !links.is_empty() {
        findings.push(
            Finding::note(Id::SpoofingIpv6, "the sources of IPv6 packets aren't checked against routes")
                .detail("the kernel has no rp_filter for IPv6: who is on any network of this host can send as a member of a tier, and gets no answer")
                .advice("let the routers in front drop forged sources; /usr/share/doc/tierwall/docs/doctor.md has a rule for a table of your own"),
        );
    }
    findings
}

fn ipv4(sysctls: &Sysctls, links: &[&Link]) -> Option<Finding> {
    let mut lax: Vec<(&str, i64)> = Vec::new();
    for link in links {
        let value = effective(sysctls, "ipv4", &link.name, "rp_filter");
        lax.extend(value.filter(|value| *value != STRICT).map(|value| (link.name.as_str(), value)));
    }
    if lax.is_empty() {
        return None;
    }
    let named = |wanted: fn(i64) -> bool| -> Vec<&str> {
        lax.iter().filter(|(_, value)| wanted(*value)).map(|(name, _)| *name).collect()
    };
    let (off, loose) = (named(|value| value == 0), named(|value| value != 0));
    let mut lines = Vec::new();
    if !off.is_empty() {
        lines.push(format!("rp_filter is off on {}", listed(&off)));
    }
    if !loose.is_empty() {
        lines.push(format!("rp_filter is loose on {}: any way back will do", listed(&loose)));
    }
    let what = "the sources of IPv4 packets aren't checked against routes";
    let finding = if links.len() == 1 {
        // Everything comes in by it, so its routes forbid little.
        Finding::note(Id::SpoofingIpv4, what).details(lines).detail(
            "with one interface only sources that have no route are found out: the network in front has to see to the others",
        )
    } else {
        Finding::warning(Id::SpoofingIpv4, what).details(lines).detail(
            "who is on one network of this host can send as a member of a tier on another, and is let in as one",
        )
    };
    Some(finding.advice(
        "net.ipv4.conf.*.rp_filter = 1, where answers leave by the interface that requests came in by; `tierwall doctor --sysctl` prints it",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::facts::Good;
    use super::super::sysctl::tests::{hardened, links, set};
    use super::*;
    use crate::doctor::testing::told;

    fn policy(has_ipv6: bool) -> Policy {
        Policy::Good(Good { has_ipv6, ..Good::default() })
    }

    const NONE: ReversePath = ReversePath { v4: false, v6: false };

    #[test]
    fn strict_everywhere_is_not_told_and_loopback_does_not_count() {
        let sysctls = hardened(&["eth0", "eth1"]);
        let findings = check(&sysctls, &links(&["lo", "eth0", "eth1"]), &policy(false), NONE);
        assert_eq!(told(&findings), "");
    }

    #[test]
    fn several_interfaces_are_a_warning_and_one_is_a_note() {
        let mut sysctls = hardened(&["eth0", "eth1", "eth2"]);
        set(&mut sysctls, "net/ipv4/conf/all/rp_filter", "0");
        set(&mut sysctls, "net/ipv4/conf/eth0/rp_filter", "0");
        set(&mut sysctls, "net/ipv4/conf/eth1/rp_filter", "2");
        let links = links(&["eth0", "eth1", "eth2"]);
        let findings = check(&sysctls, &links, &policy(false), NONE);
        let what = "spoofing-ipv4: the sources of IPv4 packets aren't checked against routes\n";
        assert_eq!(told(&findings), format!("warning {what}"));
        assert_eq!(findings[0].details[0], "rp_filter is off on eth0");
        assert_eq!(findings[0].details[1], "rp_filter is loose on eth1: any way back will do");
        let findings = check(&sysctls, &links[..1], &policy(false), NONE);
        assert_eq!(told(&findings), format!("note {what}"));
        // Loose for all is loose on each.
        set(&mut sysctls, "net/ipv4/conf/all/rp_filter", "2");
        let findings = check(&sysctls, &links, &policy(false), NONE);
        assert!(findings[0].details[0].contains("eth0, eth1, eth2"));
    }

    #[test]
    fn a_rule_of_somebody_does_as_well() {
        let sysctls = Sysctls::from([
            ("net/ipv4/conf/all/rp_filter".into(), "0".into()),
            ("net/ipv4/conf/eth0/rp_filter".into(), "0".into()),
        ]);
        let find = |v4, v6| {
            told(&check(&sysctls, &links(&["eth0"]), &policy(true), ReversePath { v4, v6 }))
        };
        assert_eq!(find(true, true), "");
        assert!(find(false, true).starts_with("note spoofing-ipv4"));
        assert!(find(true, false).starts_with("note spoofing-ipv6"));
    }

    #[test]
    fn ipv6_is_told_where_a_tier_may_have_members_of_it() {
        let find = |policy| told(&check(&hardened(&["eth0"]), &links(&["eth0"]), &policy, NONE));
        assert_eq!(find(policy(false)), "");
        assert!(find(policy(true)).starts_with("note spoofing-ipv6"));
        assert!(find(Policy::Missing).starts_with("note spoofing-ipv6"));
    }
}
