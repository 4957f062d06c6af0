//! Medians, what is seldom exceeded, and progress on a terminal.

use std::io::{IsTerminal, Write};

/// The middle of `samples`; the upper one of an even number.
///
/// # Panics
/// Without samples.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// What 99 of 100 `samples` don't exceed.
///
/// # Panics
/// Without samples.
pub(crate) fn percentile_99(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[(samples.len() * 99).div_ceil(100) - 1]
}

/// Says how far a long measurement is, on one line of a terminal.
pub(crate) fn progress(what: &str, done: usize, of: usize) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let end = if done == of { "\n" } else { "" };
        let _ = write!(terminal, "\r{what}: {done}/{of}{end}");
        let _ = terminal.flush();
    }
}
