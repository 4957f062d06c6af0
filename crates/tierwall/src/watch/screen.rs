//! The terminal, as long as the view has it.
//!
//! Whatever ends the view gives the terminal back as it was: its end, an error, a panic in any
//! thread. Signals are events, and end it as a key does.

use super::text::Look;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui_core::backend::Backend;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_crossterm::CrosstermBackend;
use ratatui_crossterm::crossterm::cursor::{Hide, Show};
use ratatui_crossterm::crossterm::execute;
use ratatui_crossterm::crossterm::style::force_color_output;
use ratatui_crossterm::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use std::io::{self, BufWriter, Stdout, Write};
use std::os::fd::AsFd;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};

/// A screen of 200 by 60 characters, each with its colour, is written at once.
const BUFFER: usize = 128 * 1024;

/// Whether the terminal has to be given back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, and what it shows.
pub(super) struct Screen {
    backend: CrosstermBackend<BufWriter<Stdout>>,
    shown: Buffer,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn take(look: Look) -> io::Result<Self> {
        // What the options say counts, which the environment was asked for already.
        force_color_output(look.styles);
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            give_back();
            told(panic);
            // The others would go on with a terminal that isn't theirs any more.
            std::process::exit(101);
        }));
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let screen = Self {
            backend: CrosstermBackend::new(BufWriter::with_capacity(BUFFER, io::stdout())),
            shown: Buffer::empty(Rect::default()),
        };
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// The size of the terminal.
    pub(super) fn size(&self) -> io::Result<Rect> {
        Ok(Rect::from((ratatui_core::layout::Position::ORIGIN, self.backend.size()?)))
    }

    /// Shows what is drawn: writes what differs from what is shown.
    pub(super) fn show(&mut self, draw: impl FnOnce(Rect, &mut Buffer)) -> io::Result<()> {
        let area = self.size()?;
        let mut next = Buffer::empty(area);
        draw(area, &mut next);
        if *self.shown.area() != area {
            execute!(self.backend, Clear(ClearType::All))?;
            self.shown = Buffer::empty(area);
        }
        let changed = self.shown.diff(&next);
        if !changed.is_empty() {
            self.backend.draw(changed.into_iter())?;
            Write::flush(&mut self.backend)?;
        }
        self.shown = next;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back, once. That it can't is nothing to stop for.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// Whether nobody is at the terminal any more: where the signal that says so is ignored, the reader
/// of keys never learns it.
pub(super) fn is_hung_up() -> bool {
    let stdin = io::stdin();
    let mut ends = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
    let polled = poll(&mut ends, PollTimeout::ZERO);
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    polled.is_ok() && ends[0].revents().is_some_and(|events| events.intersects(gone))
}
