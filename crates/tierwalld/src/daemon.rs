//! The daemon: start, then one event after the other.
//!
//! Work that blocks (files, the kernel) runs on a thread of its own and comes back as an event,
//! one piece at a time, so that the loop always answers.

mod end;
mod listen;
mod request;

use crate::boot;
use crate::clock;
use crate::denials::{self, Present};
use crate::drift::Listener;
use crate::engine::{Engine, Inputs};
use crate::event::Event;
use crate::fd_store;
use crate::foreign::Foreign;
use crate::journal::kind;
use crate::kernel::{Kernel, KernelError};
use crate::metrics::{self, Exporter, Known};
use crate::options::Options;
use crate::recorder::Debts;
use crate::service_manager::notify;
use crate::socket;
use crate::state::StateDirectory;
use crate::status;
use crate::step::StepError;
use crate::unwatched::{Unwatched, Watched};
use crate::watchdog::Watchdog;
use crate::work::{Queue, Task, Work, Worked};
use control::{MemberSummary, Response, Status, exit, socket_path};
use sd_notify::NotifyState;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// How long after it was due and done the role is looked at again: at the earliest, and at most
/// where it is still due, since what became of it was refused.
const LOOK_AFTER: Duration = Duration::from_secs(1);
const LOOK_AFTER_MAX: Duration = Duration::from_secs(60);

/// How long after a failure of the kernel it is tried again, at first and at most.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// How often the service manager is told how long a change still waits to be confirmed.
const TELL_AFTER: Duration = Duration::from_secs(5);

/// Why the daemon ended, other than by a signal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// The policy isn't enforced.
    #[error(transparent)]
    Step(#[from] StepError),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl DaemonError {
    /// The exit code that says so.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Step(StepError::BadPolicy(_)) => exit::BAD_POLICY,
            Self::Step(StepError::Kernel(KernelError::NotPermitted)) => exit::NOT_PERMITTED,
            Self::Step(StepError::Kernel(KernelError::Foreign | KernelError::NotSaved(_))) => {
                exit::FOREIGN_TABLE
            }
            Self::Step(StepError::Lockout(_)) => exit::LOCKOUT,
            Self::Step(_) | Self::Other(_) => exit::FAILED,
        }
    }
}

/// What the loop knows.
struct Daemon {
    options: Options,
    /// None while a thread works with it.
    engine: Option<Box<Engine>>,
    queue: Queue,
    /// The state after the last step.
    status: Status,
    /// What `status` says to the group in place of the problem with the files.
    places: Option<String>,
    /// And in place of what is said of held lists.
    held_places: Vec<String>,
    members: Vec<MemberSummary>,
    since: u64,
    events: mpsc::Sender<Event>,
    /// Takes the engine back from the thread that works.
    back: mpsc::Sender<Worked>,
    /// Tells the watcher what the files depend on.
    inputs: watch::Sender<Inputs>,
    /// When the state directory is due.
    remember_at: Option<Instant>,
    /// When the role or a user is due to be looked at again.
    look_at: Option<Instant>,
    /// When that was done last because it was due, and how long to wait the next time.
    looked_at: Option<Instant>,
    look_after: Duration,
    /// When members by command are due to end.
    expire_at: Option<Instant>,
    /// When what the kernel failed, or the disk, is due to be tried again, and how long to wait the
    /// next time.
    retry_at: Option<Instant>,
    retry_after: Duration,
    /// When the pending change is rolled back.
    deadline: boot::Timer,
    /// When it is told again how long that is.
    tell_at: Option<Instant>,
    /// When it is due to be looked who is in.
    sessions_at: Option<Instant>,
    /// While others can change the table.
    listener: Option<Listener>,
    /// When it is tried again to listen to them, and how long to wait the next time.
    listen_at: Option<Instant>,
    listen_after: Duration,
    unwatched: Unwatched,
    /// What was denied.
    denials: denials::Shared,
    /// What metrics tell beside the state.
    known: Known,
    exporter: Exporter,
    /// Whether it is due to be kept for a restart.
    denials_are_old: bool,
    /// What the state directory lacks.
    debts: Debts,
    /// What the service manager was told after the last step.
    line: String,
    /// Whether the service manager was told that a reload began.
    reloading: bool,
    watchdog: Watchdog,
}

/// Starts, enforces, and serves until a signal.
pub(crate) async fn run(options: Options) -> Result<(), DaemonError> {
    // First of all: who lacks this right mostly lacks those to our directories too.
    let mut passed = fd_store::take();
    let kernel = Kernel::open(options.takeover, &mut passed).map_err(StepError::from)?;
    // Before the table is changed: two daemons must not take turns.
    let control_socket = socket::bind(&socket_path(&options.runtime_directory), &options.group)?;
    let denied = denials::open();
    let engine = Engine::start(options.clone(), kernel)?;

    let (events, inbox) = mpsc::channel(64);
    let (back, worked) = mpsc::channel(1);
    let (scrapes, readers) = mpsc::channel(64);
    let (inputs, wanted_inputs) = watch::channel(engine.inputs.clone());
    let since = clock::now();
    let mut daemon = Daemon {
        status: status::of(&engine, &options.config, since, &Unwatched::default()),
        places: None,
        held_places: Vec::new(),
        members: Vec::new(),
        engine: None,
        queue: Queue::default(),
        since,
        events: events.clone(),
        back,
        inputs,
        remember_at: None,
        look_at: None,
        looked_at: None,
        look_after: LOOK_AFTER,
        expire_at: None,
        retry_at: None,
        retry_after: RETRY_AFTER,
        deadline: boot::Timer::new().map_err(anyhow::Error::from)?,
        tell_at: None,
        sessions_at: None,
        listener: None,
        listen_at: None,
        listen_after: RETRY_AFTER,
        unwatched: Unwatched::default(),
        denials: denials::Shared::new(since),
        known: Known::default(),
        exporter: Exporter::new(passed.metrics, scrapes),
        denials_are_old: false,
        debts: engine.memory.debts(),
        line: String::new(),
        reloading: false,
        watchdog: Watchdog::asked_for(),
        options,
    };
    if let Ok(state) = StateDirectory::open(&daemon.options.state_directory) {
        daemon.denials.go_on(&state, since);
    }
    watch_signals(&events)?;
    tokio::spawn(crate::files::watch(wanted_inputs, events.clone()));
    tokio::spawn(crate::addresses::watch(events.clone()));
    denials::start(denied, daemon.denials.clone(), events.clone()).map_err(anyhow::Error::from)?;
    tokio::spawn(socket::serve(control_socket, events));
    let generation = engine.history.current();
    // Whoever changes the table from now on is seen, where others can.
    daemon.take_back(Box::new(engine));
    let line = &daemon.line;
    tracing::info!(target: kind::READY, generation, "ready: {line}");
    notify(&[NotifyState::Ready, NotifyState::Status(line)]);
    daemon.serve(inbox, worked, readers).await;
    Ok(())
}

fn watch_signals(events: &mpsc::Sender<Event>) -> anyhow::Result<()> {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    for kind in kinds {
        let mut signals = signal(kind)?;
        let events = events.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                let hangup = kind == SignalKind::hangup();
                let event = if hangup { Event::Reload } else { Event::Terminate };
                if events.send(event).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

impl Daemon {
    async fn serve(
        mut self,
        mut inbox: mpsc::Receiver<Event>,
        mut back: mpsc::Receiver<Worked>,
        mut readers: mpsc::Receiver<metrics::Message>,
    ) {
        loop {
            self.start_work();
            let due = [
                self.remember_at,
                self.look_at,
                self.expire_at,
                self.retry_at,
                self.listen_at,
                self.tell_at,
                self.sessions_at,
                self.watchdog.due(),
            ];
            let due = due.into_iter().flatten().min();
            let event = tokio::select! {
                event = inbox.recv() => event,
                Some(worked) = back.recv() => {
                    self.worked(worked);
                    continue;
                }
                Some(message) = readers.recv() => {
                    self.metrics(message);
                    continue;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.push_due();
                    continue;
                }
                () = self.deadline.due() => {
                    self.queue.push(Work::GoBack);
                    continue;
                }
            };
            match event {
                Some(Event::Request { request, by, origin, reply }) => {
                    self.request(request, (by, origin), reply);
                }
                Some(Event::FilesChanged) => self.queue.push(Work::FilesChanged),
                Some(Event::Foreign(foreign)) => self.queue.push(Work::Repair(foreign)),
                Some(Event::Deaf) => {
                    self.listener = None;
                    let unseen = Foreign::unseen("unknown: listening failed");
                    self.queue.push(Work::Repair(unseen));
                }
                Some(Event::AddressesChanged) => self.queue.push(Work::LookAgain),
                Some(Event::Watching(what, problem)) => self.note_unwatched(what, problem),
                Some(Event::KeepDenials) => {
                    self.denials_are_old = true;
                    self.keep_denials();
                }
                // As soon as the engine is back, if it is at work.
                Some(Event::Denials) => self.tell_at = Some(Instant::now()),
                Some(Event::GoBackOnDenials { generation, evidence }) => {
                    self.queue.push(Work::GoBackOnDenials { generation, evidence });
                }
                Some(Event::Reload) => {
                    let reload = Work::Reload { force: false, time: None, replace: false };
                    self.queue.push(reload);
                }
                Some(Event::Terminate) | None => break,
            }
        }
        self.end(inbox, back).await;
    }

    /// Goes on after a piece of work.
    fn worked(&mut self, worked: Worked) {
        let Worked { engine, mut response, replies } = worked;
        self.watchdog.ends();
        self.take_back(engine);
        if let Response::History(past) = &mut response {
            self.denials.rates(past);
        }
        for reply in replies {
            let _ = reply.send(response.clone());
        }
    }

    /// Answers those who hand out metrics.
    fn metrics(&mut self, message: metrics::Message) {
        match message {
            metrics::Message::Scrape(reply) => {
                let _ = reply.send(self.known.snapshot(&self.status_now(), &self.denials));
            }
            metrics::Message::Watching(what, problem) => self.note_unwatched(what, problem),
        }
    }

    fn note_unwatched(&mut self, what: Watched, problem: Option<String>) {
        let problem = problem.filter(|_| self.exporter.wants(what));
        self.unwatched.note(what, problem);
        self.status.unwatched = self.unwatched.lines();
    }

    /// Queues what is due by the clock.
    fn push_due(&mut self) {
        let now = Instant::now();
        if self.watchdog.feed(now) {
            self.queue.push(Work::Prove);
        }
        if self.remember_at.take_if(|at| *at <= now).is_some() {
            self.queue.push(Work::Remember);
        }
        if self.look_at.take_if(|at| *at <= now).is_some() {
            self.looked_at = Some(now);
            self.look_after = (self.look_after * 2).min(LOOK_AFTER_MAX);
            self.queue.push(Work::LookAgain);
        }
        if self.expire_at.take_if(|at| *at <= now).is_some() {
            self.queue.push(Work::Expire);
        }
        if self.retry_at.take_if(|at| *at <= now).is_some() {
            self.queue.push(Work::Retry);
        }
        if self.sessions_at.take_if(|at| *at <= now).is_some() {
            self.queue.push(Work::LookAtSessions);
        }
        if self.tell_at.take_if(|at| *at <= now).is_some()
            && let Some(engine) = &self.engine
        {
            // Where it is at work, as soon as it is back.
            notify(&[NotifyState::Status(&self.line(engine))]);
            self.tell_at = self.status.pending.as_ref().map(|_| now + TELL_AFTER);
        }
        if self.listen_at.take_if(|at| *at <= now).is_some()
            && let Some(mut engine) = self.engine.take()
        {
            // Where it is at work, as soon as it is back.
            self.listen(&mut engine);
            self.engine = Some(engine);
            self.status.unwatched = self.unwatched.lines();
        }
    }

    /// Hands the engine to a thread, if it is here and there is work.
    fn start_work(&mut self) {
        if self.engine.is_none() {
            return;
        }
        let Some(Task { work, asked, replies }) = self.queue.pop() else { return };
        let Some(mut engine) = self.engine.take() else { return };
        if matches!(work, Work::Reload { .. }) {
            self.reloading = true;
            notify(&[NotifyState::Reloading]);
        }
        self.watchdog.begins();
        let back = self.back.clone();
        let is_rest = work == Work::Remember;
        tokio::task::spawn_blocking(move || {
            let perform = AssertUnwindSafe(|| work.perform(asked, &mut engine));
            let Ok(response) = catch_unwind(perform) else {
                // The engine is in the middle of something. Better none than that one: the kernel
                // goes on with what was committed, and the service manager starts another.
                tracing::error!(target: kind::FAULT, "a fault in tierwalld; ending");
                std::process::abort();
            };
            // At rest: while it lasts nobody else can allocate, and a reply would wait.
            let gives_back = is_rest && engine.is_large();
            let _ = back.blocking_send(Worked { engine, response, replies });
            if gives_back {
                netlink::give_back();
            }
        });
    }

    /// Takes the engine back after a step and publishes what it came to.
    fn take_back(&mut self, mut engine: Box<Engine>) {
        self.listen(&mut engine);
        let status = status::of(&engine, &self.options.config, self.since, &self.unwatched);
        // Who was told of a reload waits to be told of its end, whatever it came to.
        let is_told = std::mem::take(&mut self.reloading) || status != self.status;
        self.status = status;
        self.places = engine.problem.as_ref().map(|problem| problem.places.clone());
        let held = engine.held_lists.iter().map(policy::HeldList::without_content);
        self.held_places = held.map(|list| list.to_string()).collect();
        self.members = engine.members.members.iter().map(MemberSummary::from).collect();
        self.inputs.send_replace(engine.inputs.clone());
        self.denials.note(Present {
            generation: engine.history.current(),
            before: engine.before.clone(),
            limit: engine.denials_to_go_back(),
            tiers: Arc::new(engine.enforced().tiers.clone()),
        });
        self.measure(&engine);
        let line = self.line(&engine);
        if is_told {
            notify(&[NotifyState::Ready, NotifyState::Status(&line)]);
        } else if line != self.line {
            notify(&[NotifyState::Status(&line)]);
        }
        self.line = line;
        let look_due = engine.look_due().map(Instant::from_std);
        if look_due.is_none_or(|due| due > Instant::now()) {
            self.look_after = LOOK_AFTER;
        }
        let look_at_earliest = self.looked_at.map(|at| at + self.look_after);
        self.look_at = look_due.map(|due| look_at_earliest.map_or(due, |at| at.max(due)));
        self.sessions_at = engine.sessions_due().map(Instant::from_std);
        self.expire_at = engine.members_due().map(Instant::from_std);
        self.remember_at = engine.memory.due().map(Instant::from_std);
        let is_pending = self.deadline.set(engine.go_back_due());
        self.tell_at = is_pending.then(|| Instant::now() + TELL_AFTER);
        if engine.take_recheck() {
            self.queue.push(Work::FilesChanged);
        }
        self.retry(engine.is_behind());
        self.engine = Some(engine);
        self.keep_denials();
    }

    /// Has denials kept for a restart, if that is due and the engine is here.
    fn keep_denials(&mut self) {
        if let Some(engine) = &self.engine
            && std::mem::take(&mut self.denials_are_old)
            && let Some(recorder) = engine.memory.recorder()
        {
            self.denials.keep(recorder);
        }
    }

    /// Takes note of what metrics tell, and of where they go.
    fn measure(&mut self, engine: &Engine) {
        self.denials.label(engine.enforced(), &engine.server.users);
        let generation = (engine.history.current(), engine.history.since());
        self.known.note(engine.enforced(), generation, &engine.counters);
        self.exporter.follow(&engine.applied.metrics, &mut self.unwatched);
        self.status.unwatched = self.unwatched.lines();
    }

    /// For the service manager.
    fn line(&self, engine: &Engine) -> String {
        status::line(engine, self.denials.after_change().as_ref())
    }

    /// Sees to it that what failed is tried again, less and less often.
    fn retry(&mut self, is_behind: bool) {
        if !is_behind {
            (self.retry_at, self.retry_after) = (None, RETRY_AFTER);
        } else if self.retry_at.is_none() {
            self.retry_at = Some(Instant::now() + self.retry_after);
            self.retry_after = (self.retry_after * 2).min(RETRY_AFTER_MAX);
        }
    }
}
