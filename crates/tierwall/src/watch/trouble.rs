//! What holds here, and what is wrong, in a line each. `tierwall status` tells it in full.

use super::text::Tone;
use crate::output::counted;
use crate::status::modes;
use crate::time::in_words;
use control::{AfterChange, Enforcement, Losses, Pending, Status, TableState, Unrecorded};

/// A line and what it is.
pub(super) type Line = (Tone, String);

/// What is enforced.
pub(super) fn enforced(status: &Status) -> Line {
    match (status.enforcement, status.table) {
        (Enforcement::TornDown, _) => (Tone::Bad, "TORN DOWN: nothing is filtered".into()),
        (_, TableState::Gone) => (Tone::Bad, "NOT ENFORCED: the table is gone".into()),
        (_, TableState::Foreign) => (Tone::Bad, "NOT ENFORCED: another's table".into()),
        (Enforcement::Committed, TableState::Ours) => (Tone::Good, modes(status)),
    }
}

/// That a change waits, and for how long.
pub(super) fn pending(pending: &Pending, now: u64) -> Line {
    let Pending { generation, back_to, until, .. } = pending;
    let left = in_words(until.saturating_sub(now));
    let line = format!(
        "CONFIRM: generation {generation} waits, {left} left, else back to {back_to}: `tierwall \
         confirm`"
    );
    (Tone::Bad, line)
}

/// What somebody has to see to, the worst first.
pub(super) fn told(status: &Status, losses: &Losses) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut tell = |tone, what: &str, text: &str| {
        // The first line says what it is about.
        let text = text.trim().lines().next().unwrap_or_default();
        lines.push((tone, format!("{what}{text}")));
    };
    if let Some(problem) = &status.kernel_problem {
        tell(Tone::Bad, "KERNEL: it doesn't hold what was wanted: ", problem);
    }
    if let Some(problem) = &status.problem {
        let problem = problem.trim_start().strip_prefix("error:").unwrap_or(problem);
        tell(Tone::Bad, "POLICY: the files can't be applied: ", problem);
    }
    if let Some(refused) = &status.refused {
        tell(Tone::Bad, "REFUSED: ", refused);
    }
    if let Some((tone, line)) = status.after_change.as_ref().and_then(denies_more) {
        tell(tone, "", &line);
    }
    if let Some(drift) = &status.drift {
        tell(Tone::Warning, "CHANGED by another process: ", drift);
    }
    if let Some(differs) = status.held_back() {
        tell(Tone::Warning, "HELD BACK: the policy files: ", &differs.why);
    }
    if let Some(Unrecorded { why, at_start, .. }) = &status.unrecorded {
        let reboot = at_start.first().map(|line| format!("a reboot {line}: ")).unwrap_or_default();
        tell(
            Tone::Bad,
            &format!("UNRECORDED: {reboot}the state directory can't be written: "),
            why,
        );
    }
    for line in &status.held_lists {
        tell(Tone::Warning, "HELD: ", line);
    }
    for line in &status.unwatched {
        tell(Tone::Warning, "UNWATCHED: ", line);
    }
    if losses.reading_since.is_none() {
        tell(Tone::Warning, "UNREAD: denied packets can't be read at the moment", "");
    }
    if losses.lost > 0 {
        let packets = counted(losses.lost as usize, "packet");
        tell(Tone::Warning, &format!("LOST: {packets} came too fast to be counted"), "");
    }
    if let [line, rest @ ..] = &status.waiting[..] {
        let more = if rest.is_empty() { "" } else { " and more" };
        tell(Tone::Warning, &format!("WAITS for a reload{more}: "), line);
    }
    lines
}

/// That the last change denies what was let through before it, or that more is denied since.
fn denies_more(change: &AfterChange) -> Option<Line> {
    let AfterChange { generation, before, rates, alarm, .. } = change;
    let label = match (change.newly_denied, change.newly_would_deny) {
        (0, 1..) => "WOULD DENY MORE",
        _ => "DENIES MORE",
    };
    let is_of_members = generation == before;
    let more = match (change.newly(), alarm) {
        (0, false) => return None,
        (0, true) => {
            let (old, new) = (rates.before.per_minute(), rates.after.per_minute());
            let since = match is_of_members {
                true => change.reason.clone(),
                false => format!("generation {generation}"),
            };
            format!("{new} a minute, {old} before {since}")
        }
        (newly, _) if is_of_members => format!("{newly} let through before {}", change.reason),
        (newly, _) => format!("{newly} that generation {before} let through"),
    };
    let tone = if *alarm { Tone::Warning } else { Tone::Plain };
    Some((tone, format!("{label}: {more}{}", change.most_of_them())))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use control::{DenialRate, DenialRates, DeniedKind, Differs, Direction, HeldBack, SideMode};

    #[test]
    fn a_change_that_denies_more_is_told_in_a_line() {
        let rate = |connections| DenialRate { connections, strangers: 0, seconds: 60 };
        let change = AfterChange {
            generation: 13,
            before: 12,
            time: 7,
            reason: "members changed".into(),
            rates: DenialRates { before: rate(2), after: rate(140) },
            newly_denied: 138,
            newly_would_deny: 0,
            not_compared: 0,
            last: Some(8),
            most: vec![DeniedKind {
                direction: Direction::Output,
                service: "tcp/5432".into(),
                from: "app".into(),
                to: "db".into(),
                connections: 130,
            }],
            alarm: true,
        };
        let of_members = AfterChange { before: 13, ..change.clone() };
        let few =
            AfterChange { newly_denied: 0, newly_would_deny: 1, alarm: false, ..change.clone() };
        let multiplied = AfterChange { newly_denied: 0, ..change.clone() };
        let none = AfterChange { alarm: false, ..multiplied.clone() };
        let mut status = testing::status();
        let losses = Losses { reading_since: Some(1), ..Losses::default() };
        let mut told = |change| {
            status.after_change = Some(change);
            super::told(&status, &losses).pop()
        };
        let line = |tone, text: &str| Some((tone, text.to_owned()));
        let of = ", most tcp/5432 from app to db";
        let expected = format!("DENIES MORE: 138 that generation 12 let through{of}");
        assert_eq!(told(change), line(Tone::Warning, &expected));
        let expected = format!("DENIES MORE: 138 let through before members changed{of}");
        assert_eq!(told(of_members), line(Tone::Warning, &expected));
        let expected =
            "WOULD DENY MORE: 1 that generation 12 let through, all tcp/5432 from app to db";
        assert_eq!(told(few), line(Tone::Plain, expected));
        let expected = format!("DENIES MORE: 140 a minute, 2 before generation 13{of}");
        assert_eq!(told(multiplied), line(Tone::Warning, &expected));
        assert_eq!(told(none), None);
    }

    #[test]
    fn what_holds_is_never_claimed_where_it_does_not() {
        let mut status = testing::status();
        assert_eq!(enforced(&status), (Tone::Good, "enforce".into()));
        status.output = SideMode::Observe;
        assert_eq!(enforced(&status), (Tone::Good, "input enforce, output observe".into()));
        for table in [TableState::Gone, TableState::Foreign] {
            status.table = table;
            let (tone, text) = enforced(&status);
            assert!(tone == Tone::Bad && text.starts_with("NOT ENFORCED"), "{text}");
        }
        status.enforcement = Enforcement::TornDown;
        assert!(enforced(&status).1.starts_with("TORN DOWN"));
    }

    #[test]
    fn all_that_is_wrong_is_told_in_a_line_each() {
        let mut status = testing::status();
        let losses = Losses { reading_since: Some(1), ..Losses::default() };
        assert_eq!(told(&status, &losses), []);
        status.kernel_problem = Some("out of memory\nand more".into());
        status.problem = Some("error: no tier `amdin`\n --> tierwall.toml".into());
        status.refused = Some("ssh".into());
        status.drift = Some("nft".into());
        let since = 1;
        status.differs =
            Some(Differs { kind: HeldBack::RolledBack, why: "rolled back".into(), since });
        status.unwatched = vec!["/etc".into()];
        let at_start = vec!["rolls back".into()];
        status.unrecorded =
            Some(Unrecorded { since: 1, why: "full".into(), files: Vec::new(), at_start });
        status.waiting = vec!["an allow".into(), "another".into()];
        let losses = Losses { lost: 7, ..Losses::default() };
        let lines: Vec<String> = told(&status, &losses).into_iter().map(|(_, line)| line).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
