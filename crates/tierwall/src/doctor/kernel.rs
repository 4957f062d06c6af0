//! What the kernel can't do, and what is known to be wrong with it.

use super::facts::Kernel;
use super::finding::{Finding, Id};
use super::release::{Release, is_of_a_distribution};
use netlink::Features;

/// Lookups start again where a commit was completed meanwhile, and elements are found whatever
/// generation a lookup began in (b2f742c846ca and those before it, in 6.17).
const LOOKUPS: ((u32, u32), &[Release]) = ((6, 17), &[Release(6, 12, 48), Release(6, 16, 8)]);

/// Intervals are looked up in an array that a commit replaces as a whole (7e43e0a1141d, in 7.0).
const INTERVALS: ((u32, u32), &[Release]) = ((7, 0), &[Release(6, 18, 14), Release(6, 19, 4)]);

pub(super) fn check(kernel: &Kernel) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(why) = &kernel.nf_tables {
        findings.push(
            Finding::error(Id::KernelNfTables, "the kernel's nf_tables can't be used")
                .detail(why)
                .details(closed_to_modules(kernel))
                .advice("load it with `modprobe nf_tables`, or boot a kernel that has it"),
        );
    }
    if !kernel.missing_modules.is_empty() {
        let modules = kernel.missing_modules.join(", ");
        findings.push(
            Finding::error(Id::KernelModules, format!("the kernel has no {modules}"))
                .detail("rules need it, so the kernel refuses tierwall's table")
                .details(closed_to_modules(kernel))
                .advice("install the package with the kernel's further modules"),
        );
    }
    findings.extend(kernel.features.and_then(ownership));
    findings.extend(lookups(&kernel.release));
    if let Some(Err(why)) = &kernel.conntrack {
        findings.push(
            Finding::error(Id::KernelConntrack, "connection tracking can't be asked")
                .detail(why)
                .detail(
                    "open connections can't be taken over at a first enforcement: they would break",
                )
                .details(closed_to_modules(kernel))
                .advice("load it with `modprobe nf_conntrack_netlink`"),
        );
    }
    if kernel.log == Some(false) {
        findings.push(
            Finding::warning(Id::KernelLog, "the kernel has no nfnetlink_log")
                .detail("what is denied is counted, but no program can be told of it")
                .details(closed_to_modules(kernel))
                .advice("install the module with the kernel's package, or load it at boot"),
        );
    }
    findings
}

fn closed_to_modules(kernel: &Kernel) -> Option<String> {
    kernel.modules_disabled.then(|| {
        "kernel.modules_disabled is 1: no module can be loaded until the next boot".to_owned()
    })
}

fn ownership(features: Features) -> Option<Finding> {
    if features.persistent_owner {
        return None;
    }
    let since = match features.owner {
        true => "the kernel can't keep a table for an owner that is away (6.9 can)",
        false => "the kernel can't give a table to one program (5.12 and 6.9 can)",
    };
    let finding = Finding::note(Id::KernelOwnership, since)
        .detail("anybody with CAP_NET_ADMIN can change tierwall's table, and `nft flush ruleset` takes it away")
        .detail("tierwalld sees that at once, names the process in the log and puts the table back");
    Some(finding.advice("a kernel from 6.9 on, if nobody else may touch the table at all"))
}

fn lookups(release: &str) -> Option<Finding> {
    let numbers = Release::parse(release)?;
    let which = if !numbers.has(LOOKUPS.0, LOOKUPS.1) {
        "a lookup in any set"
    } else if !numbers.has(INTERVALS.0, INTERVALS.1) {
        "a lookup in a set of ranges or prefixes"
    } else {
        return None;
    };
    let what = format!("Linux {release}: {which} may miss a member while the set is changed");
    let mut finding = Finding::note(Id::KernelSetLookups, what).detail(
        "for some microseconds a new connection of a member may be denied; its retry isn't, and established connections never are",
    );
    if is_of_a_distribution(release) {
        finding = finding
            .detail("this is told by the number: the distribution may have put the fix into it");
    }
    Some(
        finding
            .advice("mended in Linux 6.18.14, 6.19.4 and 7.0; in part in 6.12.48, 6.16.8 and 6.17"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::testing::told;

    fn features(owner: bool, persistent_owner: bool) -> Option<Features> {
        Some(Features { owner, persistent_owner, acknowledges_end: persistent_owner })
    }

    fn kernel(release: &str) -> Kernel {
        Kernel { release: release.into(), features: features(true, true), ..Kernel::default() }
    }

    #[test]
    fn a_new_kernel_is_fine() {
        for release in ["6.18.14", "6.19.4", "7.0.0-rc1", "7.2.1"] {
            assert_eq!(told(&check(&kernel(release))), "", "{release}");
        }
    }

    #[test]
    fn an_old_one_lacks_ownership_in_part_or_whole() {
        let part = Kernel { features: features(true, false), ..kernel("7.0") };
        assert!(
            told(&check(&part)).contains("note kernel-ownership: the kernel can't keep a table")
        );
        let whole = Kernel { features: features(false, false), ..kernel("7.0") };
        assert!(
            told(&check(&whole)).contains("note kernel-ownership: the kernel can't give a table")
        );
    }

    #[test]
    fn lookups_that_miss_are_told_by_the_release() {
        for (release, which) in [
            ("5.14.0-503.el9", Some("any set")),
            ("6.12.47", Some("any set")),
            ("6.12.48", Some("ranges or prefixes")),
            ("6.17.1", Some("ranges or prefixes")),
            ("6.18.13", Some("ranges or prefixes")),
            ("6.18.14", None),
            ("", None),
        ] {
            let findings = check(&kernel(release));
            let found = findings.first().map(|finding| finding.what.contains(which.unwrap_or("?")));
            assert_eq!(found, which.map(|_| true), "{release}: {findings:?}");
        }
        let of_a_distribution = &check(&kernel("6.1.0-40-amd64"))[0];
        assert!(of_a_distribution.details.iter().any(|line| line.contains("the distribution")));
        assert_eq!(check(&kernel("6.1.0"))[0].details.len(), 1);
    }

    #[test]
    fn what_is_missing_says_whether_a_module_could_help() {
        let missing = Kernel {
            nf_tables: Some("no such protocol".into()),
            missing_modules: vec!["nft_fib_inet", "nft_socket"],
            conntrack: Some(Err("refused".into())),
            log: Some(false),
            modules_disabled: true,
            ..kernel("7.0")
        };
        let findings = check(&missing);
        let lines = "error kernel-nf-tables: the kernel's nf_tables can't be used\n\
                     error kernel-modules: the kernel has no nft_fib_inet, nft_socket\n\
                     error kernel-conntrack: connection tracking can't be asked\n\
                     warning kernel-log: the kernel has no nfnetlink_log\n";
        assert_eq!(told(&findings), lines);
        for finding in &findings {
            assert!(finding.details.iter().any(|line| line.contains("modules_disabled")));
        }
    }
}
