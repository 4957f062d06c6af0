//! Prometheus' text format, version 0.0.4: what node_exporter's textfile collector and promtool read
//! too.
//!
//! OpenMetrics, which the libraries for Rust write, names a counter's family without `_total`; a
//! reader of this format then takes its samples for metrics without a type.

use std::fmt::{self, Write};

/// The media type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text under way.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

/// What kind of number a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Whole(u64),
    Real(f64),
}

/// The samples of a metric, after its heading.
#[derive(Debug)]
pub(crate) struct Family<'t> {
    text: &'t mut String,
    name: &'t str,
}

impl Text {
    /// Begins a metric. Names are ours: letters, digits and `_`.
    pub(crate) fn family<'t>(&'t mut self, name: &'t str, kind: Kind, help: &str) -> Family<'t> {
        let text = &mut self.0;
        // Into a string nothing fails.
        let _ = writeln!(text, "# HELP {name} {}", Escaped { text: help, quoted: false });
        let _ = writeln!(text, "# TYPE {name} {kind}");
        Family { text, name }
    }

    /// A metric that only grows.
    pub(crate) fn counter<'t>(&'t mut self, name: &'t str, help: &str) -> Family<'t> {
        self.family(name, Kind::Counter, help)
    }

    /// A metric that goes up and down.
    pub(crate) fn gauge<'t>(&'t mut self, name: &'t str, help: &str) -> Family<'t> {
        self.family(name, Kind::Gauge, help)
    }

    /// All of it.
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// A sample with these labels.
    pub(crate) fn with(&mut self, labels: &[(&str, &str)], number: impl Into<Number>) -> &mut Self {
        self.suffixed("", labels, number)
    }

    /// The sample of a metric without labels.
    pub(crate) fn is(&mut self, number: impl Into<Number>) {
        self.with(&[], number);
    }

    /// A sample of a part of a histogram: `_bucket`, `_sum`, `_count`.
    pub(crate) fn suffixed(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        number: impl Into<Number>,
    ) -> &mut Self {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let value = Escaped { text: value, quoted: true };
            let _ = write!(self.text, "{before}{label}=\"{value}\"");
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {}", number.into());
        self
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Real(number) if *number == f64::INFINITY => f.write_str("+Inf"),
            Self::Real(number) if *number == f64::NEG_INFINITY => f.write_str("-Inf"),
            Self::Real(number) => number.fmt(f),
        }
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Whole(number as u64)
    }
}

impl From<u32> for Number {
    fn from(number: u32) -> Self {
        Self::Whole(number.into())
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// 1 where it is so.
impl From<bool> for Number {
    fn from(is: bool) -> Self {
        Self::Whole(is.into())
    }
}

/// A text as it stands in a heading, or in the quotes of a label.
struct Escaped<'t> {
    text: &'t str,
    quoted: bool,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.text.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' if self.quoted => f.write_str("\\\"")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a line as the format's description has it: the label values, and what is behind.
    fn read(line: &str) -> Option<(Vec<String>, &str)> {
        let mut rest = line.strip_prefix("name")?;
        let mut values = Vec::new();
        let mut opening = "{label=\"";
        while let Some(inside) = rest.strip_prefix(opening) {
            let mut value = String::new();
            let mut characters = inside.char_indices();
            loop {
                match characters.next()? {
                    (_, '\\') => value.push(match characters.next()?.1 {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        _ => return None,
                    }),
                    (end, '"') => {
                        rest = &inside[end + 1..];
                        break;
                    }
                    (_, '\n') => return None,
                    (_, other) => value.push(other),
                }
            }
            values.push(value);
            opening = ",label=\"";
        }
        let rest = if values.is_empty() { rest } else { rest.strip_prefix('}')? };
        Some((values, rest.strip_prefix(' ')?))
    }

    proptest! {
        #[test]
        fn whatever_a_label_holds_is_read_back(
            values in prop::collection::vec("(\\PC|[\\\\\"\n\r\t{},= #])*", 0..4),
            number in any::<u64>(),
        ) {
            let mut text = Text::default();
            let labels: Vec<(&str, &str)> = values.iter().map(|value| ("label", &**value)).collect();
            text.gauge("name", "help").with(&labels, number);
            let text = text.into_string();
            let line = text.strip_prefix("# HELP name help\n# TYPE name gauge\n").expect("a heading");
            let line = line.strip_suffix('\n').expect("an end");
            prop_assert!(!line.contains('\n'));
            let (read, rest) = read(line).expect("a sample");
            prop_assert_eq!(read, values);
            prop_assert_eq!(rest, number.to_string());
        }

        #[test]
        fn a_help_stays_on_its_line(help in "(\\PC|[\\\\\n])*") {
            let mut text = Text::default();
            text.counter("name", &help).is(1u64);
            prop_assert_eq!(text.into_string().lines().count(), 3);
        }
    }

    #[test]
    fn numbers_are_as_the_format_has_them() {
        let told = |number: Number| number.to_string();
        assert_eq!(told(u64::MAX.into()), "18446744073709551615");
        assert_eq!(told(0.000_1.into()), "0.0001");
        assert_eq!(told(f64::INFINITY.into()), "+Inf");
        assert_eq!(told(true.into()), "1");
    }
}
