//! What was measured, as values: groups of ways to do the same thing, which are compared.

use crate::statistics::{median, percentile_99};
use serde_json::{Value, json};

/// Ways to do the same thing, measured in turns.
#[derive(Debug)]
pub(crate) struct Group {
    /// What they do.
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// Where its medians are in a plot.
    pub(crate) point: Option<Point>,
    pub(crate) rows: Vec<Row>,
}

/// Which plot, and where on its horizontal axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) plot: &'static str,
    pub(crate) axis: &'static str,
    pub(crate) x: f64,
}

/// One way.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) way: String,
    pub(crate) kind: Kind,
    pub(crate) samples: Vec<f64>,
    /// Why there are none, or fewer than there should be.
    pub(crate) remark: Option<String>,
}

/// What a row is to the others of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody can do with less.
    Floor,
    /// What the others are compared with.
    Tierwall,
    Other,
}

/// What a sample counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Milliseconds,
    Nanoseconds,
    Mebibytes,
    Bytes,
    PerSecond,
    PerMinute,
    Percent,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Nanoseconds => "ns",
            Self::Mebibytes => "MiB",
            Self::Bytes => "bytes",
            Self::PerSecond => "a second",
            Self::PerMinute => "a minute",
            Self::Percent => "%",
        }
    }
}

impl Row {
    pub(crate) fn new(kind: Kind, way: impl Into<String>) -> Self {
        Self { way: way.into(), kind, samples: Vec::new(), remark: None }
    }

    pub(crate) fn median(&self) -> Option<f64> {
        median(&self.samples)
    }

    pub(crate) fn percentile_99(&self) -> Option<f64> {
        percentile_99(&self.samples)
    }

    fn lowest(&self) -> Option<f64> {
        self.samples.iter().copied().min_by(f64::total_cmp)
    }
}

impl Group {
    pub(crate) fn new(title: impl Into<String>, unit: Unit, rows: Vec<Row>) -> Self {
        Self { title: title.into(), unit, point: None, rows }
    }

    pub(crate) fn at(self, plot: &'static str, axis: &'static str, x: usize) -> Self {
        Self { point: Some(Point { plot, axis, x: x as f64 }), ..self }
    }

    /// How many times the median of the first row of `kind` that of `row` is.
    fn ratio(&self, row: &Row, kind: Kind) -> Option<f64> {
        let reference = self.rows.iter().find(|row| row.kind == kind)?.median()?;
        (reference > 0.0).then_some(row.median()? / reference)
    }

    /// The cells of each row: way, median, lowest, 99th of 100, times the floor, times tierwall.
    pub(crate) fn cells(&self) -> Vec<[String; COLUMNS]> {
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
        let ratio = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), ratio);
        let cells = |row: &Row| {
            let way = match &row.remark {
                Some(remark) => format!("{} ({remark})", row.way),
                None => row.way.clone(),
            };
            [
                way,
                number(row.median()),
                number(row.lowest()),
                number(row.percentile_99()),
                ratio(self.ratio(row, Kind::Floor)),
                ratio(self.ratio(row, Kind::Tierwall)),
            ]
        };
        self.rows.iter().map(cells).collect()
    }

    pub(crate) fn as_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "way": row.way,
                "median": row.median(),
                "lowest": row.lowest(),
                "percentile_99": row.percentile_99(),
                "samples": row.samples.len(),
                "times_floor": self.ratio(row, Kind::Floor),
                "times_tierwall": self.ratio(row, Kind::Tierwall),
                "remark": row.remark,
            })
        });
        let rows: Vec<Value> = rows.collect();
        json!({ "what": self.title, "unit": self.unit.name(), "ways": rows })
    }
}

pub(crate) const COLUMNS: usize = 6;

/// The heads of the columns; the second names the unit.
pub(crate) fn heads(unit: Unit) -> [String; COLUMNS] {
    let median = format!("median, {}", unit.name());
    [
        String::new(),
        median,
        "lowest".into(),
        "99th of 100".into(),
        "× floor".into(),
        "× tierwall".into(),
    ]
}

/// Three digits that count, no more.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 0.1 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => thousands(value),
    }
}

fn ratio(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => thousands(value),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { String::from("-") } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count as people say it: 10, 10k, 1M.
pub(crate) fn short(count: usize) -> String {
    match count {
        count if count >= 1_000_000 && count % 1_000_000 == 0 => {
            format!("{}M", count / 1_000_000)
        }
        count if count >= 1_000 && count % 1_000 == 0 => format!("{}k", count / 1_000),
        count => count.to_string(),
    }
}

/// All groups as one table of text.
pub(crate) fn text(groups: &[Group]) -> String {
    let mut table = String::new();
    for group in groups {
        let [_, heads @ ..] = heads(group.unit);
        table += &line(&group.title, &heads);
        for [way, cells @ ..] in group.cells() {
            table += &line(&format!("  {way}"), &cells);
        }
        table.push('\n');
    }
    table
}

fn line(way: &str, cells: &[String]) -> String {
    let cells: String = cells.iter().map(|cell| format!("{cell:>17}")).collect();
    format!("{way:<62}{cells}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_count() {
        let shown = [0.0, 0.0123, 1.234, 56.78, 999.6, 1_234_567.0].map(number);
        assert_eq!(shown, ["0", "0.012", "1.23", "56.8", "1,000", "1,234,567"]);
        assert_eq!([10, 10_000, 10_001, 2_000_000].map(short), ["10", "10k", "10001", "2M"]);
    }

    #[test]
    fn ways_are_compared_with_floor_and_tierwall() {
        let row = |kind, samples: &[f64]| Row { samples: samples.into(), ..Row::new(kind, "way") };
        let rows = vec![
            row(Kind::Floor, &[2.0]),
            row(Kind::Tierwall, &[9.0, 3.0, 4.0]),
            row(Kind::Other, &[]),
        ];
        let group = Group::new("what", Unit::Milliseconds, rows);
        let cells = group.cells().into_iter();
        let ratios: Vec<_> = cells.map(|[.., floor, tierwall]| [floor, tierwall]).collect();
        assert_eq!(ratios, [["1.00", "0.50"], ["2.00", "1.00"], ["–", "–"]]);
    }
}
