//! What the daemon is asked, and the thread that asks it.

use super::Event;
use crate::denied::Users;
use crate::error::Error;
use control::{
    Client, DenialGroup, Denials, DenialsBy, DenialsOrder, Request, Response, Status, socket_path,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// What is wanted of the next answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// What the heaviest are summed up by.
    pub(super) by: DenialsBy,
    /// How far back they go, in seconds; none for all that is remembered.
    pub(super) seconds: Option<u64>,
    /// How many of them, and of the last ones.
    pub(super) limit: usize,
    /// Nothing, until another question comes.
    pub(super) paused: bool,
}

/// What the daemon said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answers {
    /// When, since the asking began.
    pub(super) at: Duration,
    pub(super) status: Status,
    pub(super) heaviest: Denials,
    /// The flows that were seen last, of all that is remembered.
    pub(super) latest: Denials,
    /// The names of the users in them.
    pub(super) users: BTreeMap<u32, String>,
}

/// Who asks a daemon.
pub(super) struct Asker {
    socket: PathBuf,
    began: Instant,
    users: Users,
}

impl Asker {
    pub(super) fn new(runtime_directory: &Path) -> Self {
        let socket = socket_path(runtime_directory);
        Self { socket, began: Instant::now(), users: Users::default() }
    }

    /// Asks for everything.
    pub(super) fn ask(&mut self, question: &Question) -> Result<Answers, Error> {
        let status = self.status()?;
        let heaviest = self.heaviest(question)?;
        let latest = self.latest(question.limit, None)?;
        let users = self.names(heaviest.groups.iter().chain(&latest.groups));
        Ok(Answers { at: self.began.elapsed(), status, heaviest, latest, users })
    }

    /// Since the asking began.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn status(&self) -> Result<Status, Error> {
        match self.request(&Request::Status)? {
            Response::Status(status) => Ok(*status),
            other => Err(crate::unexpected(other)),
        }
    }

    pub(super) fn heaviest(&self, question: &Question) -> Result<Denials, Error> {
        let Question { by, seconds, limit, .. } = *question;
        let order = DenialsOrder::Heaviest;
        self.denied(&Request::Denied { by, seconds, limit, order, seen_since: None })
    }

    /// The flows that were seen last, counted since the daemon began.
    pub(super) fn latest(&self, limit: usize, seen_since: Option<u64>) -> Result<Denials, Error> {
        let (by, order) = (DenialsBy::Flow, DenialsOrder::Latest);
        self.denied(&Request::Denied { by, seconds: None, limit, order, seen_since })
    }

    fn denied(&self, request: &Request) -> Result<Denials, Error> {
        match self.request(request)? {
            Response::Denied(denials) => Ok(*denials),
            other => Err(crate::unexpected(other)),
        }
    }

    fn request(&self, request: &Request) -> Result<Response, Error> {
        let client = Client::connect(&self.socket).map_err(Error::Client)?;
        client.ask(request).map_err(Error::Client)
    }

    /// The names of the users of these groups. A directory in the network takes its time for them.
    pub(super) fn names<'a>(
        &mut self,
        groups: impl Iterator<Item = &'a DenialGroup>,
    ) -> BTreeMap<u32, String> {
        let users = groups.filter_map(|group| group.user);
        users.filter_map(|user| Some((user, self.users.name(user)?))).collect()
    }
}

/// Asks again and again, at once where another question comes, until nobody wants to know.
pub(super) fn go_on(
    mut asker: Asker,
    mut question: Question,
    questions: &Receiver<Question>,
    interval: Duration,
    events: &SyncSender<Event>,
) {
    loop {
        let began = Instant::now();
        if !question.paused {
            let answers = asker.ask(&question);
            let answers = answers.map_err(|error| error.message().unwrap_or_default());
            if events.send(Event::Answers(Box::new(answers))).is_err() {
                return;
            }
        }
        let next = match question.paused {
            true => questions.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => questions.recv_timeout(interval.saturating_sub(began.elapsed())),
        };
        match next {
            // Of several only the last one counts.
            Ok(next) => question = questions.try_iter().last().unwrap_or(next),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
