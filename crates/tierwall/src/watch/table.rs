//! Columns that fit the width there is.
//!
//! Where there is too little of it, first places (an address and its tiers) are shortened, down to
//! what still tells them apart, then columns go that can be done without, then places are shortened
//! further.

use super::text::{Look, Tone};
use crate::denied::place;
use ratatui_core::text::Line;

/// Blanks between columns.
const GAP: usize = 2;

/// A place is shortened to this before a column goes, and after.
const ENOUGH: usize = 18;
const LEAST: usize = 15;

/// A column.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) heading: &'static str,
    pub(super) cells: Vec<Cell>,
    /// How easily it can be done without; none where it can't be.
    pub(super) spare: Option<u8>,
}

/// What stands in a row.
#[derive(Debug)]
pub(super) enum Cell {
    Text(String),
    /// Numbers end together.
    Number(u64),
    /// An address and its tiers, either of them perhaps empty.
    Place(String, String),
}

impl Column {
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(Cell::width);
        cells.max().unwrap_or(0).max(self.heading.len())
    }

    fn is_place(&self) -> bool {
        matches!(self.cells.first(), Some(Cell::Place(..)))
    }

    fn is_empty(&self) -> bool {
        self.cells.iter().all(|cell| matches!(cell, Cell::Text(text) if text.is_empty()))
    }
}

impl Cell {
    fn width(&self) -> usize {
        match self {
            Self::Text(text) => text.chars().count(),
            Self::Number(number) => number.to_string().len(),
            Self::Place(address, tiers) => place(address, tiers).chars().count(),
        }
    }

    fn shown(&self, look: Look, width: usize) -> String {
        match self {
            Self::Text(text) => look.cut(text, width),
            Self::Number(number) => format!("{number:>width$}"),
            Self::Place(address, tiers) => shortened(look, address, tiers, width),
        }
    }
}

/// The same in a width: of both something is left.
fn shortened(look: Look, address: &str, tiers: &str, width: usize) -> String {
    let full = place(address, tiers);
    let length = full.chars().count();
    if length <= width || address.is_empty() || tiers.is_empty() {
        return if tiers.is_empty() {
            look.cut_middle(&full, width)
        } else {
            look.cut(&full, width)
        };
    }
    // Blank and parentheses.
    let room = width.saturating_sub(3);
    let (address_length, tiers_length) = (address.chars().count(), tiers.chars().count());
    let for_tiers = tiers_length.min((room / 2).max(room.saturating_sub(address_length)));
    let for_address = room - for_tiers;
    if for_tiers < 3 || for_address < 7 {
        return look.cut_middle(address, width);
    }
    let (address, tiers) = (look.cut_middle(address, for_address), look.cut(tiers, for_tiers));
    format!("{address} ({tiers})")
}

/// The heading and the rows, in a width; `chosen` is the row that the keys chose.
pub(super) fn lines(
    look: Look,
    mut columns: Vec<Column>,
    width: usize,
    rows: std::ops::Range<usize>,
    chosen: Option<usize>,
) -> Vec<Line<'static>> {
    columns.retain(|column| !column.is_empty());
    let widths = fit(&mut columns, width);
    let cells = |cell: &dyn Fn(&Column, usize) -> String| {
        let mut line = String::new();
        for (column, width) in columns.iter().zip(&widths) {
            let cell = look.clean(&cell(column, *width));
            line.push_str(&format!("{cell:width$}{:GAP$}", ""));
        }
        line.truncate(line.trim_end().len());
        line
    };
    let heading = cells(&|column, width| match column.cells.first() {
        Some(Cell::Number(_)) => format!("{:>width$}", column.heading),
        _ => look.cut(column.heading, width),
    });
    let mut lines = vec![Line::from(look.span(Tone::Faint, &format!("  {heading}")))];
    for row in rows {
        let cell = |column: &Column, width| {
            column.cells.get(row).map_or_else(String::new, |cell| cell.shown(look, width))
        };
        let (mark, tone) = match chosen == Some(row) {
            true => ("> ", Tone::Selected),
            false => ("  ", Tone::Plain),
        };
        lines.push(Line::from(look.span(tone, &format!("{mark}{}", cells(&cell)))));
    }
    lines
}

/// Takes columns away as far as there is no room, and says how wide the others are.
fn fit(columns: &mut Vec<Column>, width: usize) -> Vec<usize> {
    // The mark of the chosen row.
    let width = width.saturating_sub(2);
    loop {
        let mut widths: Vec<usize> = columns.iter().map(Column::width).collect();
        let gaps = GAP * columns.len().saturating_sub(1);
        let places: Vec<usize> = (0..columns.len()).filter(|at| columns[*at].is_place()).collect();
        let fixed: usize = (0..columns.len())
            .filter(|at| !places.contains(at))
            .map(|at| widths[at])
            .sum::<usize>()
            + gaps;
        let most_spare = (0..columns.len()).filter_map(|at| Some((columns[at].spare?, at))).max();
        let least = if most_spare.is_some() { ENOUGH } else { LEAST };
        let wanted: usize = places.iter().map(|at| widths[*at].min(least)).sum();
        if fixed + wanted > width
            && let Some((_, at)) = most_spare
        {
            columns.remove(at);
            continue;
        }
        share(&mut widths, &places, width.saturating_sub(fixed));
        return widths;
    }
}

/// Shares the room among the places: who needs less than an equal part leaves the rest to the
/// others.
fn share(widths: &mut [usize], places: &[usize], mut room: usize) {
    let mut places = places.to_vec();
    places.sort_by_key(|at| widths[*at]);
    for (done, at) in places.iter().enumerate() {
        let part = room / (places.len() - done);
        widths[*at] = widths[*at].min(part);
        room -= widths[*at];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look { styles: false, unicode: false };
    const LONG: &str = "2001:db8:1111:2222:3333:4444:5555:6666";

    fn columns() -> Vec<Column> {
        let place = |address: &str, tiers: &str| Cell::Place(address.into(), tiers.into());
        let column = |heading, cells, spare| Column { heading, cells, spare };
        vec![
            column("times", vec![Cell::Number(12), Cell::Number(1_000_000)], None),
            column("from", vec![place("10.0.0.1", "web"), place(LONG, "a-long-tier")], None),
            column("to", vec![place(LONG, ""), place("10.0.0.2", "")], None),
            column("user", vec![Cell::Text(String::new()), Cell::Text(String::new())], None),
            column("if", vec![Cell::Text("eth0".into()), Cell::Text("eth1".into())], Some(1)),
        ]
    }

    fn told(width: usize) -> String {
        let lines = lines(LOOK, columns(), width, 0..2, Some(1));
        let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
        assert!(text.iter().all(|line| line.len() <= width.max(40)), "{text:#?}");
        text.join("\n")
    }

    #[test]
    fn all_of_it_where_there_is_room() {
        insta::assert_snapshot!(told(200));
    }

    #[test]
    fn places_are_shortened_then_columns_go() {
        insta::assert_snapshot!(told(80));
        insta::assert_snapshot!(told(60));
        insta::assert_snapshot!(told(40));
    }

    #[test]
    fn no_width_is_too_small() {
        for width in 0..60 {
            lines(LOOK, columns(), width, 0..2, None);
        }
    }
}
