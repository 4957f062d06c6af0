//! What the view shows: the last answers, and what the keys chose.

use super::ask::{Answers, Question};
use super::rates::Rates;
use control::{DenialGroup, DenialsBy};

/// What the heaviest can be summed up by, in the order of the key.
const GROUPINGS: [DenialsBy; 7] = [
    DenialsBy::Flow,
    DenialsBy::Source,
    DenialsBy::Destination,
    DenialsBy::Service,
    DenialsBy::User,
    DenialsBy::Tier,
    DenialsBy::Generation,
];

/// How far back, in seconds; at last all that is remembered.
const WINDOWS: [Option<u64>; 5] = [Some(60), Some(600), Some(3600), Some(24 * 3600), None];

/// Rows are asked for by so many: a key asks again only at the end of a step.
const STEP: usize = 50;

/// A list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Heaviest,
    Latest,
}

/// All that the view is made of.
#[derive(Debug)]
pub(super) struct Model {
    /// This server's name.
    pub(super) host: String,
    /// What the daemon said last.
    pub(super) answers: Option<Answers>,
    /// Why there was no answer since.
    pub(super) failed: Option<String>,
    pub(super) rates: Rates,
    pub(super) by: DenialsBy,
    /// How far back the heaviest go, in seconds; none for all that is remembered.
    pub(super) window: Option<u64>,
    /// The list whose rows the keys choose from, and the row of each list.
    pub(super) list: List,
    pub(super) row: [usize; 2],
    pub(super) paused: bool,
    pub(super) help: bool,
    /// In seconds since the epoch.
    pub(super) now: u64,
    /// Lines of the terminal.
    pub(super) height: usize,
}

impl List {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Heaviest => Self::Latest,
            Self::Latest => Self::Heaviest,
        }
    }
}

impl Model {
    pub(super) fn new(host: String, by: DenialsBy, window: Option<u64>) -> Self {
        Self {
            host,
            answers: None,
            failed: None,
            rates: Rates::default(),
            by,
            window,
            list: List::Heaviest,
            row: [0, 0],
            paused: false,
            help: false,
            now: 0,
            height: 0,
        }
    }

    /// What is wanted of the next answers.
    pub(super) fn question(&self) -> Question {
        let rows = self.row[0].max(self.row[1]) + self.height + 1;
        let limit = rows.next_multiple_of(STEP);
        Question { by: self.by, seconds: self.window, limit, paused: self.paused }
    }

    /// Takes up what the daemon said, or why it said nothing.
    pub(super) fn take(&mut self, answers: Result<Answers, String>) {
        match answers {
            // Asked for before a key was pressed.
            _ if self.paused => {}
            Ok(answers) => {
                self.rates.note(&answers);
                (self.answers, self.failed) = (Some(answers), None);
                self.move_by(0);
            }
            Err(why) => self.failed = Some(why),
        }
    }

    /// The rows of a list.
    pub(super) fn groups(&self, list: List) -> &[DenialGroup] {
        self.answers.as_ref().map_or(&[], |answers| match list {
            List::Heaviest => &answers.heaviest.groups,
            List::Latest => &answers.latest.groups,
        })
    }

    /// The chosen row of a list.
    pub(super) fn row(&self, list: List) -> usize {
        self.row[list as usize]
    }

    pub(super) fn next_grouping(&mut self, step: isize) {
        self.by = next(&GROUPINGS, &self.by, step);
        self.row[List::Heaviest as usize] = 0;
    }

    pub(super) fn next_window(&mut self, step: isize) {
        self.window = next(&WINDOWS, &self.window, step);
    }

    /// Chooses a row so much further down, as far as there are some.
    pub(super) fn move_by(&mut self, rows: isize) {
        let last = self.groups(self.list).len().saturating_sub(1);
        let row = &mut self.row[self.list as usize];
        *row = row.saturating_add_signed(rows).min(last);
        // The other list may have become shorter too.
        let other = self.list.other();
        let last = self.groups(other).len().saturating_sub(1);
        let row = &mut self.row[other as usize];
        *row = (*row).min(last);
    }
}

/// The one so many places further in a ring, its first where it isn't in there.
fn next<T: Copy + PartialEq>(ring: &[T], present: &T, step: isize) -> T {
    let at = ring.iter().position(|one| one == present);
    let at = at.map_or(0, |at| at as isize + step).rem_euclid(ring.len() as isize);
    ring[at as usize]
}

#[cfg(test)]
mod tests {
    use super::super::keys::{Doing, press};
    use super::super::testing;
    use super::*;
    use ratatui_crossterm::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    fn pressed(model: &mut Model, codes: &[KeyCode]) -> Doing {
        let mut press = |code| press(model, KeyEvent::new(code, KeyModifiers::NONE));
        codes.iter().map(|code| press(*code)).last().unwrap_or(Doing::GoesOn)
    }

    #[test]
    fn keys_go_round() {
        let mut model = testing::model();
        let mut seen = Vec::new();
        for _ in 0..GROUPINGS.len() {
            seen.push(model.by);
            pressed(&mut model, &[KeyCode::Tab]);
        }
        assert_eq!((&seen[..], model.by), (&GROUPINGS[..], DenialsBy::Flow));
        pressed(&mut model, &[KeyCode::BackTab]);
        assert_eq!(model.by, DenialsBy::Generation);
        let window = model.window;
        pressed(&mut model, &[KeyCode::Char('t'), KeyCode::Char('T')]);
        assert_eq!(model.window, window);
        // One that was given on the command line.
        model.window = Some(7);
        pressed(&mut model, &[KeyCode::Char('t')]);
        assert_eq!(model.window, WINDOWS[0]);
    }

    #[test]
    fn rows_end_where_the_list_does() {
        let mut model = testing::model();
        let last = model.groups(List::Heaviest).len() - 1;
        pressed(&mut model, &[KeyCode::End]);
        assert_eq!(model.row(List::Heaviest), last);
        pressed(&mut model, &[KeyCode::Char('j'), KeyCode::PageDown]);
        assert_eq!(model.row(List::Heaviest), last);
        pressed(&mut model, &[KeyCode::Right, KeyCode::Down]);
        assert_eq!((model.row(List::Heaviest), model.row(List::Latest)), (last, 1));
        let mut answers = testing::answers();
        answers.heaviest.groups.truncate(1);
        answers.latest.groups.clear();
        model.take(Ok(answers));
        assert_eq!(model.row, [0, 0]);
        pressed(&mut model, &[KeyCode::Up, KeyCode::Char('G'), KeyCode::Char('g')]);
        assert_eq!(model.row, [0, 0]);
    }

    #[test]
    fn a_pause_keeps_what_is_shown() {
        let mut model = testing::model();
        let before = model.answers.clone();
        pressed(&mut model, &[KeyCode::Char('p')]);
        assert!(model.question().paused);
        let mut answers = testing::answers();
        answers.status.generation += 1;
        model.take(Ok(answers.clone()));
        assert_eq!(model.answers, before);
        pressed(&mut model, &[KeyCode::Char('p')]);
        model.take(Ok(answers.clone()));
        assert_eq!(model.answers, Some(answers));
    }

    #[test]
    fn what_was_said_stays_while_the_daemon_is_away() {
        let mut model = testing::model();
        model.take(Err("away".into()));
        assert!(model.answers.is_some() && model.failed.is_some());
        model.take(Ok(testing::answers()));
        assert_eq!(model.failed, None);
    }

    #[test]
    fn ctrl_c_and_q_end_it() {
        let mut model = testing::model();
        assert_eq!(pressed(&mut model, &[KeyCode::Char('c')]), Doing::GoesOn);
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(press(&mut model, ctrl_c), Doing::Ends);
        assert_eq!(pressed(&mut model, &[KeyCode::Char('q')]), Doing::Ends);
    }

    #[test]
    fn more_is_asked_for_only_where_the_rows_end() {
        let mut model = testing::model();
        model.height = 24;
        assert_eq!(model.question().limit, 50);
        model.row[0] = 30;
        assert_eq!(model.question().limit, 100);
    }
}
