//! What the doctor finds: a value with an id by which `docs/doctor.md` tells more.

use serde_json::{Value, json};
use std::fmt;

/// How bad a finding is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// tierwall doesn't work here, or who shouldn't decides what it does.
    Error,
    /// What the policy says may not be what holds.
    Warning,
    /// Good to know.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) id: Id,
    /// What it is, in one line.
    pub(crate) what: String,
    /// More about it, a line each.
    pub(crate) details: Vec<String>,
    /// What to do.
    pub(crate) advice: String,
}

impl Finding {
    pub(crate) fn new(severity: Severity, id: Id, what: impl Into<String>) -> Self {
        Self { severity, id, what: what.into(), details: Vec::new(), advice: String::new() }
    }

    pub(crate) fn error(id: Id, what: impl Into<String>) -> Self {
        Self::new(Severity::Error, id, what)
    }

    pub(crate) fn warning(id: Id, what: impl Into<String>) -> Self {
        Self::new(Severity::Warning, id, what)
    }

    pub(crate) fn note(id: Id, what: impl Into<String>) -> Self {
        Self::new(Severity::Note, id, what)
    }

    pub(crate) fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    pub(crate) fn details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(lines);
        self
    }

    pub(crate) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    pub(crate) fn as_json(&self) -> Value {
        json!({
            "severity": self.severity.to_string(),
            "id": self.id.name(),
            "what": self.what,
            "details": self.details,
            "advice": self.advice,
        })
    }
}

/// The ids, with their names.
macro_rules! ids {
    ($($id:ident = $name:literal,)*) => {
        /// What kind of thing was found. Its name is a heading of `docs/doctor.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Id {
            $($id,)*
        }

        impl Id {
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$id,)*];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$id => $name,)*
                }
            }
        }
    };
}

ids! {
    Firewalld = "firewalld",
    Ufw = "ufw",
    NftablesService = "nftables-service",
    Iptables = "iptables",
    IptablesLegacy = "iptables-legacy",
    Docker = "docker",
    Podman = "podman",
    Libvirt = "libvirt",
    Kubernetes = "kubernetes",
    OtherFirewall = "other-firewall",
    ForeignTable = "foreign-table",
    ForeignDrop = "foreign-drop",
    ForeignDropSome = "foreign-drop-some",
    ForeignQueue = "foreign-queue",
    ForeignUntracked = "foreign-untracked",
    ForeignDiverted = "foreign-diverted",
    ForeignLayerTwo = "foreign-layer-two",
    Forwarding = "forwarding",
    ForwardingOpen = "forwarding-open",
    KernelNfTables = "kernel-nf-tables",
    KernelModules = "kernel-modules",
    KernelOwnership = "kernel-ownership",
    KernelSetLookups = "kernel-set-lookups",
    KernelConntrack = "kernel-conntrack",
    KernelLog = "kernel-log",
    ConntrackFull = "conntrack-full",
    SpoofingIpv4 = "spoofing-ipv4",
    SpoofingIpv6 = "spoofing-ipv6",
    SysctlWeak = "sysctl-weak",
    SysctlHardening = "sysctl-hardening",
    ClockUnsynchronised = "clock-unsynchronised",
    ClockBehind = "clock-behind",
    PolicyMissing = "policy-missing",
    PolicyBad = "policy-bad",
    PolicyWarnings = "policy-warnings",
    RoleByNetwork = "role-by-network",
    UnsafePath = "unsafe-path",
    UnsafeState = "unsafe-state",
    Listener = "listener",
    DaemonAway = "daemon-away",
    DaemonUnreachable = "daemon-unreachable",
    DaemonTable = "daemon-table",
    DaemonKernelProblem = "daemon-kernel-problem",
    DaemonBadFiles = "daemon-bad-files",
    DaemonTornDown = "daemon-torn-down",
    DaemonPending = "daemon-pending",
    DaemonRefused = "daemon-refused",
    DaemonDrift = "daemon-drift",
    DaemonUnwatched = "daemon-unwatched",
    DaemonUnrecorded = "daemon-unrecorded",
    DaemonHeldBack = "daemon-held-back",
    DaemonWaiting = "daemon-waiting",
}

#[cfg(test)]
mod tests {
    use super::Id;
    use std::collections::BTreeSet;

    #[test]
    fn every_finding_is_documented_and_nothing_else_is() {
        let text = include_str!("../../../../docs/doctor.md");
        let headings = text.lines().filter_map(|line| line.strip_prefix("### "));
        let documented: Vec<&str> = headings.collect();
        let names: BTreeSet<&str> = Id::ALL.iter().map(|id| id.name()).collect();
        assert_eq!(names.len(), Id::ALL.len(), "two have one name");
        assert_eq!(documented.iter().copied().collect::<BTreeSet<_>>(), names);
        assert_eq!(documented.len(), names.len(), "a heading stands twice");
    }
}
