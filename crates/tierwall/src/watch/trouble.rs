//! What holds here, and what is wrong, in a line each. `tierwall status` tells it in full.

use super::text::Tone;
use crate::output::counted;
use crate::status::{in_words, mode_name};
use control::{Enforcement, HeldBack, Losses, Pending, Status, TableState};

/// A line and what it is.
pub(super) type Line = (Tone, String);

/// What is enforced.
pub(super) fn enforced(status: &Status) -> Line {
    match (status.enforcement, status.table) {
        (Enforcement::TornDown, _) => (Tone::Bad, "TORN DOWN: nothing is filtered".into()),
        (_, TableState::Gone) => (Tone::Bad, "NOT ENFORCED: the table is gone".into()),
        (_, TableState::Foreign) => (Tone::Bad, "NOT ENFORCED: another's table".into()),
        (Enforcement::Committed, TableState::Ours) => match (status.input, status.output) {
            (input, output) if input == output => (Tone::Good, mode_name(input).to_owned()),
            (input, output) => {
                let modes = (mode_name(input), mode_name(output));
                (Tone::Good, format!("input {}, output {}", modes.0, modes.1))
            }
        },
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
    if let Some(drift) = &status.drift {
        tell(Tone::Warning, "CHANGED by another process: ", drift);
    }
    // A refusal was told already.
    let differs = status.differs.as_ref().filter(|differs| differs.kind != HeldBack::Refused);
    if let Some(differs) = differs {
        tell(Tone::Warning, "HELD BACK: the policy files: ", &differs.why);
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

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use control::{Differs, SideMode};

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
        status.waiting = vec!["an allow".into(), "another".into()];
        let losses = Losses { lost: 7, ..Losses::default() };
        let lines: Vec<String> = told(&status, &losses).into_iter().map(|(_, line)| line).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
