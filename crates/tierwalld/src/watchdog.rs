//! The service manager's watchdog (sd_watchdog_enabled(3)): the daemon says that it gets work done,
//! and is killed and started again if it doesn't.
//!
//! It is said only when a piece of work came back. Where there is none, one that does nothing is
//! handed out for it. Work that takes too long isn't reported any more: with the unit's
//! `WatchdogSec=20` the daemon is killed at most 50 s after it began, before the time to confirm that
//! a change has unless it is given another. The start that follows rolls the change back.

use crate::journal::kind;
use crate::service_manager::notify;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::Instant;

/// When to say it again.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// What the service manager waits for; none where it doesn't.
    limit: Option<Duration>,
    next: Option<Instant>,
    /// Since when the engine is at work.
    working_since: Option<Instant>,
    /// Whether it has to be said when the engine comes back.
    is_due: bool,
    /// Whether the log says that work doesn't end.
    is_logged: bool,
}

/// What is to be done when the watchdog is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// It isn't, or work takes too long.
    Nothing,
    /// To say that work gets done.
    Feed,
    /// To hand out work that shows it.
    Prove,
}

impl Watchdog {
    /// As the service manager asks for it.
    pub(crate) fn asked_for() -> Self {
        Self::within(sd_notify::watchdog_enabled())
    }

    fn within(limit: Option<Duration>) -> Self {
        let next = limit.map(|_| Instant::now());
        Self { limit, next, working_since: None, is_due: false, is_logged: false }
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
        self.is_logged = false;
        if std::mem::take(&mut self.is_due) {
            notify(&[NotifyState::Watchdog]);
        }
    }

    /// Says that work gets done, if it is time for that and it does. Returns whether work has to be
    /// handed out to show it.
    pub(crate) fn feed(&mut self, now: Instant) -> bool {
        match self.is_due_at(now) {
            Due::Nothing => false,
            Due::Feed => {
                notify(&[NotifyState::Watchdog]);
                false
            }
            Due::Prove => {
                self.is_due = true;
                true
            }
        }
    }

    fn is_due_at(&mut self, now: Instant) -> Due {
        let Some(limit) = self.limit.filter(|_| self.next.is_some_and(|next| next <= now)) else {
            return Due::Nothing;
        };
        self.next = Some(now + limit / 2);
        let Some(since) = self.working_since else { return Due::Prove };
        // Once more than it may be silent.
        if now.saturating_duration_since(since) <= limit * 3 / 2 {
            return Due::Feed;
        }
        if !std::mem::replace(&mut self.is_logged, true) {
            tracing::error!(target: kind::STUCK, "a piece of work doesn't end; waiting to be started again");
        }
        Due::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fed_in_time_while_work_comes_back() {
        let limit = Duration::from_secs(20);
        let mut watchdog = Watchdog::within(Some(limit));
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(watchdog.is_due_at(later(10)), Due::Prove, "nothing is at work");
        assert_eq!(watchdog.is_due_at(later(10)), Due::Nothing, "not before it is due again");
        watchdog.begins();
        assert_eq!(watchdog.is_due_at(later(20)), Due::Feed);
        assert_eq!(watchdog.is_due_at(later(30)), Due::Feed);
        assert_eq!(watchdog.is_due_at(later(41)), Due::Nothing);
        // Killed by 30 s + 20 s, within the time to confirm that there is unless said otherwise.
        let killed = limit * 3 / 2 + limit;
        assert!(killed.as_secs() < u64::from(policy::ConfirmTime::default().seconds()));
        watchdog.ends();
        assert_eq!(watchdog.is_due_at(later(60)), Due::Prove);
        assert_eq!(Watchdog::within(None).due(), None);
    }
}
