//! `tierwall watch`: what is denied, as it happens.
//!
//! ```text
//! keys ──────┐
//! answers ───┼─► Model ─► view ─► Screen      on a terminal
//! signals ───┘
//! answers ─────► News ─► lines, or JSON       elsewhere
//! ```
//!
//! Answers are asked for by a thread of its own (`ask.rs`): a daemon that is away or slow keeps no
//! key waiting. The view is a pure function of the model, and the screen writes only what differs
//! from what it shows: a view in which nothing happens sends nothing.

mod ask;
mod keys;
mod lines;
mod model;
mod news;
mod rates;
mod rows;
mod screen;
mod table;
#[cfg(test)]
mod testing;
mod text;
mod trouble;
mod view;

use crate::error::Error;
use crate::options::{Common, Watch};
use crate::time::now;
use ask::{Answers, Asker, Question};
use control::{Denials, DenialsBy};
use keys::Doing;
use model::Model;
use ratatui_crossterm::crossterm::event::{self, KeyEvent};
use screen::{Screen, is_hung_up};
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;
use text::Look;

/// How many events may wait to be taken up. Who can't write them to a slow line asks for no more.
const WAITING: usize = 16;

/// How often the time that is left is shown anew, and the terminal looked after.
const TICK: Duration = Duration::from_secs(1);

/// What the view reacts to.
enum Event {
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    Answers(Box<Result<Answers, String>>),
    /// A signal, or no more keys.
    End,
}

/// What is to be summed up, as the options say.
#[derive(Debug, Clone, Copy)]
struct Watching {
    by: DenialsBy,
    seconds: Option<u64>,
}

impl Watching {
    fn of(options: &Watch) -> Self {
        Self { by: options.by.into(), seconds: Some(options.since.as_secs()) }
    }

    /// The heaviest of it, as many as a list shows.
    fn question(self) -> Question {
        Question { by: self.by, seconds: self.seconds, limit: 20, paused: false }
    }
}

pub(crate) fn run(common: &Common, options: &Watch) -> Result<u8, Error> {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal() && !is_dumb;
    match is_terminal && !common.json && !options.lines {
        true => show(common, options),
        false => lines::run(common, options),
    }
}

/// The view in a terminal, until a key or a signal.
fn show(common: &Common, options: &Watch) -> Result<u8, Error> {
    let look = Look::of(common);
    let host = nix::unistd::gethostname().unwrap_or_default();
    let Watching { by, seconds } = Watching::of(options);
    let mut model = Model::new(host.to_string_lossy().into_owned(), by, seconds);
    let asker = Asker::new(&common.runtime_directory);
    // Who may not ask will not be answered later either.
    match asker.status() {
        Err(error) if error.exit_code() == control::exit::NOT_PERMITTED => return Err(error),
        _ => {}
    }

    let (events, inbox) = mpsc::sync_channel(WAITING);
    let (questions, asked) = mpsc::channel();
    let ending = events.clone();
    ctrlc::set_handler(move || {
        let _ = ending.send(Event::End);
    })
    .map_err(|error| Error::Terminal(io::Error::other(error)))?;
    let mut screen = Screen::take(look).map_err(Error::Terminal)?;
    model.height = screen.size().map_err(Error::Terminal)?.height.into();
    let mut question = model.question();
    let (interval, answers) = (options.interval, events.clone());
    thread::spawn(move || ask::go_on(asker, question, &asked, interval, &answers));
    thread::spawn(move || read_keys(&events));

    let mut polls = 0;
    loop {
        match inbox.recv_timeout(TICK) {
            Ok(Event::Key(key)) if keys::press(&mut model, key) == Doing::Ends => break,
            Ok(Event::Key(_) | Event::Resized) => {}
            Ok(Event::Answers(answers)) => {
                model.take(*answers);
                polls += 1;
            }
            Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if is_hung_up() => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if !model.paused {
            model.now = now();
        }
        let shown = screen.show(|area, buffer| {
            model.height = area.height.into();
            view::draw(&model, look, area, buffer);
        });
        shown.map_err(Error::Terminal)?;
        let next = model.question();
        if next != question {
            question = next;
            let _ = questions.send(question);
        }
        if options.polls.is_some_and(|most| polls >= most) {
            break;
        }
    }
    Ok(control::exit::OK)
}

/// Keys and new sizes as events, until nobody wants them or there are no more.
fn read_keys(events: &SyncSender<Event>) {
    loop {
        let event = match event::read() {
            Ok(event::Event::Key(key)) => Event::Key(key),
            Ok(event::Event::Resize(..)) => Event::Resized,
            Ok(_) => continue,
            Err(_) => Event::End,
        };
        let is_end = matches!(event, Event::End);
        if events.send(event).is_err() || is_end {
            return;
        }
    }
}
