//! What a key does.

use super::model::Model;
use ratatui_crossterm::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What becomes of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    GoesOn,
    Ends,
}

/// What the help shows: keys, and what they do.
pub(super) const KEYS: &[[&str; 2]] = &[
    ["q, Ctrl-C", "quit"],
    ["b, Tab", "sum up by the next: flow, source, destination, service,"],
    ["", "user, tier, generation; B, Shift-Tab: by the one before"],
    ["t, T", "go further back with them, or less far"],
    ["left, right, h, l", "choose a list"],
    ["up, down, k, j", "choose a row, which is told in full below"],
    ["PgUp, PgDn, g, G", "the same by ten rows, or to the end"],
    ["p", "pause: what is shown stays, and nothing is asked"],
    ["?", "this help"],
];

/// Rows of a page.
const PAGE: isize = 10;

/// Does what the key says.
pub(super) fn press(model: &mut Model, key: KeyEvent) -> Doing {
    // Some terminals also tell of keys that are let go.
    if key.kind == KeyEventKind::Release {
        return Doing::GoesOn;
    }
    // In raw mode the terminal makes no signal of it.
    if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
        return Doing::Ends;
    }
    match key.code {
        KeyCode::Char('q') => return Doing::Ends,
        KeyCode::Char('?') | KeyCode::F(1) => model.help = !model.help,
        KeyCode::Esc => model.help = false,
        KeyCode::Char('p') => model.paused = !model.paused,
        KeyCode::Char('b') | KeyCode::Tab => model.next_grouping(1),
        KeyCode::Char('B') | KeyCode::BackTab => model.next_grouping(-1),
        KeyCode::Char('t') => model.next_window(1),
        KeyCode::Char('T') => model.next_window(-1),
        KeyCode::Left | KeyCode::Char('h') | KeyCode::Right | KeyCode::Char('l') => {
            model.list = model.list.other();
        }
        KeyCode::Down | KeyCode::Char('j') => model.move_by(1),
        KeyCode::Up | KeyCode::Char('k') => model.move_by(-1),
        KeyCode::PageDown => model.move_by(PAGE),
        KeyCode::PageUp => model.move_by(-PAGE),
        KeyCode::Home | KeyCode::Char('g') => model.move_by(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => model.move_by(isize::MAX),
        _ => {}
    }
    Doing::GoesOn
}
