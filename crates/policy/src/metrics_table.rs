//! The table `[metrics]` of a policy file.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::{METRICS, Reader, Text};
use crate::metrics::{Metrics, NoInterval};
use crate::model::Policy;
use crate::quoting::quote;
use crate::source::Place;
use crate::syntax::Value;
use ruleset::Transport;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::de::DeValue;

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
