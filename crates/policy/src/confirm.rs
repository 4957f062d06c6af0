//! `confirm`: how long a change waits until somebody confirms that they can still get in.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Shorter nobody can open a connection and confirm; longer nobody waits for a way back.
const SECONDS: std::ops::RangeInclusive<u32> = 5..=3600;

/// A time to confirm in: from 5 seconds to an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ConfirmTime(u32);

/// Why a text or number is no time to confirm in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmTimeError {
    /// Not a time at all.
    #[error("`{0}` is not a time: write 60s, 2m or 1h")]
    NotATime(String),
    /// Too short or too long.
    #[error("the time to confirm lies between 5 s and 1 h")]
    OutOfBounds,
}

impl ConfirmTime {
    /// In seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl Default for ConfirmTime {
    /// A minute.
    fn default() -> Self {
        Self(60)
    }
}

impl TryFrom<u32> for ConfirmTime {
    type Error = ConfirmTimeError;

    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        match SECONDS.contains(&seconds) {
            true => Ok(Self(seconds)),
            false => Err(ConfirmTimeError::OutOfBounds),
        }
    }
}

impl From<ConfirmTime> for u32 {
    fn from(time: ConfirmTime) -> Self {
        time.0
    }
}

/// `60`, `60s`, `2m`, `1h` or `1m 30s`.
impl FromStr for ConfirmTime {
    type Err = ConfirmTimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = match text.parse::<u64>() {
            Ok(seconds) => seconds,
            Err(_) => humantime::parse_duration(text)
                .map_err(|_| ConfirmTimeError::NotATime(text.to_owned()))?
                .as_secs(),
        };
        let seconds = u32::try_from(seconds).map_err(|_| ConfirmTimeError::OutOfBounds)?;
        Self::try_from(seconds)
    }
}

impl fmt::Display for ConfirmTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write_within_bounds() {
        let seconds = |text: &str| text.parse::<ConfirmTime>().map(ConfirmTime::seconds);
        for (text, expected) in [("5", 5), ("60s", 60), ("2m", 120), ("1m 30s", 90), ("1h", 3600)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["4", "0s", "61m", "5000000000", "500ms"] {
            assert_eq!(seconds(text), Err(ConfirmTimeError::OutOfBounds), "{text}");
        }
        for text in ["", "soon", "-5s", "60 seconds of grace"] {
            assert!(matches!(seconds(text), Err(ConfirmTimeError::NotATime(_))), "{text}");
        }
    }
}
