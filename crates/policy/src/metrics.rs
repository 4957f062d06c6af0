//! `[metrics]`: where the daemon's numbers can be had, beside `tierwall metrics`.

use crate::diagnostic::{Diagnostic, Diagnostics, quote};
use crate::document::{METRICS, Reader, Text};
use crate::model::Policy;
use crate::source::Place;
use crate::syntax::Value;
use ruleset::Transport;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use toml::de::DeValue;

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

/// What the file says, with the place that a lint is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct MetricsSetting {
    pub(crate) metrics: Metrics,
    pub(crate) listens_at: Option<Place>,
}

impl Reader<'_> {
    /// `[metrics]`
    pub(crate) fn metrics(&mut self, value: &Value<'_>) -> MetricsSetting {
        let mut setting = MetricsSetting::default();
        let DeValue::Table(table) = value.get_ref() else {
            let hint = "write [metrics], and below it listen = \"127.0.0.1:29815\"";
            self.mistyped("metrics", value, "a table", hint);
            return setting;
        };
        self.unknown_keys(table, &METRICS, |key| {
            (key == "port").then(|| "write listen = \"127.0.0.1:29815\"".into())
        });
        if let Some(text) = table.get("listen").and_then(|value| self.text("listen", value)) {
            setting.metrics.listen = self.listen(&text);
            setting.listens_at = Some(text.place);
        }
        if let Some(text) = table.get("textfile").and_then(|value| self.text("textfile", value)) {
            setting.metrics.textfile = self.textfile(&text);
        }
        if let Some(text) = table.get("interval").and_then(|value| self.text("interval", value)) {
            let hint = "a time from 1s to 1h, such as \"15s\" or \"1m\"";
            let interval =
                text.value.parse().map_err(|NoInterval| self.bad("interval", &text, hint));
            setting.metrics.interval = interval.unwrap_or_default();
        }
        setting
    }

    /// A single string.
    fn text(&mut self, key: &str, value: &Value<'_>) -> Option<Text> {
        let DeValue::String(text) = value.get_ref() else {
            self.mistyped(&format!("metrics.{key}"), value, "a text in quotes", "");
            return None;
        };
        Some(Text { value: text.clone().into_owned(), place: self.place(value.span()) })
    }

    fn bad(&mut self, key: &str, text: &Text, hint: &str) {
        let message = format!("`metrics.{key}` can't be {}", quote(&text.value));
        let diagnostic = Diagnostic::error("bad-setting", text.place.label(), message);
        self.diagnostics.push(diagnostic.hint(hint.to_owned()));
    }

    fn listen(&mut self, text: &Text) -> Option<SocketAddr> {
        let address = text.value.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
        if address.is_none() {
            let hint = "an address and a port: \"127.0.0.1:29815\" or \"[::1]:29815\"";
            self.bad("listen", text, hint);
        }
        address
    }

    fn textfile(&mut self, text: &Text) -> Option<PathBuf> {
        let path = Path::new(&text.value);
        let is_read = path.extension().is_some_and(|extension| extension == "prom");
        if !path.is_absolute() || !is_read {
            let hint = "an absolute path that ends with .prom, which is all that node_exporter \
                        reads: \"/var/lib/prometheus/node-exporter/tierwall.prom\"";
            self.bad("textfile", text, hint);
            return None;
        }
        Some(path.to_owned())
    }
}

/// Numbers that are served to more than this server itself: nobody is asked for a password, so
/// the allows say who reads them.
pub(crate) fn lint(setting: &MetricsSetting, policy: &Policy) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    let (Some(listen), Some(place)) = (setting.metrics.listen, &setting.listens_at) else {
        return diagnostics;
    };
    if listen.ip().is_loopback() {
        return diagnostics;
    }
    let port = listen.port();
    let opens = |service: &crate::model::Service| {
        let ranges = service.ports.get(&Transport::Tcp).into_iter().flatten();
        service.any || ranges.into_iter().any(|range| range.contains(&port))
    };
    let mut allows = policy.allows.iter().filter(|allow| opens(&allow.service)).peekable();
    let told = match allows.peek() {
        None => Some((
            format!("metrics are served at {listen}, but no allow opens tcp/{port}"),
            "add an allow from those who read them: nobody is asked for a password; or listen on \
             127.0.0.1"
                .to_owned(),
        )),
        Some(_) => allows.find(|allow| allow.from.any).map(|allow| {
            let key = allow.key.to_string();
            (
                format!("everybody may read the metrics at {listen}, by the allow {}", quote(&key)),
                "nobody is asked for a password: name those who read them, or listen on 127.0.0.1"
                    .to_owned(),
            )
        }),
    };
    if let Some((message, hint)) = told {
        let diagnostic = Diagnostic::warning("metrics-reach", place.label(), message);
        diagnostics.push(diagnostic.hint(hint));
    }
    diagnostics
}
