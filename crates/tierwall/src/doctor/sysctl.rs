//! Network settings against what `config/sysctl/60-tierwall.conf` ships, which is compiled in: the
//! file and the doctor can't say different things.
//!
//! Most settings exist for `all` and for each interface, and the kernel makes one of the two, in a
//! way of its own for each: what counts is compared, not what is written.

use super::facts::Sysctls;
use super::finding::{Finding, Id};
use netlink::Link;
use std::collections::BTreeMap;

/// The file.
pub(super) const SHIPPED: &str = include_str!("../../../../config/sysctl/60-tierwall.conf");

/// How many interfaces a line names.
const SHOWN: usize = 4;

/// A setting of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// As the file has it, `*` for every interface.
    pub(super) name: &'static str,
    value: i64,
}

/// The settings of the file, whether they are chosen (`net.…`) or not yet (`#net.…`).
pub(super) fn shipped() -> Vec<Setting> {
    let lines = SHIPPED.lines().map(|line| line.strip_prefix('#').unwrap_or(line));
    let lines = lines.filter(|line| line.starts_with("net."));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs
        .filter_map(|(name, value)| {
            Some(Setting { name: name.trim(), value: value.trim().parse().ok()? })
        })
        .collect()
}

/// Settings that are a hole and not only a chance left out.
const WEAK: &[&str] = &[
    "net.ipv4.conf.*.accept_source_route",
    "net.ipv6.conf.*.accept_source_route",
    "net.ipv4.tcp_syncookies",
];

pub(super) fn check(sysctls: &Sysctls, links: &[Link]) -> Vec<Finding> {
    let (mut weak, mut hardening) = (Vec::new(), Vec::new());
    // Reverse paths are a matter of their own: see `spoofing`.
    for setting in shipped().iter().filter(|setting| !setting.name.ends_with(".rp_filter")) {
        let Some(line) = compare(setting, sysctls, links) else { continue };
        match WEAK.contains(&setting.name) {
            true => weak.push(line),
            false => hardening.push(line),
        }
    }
    let mut findings = Vec::new();
    let file = "`tierwall doctor --sysctl` prints a file for /etc/sysctl.d with each setting and its reason: choose there";
    if !weak.is_empty() {
        findings.push(
            Finding::warning(Id::SysctlWeak, "the kernel's network settings leave a hole")
                .details(weak)
                .advice(file),
        );
    }
    if !hardening.is_empty() {
        findings.push(
            Finding::note(Id::SysctlHardening, "the kernel's network settings could be harder")
                .details(hardening)
                .advice(file),
        );
    }
    findings
}

/// What differs, in a line.
fn compare(setting: &Setting, sysctls: &Sysctls, links: &[Link]) -> Option<String> {
    let Setting { name, value } = setting;
    let Some((protocol, key)) = per_interface(name) else {
        let now = number(sysctls, &name.replace('.', "/"))?;
        return (!is_met(name, now, *value)).then(|| format!("{name} is {now}, better {value}"));
    };
    let mut differing: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for link in links.iter().filter(|link| !link.loopback) {
        let Some(now) = effective(sysctls, protocol, &link.name, key) else { continue };
        if !is_met(name, now, *value) {
            differing.entry(now).or_default().push(&link.name);
        }
    }
    let parts: Vec<String> =
        differing.iter().map(|(now, names)| format!("{now} on {}", listed(names))).collect();
    (!parts.is_empty()).then(|| format!("{name} is {}, better {value}", parts.join(", ")))
}

/// Names, with those beyond a few counted.
pub(super) fn listed(names: &[&str]) -> String {
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

/// `net.ipv4.conf.*.key` is `ipv4` and `key`.
fn per_interface(name: &'static str) -> Option<(&'static str, &'static str)> {
    name.strip_prefix("net.")?.split_once(".conf.*.")
}

/// Whether a value is as good as the wanted one: some are stricter still.
fn is_met(name: &str, now: i64, wanted: i64) -> bool {
    match name {
        // 2 is always, -1 not even routing headers of type 2.
        "net.ipv4.tcp_syncookies" => now >= wanted,
        "net.ipv6.conf.*.accept_source_route" => now <= wanted,
        _ => now == wanted,
    }
}

/// What counts on an interface (`IN_DEV_ANDCONF`, `IN_DEV_ORCONF` and `IN_DEV_MAXCONF` of
/// `linux/inetdevice.h`; `ipv6_srcrt_rcv`).
pub(super) fn effective(
    sysctls: &Sysctls,
    protocol: &str,
    interface: &str,
    key: &str,
) -> Option<i64> {
    let of = |interface: &str, key: &str| {
        number(sysctls, &format!("net/{protocol}/conf/{interface}/{key}"))
    };
    let (all, own) = (of("all", key)?, of(interface, key)?);
    let both = i64::from(all != 0 && own != 0);
    let either = i64::from(all != 0 || own != 0);
    Some(match (protocol, key) {
        ("ipv4", "rp_filter") => all.max(own),
        ("ipv4", "accept_source_route") => both,
        ("ipv4", "accept_redirects") if of(interface, "forwarding") == Some(1) => both,
        ("ipv4", _) => either,
        ("ipv6", "accept_source_route") => all.min(own),
        // Writing `all` writes every interface's, and only that is looked at.
        _ => own,
    })
}

fn number(sysctls: &Sysctls, path: &str) -> Option<i64> {
    sysctls.get(path)?.trim().parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::doctor::testing::told;

    /// Interfaces that are up.
    pub(crate) fn links(names: &[&str]) -> Vec<Link> {
        let link = |name: &&str| Link {
            index: 0,
            name: (*name).to_owned(),
            kind: None,
            up: true,
            loopback: *name == "lo",
        };
        names.iter().map(link).collect()
    }

    /// Every shipped setting as it should be, on these interfaces.
    pub(crate) fn hardened(interfaces: &[&str]) -> Sysctls {
        let mut sysctls = Sysctls::new();
        for Setting { name, value } in shipped() {
            match per_interface(name) {
                None => drop(sysctls.insert(name.replace('.', "/"), value.to_string())),
                Some((protocol, key)) => {
                    for interface in interfaces.iter().chain(&["all"]) {
                        let path = format!("net/{protocol}/conf/{interface}/{key}");
                        sysctls.insert(path, format!("{value}\n"));
                    }
                }
            }
        }
        sysctls
    }

    pub(crate) fn set(sysctls: &mut Sysctls, path: &str, value: &str) {
        sysctls.insert(path.to_owned(), value.to_owned());
    }

    #[test]
    fn the_shipped_file_is_read_and_off() {
        let settings = shipped();
        assert!(settings.len() >= 12, "{settings:?}");
        let rp_filter = Setting { name: "net.ipv4.conf.*.rp_filter", value: 1 };
        assert!(settings.contains(&rp_filter));
        let active = SHIPPED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(active.count(), 0, "nothing is active until it is chosen");
        let switched_off = SHIPPED.lines().filter(|line| line.starts_with("#net."));
        assert_eq!(switched_off.count(), settings.len(), "each has a value that is a number");
    }

    #[test]
    fn a_hardened_host_is_not_told() {
        assert_eq!(told(&check(&hardened(&["eth0"]), &links(&["lo", "eth0"]))), "");
    }

    #[test]
    fn what_differs_is_told_by_interface() {
        let names = ["eth0", "eth1", "eth2", "eth3", "eth4", "eth5"];
        let mut sysctls = hardened(&names);
        for name in &names[1..] {
            set(&mut sysctls, &format!("net/ipv4/conf/{name}/send_redirects"), "1");
        }
        set(&mut sysctls, "net/ipv4/tcp_rfc1337", "0");
        let findings = check(&sysctls, &links(&names));
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].details,
            [
                "net.ipv4.conf.*.send_redirects is 1 on eth1, eth2, eth3, eth4 and 1 more, better 0",
                "net.ipv4.tcp_rfc1337 is 0, better 1",
            ]
        );
    }

    #[test]
    fn holes_are_warnings() {
        let mut sysctls = hardened(&["eth0"]);
        set(&mut sysctls, "net/ipv4/tcp_syncookies", "0");
        set(&mut sysctls, "net/ipv4/conf/eth0/accept_source_route", "1");
        let links = links(&["eth0"]);
        // For `all` it is off, so it is off.
        let findings = check(&sysctls, &links);
        assert_eq!(findings[0].details, ["net.ipv4.tcp_syncookies is 0, better 1"]);
        set(&mut sysctls, "net/ipv4/conf/all/accept_source_route", "1");
        let findings = check(&sysctls, &links);
        assert_eq!(findings[0].id, Id::SysctlWeak);
        assert_eq!(findings[0].details.len(), 2);
    }

    #[test]
    fn the_kernel_makes_one_of_two_values_in_ways_of_its_own() {
        let value = |protocol: &str, key: &str, all: &str, own: &str, forwarding: &str| {
            let mut sysctls = Sysctls::new();
            set(&mut sysctls, &format!("net/{protocol}/conf/all/{key}"), all);
            set(&mut sysctls, &format!("net/{protocol}/conf/eth0.7/{key}"), own);
            set(&mut sysctls, &format!("net/{protocol}/conf/eth0.7/forwarding"), forwarding);
            effective(&sysctls, protocol, "eth0.7", key)
        };
        assert_eq!(value("ipv4", "rp_filter", "1", "2", "0"), Some(2));
        assert_eq!(value("ipv4", "rp_filter", "1", "0", "0"), Some(1));
        assert_eq!(value("ipv4", "accept_redirects", "0", "1", "0"), Some(1));
        assert_eq!(value("ipv4", "accept_redirects", "0", "1", "1"), Some(0));
        assert_eq!(value("ipv4", "log_martians", "1", "0", "0"), Some(1));
        assert_eq!(value("ipv6", "accept_redirects", "1", "0", "0"), Some(0));
        assert_eq!(value("ipv6", "accept_source_route", "-1", "0", "0"), Some(-1));
        assert_eq!(effective(&Sysctls::new(), "ipv4", "eth0", "rp_filter"), None);
    }
}
