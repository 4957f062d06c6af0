//! The view: the model as what stands in each line of the terminal.
//!
//! ```text
//! what is enforced; a change that waits; what is wrong     as many lines as that takes
//! rates and the last minutes
//! the heaviest, and what was denied last                   the room that is left
//! the chosen row in full                                   from 20 lines on
//! keys
//! ```

use super::keys::KEYS;
use super::model::{List, Model};
use super::rates::{Rate, minutes};
use super::rows;
use super::table::{self, Column};
use super::text::{Look, Tone, short, short_count};
use super::trouble;
use crate::time::in_words;
use control::{DenialsBy, SideMode, Status};
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::text::{Line, Span};

/// Lines from which on there is room for more: for blank ones and the chosen row in full, and for
/// two lists.
const TALL: usize = 20;
const TWO_LISTS: usize = 14;

/// Lines of the chosen row, a blank one in front.
const CHOSEN: usize = 4;

/// Draws all of it.
pub(super) fn draw(model: &Model, look: Look, area: Rect, buffer: &mut Buffer) {
    let view = View { model, look, width: area.width.into(), height: area.height.into() };
    for (line, y) in view.lines().iter().zip(area.y..area.bottom()) {
        buffer.set_line(area.x, y, line, area.width);
    }
}

struct View<'a> {
    model: &'a Model,
    look: Look,
    width: usize,
    height: usize,
}

impl View<'_> {
    /// As many lines as there are in the terminal.
    fn lines(&self) -> Vec<Line<'static>> {
        let is_tall = self.height >= TALL;
        let mut lines = self.head();
        let foot = usize::from(self.height > 3);
        let chosen = if is_tall && !self.model.help { self.chosen() } else { Vec::new() };
        if is_tall {
            lines.push(Line::default());
        }
        lines.truncate(self.height.saturating_sub(foot));
        let room = self.height.saturating_sub(lines.len() + chosen.len() + foot);
        let mut body = match self.model.help {
            true => self.help(),
            false => self.lists(room),
        };
        body.resize(room, Line::default());
        lines.extend(body);
        lines.extend(chosen);
        lines.extend((foot > 0).then(|| self.foot()));
        lines
    }

    fn line(&self, tone: Tone, text: &str) -> Line<'static> {
        Line::from(self.look.span(tone, &self.look.cut(text, self.width)))
    }

    /// What holds, what is wrong, and how fast it comes.
    fn head(&self) -> Vec<Line<'static>> {
        let Some(answers) = &self.model.answers else {
            let mut lines = vec![self.line(Tone::Heading, &self.model.host)];
            lines.extend(self.failed());
            return lines;
        };
        let mut lines = vec![self.state(&answers.status)];
        lines.extend(self.failed());
        if let Some(pending) = &answers.status.pending {
            let (tone, text) = trouble::pending(pending, self.model.now);
            lines.push(self.line(tone, &text));
        }
        let wrong = trouble::told(&answers.status, &answers.latest.losses);
        // A fifth of the terminal, where there is more than fits.
        let most = (self.height / 5).max(1);
        let shown = if wrong.len() > most { most - 1 } else { most };
        for (tone, text) in wrong.iter().take(shown) {
            lines.push(self.line(*tone, text));
        }
        if wrong.len() > shown {
            let more = wrong.len() - shown;
            let text = format!("{more} more: see `tierwall status`");
            lines.push(self.line(Tone::Warning, &text));
        }
        lines.extend(self.rates());
        lines
    }

    /// That the daemon says nothing.
    fn failed(&self) -> Option<Line<'static>> {
        let why = self.model.failed.as_ref()?;
        let then = match &self.model.answers {
            Some(answers) => {
                let ago = in_words(self.model.now.saturating_sub(answers.latest.until));
                format!("; this is of {ago} ago")
            }
            None => String::new(),
        };
        let why = why.lines().next().unwrap_or_default();
        Some(self.line(Tone::Bad, &format!("NO ANSWER, trying again{then}: {why}")))
    }

    fn state(&self, status: &Status) -> Line<'static> {
        let look = self.look;
        let (tone, enforced) = trouble::enforced(status);
        let role: Vec<&str> = status.role.iter().map(String::as_str).collect();
        let role = if role.is_empty() { "no tier".to_owned() } else { role.join(", ") };
        let rest = format!("  generation {}  role {role}", status.generation);
        let mut spans = vec![
            look.span(Tone::Heading, &self.model.host),
            Span::raw("  "),
            look.span(tone, &enforced),
        ];
        let pause = if self.model.paused { "  PAUSED" } else { "" };
        let used: usize = spans.iter().map(Span::width).sum();
        let room = self.width.saturating_sub(used + pause.len());
        spans.push(look.span(Tone::Plain, &look.cut(&rest, room)));
        spans.push(look.span(Tone::Warning, pause));
        Line::from(spans)
    }

    fn rates(&self) -> Vec<Line<'static>> {
        let Some(answers) = &self.model.answers else { return Vec::new() };
        let (status, latest) = (&answers.status, &answers.latest);
        let rate = self.model.rates.rate();
        let observes = [status.input, status.output].contains(&SideMode::Observe);
        let would_be = minutes(latest, true);
        let mut lines = vec![self.rate("denied", rate.map(|r| r.denied), &minutes(latest, false))];
        if observes || !would_be.is_empty() {
            lines.push(self.rate("would be", rate.map(|r| r.would_be), &would_be));
        }
        if let Some(Rate { held_back, lost, .. }) = rate
            && held_back + lost > 0.0
        {
            let (held_back, lost) = (short(held_back), short(lost));
            let text = format!(
                "beyond that {held_back} packets/s kept back by the limits, {lost} packets/s lost"
            );
            lines.push(self.line(Tone::Warning, &text));
        }
        lines
    }

    /// How many connections and packets a second, and the connections of each of the last minutes.
    fn rate(&self, what: &str, rate: Option<[f64; 2]>, minutes: &[u64]) -> Line<'static> {
        let number = |at: usize| rate.map_or_else(|| "-".to_owned(), |rate| short(rate[at]));
        let (connections, packets) = (number(0), number(1));
        let text = format!("{what:<8} {connections:>5} conn/s {packets:>5} packets/s  ");
        let most = |shown: usize| {
            let shown = &minutes[minutes.len().saturating_sub(shown)..];
            let most = shown.iter().copied().max().unwrap_or(0);
            format!(" {} min, most {}", shown.len(), short_count(most))
        };
        // As wide as what is said of it can be.
        let room = self.width.saturating_sub(text.len() + " 60 min, most 10.0M".len());
        if room < 5 || minutes.is_empty() {
            return self.line(Tone::Plain, &text);
        }
        let bars = self.look.bars(minutes, room);
        let said = most(room);
        let look = self.look;
        Line::from(vec![
            look.span(Tone::Plain, &text),
            look.span(Tone::Warning, &bars),
            look.span(Tone::Faint, &said),
        ])
    }

    fn lists(&self, room: usize) -> Vec<Line<'static>> {
        let Some(answers) = &self.model.answers else { return Vec::new() };
        let now = self.model.now;
        let (heaviest, latest) = (rows::heaviest(answers, now), rows::latest(answers, now));
        if room < TWO_LISTS.min(9) || self.height < TWO_LISTS {
            return match self.model.list {
                List::Heaviest => self.list(List::Heaviest, heaviest, room),
                List::Latest => self.list(List::Latest, latest, room),
            };
        }
        // A title, a heading and a blank line each; who needs less than half leaves it to the other.
        let needs = |list| self.model.groups(list).len().max(1) + 3;
        let half = room / 2;
        let upper = match needs(List::Latest) < room - half {
            true => needs(List::Heaviest).min(room - needs(List::Latest)),
            false => needs(List::Heaviest).min(half),
        };
        let mut lines = self.list(List::Heaviest, heaviest, upper - 1);
        lines.resize(upper, Line::default());
        lines.extend(self.list(List::Latest, latest, room - upper));
        lines
    }

    /// A title, a heading, and the rows around the chosen one, in so many lines.
    fn list(&self, list: List, columns: Vec<Column>, room: usize) -> Vec<Line<'static>> {
        let Some(answers) = &self.model.answers else { return Vec::new() };
        let groups = self.model.groups(list);
        let is_chosen = self.model.list == list;
        let (title, left_out) = match list {
            List::Heaviest => {
                let by = by_words(answers.heaviest.by);
                (format!("HEAVIEST {by}, {}", self.window()), answers.heaviest.left_out)
            }
            List::Latest => ("DENIED LAST".to_owned(), answers.latest.left_out),
        };
        let row = self.model.row(list);
        let fits = room.saturating_sub(2);
        let first = (row + 1).saturating_sub(fits);
        let shown = first..groups.len().min(first + fits);
        let count = match (shown.len(), groups.len() + left_out) {
            (0, _) => ": none".to_owned(),
            (shown, all) if shown == all => String::new(),
            (_, all) => format!(": {} to {} of {all}", first + 1, shown.end),
        };
        let mark = if is_chosen { "> " } else { "  " };
        let mut lines = vec![self.line(Tone::Heading, &format!("{mark}{title}{count}"))];
        if !groups.is_empty() {
            let chosen = is_chosen.then_some(row);
            lines.extend(table::lines(self.look, columns, self.width, shown, chosen));
        }
        lines.truncate(room);
        lines
    }

    fn window(&self) -> String {
        match self.model.window {
            Some(86_400) => "24 h".to_owned(),
            Some(3600) => "60 min".to_owned(),
            Some(60) => "1 min".to_owned(),
            Some(seconds) => in_words(seconds),
            None => "all".to_owned(),
        }
    }

    /// The chosen row in full.
    fn chosen(&self) -> Vec<Line<'static>> {
        let Some(answers) = &self.model.answers else { return Vec::new() };
        let list = self.model.list;
        let Some(group) = self.model.groups(list).get(self.model.row(list)) else {
            return Vec::new();
        };
        let told = rows::in_full(group, &answers.users, self.model.now);
        let mut lines: Vec<_> = told.iter().map(|line| self.line(Tone::Faint, line)).collect();
        while lines.len() < CHOSEN {
            lines.insert(0, Line::default());
        }
        lines
    }

    fn help(&self) -> Vec<Line<'static>> {
        let keys = KEYS.iter().map(|[key, what]| format!("  {key:<18} {what}"));
        let words = [
            "",
            "  A connection counts once, its retries beside it; a flow is all but its source",
            "  port. `would be`, `would inv`: let through, since the side only observes.",
            "  `invalid`: belongs to no known connection. The bars are connections a minute.",
        ];
        let lines = keys.chain(words.map(str::to_owned));
        lines.map(|line| self.line(Tone::Plain, &line)).collect()
    }

    fn foot(&self) -> Line<'static> {
        let by = by_words(self.model.by);
        let window = self.window();
        let keys = [
            "q quit".to_owned(),
            "? help".to_owned(),
            format!("b {by}"),
            format!("t {window}"),
            "p pause".to_owned(),
            "up/down row".to_owned(),
            "left/right list".to_owned(),
        ];
        let mut text = String::new();
        for key in keys {
            if text.len() + key.len() <= self.width {
                text += &key;
                text += "  ";
            }
        }
        self.line(Tone::Faint, text.trim_end())
    }
}

fn by_words(by: DenialsBy) -> &'static str {
    match by {
        DenialsBy::Flow => "by flow",
        DenialsBy::Destination => "by destination",
        DenialsBy::Source => "by source",
        DenialsBy::User => "by user",
        DenialsBy::Service => "by service",
        DenialsBy::Tier => "by tier",
        DenialsBy::Generation => "by generation",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    const PLAIN: Look = Look { styles: false, unicode: true };

    fn shown(model: &Model, look: Look, width: u16, height: u16) -> String {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        draw(model, look, area, &mut buffer);
        let rows = buffer.content().chunks(usize::from(width).max(1));
        let rows = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
        rows.map(|row| format!("{}\n", row.trim_end())).collect()
    }

    #[test]
    fn at_the_usual_size() {
        insta::assert_snapshot!(shown(&testing::model(), PLAIN, 80, 24));
    }

    #[test]
    fn at_a_large_size() {
        insta::assert_snapshot!(shown(&testing::model(), PLAIN, 120, 40));
    }

    #[test]
    fn at_a_small_size() {
        insta::assert_snapshot!(shown(&testing::model(), PLAIN, 40, 10));
    }

    #[test]
    fn in_trouble() {
        insta::assert_snapshot!(shown(&testing::in_trouble(), PLAIN, 80, 24));
    }

    #[test]
    fn with_help() {
        let mut model = testing::model();
        model.help = true;
        insta::assert_snapshot!(shown(&model, PLAIN, 80, 24));
    }

    #[test]
    fn before_the_first_answer() {
        let mut model = testing::model();
        model.answers = None;
        model.take(Err("tierwalld is not running: nothing listens there".into()));
        insta::assert_snapshot!(shown(&model, PLAIN, 80, 24));
    }

    #[test]
    fn where_the_locale_has_only_ascii() {
        let look = Look { styles: true, unicode: false };
        for model in [testing::model(), testing::in_trouble()] {
            assert!(shown(&model, look, 80, 24).is_ascii());
        }
    }

    #[test]
    fn no_size_is_too_small_and_no_line_is_left_out() {
        for model in [testing::model(), testing::in_trouble()] {
            for (width, height) in (0..130).step_by(9).flat_map(|w| (0..45).map(move |h| (w, h))) {
                let view = View { model: &model, look: PLAIN, width, height };
                assert_eq!(view.lines().len(), height, "{width} {height}");
                shown(&model, PLAIN, width as u16, height as u16);
            }
        }
    }

    #[test]
    fn what_was_sent_cannot_command_the_terminal() {
        let mut model = testing::model();
        let Some(answers) = &mut model.answers else { panic!("there are some") };
        answers.heaviest.groups[0].interface = Some("\x1b]0;evil\x07".into());
        answers.heaviest.groups[0].service = Some("\u{202e}22/pct".into());
        answers.status.kernel_problem = Some("\x1b[2J".into());
        let screen = shown(&model, PLAIN, 200, 50);
        assert!(!screen.contains(['\x1b', '\x07', '\u{202e}']), "{screen}");
        assert!(screen.contains("?]0;evil?") && screen.contains("?22/pct"), "{screen}");
    }

    #[test]
    fn without_colours_nothing_is_styled() {
        let area = Rect::new(0, 0, 80, 24);
        let mut buffer = Buffer::empty(area);
        draw(&testing::in_trouble(), PLAIN, area, &mut buffer);
        let plain = Buffer::empty(area).content()[0].style();
        assert!(buffer.content().iter().all(|cell| cell.style() == plain));
    }
}
