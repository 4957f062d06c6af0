//! A server without a network, its daemon, and who listens in.

use control::{Client, Request, Response, Status, socket_path};
use netlink::{Events, Object, Transaction};
use nix::sys::signal::Signal;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::daemon::Daemon;
use tierwall_tests::namespace::Namespace;
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;

/// When a condition that doesn't hold is a failure: far beyond what a busy machine needs.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// Waits until `look` finds something.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(POLL);
    }
}

/// A server in a namespace with nothing but `lo`.
pub(crate) fn alone(policy: &str) -> Server {
    let namespace = Arc::new(Namespace::new().unwrap());
    let host = Host { name: "alone".into(), addresses: Vec::new(), namespace };
    Server::new(&host, policy).unwrap()
}

pub(crate) fn start(server: &Server) -> Daemon {
    server.start(&[]).unwrap()
}

/// Ends the daemon as a crash would, and returns when it is gone.
pub(crate) fn kill(daemon: Daemon) {
    daemon.signal(Signal::SIGKILL).unwrap();
    drop(daemon);
}

pub(crate) fn path(server: &Server, name: &str) -> PathBuf {
    server.config().with_file_name(name)
}

/// Puts a file in its place as most tools do: written beside it, then renamed.
pub(crate) fn rename(server: &Server, name: &str, text: &str) {
    let beside = path(server, ".beside");
    fs::write(&beside, text).unwrap();
    fs::set_permissions(&beside, Permissions::from_mode(0o644)).unwrap();
    fs::rename(&beside, path(server, name)).unwrap();
}

pub(crate) fn ask(server: &Server, request: &Request) -> Response {
    let socket = socket_path(&server.runtime_directory());
    Client::connect(&socket).unwrap().ask(request).unwrap()
}

pub(crate) fn status(server: &Server) -> Status {
    match ask(server, &Request::Status) {
        Response::Status(status) => *status,
        other => panic!("not a status: {other:?}"),
    }
}

/// Waits until the daemon says so of itself.
pub(crate) fn status_when(server: &Server, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
    eventually(what, || Some(status(server)).filter(&holds))
}

/// How `tierwall` ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) error: String,
}

pub(crate) fn tierwall(server: &Server, arguments: &[&str]) -> Said {
    let output = server.tierwall(arguments).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("it isn't killed");
    Said { code, out: text(&output.stdout), error: text(&output.stderr) }
}

/// The same where it has to succeed.
pub(crate) fn tierwall_ok(server: &Server, arguments: &[&str]) -> String {
    let said = tierwall(server, arguments);
    assert_eq!(said.code, 0, "{said:?}");
    said.out
}

pub(crate) fn nft(server: &Server, command: &str) -> anyhow::Result<String> {
    server.host().namespace.command("nft", &[command])
}

/// Hears every transaction of nftables in a namespace.
pub(crate) struct Monitor(Events);

impl Monitor {
    pub(crate) fn open(server: &Server) -> Self {
        Self(server.host().namespace.run(|| Events::open().unwrap()))
    }

    /// All since the last time. The kernel announces a transaction before it acknowledges it.
    pub(crate) fn heard(&mut self) -> Vec<Transaction> {
        std::iter::from_fn(|| self.0.read().unwrap()).collect()
    }
}

/// Whether a transaction adds and deletes elements and nothing else.
pub(crate) fn is_elements_only(transaction: &Transaction) -> bool {
    transaction.more == 0
        && !transaction.changes.is_empty()
        && transaction.changes.iter().all(|c| matches!(c.object, Object::Elements { .. }))
}

/// What a transaction does to elements, the fingerprint aside: `add 2 elements of set …`.
pub(crate) fn elements(transactions: &[Transaction]) -> Vec<String> {
    let changes = transactions.iter().flat_map(|transaction| &transaction.changes);
    let told = changes.filter(|change| match &change.object {
        Object::Elements { set, .. } => set != "tierwall_state",
        _ => false,
    });
    told.map(|change| format!("{} {}", change.verb, change.object)).collect()
}
