//! Text that a terminal can show: nothing in it is a command to the terminal, and nothing wider
//! than there is room.

use crate::options::{Color, Common};
use anstream::{AutoStream, ColorChoice};
use policy::is_invisible;
use ratatui_core::style::{Color as Paint, Style};
use ratatui_core::text::Span;
use std::env;

/// What the terminal can show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) styles: bool,
    /// Whether it takes more than ASCII.
    pub(super) unicode: bool,
}

/// What a piece of text is. Words say it too: a colour is never alone in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Heading,
    Good,
    Bad,
    Warning,
    Faint,
    /// The row that the keys move.
    Selected,
}

/// Bars of an eighth each, and what stands for them elsewhere.
const BARS: [[char; 9]; 2] =
    [[' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'], [' ', '.', ':', '-', '=', '+', '*', '%', '#']];

impl Look {
    /// As the options, the environment and the locale say.
    pub(super) fn of(common: &Common) -> Self {
        let styles = match common.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => AutoStream::choice(&std::io::stdout()) != ColorChoice::Never,
        };
        // The first of them that is set counts: locale(7).
        let names = ["LC_ALL", "LC_CTYPE", "LANG"];
        let set = names.iter().filter_map(env::var_os).find(|value| !value.is_empty());
        let locale = set.unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        Self { styles, unicode: locale.contains("utf-8") || locale.contains("utf8") }
    }

    /// A piece of a line.
    pub(super) fn span(self, tone: Tone, text: &str) -> Span<'static> {
        Span::styled(self.clean(text), self.style(tone))
    }

    pub(super) fn style(self, tone: Tone) -> Style {
        if !self.styles {
            return Style::new();
        }
        match tone {
            Tone::Plain => Style::new(),
            Tone::Heading => Style::new().bold(),
            Tone::Good => Style::new().fg(Paint::Green),
            Tone::Bad => Style::new().fg(Paint::Red).bold(),
            Tone::Warning => Style::new().fg(Paint::Yellow),
            Tone::Faint => Style::new().dim(),
            Tone::Selected => Style::new().reversed(),
        }
    }

    /// Without what commands a terminal, turns the direction of writing, or can't be shown.
    pub(super) fn clean(self, text: &str) -> String {
        let is_good = |c: char| !is_invisible(c) && (self.unicode || c.is_ascii());
        text.chars().map(|c| if is_good(c) { c } else { '?' }).collect()
    }

    /// So many characters of the text at most, the last one a sign that there was more.
    pub(super) fn cut(self, text: &str, width: usize) -> String {
        if text.chars().count() <= width {
            return text.to_owned();
        }
        let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
        if width > 0 {
            cut.push(self.more());
        }
        cut
    }

    /// The same with what is missing in the middle: addresses differ at their ends.
    pub(super) fn cut_middle(self, text: &str, width: usize) -> String {
        let length = text.chars().count();
        if length <= width || width < 3 {
            return self.cut(text, width);
        }
        let head = (width - 1) / 2;
        let tail = width - 1 - head;
        let mut cut: String = text.chars().take(head).collect();
        cut.push(self.more());
        cut.extend(text.chars().skip(length - tail));
        cut
    }

    /// The last values as bars, as many as fit.
    pub(super) fn bars(self, values: &[u64], width: usize) -> String {
        let shown = &values[values.len().saturating_sub(width)..];
        let most = shown.iter().copied().max().unwrap_or(0).max(1);
        let bars = BARS[usize::from(!self.unicode)];
        // Whatever isn't nothing is to be seen.
        shown.iter().map(|value| bars[(value * 8).div_ceil(most) as usize]).collect()
    }

    fn more(self) -> char {
        if self.unicode { '…' } else { '~' }
    }
}

/// A number in five characters at most.
pub(super) fn short(number: f64) -> String {
    match number {
        n if n < 0.05 => "0".into(),
        n if n < 9.95 => format!("{n:.1}"),
        n if n < 9_999.5 => format!("{n:.0}"),
        n if n < 999_500.0 => format!("{:.0}k", n / 1e3),
        n => format!("{:.1}M", n / 1e6),
    }
}

/// The same of what is counted: there are no parts of it.
pub(super) fn short_count(number: u64) -> String {
    if number < 10 { number.to_string() } else { short(number as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { styles: false, unicode: false };
    const FULL: Look = Look { styles: true, unicode: true };

    #[test]
    fn nothing_commands_the_terminal() {
        let hostile = "a\x1b[2J\u{9b}31mb\u{202e}c\r\n\u{200b}é";
        assert_eq!(FULL.clean(hostile), "a?[2J?31mb?c???é");
        assert_eq!(PLAIN.clean(hostile), "a?[2J?31mb?c????");
    }

    #[test]
    fn what_is_too_wide_is_cut_and_says_so() {
        assert_eq!(PLAIN.cut("abcdef", 6), "abcdef");
        assert_eq!(PLAIN.cut("abcdef", 4), "abc~");
        assert_eq!((PLAIN.cut("abcdef", 1), PLAIN.cut("abcdef", 0)), ("~".into(), String::new()));
        assert_eq!(FULL.cut_middle("2001:db8::1234:5678", 9), "2001…5678");
        assert_eq!(PLAIN.cut_middle("abcdef", 2), "a~");
    }

    #[test]
    fn bars_show_the_last_minutes() {
        assert_eq!(FULL.bars(&[9, 0, 1, 100, 50], 4), " ▁█▄");
        assert_eq!(PLAIN.bars(&[0, 1, 8], 10), " .#");
        assert_eq!(FULL.bars(&[0, 0], 10), "  ");
        assert_eq!(FULL.bars(&[], 10), "");
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 0.2, 9.9, 12.0, 9999.0, 10_000.0, 999_499.0, 1_400_000.0];
        let told: Vec<String> = numbers.into_iter().map(short).collect();
        assert_eq!(told, ["0", "0.2", "9.9", "12", "9999", "10k", "999k", "1.4M"]);
        assert_eq!([0, 4, 10, 10_000].map(short_count), ["0", "4", "10", "10k"]);
    }
}
