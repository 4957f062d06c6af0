//! Medians, and progress for whoever waits.

use std::io::{IsTerminal, Write};

/// The middle of `samples`; the upper one of an even number. None without samples.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}

/// What 99 of 100 `samples` don't exceed. None without samples.
pub(crate) fn percentile_99(samples: &[f64]) -> Option<f64> {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    samples.get((samples.len() * 99).div_ceil(100).checked_sub(1)?).copied()
}

/// Says how far a long measurement is: on one line of a terminal, else once when it is done.
pub(crate) fn progress(what: &str, done: usize, of: usize) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let end = if done == of { "\n" } else { "" };
        let _ = write!(terminal, "\r\x1b[K{what}: {done}/{of}{end}");
        let _ = terminal.flush();
    } else if done == of {
        eprintln!("{what}: done");
    }
}
