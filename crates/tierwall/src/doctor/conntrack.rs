//! How full the table of tracked connections is. Where it is full, new connections are dropped.

use super::facts::Kernel;
use super::finding::{Finding, Id, Severity};

/// In hundredths of the limit.
const WARN_FROM: u64 = 80;
const ERROR_FROM: u64 = 95;

pub(super) fn check(kernel: &Kernel) -> Option<Finding> {
    let Some(Ok(usage)) = &kernel.conntrack else { return None };
    let (entries, limit) = (u64::from(usage.entries), u64::from(usage.limit));
    // 0 is no limit.
    let share = (entries * 100).checked_div(limit)?;
    let severity = match share {
        ERROR_FROM.. => Severity::Error,
        WARN_FROM.. => Severity::Warning,
        _ => return None,
    };
    let what = format!("{entries} connections are tracked, {share} % of what there is room for");
    let finding = Finding::new(severity, Id::ConntrackFull, what)
        .detail("where the table is full, the kernel drops packets of new connections, whatever the policy says")
        .detail("a first enforcement doesn't take over open connections where it would fill the table");
    Some(finding.advice(format!(
        "raise the limit, for instance `sysctl net.netfilter.nf_conntrack_max={}` (some 300 bytes each), and look who opens so many",
        limit * 2
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink::Usage;

    fn at(entries: u32, limit: u32) -> Option<(Severity, String)> {
        let conntrack = Some(Ok(Usage { entries, limit }));
        check(&Kernel { conntrack, ..Kernel::default() }).map(|found| (found.severity, found.what))
    }

    #[test]
    fn from_four_fifths_on_it_is_told() {
        assert_eq!(at(0, 1000), None);
        assert_eq!(at(799, 1000), None);
        let expected = "800 connections are tracked, 80 % of what there is room for";
        assert_eq!(at(800, 1000), Some((Severity::Warning, expected.to_owned())));
        assert_eq!(at(949, 1000).map(|found| found.0), Some(Severity::Warning));
        assert_eq!(at(950, 1000).map(|found| found.0), Some(Severity::Error));
        assert_eq!(at(u32::MAX, u32::MAX).map(|found| found.0), Some(Severity::Error));
    }

    #[test]
    fn without_a_limit_it_is_never_full() {
        assert_eq!(at(1_000_000, 0), None);
    }
}
