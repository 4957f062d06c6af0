//! What the daemon says of itself, as far as somebody has to do something.

use super::facts::Daemon;
use super::finding::{Finding, Id};
use crate::confirm::{how, way_back};
use crate::time::{ago, left};
use control::{Differs, Enforcement, Pending, Status, TableState, Unrecorded};

/// What is known of the daemon from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traces {
    /// Whether its table is in the kernel.
    pub(super) table: bool,
    /// Whether it is started at boot.
    pub(super) enabled: bool,
}

pub(super) fn check(daemon: &Daemon, traces: Traces) -> Vec<Finding> {
    match daemon {
        Daemon::Away => vec![away(traces)],
        Daemon::Unreachable(why) => vec![
            Finding::warning(Id::DaemonUnreachable, "tierwalld can't be asked")
                .details(why.lines().map(str::to_owned))
                .advice("`systemctl restart tierwalld`, which disturbs no connection"),
        ],
        Daemon::Refuses(why) => vec![
            Finding::warning(Id::DaemonUnreachable, "tierwalld refuses to answer")
                .details(why.lines().map(str::to_owned))
                .advice("what that says, then `tierwall doctor` once more"),
        ],
        Daemon::Status(status) => told(status),
    }
}

fn away(traces: Traces) -> Finding {
    let start = "`systemctl enable --now tierwalld`";
    match traces {
        Traces { table: true, .. } => {
            Finding::warning(Id::DaemonAway, "tierwalld isn't running; its table is in the kernel")
                .detail(
                    "what was committed last holds, but no edit applies and nobody puts it back",
                )
                .advice(format!("{start}, or `tierwall teardown` to take the table away"))
        }
        Traces { enabled: true, .. } => {
            Finding::warning(Id::DaemonAway, "tierwalld is to run here but doesn't")
                .detail("nothing is filtered by it")
                .advice("`journalctl -u tierwalld` says why, `systemctl start tierwalld` starts it")
        }
        Traces { .. } => Finding::note(Id::DaemonAway, "tierwalld isn't running")
            .detail("nothing is filtered by it")
            .advice(format!("once this list and `tierwall check` say nothing bad: {start}")),
    }
}

fn told(status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    match (status.enforcement, status.table) {
        (Enforcement::TornDown, _) => findings.push(
            Finding::warning(Id::DaemonTornDown, "the table was taken away by command")
                .detail("nothing is filtered until the next reload or start")
                .advice("`tierwall reload` enforces the policy again"),
        ),
        (Enforcement::Committed, TableState::Ours) => {}
        (Enforcement::Committed, TableState::Gone) => findings.push(
            Finding::error(Id::DaemonTable, "tierwalld runs, but its table is gone")
                .detail("nothing is filtered")
                .advice("it tries to put it back; `tierwall reload` tries now, the log says why not"),
        ),
        (Enforcement::Committed, TableState::Foreign) => findings.push(
            Finding::error(Id::DaemonTable, "another program's table is in the place of tierwalld's")
                .detail("the policy isn't enforced")
                .advice("end what makes the table `inet filter`, then `systemctl restart tierwalld`; or `tierwall takeover` replaces it"),
        ),
    }
    findings.extend(status.pending.as_ref().map(pending));
    let told = [
        (
            status.kernel_problem.as_ref(),
            Finding::error(Id::DaemonKernelProblem, "the kernel doesn't hold what was wanted"),
            "tierwalld tries again by itself; `tierwall reload` tries now",
        ),
        (
            status.problem.as_ref(),
            Finding::error(
                Id::DaemonBadFiles,
                "the policy files can't be applied; what was enforced stays",
            ),
            "`tierwall check` shows what is wrong",
        ),
        (
            status.refused.as_ref(),
            Finding::warning(Id::DaemonRefused, "a change was refused: it would lock somebody out"),
            "mend the policy, or insist with `tierwall reload --force`",
        ),
        (
            status.drift.as_ref(),
            Finding::warning(Id::DaemonDrift, "another process changed tierwall's table"),
            "`tierwall reload` puts it back; find out who did that",
        ),
    ];
    for (text, finding, advice) in told {
        if let Some(text) = text {
            let lines = text.trim_end().lines().map(str::to_owned);
            findings.push(finding.details(lines).advice(advice));
        }
    }
    if !status.unwatched.is_empty() {
        let what = "not everything is watched that the policy depends on";
        findings.push(
            Finding::warning(Id::DaemonUnwatched, what)
                .details(status.unwatched.iter().cloned())
                .advice(
                    "tierwalld tries again by itself; until then, `tierwall reload` after an edit",
                ),
        );
    }
    findings.extend(status.unrecorded.as_ref().map(unrecorded));
    if let Some(Differs { why, .. }) = status.held_back() {
        let what = "the policy files are held back: what was enforced before them stays";
        findings.push(
            Finding::warning(Id::DaemonHeldBack, what)
                .details(why.trim_end().lines().map(str::to_owned))
                .details(status.waiting.iter().map(|line| format!("waits: {line}")))
                .advice("mend the policy, or `tierwall reload`, which applies it as it is"),
        );
    } else if !status.waiting.is_empty() {
        findings.push(
            Finding::note(Id::DaemonWaiting, "an edit waits for a reload")
                .details(status.waiting.iter().cloned())
                .advice("`tierwall plan` shows what it would change, `tierwall reload` applies it"),
        );
    }
    findings
}

/// A state directory that can't be written.
fn unrecorded(unrecorded: &Unrecorded) -> Finding {
    let Unrecorded { since, why, files: _, at_start } = unrecorded;
    let what = format!("tierwalld can't write its state directory for {}", ago(*since));
    Finding::warning(Id::DaemonUnrecorded, what)
        .detail(why.clone())
        .details(at_start.iter().map(|line| format!("a restart or reboot {line}")))
        .advice("make room there or make it writable; tierwalld retries by itself")
}

/// A change that waits.
fn pending(pending: &Pending) -> Finding {
    let Pending { generation, until, .. } = pending;
    let what = format!("generation {generation} waits to be confirmed, {} left", left(*until));
    Finding::warning(Id::DaemonPending, what).detail(way_back(pending)).advice(how(pending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::testing;
    use control::{HeldBack, Response};

    /// A daemon that is content.
    fn status() -> Box<Status> {
        let line = br#"{"version":1,"body":{"status":{"version":"0.1.0","pid":1,"since":1,
            "policy_file":"p","enforcement":"committed","generation":1,"role":[],"role_auto":true,
            "input":"enforce","output":"enforce","tiers":[],"allows":0,"last_commit":null,
            "warnings":[],"waiting":[],"problem":null,"drift":null}}}"#;
        match control::decode(line) {
            Ok(Response::Status(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    fn told(daemon: &Daemon) -> String {
        testing::told(&check(daemon, Traces { table: true, enabled: true }))
    }

    #[test]
    fn one_that_is_content_is_not_told() {
        assert_eq!(told(&Daemon::Status(status())), "");
    }

    #[test]
    fn one_that_is_away_is_told_by_its_traces() {
        let away = |table, enabled| testing::told(&check(&Daemon::Away, Traces { table, enabled }));
        assert_eq!(away(false, false), "note daemon-away: tierwalld isn't running\n");
        assert!(away(false, true).starts_with("warning daemon-away: tierwalld is to run"));
        assert!(away(true, true).starts_with("warning daemon-away: tierwalld isn't running; its"));
        for daemon in [Daemon::Unreachable("no".into()), Daemon::Refuses("too many".into())] {
            assert!(told(&daemon).starts_with("warning daemon-unreachable"), "{daemon:?}");
        }
    }

    #[test]
    fn all_that_it_complains_of_is_told() {
        let mut status = status();
        status.table = TableState::Gone;
        status.kernel_problem = Some("out of memory\n".into());
        status.problem = Some("a\nb\n".into());
        status.refused = Some("ssh".into());
        status.drift = Some("nft".into());
        let (reason, from) = ("reload".into(), vec!["10.0.0.5".parse().expect("an address")]);
        let (generation, back_to, until) = (13, 12, u64::MAX);
        status.pending =
            Some(Pending { generation, back_to, observes: false, until, reason, by: None, from });
        status.unwatched = vec!["/etc".into()];
        let at_start = vec!["rolls back".into()];
        status.unrecorded =
            Some(Unrecorded { since: 1, why: "full".into(), files: Vec::new(), at_start });
        status.waiting = vec!["a rule".into()];
        let findings =
            check(&Daemon::Status(status.clone()), Traces { table: true, enabled: true });
        let ids: Vec<&str> = findings.iter().map(|finding| finding.id.name()).collect();
        assert_eq!(
            ids,
            [
                "daemon-table",
                "daemon-pending",
                "daemon-kernel-problem",
                "daemon-bad-files",
                "daemon-refused",
                "daemon-drift",
                "daemon-unwatched",
                "daemon-unrecorded",
                "daemon-waiting",
            ]
        );
        assert!(findings[1].what.starts_with("generation 13 waits to be confirmed, "));
        assert_eq!(findings[1].details, ["otherwise it is rolled back to generation 12"]);
        assert!(findings[1].advice.contains("10.0.0.5"));
        assert_eq!(findings[3].details, ["a", "b"]);
        assert_eq!(findings[7].details, ["full", "a restart or reboot rolls back"]);
        // What holds an edit back is told in the place of its waiting.
        let (kind, since) = (HeldBack::Reverted, 1);
        let why = "nobody confirmed generation 13 within 60 s".to_owned();
        status.differs = Some(Differs { kind, why, since });
        let findings =
            check(&Daemon::Status(status.clone()), Traces { table: true, enabled: true });
        let last = findings.last().expect("one");
        assert_eq!((findings.len(), last.id.name()), (ids.len(), "daemon-held-back"));
        assert_eq!(last.details[1], "waits: a rule");
        status.table = TableState::Foreign;
        assert!(told(&Daemon::Status(status.clone())).starts_with("error daemon-table: another"));
        status.enforcement = Enforcement::TornDown;
        assert!(told(&Daemon::Status(status)).starts_with("warning daemon-torn-down"));
    }
}
