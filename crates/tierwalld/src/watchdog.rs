//! The service manager's watchdog (sd_watchdog_enabled(3)): the event loop says that it turns, and
//! is killed and started again where it doesn't. It is the loop itself that says so, not a timer
//! beside it, and only as long as the work that it has handed out comes back.

use crate::journal::kind;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::Instant;

/// How long a piece of work may take: far longer than any does, a million ranges on a slow disk
/// included.
const STUCK: Duration = Duration::from_secs(300);

/// When to say it again.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Half of what the service manager waits for; none where it doesn't.
    period: Option<Duration>,
    next: Option<Instant>,
    /// Since when the engine is at work.
    working_since: Option<Instant>,
}

impl Watchdog {
    /// As the service manager asks for it.
    pub(crate) fn asked_for() -> Self {
        Self::every(sd_notify::watchdog_enabled().map(|limit| limit / 2))
    }

    fn every(period: Option<Duration>) -> Self {
        Self { period, next: period.map(|_| Instant::now()), working_since: None }
    }

    /// When it is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.next
    }

    /// The engine was handed out.
    pub(crate) fn begins(&mut self) {
        self.working_since = Some(Instant::now());
    }

    /// The engine is back.
    pub(crate) fn ends(&mut self) {
        self.working_since = None;
    }

    /// Says that the loop turns, if it is time for that.
    pub(crate) fn feed(&mut self, now: Instant) {
        if self.is_fed(now) {
            crate::daemon::notify(&[NotifyState::Watchdog]);
        }
    }

    /// Whether it is time, and all is well.
    fn is_fed(&mut self, now: Instant) -> bool {
        let Some(period) = self.period.filter(|_| self.next.is_some_and(|next| next <= now)) else {
            return false;
        };
        self.next = Some(now + period);
        let is_stuck =
            self.working_since.is_some_and(|since| now.saturating_duration_since(since) > STUCK);
        if is_stuck {
            tracing::error!(target: kind::STUCK, "a piece of work doesn't end; waiting to be started again");
        }
        !is_stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fed_in_time_while_work_comes_back() {
        let period = Duration::from_secs(30);
        let mut watchdog = Watchdog::every(Some(period));
        let start = Instant::now();
        assert!(watchdog.is_fed(start + period));
        assert!(!watchdog.is_fed(start + period), "not before it is due again");
        watchdog.begins();
        assert!(watchdog.is_fed(Instant::now() + STUCK / 2));
        assert!(!watchdog.is_fed(Instant::now() + STUCK + period));
        watchdog.ends();
        assert!(watchdog.is_fed(Instant::now() + 2 * STUCK));
        assert_eq!(Watchdog::every(None).due(), None);
    }
}
