//! The daemon: start, then one event after the other.
//!
//! Work that blocks (the kernel) runs on a thread of its own and comes back as an event, one
//! piece at a time, so that the loop always answers.

use crate::event::Event;
use crate::host::Server;
use crate::kernel::{Commit, Kernel, KernelError, Settled, in_full};
use crate::options::Options;
use crate::socket;
use crate::state::StateDirectory;
use control::{
    CommitSummary, Enforcement, Failure, FailureKind, Request, Response, SetChange, SideMode,
    Status, TierSummary, exit, socket_path,
};
use policy::model::Mode;
use policy::{Diagnostics, Host, Loaded, Policy, Style, compile};
use ruleset::Ruleset;
use sd_notify::NotifyState;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// Why the daemon ended, other than by a signal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// The policy has errors; they are told in full.
    #[error("{}", .0.trim_end())]
    BadPolicy(String),
    /// The kernel doesn't hold the policy.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl DaemonError {
    /// The exit code that says so.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::BadPolicy(_) => exit::BAD_POLICY,
            Self::Kernel(KernelError::NotPermitted) => exit::NOT_PERMITTED,
            Self::Kernel(KernelError::Foreign | KernelError::NotSaved(_)) => exit::FOREIGN_TABLE,
            Self::Kernel(_) | Self::Other(_) => exit::FAILED,
        }
    }
}

/// What the loop knows.
struct Daemon {
    options: Options,
    policy: Policy,
    server: Server,
    warnings: Vec<String>,
    /// What the kernel holds.
    ruleset: Ruleset,
    generation: u32,
    enforcement: Enforcement,
    last_commit: Option<CommitSummary>,
    since: u64,
    /// None while a thread works with it.
    kernel: Option<Kernel>,
    events: mpsc::Sender<Event>,
}

/// Starts, enforces, and serves until a signal.
pub(crate) async fn run(options: Options) -> Result<(), DaemonError> {
    // First of all: who lacks this right mostly lacks those to our directories too.
    let mut kernel = Kernel::open()?;
    let state = StateDirectory::open(&options.state_directory)
        .inspect_err(|error| {
            let directory = options.state_directory.display();
            tracing::warn!(%directory, %error, "can't use the state directory; going on without");
        })
        .ok();

    let (policy, server, warnings) = load(&options, state.as_ref())?;
    // Before the table is changed: two daemons must not take turns.
    let listener = socket::bind(&socket_path(&options.runtime_directory))?;

    let wanted = |previous: Option<&Ruleset>| {
        compile(&policy, Host { role: &server.role, users: &server.users, previous })
    };
    let settled = kernel.settle(&policy, wanted, state.as_ref(), options.takeover)?;
    if let Some(state) = state.as_ref().filter(|_| !server.role_is_old) {
        if let Err(error) = state.record_role(&server.role.tiers) {
            tracing::warn!(%error, "can't record the role in the state directory");
        }
    }
    let last_commit = report("start", &settled);

    let (events, inbox) = mpsc::channel(64);
    let daemon = Daemon {
        policy,
        server,
        warnings,
        generation: settled.generation,
        ruleset: settled.ruleset,
        enforcement: Enforcement::Committed,
        last_commit,
        since: now(),
        kernel: Some(kernel),
        events: events.clone(),
        options,
    };
    watch_signals(events.clone())?;
    tokio::spawn(socket::serve(listener, events));
    let status = daemon.status_line();
    tracing::info!("ready: {status}");
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    daemon.serve(inbox).await;
    Ok(())
}

/// The policy and what it depends on. Errors and warnings are told as they are.
fn load(
    options: &Options,
    state: Option<&StateDirectory>,
) -> Result<(Policy, Server, Vec<String>), DaemonError> {
    let load_options = policy::Options {
        check_permissions: !options.insecure_permissions,
        strict: options.strict,
    };
    let Loaded { policy, mut diagnostics, sources, .. } =
        policy::load(&options.config, &load_options);
    let Some(policy) = policy else {
        return Err(DaemonError::BadPolicy(diagnostics.render(Style::Plain)));
    };
    let (server, mut found) = Server::resolve(&policy, state);
    sources.illustrate(&mut found);
    diagnostics.extend(found);
    if options.strict {
        diagnostics.deny_warnings();
    }
    if diagnostics.has_errors() {
        return Err(DaemonError::BadPolicy(diagnostics.render(Style::Plain)));
    }
    let warnings = lines(&diagnostics);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    Ok((policy, server, warnings))
}

fn lines(diagnostics: &Diagnostics) -> Vec<String> {
    diagnostics.iter().map(ToString::to_string).collect()
}

/// Tells what was committed: one line a batch.
fn report(reason: &str, settled: &Settled) -> Option<CommitSummary> {
    if let Some(copy) = &settled.saved {
        let copy = copy.display();
        tracing::warn!(%copy, "replaced a table that tierwall did not make; this is its copy");
    }
    if settled.commit.is_none() {
        tracing::info!(
            generation = settled.generation,
            reason,
            "the kernel holds this policy already; nothing was sent"
        );
    }
    settled.commit.as_ref().map(|commit| report_commit(reason, commit))
}

fn report_commit(reason: &str, commit: &Commit) -> CommitSummary {
    let Commit { generation, summary, bytes, duration } = commit;
    tracing::info!(
        generation,
        reason,
        sets = summary.to_string(),
        rules_added = summary.rules_added,
        rules_deleted = summary.rules_deleted,
        bytes,
        duration_us = duration.as_micros() as u64,
        "committed"
    );
    let change =
        |count: &ruleset::ElementCount| SetChange { added: count.added, deleted: count.deleted };
    CommitSummary {
        time: now(),
        reason: reason.to_owned(),
        generation: *generation,
        sets: summary.sets.iter().map(|(set, count)| (set.clone(), change(count))).collect(),
        rules_added: summary.rules_added,
        rules_deleted: summary.rules_deleted,
        bytes: *bytes,
        duration_us: duration.as_micros() as u64,
    }
}

fn watch_signals(events: mpsc::Sender<Event>) -> anyhow::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let events = events.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if events.send(Event::Terminate).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

impl Daemon {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Event>) {
        while let Some(event) = inbox.recv().await {
            match event {
                Event::Request { request: Request::Status, reply } => {
                    answer(reply, Response::Status(Box::new(self.status())));
                }
                Event::Request { request: Request::Teardown, reply } => self.teardown(reply),
                Event::TornDown { kernel, result, reply } => {
                    self.kernel = Some(kernel);
                    self.torn_down(result, reply);
                }
                Event::Terminate => break,
            }
        }
        notify(&[NotifyState::Stopping]);
        match self.enforcement {
            Enforcement::Committed => tracing::info!("ending; the policy stays in the kernel"),
            Enforcement::TornDown => tracing::info!("ending"),
        }
    }

    fn teardown(&mut self, reply: oneshot::Sender<Response>) {
        let Some(mut kernel) = self.kernel.take() else {
            return answer(reply, failed("the daemon is busy with another change; try again"));
        };
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            let result = kernel.teardown();
            let _ = events.blocking_send(Event::TornDown { kernel, result, reply });
        });
    }

    fn torn_down(
        &mut self,
        result: Result<Option<Commit>, KernelError>,
        reply: oneshot::Sender<Response>,
    ) {
        match result {
            Ok(commit) => {
                self.enforcement = Enforcement::TornDown;
                self.ruleset = Ruleset::default();
                let existed = commit.is_some();
                if let Some(commit) = commit {
                    self.generation = commit.generation;
                    self.last_commit = Some(report_commit("teardown", &commit));
                    tracing::warn!("the table was taken away on request; nothing is filtered now");
                }
                notify(&[NotifyState::Status(&self.status_line())]);
                answer(reply, Response::TornDown(existed));
            }
            Err(KernelError::Foreign) => {
                let message = "the table was replaced by one that tierwall did not make; it stays";
                let kind = FailureKind::ForeignTable;
                answer(reply, Response::Failed(Failure { kind, message: message.into() }));
            }
            Err(error) => answer(reply, failed(in_full(error))),
        }
    }

    /// One line for `systemctl status`.
    fn status_line(&self) -> String {
        if self.enforcement == Enforcement::TornDown {
            return "torn down: nothing is filtered".into();
        }
        let role: Vec<&str> = self.server.role.tiers.iter().map(String::as_str).collect();
        let role = if role.is_empty() { "no tier".to_owned() } else { role.join(", ") };
        let tiers = self.policy.tiers.len();
        let members: usize =
            self.policy.tiers.values().map(|tier| tier.v4.len() + tier.v6.len()).sum();
        let (input, output) = (self.policy.mode.input, self.policy.mode.output);
        let mode = match input == output {
            true => mode_name(input).to_owned(),
            false => format!("input {}, output {}", mode_name(input), mode_name(output)),
        };
        let generation = self.generation;
        format!("generation {generation}, {mode}, {role}, {tiers} tiers, {members} members")
    }

    fn status(&self) -> Status {
        let sets = self.ruleset.table.as_ref().map(|table| &table.sets);
        let in_use = |tier: &str| sets.is_some_and(|sets| sets.contains_key(&format!("{tier}_v4")));
        let tiers = self.policy.tiers.iter().map(|(name, tier)| TierSummary {
            name: name.clone(),
            v4: tier.v4.len(),
            v6: tier.v6.len(),
            in_use: in_use(name),
        });
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            since: self.since,
            policy_file: self.options.config.display().to_string(),
            enforcement: self.enforcement,
            generation: self.generation,
            role: self.server.role.tiers.clone(),
            role_auto: self.server.role.auto,
            input: side_mode(self.policy.mode.input),
            output: side_mode(self.policy.mode.output),
            tiers: tiers.collect(),
            allows: self.policy.allows.len(),
            last_commit: self.last_commit.clone(),
            warnings: self.warnings.clone(),
        }
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
        Mode::Off => "off",
    }
}

fn side_mode(mode: Mode) -> SideMode {
    match mode {
        Mode::Enforce => SideMode::Enforce,
        Mode::Observe => SideMode::Observe,
        Mode::Off => SideMode::Off,
    }
}

fn failed(message: impl Into<String>) -> Response {
    Response::Failed(Failure { kind: FailureKind::Failed, message: message.into() })
}

/// A client that went away needs no answer.
fn answer(reply: oneshot::Sender<Response>, response: Response) {
    let _ = reply.send(response);
}

/// Tells systemd, where it asked to be told.
fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "can't notify the service manager");
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
