//! The second act as a person reads it.

use crate::batch::Batch;
use crate::cast::NEWCOMER;
use crate::live::{Live, Long, Step};
use crate::table::{DENIED, HEADING, OPEN, WRONG};
use std::fmt::Write;
use tierwall_tests::verdict::Verdict;

/// The width of what was asked; with the rest it makes 80.
const ASKED: usize = 57;

pub(crate) fn render(live: &Live) -> String {
    let mut text = String::new();
    let what = format!("live: {} wants to reach app1 tcp/8080", NEWCOMER.name);
    let _ = writeln!(text, "  {HEADING}{what:ASKED$} met         after{HEADING:#}");
    for step in &live.steps {
        render_step(&mut text, step);
    }
    let after = "  after: until the first new connection passed, or until the last one did";
    let _ = writeln!(text, "{DENIED}{after}{DENIED:#}");
    let _ = writeln!(text, "\n  meanwhile, a message and its answer each millisecond");
    for long in &live.long_connections {
        render_long(&mut text, long);
    }
    text
}

fn render_step(text: &mut String, step: &Step) {
    let (word, style) = match (step.verdict, step.met_as_expected()) {
        (Verdict::Open, true) => ("open", OPEN),
        (Verdict::Denied(_), true) => ("denied", DENIED),
        (Verdict::Open, false) => ("OPEN!", WRONG),
        (Verdict::Denied(_), false) => ("DENIED!", WRONG),
        (Verdict::Stalled, _) => ("STUCK", WRONG),
    };
    let after = step.microseconds.map(milliseconds).unwrap_or_default();
    let _ = writeln!(text, "  {:ASKED$} {style}{word:8}{style:#}{after:>9}", step.asked);
    for batch in &step.batches {
        let rules = match (batch.rules_added, batch.rules_deleted) {
            (0, 0) => "no rule".to_owned(),
            (added, deleted) => format!("rules +{added} -{deleted}"),
        };
        let Batch { server, generation, sets, bytes, microseconds, .. } = batch;
        let what = format!("generation {generation}: {sets}, {rules}");
        let _ = writeln!(
            text,
            "    {DENIED}{server:6} {what:42} {bytes:5} bytes in {microseconds:5} µs{DENIED:#}",
        );
    }
    if !step.sent_as_expected() {
        let concerns = step.concerns.join(" ");
        let _ = writeln!(text, "    {WRONG}expected: one element each on {concerns}{WRONG:#}");
    }
}

fn render_long(text: &mut String, long: &Long) {
    let Long { from, to, service, messages, .. } = long;
    let pause = milliseconds(long.longest_pause_microseconds);
    let way = format!("{from} -> {to} {service}");
    let filtered = if long.is_filtered { "" } else { " (unfiltered)" };
    let _ = writeln!(text, "    {way:23} {messages:5} exchanged, longest pause {pause}{filtered}");
    if let Some(disturbed) = &long.disturbed {
        let _ = writeln!(text, "    {WRONG}{disturbed}{WRONG:#}");
    }
}

fn milliseconds(microseconds: u128) -> String {
    format!("{:.1} ms", microseconds as f64 / 1e3)
}
