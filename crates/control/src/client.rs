//! The command line's end: connect, ask, read the answer.

use crate::caller::Caller;
use crate::message::{DecodeError, MAX_RESPONSE, Request, Response, decode, encode_request};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the daemon may take: a commit of a million elements takes seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

/// Why the daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens there.
    #[error("tierwalld is not running: nothing listens at {}", .path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket may not be opened by this user.
    #[error(
        "no right to talk to tierwalld at {}: run as root; members of its group may ask for what \
         changes nothing",
        .path.display()
    )]
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// The socket can't be used; whether a daemon runs isn't known.
    #[error("can't connect to tierwalld at {}", .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or the daemon took too long.
    #[error("tierwalld did not answer")]
    Broken(#[from] io::Error),
    /// The same after a change was asked for.
    #[error(
        "tierwalld did not answer ({0}), so whether the change was made isn't known\n  hint: \
         `tierwall status` says what is enforced now, `tierwall history` what was changed last"
    )]
    Lost(io::Error),
    /// The answer can't be understood.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// When nothing listens there, or this user may not connect.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::PermissionDenied => ClientError::NotPermitted { path },
                io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::ConnectionRefused => ClientError::NotRunning { path },
                _ => ClientError::Unreachable { path, source },
            }
        })?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self { stream })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the connection breaks or the answer can't be understood.
    pub fn ask(mut self, request: &Request) -> Result<Response, ClientError> {
        let caller = Caller::own();
        match self.stream.write_all(&encode_request(request, caller.as_ref())) {
            // A daemon that refuses a client says why without waiting for its request.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
        match self.answer() {
            Err(error) if !request.changes_nothing() => Err(ClientError::Lost(error)),
            answer => Ok(decode(&answer?)?),
        }
    }

    fn answer(&self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        BufReader::new((&self.stream).take(MAX_RESPONSE as u64)).read_until(b'\n', &mut line)?;
        match (line.last(), line.len()) {
            (Some(b'\n'), _) => Ok(line),
            (_, MAX_RESPONSE..) => Err(io::Error::other("its answer is too long")),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its answer is cut short")),
        }
    }
}
