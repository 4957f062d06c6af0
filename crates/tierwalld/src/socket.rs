//! The control socket: connections in, events out.
//!
//! A client gets one request and one answer. Each has a task of its own and limits on size, time
//! and number, so that one who stalls, floods or sends garbage disturbs nobody. Who it is, the
//! kernel says before anything is read.

use crate::event::Event;
use crate::journal::kind;
use crate::places::{Place, Places};
use crate::requester;
use anyhow::{Context, Result};
use control::{
    Caller, DecodeError, Failure, FailureKind, MAX_REQUEST, Origin, Request, Requester, Response,
    decode_request, encode, encode_response,
};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Group, User, chown, geteuid, getgrouplist};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long a client may take to send its request, or to take its answer; and the system, to say
/// which groups a user is in.
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
            tracing::debug!(target: kind::CONTROL_SOCKET, %error, "can't remove the control socket");
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
    // A service that runs in that group needn't give it away, and mayn't.
    let has_group = readers.is_some_and(|readers| {
        fs::metadata(path).is_ok_and(|found| found.gid() == readers.as_raw())
    });
    if readers.is_some() && !has_group {
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
    let places = Places::new();
    loop {
        match socket.listener.accept().await {
            Ok((stream, _)) => match admit(&stream, &places).await {
                Ok(peer) => {
                    tokio::spawn(converse(stream, peer, events.clone(), socket.readers));
                }
                Err(failure) => refuse(stream, failure),
            },
            Err(error) => {
                // Out of descriptors, most likely: others will end.
                tracing::warn!(target: kind::CONTROL_SOCKET, %error, "can't accept a control connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A client that has a place.
#[derive(Debug)]
struct Peer {
    credentials: UCred,
    is_root: bool,
    place: Arc<Place>,
}

/// Gives a client one of its user's places.
async fn admit(stream: &UnixStream, places: &Places) -> Result<Peer, Failure> {
    let credentials = stream.peer_cred().map_err(|error| {
        failure(FailureKind::NotPermitted, format!("can't tell who asks: {error}"))
    })?;
    let uid = credentials.uid();
    let is_root = uid == 0 || uid == geteuid().as_raw();
    let place = if is_root { places.of_root().await } else { places.of_user(uid) };
    match place {
        Some(place) => Ok(Peer { credentials, is_root, place: Arc::new(place) }),
        None => Err(failure(FailureKind::Failed, "too many clients ask at once; try again")),
    }
}

/// Says no without waiting for anything.
fn refuse(stream: UnixStream, failure: Failure) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write_all(&encode(&Response::Failed(failure)));
    }
}

async fn converse(
    mut stream: UnixStream,
    peer: Peer,
    events: mpsc::Sender<Event>,
    readers: Option<Gid>,
) {
    let response = match read_request(&mut stream, &peer, readers).await {
        Ok((request, caller)) => {
            let origin = caller.as_ref().map(|caller| caller.origin.clone()).unwrap_or_default();
            let by = requester::of(peer.credentials, caller);
            answer(request, by, origin, events).await
        }
        Err(failure) => Response::Failed(failure),
    };
    // A client that went away needs no answer.
    let _ = timeout(PATIENCE, stream.write_all(&encode_response(response))).await;
}

async fn answer(
    request: Request,
    by: Requester,
    origin: Origin,
    events: mpsc::Sender<Event>,
) -> Response {
    let (reply, answer) = oneshot::channel();
    if events.send(Event::Request { request, by, origin, reply }).await.is_ok()
        && let Ok(response) = answer.await
    {
        return response;
    }
    Response::Failed(failure(FailureKind::Failed, "tierwalld is ending"))
}

async fn read_request(
    stream: &mut UnixStream,
    peer: &Peer,
    readers: Option<Gid>,
) -> Result<(Request, Option<Caller>), Failure> {
    if !peer.is_root {
        let may_ask = match readers {
            Some(group) => is_member(peer, group).await?,
            None => false,
        };
        if !may_ask {
            return Err(failure(FailureKind::NotPermitted, "only root may ask tierwalld"));
        }
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
            let (request, caller) = decode_request(&line).map_err(|error: DecodeError| {
                failure(FailureKind::BadRequest, error.to_string())
            })?;
            match peer.is_root || request.is_read_only() {
                true => Ok((request, caller)),
                false if matches!(request, Request::Difference { .. }) => {
                    Err(failure(FailureKind::NotPermitted, "only root may compare generations"))
                }
                false => Err(failure(FailureKind::NotPermitted, "only root may change anything")),
            }
        }
    }
}

/// Whether a client's user is in the group, by the credentials that the kernel gives or by the
/// user's other groups, which those leave out.
///
/// The latter may be asked of a directory in the network, which takes as long as it likes: on a
/// thread of its own, which keeps the client's place until it is done.
async fn is_member(peer: &Peer, group: Gid) -> Result<bool, Failure> {
    if peer.credentials.gid() == group.as_raw() {
        return Ok(true);
    }
    let (uid, place) = (peer.credentials.uid(), Arc::clone(&peer.place));
    let lookup = spawn_blocking(move || {
        let groups = groups_of(uid);
        drop(place);
        groups.is_some_and(|groups| groups.contains(&group))
    });
    match timeout(PATIENCE, lookup).await {
        Ok(Ok(is_member)) => Ok(is_member),
        _ => Err(failure(FailureKind::Failed, "can't tell in time which groups your user is in")),
    }
}

fn groups_of(uid: u32) -> Option<Vec<Gid>> {
    let user = User::from_uid(uid.into()).ok().flatten()?;
    getgrouplist(&CString::new(user.name).ok()?, user.gid).ok()
}

fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into() }
}
