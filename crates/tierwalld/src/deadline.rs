//! Times that must not be missed: by the clock that runs on while the machine sleeps, and that nobody
//! sets.

use crate::boot;
use crate::clock;
use policy::ConfirmTime;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When the time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deadline {
    /// By the wall clock, in seconds since the epoch: for people.
    pub(crate) wall: u64,
    /// The boot, and the milliseconds since then.
    pub(crate) boot: Option<String>,
    pub(crate) uptime: u64,
}

impl Deadline {
    /// In so long.
    pub(crate) fn after(time: ConfirmTime) -> Self {
        Self::after_time(Duration::from_secs(time.seconds().into()))
    }

    /// The same of any time.
    pub(crate) fn after_time(time: Duration) -> Self {
        let uptime = (boot::time().unwrap_or_default() + time).as_millis() as u64;
        Self { wall: clock::now() + time.as_secs(), boot: boot::id(), uptime }
    }

    /// How long until then; zero when it is over, also by another boot.
    pub(crate) fn left(&self) -> Duration {
        let same = self.boot.is_some() && self.boot == boot::id();
        let now = boot::time().filter(|_| same);
        now.map_or(Duration::ZERO, |now| Duration::from_millis(self.uptime).saturating_sub(now))
    }
}
