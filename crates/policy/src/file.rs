//! Reading files: whole, as text, and only ones that nobody but root can have written.

use crate::diagnostic::{BEING_WRITTEN, Diagnostic, Excerpt, Label};
use crate::location::Location;
use crate::way::{self, WayError};
use std::fs::{File, FileType, Metadata};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file that is read, in bytes: some 15 million members. What is larger is not what
/// was meant, and would take the memory that the rest of the server needs.
const LARGEST: u64 = 256 << 20;

/// The size of a block of a list: within the processor's cache.
const BLOCK: usize = 128 << 10;

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("there is no file {}", .0.display())]
    Missing(PathBuf),
    #[error("{} is a directory", .0.display())]
    Directory(PathBuf),
    #[error("{} is {what}, not a regular file", .path.display())]
    Special { path: PathBuf, what: &'static str },
    #[error("{} may be written by {who}", .path.display())]
    Writable { path: PathBuf, who: &'static str },
    #[error("{} belongs to user {uid}, not to root", .path.display())]
    Owner { path: PathBuf, uid: u32 },
    #[error("{} is still being written", .0.display())]
    BeingWritten(PathBuf),
    #[error("can't trust {}: {source}", .path.display())]
    Way { path: PathBuf, source: WayError },
    #[error("{} is larger than {} MiB", .0.display(), LARGEST >> 20)]
    TooLarge(PathBuf),
    #[error("can't read {}: {}", .path.display(), plain(.source))]
    Read { path: PathBuf, source: io::Error },
}

impl FileError {
    /// What came of the way to `path`.
    pub(crate) fn of_way(path: &Path, error: WayError) -> Self {
        let path = path.to_owned();
        match error {
            WayError::System(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::Missing(path)
            }
            // Another program holds a lease on it, such as Samba for a client that may have written
            // what isn't in the file yet. Opening it has asked for the lease back (fcntl(2)).
            WayError::System(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Self::BeingWritten(path)
            }
            WayError::System(source) => Self::Read { path, source },
            WayError::Directory => Self::Directory(path),
            source => Self::Way { path, source },
        }
    }

    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing-file",
            Self::Directory(_) | Self::Special { .. } | Self::TooLarge(_) | Self::Read { .. } => {
                "unreadable-file"
            }
            Self::BeingWritten(_) => BEING_WRITTEN,
            Self::Writable { .. } | Self::Owner { .. } | Self::Way { .. } => "unsafe-file",
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Writable { path, .. } => {
                Some(format!("who writes it decides who gets in: chmod go-w {}", path.display()))
            }
            Self::Owner { path, .. } => {
                Some(format!("who owns it decides who gets in: chown root {}", path.display()))
            }
            Self::Way { source, .. } => source.hint(),
            Self::BeingWritten(_) => {
                Some("it is read when it is closed; `tierwall reload --force` reads it now".into())
            }
            Self::TooLarge(_) => {
                Some("no policy needs so many members: is it the right file?".into())
            }
            _ => None,
        }
    }
}

/// An error of the system without its number.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.chars().take(1).flat_map(char::to_lowercase).chain(text.chars().skip(1)).collect()
}

/// A regular file that has passed the checks, not read yet.
#[derive(Debug)]
pub(crate) struct Opened {
    path: PathBuf,
    file: File,
    pub(crate) metadata: Metadata,
}

/// Opens a file without waiting for anybody. With `check_permissions`, only one that root owns and
/// nobody else may write, by a way of which that holds too.
pub(crate) fn open(path: &Path, check_permissions: bool) -> Result<Opened, FileError> {
    let judge =
        |metadata: &Metadata| judge(path, metadata, check_permissions).map_err(OpenError::File);
    let opened = match check_permissions {
        true => way::open(path, judge),
        false => way::open_by_any(path, judge),
    };
    let (file, metadata) = opened.map_err(|error| error.of(path))?;
    Ok(Opened { path: path.into(), file, metadata })
}

/// Why a file can't be opened.
enum OpenError {
    File(FileError),
    Way(WayError),
}

impl From<WayError> for OpenError {
    fn from(error: WayError) -> Self {
        Self::Way(error)
    }
}

impl OpenError {
    fn of(self, path: &Path) -> FileError {
        match self {
            Self::File(error) => error,
            Self::Way(error) => FileError::of_way(path, error),
        }
    }
}

impl Opened {
    /// Whether its mode lets everybody read it.
    pub(crate) fn is_readable_by_all(&self) -> bool {
        self.metadata.mode() & 0o004 != 0
    }

    /// The file itself.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The path by which it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole file into one buffer of its size.
    pub(crate) fn read(self) -> Result<Vec<u8>, FileError> {
        let Self { path, file, metadata } = self;
        if metadata.len() > LARGEST {
            return Err(FileError::TooLarge(path));
        }
        let mut bytes = Vec::new();
        let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        let result = match bytes.try_reserve_exact(size) {
            // It may have grown since, but not without end.
            Ok(()) => file.take(LARGEST + 1).read_to_end(&mut bytes),
            Err(error) => Err(io::Error::new(io::ErrorKind::OutOfMemory, error)),
        };
        match result {
            Ok(_) if bytes.len() as u64 > LARGEST => Err(FileError::TooLarge(path)),
            Ok(_) => Ok(bytes),
            Err(source) => Err(FileError::Read { path, source }),
        }
    }
}

impl Opened {
    /// Hands out the file in blocks of whole lines, through one small buffer: a large list never
    /// lies in memory as text. The last line may lack its end.
    pub(crate) fn blocks<E: From<FileError>>(
        &mut self,
        block: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { path, file, metadata } = self;
        if metadata.len() > LARGEST {
            return Err(FileError::TooLarge(path.clone()).into());
        }
        match blocks(file, vec![0; BLOCK], block) {
            Ok(()) => Ok(()),
            Err(Stop::Caller(error)) => Err(error),
            Err(Stop::TooLarge) => Err(FileError::TooLarge(path.clone()).into()),
            Err(Stop::Read(source)) => Err(FileError::Read { path: path.clone(), source }.into()),
        }
    }

    /// Goes back to the beginning.
    pub(crate) fn again(mut self) -> Result<Self, FileError> {
        match self.file.rewind() {
            Ok(()) => Ok(self),
            Err(source) => Err(FileError::Read { path: self.path, source }),
        }
    }
}

/// Why no more blocks are handed out.
#[derive(Debug)]
enum Stop<E> {
    Caller(E),
    Read(io::Error),
    TooLarge,
}

/// Hands out what `file` holds in blocks of whole lines, read into `buffer`, which grows where a
/// line is longer.
fn blocks<E>(
    file: &mut impl Read,
    mut buffer: Vec<u8>,
    mut block: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let (mut filled, mut total) = (0, 0);
    loop {
        let read = match file.read(&mut buffer[filled..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Stop::Read(error)),
        };
        total += read as u64;
        if total > LARGEST {
            return Err(Stop::TooLarge);
        }
        let searched = filled;
        filled += read;
        if read == 0 {
            return block(&buffer[..filled]).map_err(Stop::Caller);
        }
        let Some(newline) = memchr::memrchr(b'\n', &buffer[searched..filled]) else {
            if filled == buffer.len() {
                buffer.resize(2 * filled, 0);
            }
            continue;
        };
        let end = searched + newline + 1;
        block(&buffer[..end]).map_err(Stop::Caller)?;
        buffer.copy_within(end..filled, 0);
        filled -= end;
    }
}

fn judge(path: &Path, metadata: &Metadata, check_permissions: bool) -> Result<(), FileError> {
    if metadata.is_dir() {
        return Err(FileError::Directory(path.into()));
    }
    if !metadata.is_file() {
        let what = kind(metadata.file_type());
        return Err(FileError::Special { path: path.into(), what });
    }
    if !check_permissions {
        return Ok(());
    }
    let who = match metadata.mode() {
        mode if mode & 0o002 != 0 => Some("everybody"),
        mode if mode & 0o020 != 0 => Some("its group"),
        _ => None,
    };
    if let Some(who) = who {
        return Err(FileError::Writable { path: path.into(), who });
    }
    if metadata.uid() != 0 {
        return Err(FileError::Owner { path: path.into(), uid: metadata.uid() });
    }
    Ok(())
}

/// What is no regular file, in a word.
fn kind(file: FileType) -> &'static str {
    if file.is_fifo() {
        "a pipe"
    } else if file.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// The text of a file, or what keeps it from being one.
pub(crate) fn decode<'b>(name: &Arc<PathBuf>, bytes: &'b [u8]) -> Result<&'b str, Box<Diagnostic>> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let message = "this file is UTF-16, not UTF-8";
        let diagnostic = Diagnostic::error("not-utf8", Label::file(name.clone(), ""), message);
        return Err(Box::new(diagnostic.hint("save it again as UTF-8".to_owned())));
    }
    if let Some(at) = memchr::memchr(0, bytes) {
        let message = "this file holds a NUL byte";
        let diagnostic = Diagnostic::error("nul-byte", byte_label(name, bytes, at), message);
        let hint = "it is no text file, or was being written when the system stopped";
        return Err(Box::new(diagnostic.hint(hint.to_owned())));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let byte = bytes[at];
        let message = "this file is not UTF-8";
        let label = byte_label(name, bytes, at);
        let hint = format!("byte 0x{byte:02x} fits no character: save the file again as UTF-8");
        Box::new(Diagnostic::error("not-utf8", label, message).hint(hint))
    })
}

/// Points at one byte of a file that is no text.
fn byte_label(name: &Arc<PathBuf>, bytes: &[u8], at: usize) -> Label {
    let start =
        bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |n| at + n);
    let before = String::from_utf8_lossy(&bytes[start..at]);
    let after = String::from_utf8_lossy(&bytes[at..end]);
    let length = after.chars().next().map_or(0, char::len_utf8);
    let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.chars().count() + 1;
    let excerpt = Excerpt::new(&format!("{before}{after}"), before.len()..before.len() + length);
    Label::at(Location { file: name.clone(), line, column }, "").with_excerpt(excerpt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_are_whole_lines_and_together_the_file(
            text in "[a-c\n]{0,80}",
            size in 1usize..20,
        ) {
            let mut found: Vec<String> = Vec::new();
            let result: Result<(), Stop<()>> = blocks(&mut text.as_bytes(), vec![0; size], |block| {
                found.push(String::from_utf8_lossy(block).into_owned());
                Ok(())
            });
            prop_assert!(result.is_ok());
            prop_assert_eq!(found.concat(), text);
            let whole = found.iter().rev().skip(1).all(|block| block.ends_with('\n'));
            prop_assert!(whole, "{:?}", found);
        }
    }
}
