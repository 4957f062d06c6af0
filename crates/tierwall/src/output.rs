//! What the user reads: data on standard output, everything else on standard error.

use anstyle::{AnsiColor, Style};
use policy::is_invisible;
use std::io::{self, Write};

pub(crate) const HEADING: Style = Style::new().bold();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
pub(crate) const FAINT: Style = Style::new().dimmed();

/// How many addresses there are that nobody counts.
pub(crate) const BEYOND_COUNTING: &str = "over 100 million";

/// Prints data. A reader that has seen enough (`tierwall check | head`) is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    print_on(text).map(|_| ())
}

/// The same of data that goes on coming: whether somebody still reads it.
pub(crate) fn print_on(text: &str) -> io::Result<bool> {
    let mut output = anstream::stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

/// Prints JSON, indented.
pub(crate) fn print_json(value: &serde_json::Value) -> io::Result<()> {
    print(&format!("{value:#}\n"))
}

/// Prints on standard error; that it can't is nothing to stop for.
pub(crate) fn tell(text: &str) {
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}

/// A line that may hold names of others (of processes, interfaces, chains), without what commands a
/// terminal or hides other text.
pub(crate) fn clean_line(text: &str) -> String {
    text.chars().map(|c| if is_invisible(c) { '?' } else { c }).collect()
}

/// The same of several lines.
pub(crate) fn clean(text: &str) -> String {
    text.split('\n').map(clean_line).collect::<Vec<_>>().join("\n")
}

/// A number of things: `1 rule`, `2 rules`.
pub(crate) fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// `text` in `style`.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// How wide a column gets. A cell that is wider moves the rest of its own row alone.
const WIDEST: usize = 100;

/// Rows of plain cells, as columns two spaces apart, indented by two. The last column isn't
/// padded.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let widths = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        widths.filter(|width| *width <= WIDEST).max()
    };
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from("  ");
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{clean, columns};

    #[test]
    fn names_of_others_command_no_terminal() {
        assert_eq!(clean("a\x1b]0;b\u{7}\u{9b}2J\nc\u{ad}\u{e0041}é"), "a?]0;b??2J\nc??é");
    }

    #[test]
    fn columns_line_up_without_trailing_blanks() {
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        let text = columns(&[row(["web", "tcp/80", ""]), row(["admin", "any", "x"])]);
        assert_eq!(text, "  web    tcp/80\n  admin  any     x\n");
    }

    #[test]
    fn a_cell_of_any_width_is_shown() {
        let wide = "w".repeat(70_000);
        let row = |cells: [&str; 2]| cells.map(String::from).to_vec();
        let text = columns(&[row([&wide, "x"]), row(["web", "x"])]);
        assert_eq!(text, format!("  {wide}  x\n  web  x\n"));
    }
}
