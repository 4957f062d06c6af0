//! Where the numbers go as the policy says: over HTTP, into a file. Nothing here is needed to
//! enforce anything, and what fails is told and tried again.
//!
//! Where the service manager listens in our place (`tierwalld-metrics.socket`), it alone says where:
//! the sandbox of the service lets the daemon open no such socket.

use super::readers::Readers;
use super::textfile::{self, Textfile};
use super::{Message, http};
use crate::journal::kind;
use crate::unwatched::{Unwatched, Watched};
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use policy::Metrics;
use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long after a failure it is tried again to listen, at first and at most.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// How long the end waits for the file to be gone.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// What is under way.
#[derive(Debug)]
pub(crate) struct Exporter {
    events: mpsc::Sender<Message>,
    readers: Readers,
    /// What the service manager listens on in our place.
    passed: Vec<SocketAddr>,
    /// What the policy said last.
    wanted: Metrics,
    listening: Option<JoinHandle<()>>,
    writing: Option<(Arc<Textfile>, JoinHandle<()>)>,
}

impl Exporter {
    /// Serves on the sockets that the service manager passed on.
    pub(crate) fn new(sockets: Vec<OwnedFd>, events: mpsc::Sender<Message>) -> Self {
        let readers = Readers::default();
        let mut passed = Vec::new();
        for socket in sockets {
            match take(socket) {
                Ok((listener, address)) => {
                    tracing::info!(target: kind::METRICS_SERVED, %address, "metrics are served by the socket of the service manager");
                    tokio::spawn(http::serve(listener, readers.clone(), events.clone()));
                    passed.push(address);
                }
                Err(error) => {
                    tracing::warn!(target: kind::METRICS_NOT_SERVED, %error, "can't serve metrics on a socket of the service manager");
                }
            }
        }
        let wanted = Metrics::default();
        Self { events, readers, passed, wanted, listening: None, writing: None }
    }

    /// Does what the policy says from now on. What of it isn't done, because the service manager
    /// says otherwise, is told as long as that is so; what isn't wanted any more isn't.
    pub(crate) fn follow(&mut self, wanted: &Metrics, unwatched: &mut Unwatched) {
        if *wanted != self.wanted {
            if wanted.listen != self.wanted.listen {
                self.listen(wanted.listen);
            }
            let file = |metrics: &Metrics| (metrics.textfile.clone(), metrics.interval);
            if file(wanted) != file(&self.wanted) {
                self.write(wanted);
            }
            self.wanted = wanted.clone();
        }
        if !self.wants(Watched::Listener) {
            unwatched.note(Watched::Listener, self.overruled());
        }
        if !self.wants(Watched::Textfile) {
            unwatched.note(Watched::Textfile, None);
        }
    }

    /// That nobody listens where the policy says.
    fn overruled(&self) -> Option<String> {
        let listen = self.wanted.listen.filter(|listen| !self.passed.contains(listen))?;
        let passed: Vec<String> = self.passed.iter().map(ToString::to_string).collect();
        let passed = passed.join(" and ");
        Some(format!("nobody listens at {listen}, since tierwalld-metrics.socket says {passed}"))
    }

    fn listen(&mut self, address: Option<SocketAddr>) {
        if let Some(before) = self.listening.take() {
            // With its socket; who is being served is served.
            before.abort();
        }
        let address = address.filter(|_| self.passed.is_empty());
        self.listening = address.map(|address| {
            tokio::spawn(listen(address, self.readers.clone(), self.events.clone()))
        });
    }

    fn write(&mut self, wanted: &Metrics) {
        let before = self.stop_writing();
        self.writing = wanted.textfile.clone().map(|path| {
            let file = Arc::new(Textfile::new(path));
            let interval = Duration::from_secs(wanted.interval.seconds().into());
            let written = textfile::keep(Arc::clone(&file), interval, self.events.clone());
            let task = tokio::spawn(async move {
                // It may be the same place.
                if let Some(before) = before {
                    let _ = before.await;
                }
                written.await;
            });
            (file, task)
        });
    }

    /// Has the file taken away, which may take as long as the disk does.
    fn stop_writing(&mut self) -> Option<JoinHandle<()>> {
        let (file, task) = self.writing.take()?;
        task.abort();
        Some(tokio::task::spawn_blocking(move || file.end()))
    }

    /// What isn't wanted any more can't fail any more.
    pub(crate) fn wants(&self, what: Watched) -> bool {
        match what {
            Watched::Listener => self.listening.is_some(),
            Watched::Textfile => self.writing.is_some(),
            _ => true,
        }
    }

    /// Leaves no numbers behind.
    pub(crate) async fn end(&mut self) {
        self.listen(None);
        if let Some(removed) = self.stop_writing() {
            // A disk that hangs doesn't keep the daemon from ending.
            let _ = timeout(LAST_PATIENCE, removed).await;
        }
    }
}

/// A socket as somebody else has made it.
fn take(socket: OwnedFd) -> io::Result<(TcpListener, SocketAddr)> {
    if !getsockopt(&socket, sockopt::AcceptConn)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "nobody listens on it"));
    }
    let listener = net::TcpListener::from(socket);
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    Ok((TcpListener::from_std(listener)?, address))
}

/// Serves at an address, as soon and as long as that can be done.
async fn listen(address: SocketAddr, readers: Readers, events: mpsc::Sender<Message>) {
    let mut again = AGAIN;
    loop {
        let problem = match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(target: kind::METRICS_SERVED, %address, "metrics are served");
                if events.send(Message::Watching(Watched::Listener, None)).await.is_ok() {
                    http::serve(listener, readers, events).await;
                }
                return;
            }
            Err(error) => told(address, &error),
        };
        if events.send(Message::Watching(Watched::Listener, Some(problem))).await.is_err() {
            return;
        }
        tokio::time::sleep(again).await;
        again = (again * 2).min(AGAIN_MAX);
    }
}

fn told(address: SocketAddr, error: &io::Error) -> String {
    let hint = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAFNOSUPPORT) => {
            "; the sandbox of the service lets the service manager alone listen: `systemctl enable \
             tierwalld-metrics.socket`, then `systemctl restart tierwalld`"
        }
        _ => "",
    };
    format!("{address}: {error}{hint}")
}
