//! The log in the journal's own protocol (systemd's `docs/JOURNAL_NATIVE_PROTOCOL.md`): every event
//! one entry, its fields searchable.
//!
//! A field `generation` ([`field`]) is `TIERWALL_GENERATION` there, so that `journalctl TIERWALL_GENERATION=12`
//! shows what belongs to one policy. Each kind of event has an id of its own, by which the
//! journal's catalog explains it ([`kind`]). The kind is the event's target.
//!
//! The values are data, whatever they hold: a line break in one can't make another field or
//! another entry.
//!
//! Nobody waits for a journal that hangs, the way back from a change least of all. An entry waits a
//! second for its place; those after one that waited in vain don't wait at all for a while. What is
//! lost is counted, and told after the next entry that gets through.

pub(crate) mod field;
pub(crate) mod kind;
#[cfg(test)]
mod tests;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::stat::fstat;
use nix::sys::time::{TimeVal, TimeValLike};
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How long an entry waits for a journal that is behind, in seconds.
const PATIENCE: i64 = 1;

/// How long no entry waits, after one that did in vain.
const IMPATIENCE: Duration = Duration::from_secs(10);

/// What stands before the names of our fields.
pub(crate) const PREFIX: &str = "TIERWALL_";

/// Whether what is written to standard error goes to the journal: systemd names the file that it
/// has put there (`JOURNAL_STREAM`, systemd.exec(5)).
pub(crate) fn is_standard_error() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
}

/// Sends every event to the journal.
#[derive(Debug)]
pub(crate) struct Journal {
    socket: OwnedFd,
    address: UnixAddr,
    /// Until when no entry waits.
    hurried: Mutex<Option<Instant>>,
    /// Entries that were lost since the last one that wasn't.
    lost: AtomicU64,
}

impl Journal {
    /// Opens the way to the journal.
    ///
    /// # Errors
    /// When nobody listens there.
    pub(crate) fn open() -> io::Result<Self> {
        Self::open_at(Path::new(SOCKET))
    }

    fn open_at(path: &Path) -> io::Result<Self> {
        let kind = (AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC);
        let socket = socket(kind.0, kind.1, kind.2, None)?;
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE))?;
        let address = UnixAddr::new(path)?;
        let journal = Self { socket, address, hurried: Mutex::default(), lost: AtomicU64::new(0) };
        // An empty datagram is nothing to the journal; whether it arrives says whether it is there.
        match journal.send(&[], &[]) {
            // It is, and behind.
            Ok(_) | Err(Errno::EAGAIN) => Ok(journal),
            Err(error) => Err(error.into()),
        }
    }

    fn send(&self, entry: &[u8], attached: &[ControlMessage<'_>]) -> nix::Result<usize> {
        let parts = [IoSlice::new(entry)];
        let hurried = *self.hurried.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = hurried.is_none_or(|until| until <= Instant::now());
        let flags = if waits { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        let flags = flags | MsgFlags::MSG_NOSIGNAL;
        let sent = sendmsg(self.socket.as_raw_fd(), &parts, attached, flags, Some(&self.address));
        if waits && sent == Err(Errno::EAGAIN) {
            let until = Instant::now() + IMPATIENCE;
            *self.hurried.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
        sent
    }

    /// Tells what was lost, now that something got through.
    fn tell_lost(&self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let mut entry = Entry::of(&Level::WARN);
        entry.message = format!("the journal was behind: {lost} entries before this are lost");
        entry.finish();
        if self.write(&entry.bytes).is_err() {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// One that doesn't fit in a datagram is handed over as a file.
    fn write(&self, entry: &[u8]) -> io::Result<()> {
        match self.send(entry, &[]) {
            Err(Errno::EMSGSIZE | Errno::ENOBUFS) => {}
            sent => return Ok(sent.map(drop)?),
        }
        let mut file = File::from(memfd_create(
            "tierwall",
            MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
        )?);
        file.write_all(entry)?;
        seal(&file)?;
        self.send(&[], &[ControlMessage::ScmRights(&[file.as_raw_fd()])])?;
        Ok(())
    }
}

/// The journal takes only files that nobody can change any more.
fn seal(file: &File) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::all())).map(drop)
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = Entry::of(metadata.level());
        let id = kind::ALL.iter().find(|(kind, _)| *kind == metadata.target());
        if let Some((kind, id)) = id {
            entry.field("MESSAGE_ID", id.as_bytes());
            entry.field("TIERWALL_EVENT", kind.as_bytes());
        }
        event.record(&mut entry);
        entry.finish();
        // A log that can't be written is lost, and the daemon goes on.
        match self.write(&entry.bytes) {
            Ok(()) => self.tell_lost(),
            Err(_) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// syslog(3): 3 error, 4 warning, 6 informational, 7 debug.
fn priority(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// An entry as it is sent: fields one after the other, and at its end the message.
#[derive(Debug, Default)]
struct Entry {
    bytes: Vec<u8>,
    message: String,
    /// ` name=value` for each field: what is read where the fields aren't shown.
    details: String,
}

impl Entry {
    fn of(level: &Level) -> Self {
        let mut entry = Self::default();
        entry.field("PRIORITY", priority(level).as_bytes());
        entry.field("SYSLOG_IDENTIFIER", b"tierwalld");
        entry
    }

    /// With its length: a value may hold line breaks.
    fn field(&mut self, name: &str, value: &[u8]) {
        self.bytes.extend(name.as_bytes());
        self.bytes.push(b'\n');
        self.bytes.extend((value.len() as u64).to_le_bytes());
        self.bytes.extend(value);
        self.bytes.push(b'\n');
    }

    fn own_field(&mut self, field: &Field, value: &str, shown: impl fmt::Display) {
        use fmt::Write;
        let name = format!("{PREFIX}{}", field.name().to_ascii_uppercase());
        self.field(&name, value.as_bytes());
        // Writing to a string doesn't fail.
        let _ = write!(self.details, " {}={shown}", field.name());
    }

    /// A field for each of `web_v4 +1 -0, web_v6 +2 -0`, by which the journal finds what changed it.
    fn each_set(&mut self, sets: &str) {
        for set in sets.split(", ").filter_map(|set| set.split(' ').next()) {
            if !set.is_empty() {
                self.field(&format!("{PREFIX}SET"), set.as_bytes());
            }
        }
    }

    fn finish(&mut self) {
        let (message, details) =
            (std::mem::take(&mut self.message), std::mem::take(&mut self.details));
        // What has lines of its own stays as it is.
        let text = match message.split_once('\n') {
            Some((first, rest)) => format!("{first}{details}\n{rest}"),
            None => message + &details,
        };
        self.field("MESSAGE", text.as_bytes());
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            name => {
                self.own_field(field, value, format_args!("{value:?}"));
                if name == "sets" {
                    self.each_set(value);
                }
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            _ => self.own_field(field, &text, &text),
        }
    }
}
