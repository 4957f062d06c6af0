//! `[metrics]`: where the daemon's numbers can be had, beside `tierwall metrics`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Shorter nobody looks; longer a collector takes the numbers for stale.
const SECONDS: std::ops::RangeInclusive<u32> = 1..=3600;

/// Where the numbers go. By default nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// Where they are served over HTTP.
    pub listen: Option<SocketAddr>,
    /// The file that they are written to, for node_exporter's textfile collector: an absolute path
    /// that ends with `.prom`.
    pub textfile: Option<PathBuf>,
    /// How often.
    pub interval: MetricsInterval,
}

/// How often a file is written: from a second to an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct MetricsInterval(u32);

/// A text or number is no such time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a time from 1 s to 1 h")]
pub struct NoInterval;

impl MetricsInterval {
    /// In seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl Default for MetricsInterval {
    /// As often as Prometheus asks by default in most places.
    fn default() -> Self {
        Self(15)
    }
}

impl TryFrom<u32> for MetricsInterval {
    type Error = NoInterval;

    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        if SECONDS.contains(&seconds) { Ok(Self(seconds)) } else { Err(NoInterval) }
    }
}

impl From<MetricsInterval> for u32 {
    fn from(interval: MetricsInterval) -> Self {
        interval.0
    }
}

/// `15s`, `1m`.
impl FromStr for MetricsInterval {
    type Err = NoInterval;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = humantime::parse_duration(text).map_err(|_| NoInterval)?;
        u32::try_from(time.as_secs()).map_err(|_| NoInterval)?.try_into()
    }
}

impl fmt::Display for MetricsInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}
