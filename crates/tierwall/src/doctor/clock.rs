//! The clock: members that end and confirmations that are waited for go by it.

use super::facts::Clock;
use super::finding::{Finding, Id};
use std::time::Duration;

/// What a file may be ahead of the clock: writing it takes a while.
const TOLERANCE: Duration = Duration::from_secs(60);

pub(super) fn check(clock: &Clock) -> Vec<Finding> {
    let mut findings = Vec::new();
    if clock.synchronised == Some(false) {
        findings.push(
            Finding::warning(Id::ClockUnsynchronised, "nobody keeps this host's clock right")
                .detail("members added for a time end by it, and so does the wait for a confirmation; times in logs and history are this clock's")
                .advice("run chrony or systemd-timesyncd, and allow udp/123 to its servers in the policy"),
        );
    }
    if let (Some(now), Some((path, written))) = (clock.now, &clock.last_state)
        && let Ok(ahead) = written.duration_since(now)
        && ahead > TOLERANCE
    {
        let ahead = in_words(ahead);
        let what = format!("the clock is {ahead} behind {}", path.display());
        findings.push(
            Finding::warning(Id::ClockBehind, what)
                .detail("tierwalld wrote that file by this host's clock: it has been set back since, or was wrong then")
                .detail("members that were to end by now stay longer")
                .advice("set the clock right, then look at `tierwall member list`"),
        );
    }
    findings
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::testing::told;
    use std::time::SystemTime;

    fn clock(synchronised: Option<bool>, ahead: i64) -> Clock {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let by = Duration::from_secs(ahead.unsigned_abs());
        let written = if ahead < 0 { now - by } else { now + by };
        Clock { synchronised, now: Some(now), last_state: Some(("/s/role.json".into(), written)) }
    }

    #[test]
    fn a_clock_that_is_right_is_not_told() {
        for clock in
            [clock(Some(true), -5), clock(Some(true), 30), clock(None, 0), Clock::default()]
        {
            assert_eq!(told(&check(&clock)), "");
        }
    }

    #[test]
    fn one_that_nobody_keeps_or_that_was_set_back_is() {
        let expected = "warning clock-unsynchronised: nobody keeps this host's clock right\n\
                        warning clock-behind: the clock is 3 h behind /s/role.json\n";
        assert_eq!(told(&check(&clock(Some(false), 3 * 3600 + 5))), expected);
        assert!(told(&check(&clock(None, 61))).contains("1 min behind"));
        assert!(told(&check(&clock(None, 30 * 86_400))).contains("30 days behind"));
    }
}
