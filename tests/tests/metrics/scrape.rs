//! A strict reader of the text format: what it takes, others take.

use std::collections::BTreeMap;
use tierwall_tests::server::Server;

/// Labels and a value.
pub(crate) type Sample = (BTreeMap<String, String>, f64);

/// A metric.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Metric {
    pub(crate) kind: String,
    pub(crate) help: String,
    /// With what is behind the name: `_bucket`, `_sum`, `_count` of a histogram.
    pub(crate) samples: Vec<(String, Sample)>,
}

/// All of a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scrape {
    pub(crate) text: String,
    pub(crate) metrics: BTreeMap<String, Metric>,
}

impl Scrape {
    /// What the command prints.
    pub(crate) fn of(server: &Server) -> Self {
        let output = server.tierwall(&["metrics"]).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::read(&String::from_utf8(output.stdout).unwrap())
    }

    /// Reads a text, in which every sample stands below the heading of its metric.
    pub(crate) fn read(text: &str) -> Self {
        let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
        let mut current = String::new();
        assert!(text.ends_with('\n') && !text.contains('\r'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                let metric =
                    Metric { kind: String::new(), help: help.to_owned(), samples: Vec::new() };
                assert!(metrics.insert(name.to_owned(), metric).is_none(), "{name} comes twice");
                name.clone_into(&mut current);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, current);
                kind.clone_into(&mut metrics.get_mut(name).unwrap().kind);
            } else {
                let rest = line.strip_prefix(&current).unwrap_or_else(|| panic!("{line}"));
                let end = rest.find(['{', ' ']).unwrap();
                let (suffix, rest) = rest.split_at(end);
                let metric = metrics.get_mut(&current).unwrap();
                assert!(suffix.is_empty() || metric.kind == "histogram", "{line}");
                let (labels, value) = labels(rest);
                let sample = (suffix.to_owned(), (labels, value.parse().unwrap()));
                let is_new = metric
                    .samples
                    .iter()
                    .all(|known| (&known.0, &known.1.0) != (&sample.0, &sample.1.0));
                assert!(is_new, "comes twice: {line}");
                metric.samples.push(sample);
            }
        }
        Self { text: text.to_owned(), metrics }
    }

    /// Samples of a metric with these labels, and maybe others.
    pub(crate) fn with(&self, name: &str, labels: &[(&str, &str)]) -> Vec<Sample> {
        let metric = self.metrics.get(name).unwrap_or_else(|| panic!("no {name}"));
        let is_wanted = |sample: &Sample| {
            labels.iter().all(|(label, value)| sample.0.get(*label).is_some_and(|v| v == value))
        };
        metric.samples.iter().map(|(_, sample)| sample).filter(|s| is_wanted(s)).cloned().collect()
    }

    /// Their sum.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.with(name, labels).iter().map(|(_, value)| *value as u64).sum()
    }

    /// The value of the only one.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        match &self.with(name, labels)[..] {
            [(_, value)] => *value,
            other => panic!("{name} {labels:?}: {other:?}"),
        }
    }

    /// The same of a number without a fraction.
    pub(crate) fn number(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let value = self.value(name, labels);
        assert_eq!(value.fract(), 0.0, "{name}");
        value as u64
    }

    /// Every counter that is there, with its labels.
    pub(crate) fn counters(&self) -> BTreeMap<String, f64> {
        let counters = self.metrics.iter().filter(|(_, metric)| metric.kind != "gauge");
        let samples = counters.flat_map(|(name, metric)| {
            let told = move |(suffix, (labels, value)): &(String, Sample)| {
                (format!("{name}{suffix} {labels:?}"), *value)
            };
            metric.samples.iter().map(told)
        });
        samples.collect()
    }
}

/// `{a="b",c="d"} 7`
fn labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else { return (labels, text.trim_start()) };
    loop {
        let (name, after) = rest.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap() {
                (_, '\\') => value.push(match characters.next().unwrap().1 {
                    'n' => '\n',
                    other => other,
                }),
                (end, '"') => break end,
                (_, other) => value.push(other),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{text}");
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return (labels, rest.strip_prefix("} ").unwrap()),
        }
    }
}
