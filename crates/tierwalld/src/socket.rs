//! The control socket: connections in, events out.
//!
//! A client gets one request and one answer. Each has a task of its own and limits on size, time
//! and number, so that one who stalls, floods or sends garbage disturbs nobody.

use crate::event::Event;
use anyhow::{Context, Result};
use control::{DecodeError, Failure, FailureKind, MAX_REQUEST, Request, Response, decode, encode};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Group, User, chown, geteuid, getgrouplist};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Clients served at once; more wait in the listen queue.
const CLIENTS: usize = 64;

/// How long a client may take to send its request, or to take its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The socket of the only daemon that uses its directory. Its file goes when this is dropped.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// The group whose members may ask for what changes nothing.
    readers: Option<Gid>,
    /// Held as long as the socket is ours. The kernel releases it with the process, however that
    /// ends.
    _lock: Flock<File>,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "can't remove the control socket");
        }
    }
}

/// Binds the socket, in place of one that a dead daemon left.
///
/// A lock beside it tells a dead daemon from one that is busy, and keeps two that start together
/// from removing each other's socket.
///
/// Only root may open it, and members of `group` where there is such a group: the file's
/// permissions see to that, supplementary groups included.
pub(crate) fn bind(path: &Path, group: &str) -> Result<ControlSocket> {
    let directory = path.parent().context("the socket has no directory")?;
    fs::create_dir_all(directory)
        .with_context(|| format!("can't make the runtime directory {}", directory.display()))?;
    let lock = lock(directory)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("can't remove {}", path.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("can't listen at {}", path.display()))?;
    let readers = Group::from_name(group).ok().flatten().map(|group| group.gid);
    let socket = ControlSocket { listener, path: path.to_owned(), readers, _lock: lock };
    if readers.is_some() {
        chown(path, None, readers)
            .with_context(|| format!("can't give {} to the group {group}", path.display()))?;
    }
    let mode = if readers.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(socket)
}

fn lock(directory: &Path) -> Result<Flock<File>> {
    let path = directory.join("lock");
    // Whoever may open the file may lock it.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).with_context(|| format!("can't open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => anyhow::anyhow!(
            "another tierwalld runs already: it holds {}\n  hint: two daemons need a \
             --runtime-directory each, and a network namespace each",
            path.display()
        ),
        errno => anyhow::Error::from(errno).context(format!("can't lock {}", path.display())),
    })
}

/// Serves clients for ever.
pub(crate) async fn serve(socket: ControlSocket, events: mpsc::Sender<Event>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match socket.listener.accept().await {
            Ok((stream, _)) => {
                let (events, readers) = (events.clone(), socket.readers);
                tokio::spawn(async move {
                    converse(stream, events, readers).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: others will end.
                tracing::warn!(%error, "can't accept a control connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, events: mpsc::Sender<Event>, readers: Option<Gid>) {
    let response = match read_request(&mut stream, readers).await {
        Ok((request, uid)) => answer(request, uid, events).await,
        Err(failure) => Response::Failed(failure),
    };
    // A client that went away needs no answer.
    let _ = timeout(PATIENCE, stream.write_all(&encode(&response))).await;
}

async fn answer(request: Request, uid: u32, events: mpsc::Sender<Event>) -> Response {
    let (reply, answer) = oneshot::channel();
    if events.send(Event::Request { request, uid, reply }).await.is_ok() {
        if let Ok(response) = answer.await {
            return response;
        }
    }
    Response::Failed(failure(FailureKind::Failed, "tierwalld is ending"))
}

async fn read_request(
    stream: &mut UnixStream,
    readers: Option<Gid>,
) -> Result<(Request, u32), Failure> {
    let peer = stream.peer_cred().map_err(|error| {
        failure(FailureKind::NotPermitted, format!("can't tell who asks: {error}"))
    })?;
    let is_root = peer.uid() == 0 || peer.uid() == geteuid().as_raw();
    if !is_root && !readers.is_some_and(|group| is_member(&peer, group)) {
        return Err(failure(FailureKind::NotPermitted, "only root may ask tierwalld"));
    }
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream).take(MAX_REQUEST as u64);
    match timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await {
        Err(_) => Err(failure(FailureKind::BadRequest, "no request came in time")),
        Ok(Err(error)) => Err(failure(FailureKind::BadRequest, error.to_string())),
        Ok(Ok(_)) if line.last() != Some(&b'\n') => {
            Err(failure(FailureKind::BadRequest, "the request is cut short or too long"))
        }
        Ok(Ok(_)) => {
            let request: Request = decode(&line).map_err(|error: DecodeError| {
                failure(FailureKind::BadRequest, error.to_string())
            })?;
            match is_root || request.is_read_only() {
                true => Ok((request, peer.uid())),
                false => Err(failure(FailureKind::NotPermitted, "only root may change anything")),
            }
        }
    }
}

/// Whether a client's user is in the group, by the credentials that the kernel gives or by the
/// user's other groups, which those leave out.
fn is_member(peer: &UCred, group: Gid) -> bool {
    let others = || {
        let user = User::from_uid(peer.uid().into()).ok().flatten()?;
        getgrouplist(&CString::new(user.name).ok()?, user.gid).ok()
    };
    peer.gid() == group.as_raw() || others().is_some_and(|groups| groups.contains(&group))
}

fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into() }
}
