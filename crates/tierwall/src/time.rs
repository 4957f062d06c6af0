//! Times and lengths of time in words.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long ago, in the largest unit that fits.
pub(crate) fn ago(time: u64) -> String {
    in_words(now().saturating_sub(time))
}

/// How long until then.
pub(crate) fn left(time: u64) -> String {
    in_words(time.saturating_sub(now()))
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A time in UTC: `2026-01-02T03:04:05Z`.
pub(crate) fn utc(time: u64) -> String {
    // The last second that RFC 3339 can say.
    let seconds = Duration::from_secs(time.min(253_402_300_799));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + seconds).to_string()
}

pub(crate) fn in_words(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn a_time_of_any_number_is_told() {
        assert_eq!(utc(1_767_322_984), "2026-01-02T03:03:04Z");
        assert_eq!(utc(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
