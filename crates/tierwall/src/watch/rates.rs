//! How fast: from the difference between answers.

use super::ask::Answers;
use control::{DenialFate, Denials};
use std::collections::VecDeque;
use std::time::Duration;

/// Over how long a rate is taken. One that is taken from second to second can't be read.
const OVER: Duration = Duration::from_secs(5);

/// The answers of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rates {
    samples: VecDeque<Sample>,
}

/// What an answer counted until then.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    at: Duration,
    /// Which daemon counted.
    daemon: (u32, u64),
    counts: Counts,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counts {
    denied: [u64; 2],
    would_be: [u64; 2],
    held_back: u64,
    lost: u64,
}

/// How fast, a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    /// Denied connections and packets, the invalid ones among them.
    pub(super) denied: [f64; 2],
    /// The same of what would have been.
    pub(super) would_be: [f64; 2],
    /// Packets that the rate limits held back.
    pub(super) held_back: f64,
    /// Packets that came too fast to be read.
    pub(super) lost: f64,
}

impl Rates {
    /// Takes note of an answer.
    pub(super) fn note(&mut self, answers: &Answers) {
        let Answers { at, status, latest, .. } = answers;
        let daemon = (status.pid, status.since);
        let sample = Sample { at: *at, daemon, counts: Counts::of(latest) };
        // Another daemon begins anew, and so do counters that were made anew.
        let goes_on =
            |last: &Sample| last.daemon == daemon && last.counts.is_within(&sample.counts);
        if !self.samples.back().is_some_and(goes_on) {
            self.samples.clear();
        }
        self.samples.push_back(sample);
        while self.samples.get(1).is_some_and(|second| *at - second.at >= OVER) {
            self.samples.pop_front();
        }
    }

    /// None until there are two answers.
    pub(super) fn rate(&self) -> Option<Rate> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = (last.at - first.at).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let (a, b) = (&first.counts, &last.counts);
        let rate = |a: u64, b: u64| b.saturating_sub(a) as f64 / seconds;
        let both = |a: [u64; 2], b: [u64; 2]| [rate(a[0], b[0]), rate(a[1], b[1])];
        Some(Rate {
            denied: both(a.denied, b.denied),
            would_be: both(a.would_be, b.would_be),
            held_back: rate(a.held_back, b.held_back),
            lost: rate(a.lost, b.lost),
        })
    }
}

impl Counts {
    fn of(denials: &Denials) -> Self {
        let sum = |would_be| {
            let totals = denials.totals.iter().filter(|total| is_would_be(total.fate) == would_be);
            totals.fold([0, 0], |[connections, packets], total| {
                let count = total.count;
                [connections + count.connections, packets + count.connections + count.retries]
            })
        };
        let limits = denials.losses.limits.iter();
        Self {
            denied: sum(false),
            would_be: sum(true),
            held_back: limits.map(|limit| limit.held_back).sum(),
            lost: denials.losses.lost,
        }
    }

    /// Whether nothing is less than in `later`. What was held back is a difference of counters that
    /// are read one after the other, and may waver.
    fn is_within(&self, later: &Self) -> bool {
        self.denied[1] <= later.denied[1] && self.would_be[1] <= later.would_be[1]
    }
}

/// Whether that was let through, on a side that only observes.
pub(super) fn is_would_be(fate: DenialFate) -> bool {
    matches!(fate, DenialFate::WouldDeny | DenialFate::WouldDropInvalid)
}

/// New connections in each of the last minutes, the present one last.
pub(super) fn minutes(denials: &Denials, would_be: bool) -> Vec<u64> {
    let totals = || denials.totals.iter().filter(|total| is_would_be(total.fate) == would_be);
    let longest = totals().map(|total| total.minutes.len()).max().unwrap_or(0);
    let mut minutes = vec![0; longest];
    for total in totals() {
        for (sum, count) in minutes.iter_mut().rev().zip(total.minutes.iter().rev()) {
            *sum += u64::from(*count);
        }
    }
    minutes
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn answers(second: u64, connections: u64) -> Answers {
        let mut answers = testing::answers();
        answers.at = Duration::from_secs(second);
        answers.latest.totals[0].count.connections = connections;
        answers.latest.totals[0].count.retries = connections;
        answers
    }

    #[test]
    fn a_rate_is_of_the_last_seconds() {
        let mut rates = Rates::default();
        rates.note(&answers(0, 1000));
        assert_eq!(rates.rate(), None);
        for second in 1..=20 {
            rates.note(&answers(second, 1000 + 10 * second));
        }
        assert_eq!(rates.rate().map(|rate| rate.denied), Some([10.0, 20.0]));
        for second in 21..=30 {
            rates.note(&answers(second, 1200));
        }
        assert_eq!(rates.rate().map(|rate| rate.denied), Some([0.0, 0.0]));
    }

    #[test]
    fn another_daemon_begins_anew() {
        let mut rates = Rates::default();
        rates.note(&answers(0, 1000));
        rates.note(&answers(1, 1010));
        rates.note(&answers(2, 3));
        assert_eq!(rates.rate(), None);
        rates.note(&answers(3, 5));
        assert_eq!(rates.rate().map(|rate| rate.denied), Some([2.0, 4.0]));
        let mut other = answers(4, 1000);
        other.status.pid += 1;
        rates.note(&other);
        assert_eq!(rates.rate(), None);
    }

    #[test]
    fn minutes_of_different_length_end_together() {
        let mut denials = testing::answers().latest;
        denials.totals.truncate(1);
        denials.totals[0].minutes = vec![1, 2, 3];
        let mut other = denials.totals[0].clone();
        other.minutes = vec![10];
        denials.totals.push(other);
        assert_eq!(minutes(&denials, false), [1, 2, 13]);
        assert_eq!(minutes(&denials, true), [0; 0]);
    }
}
