//! Reading files: whole, as text, and only ones that nobody but root can have written.

use crate::diagnostic::{Diagnostic, Excerpt, Label};
use crate::model::Location;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("there is no file {}", .0.display())]
    Missing(PathBuf),
    #[error("{} is a directory", .0.display())]
    Directory(PathBuf),
    #[error("{} is not a regular file", .0.display())]
    Special(PathBuf),
    #[error("{} may be written by {who}", .path.display())]
    Writable { path: PathBuf, who: &'static str },
    #[error("{} belongs to user {uid}, not to root", .path.display())]
    Owner { path: PathBuf, uid: u32 },
    #[error("can't read {}: {}", .path.display(), plain(.source))]
    Read { path: PathBuf, source: io::Error },
}

impl FileError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing-file",
            Self::Directory(_) | Self::Special(_) | Self::Read { .. } => "unreadable-file",
            Self::Writable { .. } | Self::Owner { .. } => "unsafe-file",
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

/// Reads a whole file. With `check_permissions`, only one that root owns and nobody else may write.
pub(crate) fn read(path: &Path, check_permissions: bool) -> Result<Vec<u8>, FileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path.into()),
        _ => FileError::Read { path: path.into(), source },
    };
    // Opening a pipe would wait for a writer.
    judge(path, &std::fs::metadata(path).map_err(failed)?, check_permissions)?;
    let mut file = File::open(path).map_err(failed)?;
    // Again, of what was opened: the name may lead somewhere else by now.
    let metadata = file.metadata().map_err(failed)?;
    judge(path, &metadata, check_permissions)?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn judge(path: &Path, metadata: &Metadata, check_permissions: bool) -> Result<(), FileError> {
    if metadata.is_dir() {
        return Err(FileError::Directory(path.into()));
    }
    if !metadata.is_file() {
        return Err(FileError::Special(path.into()));
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

/// The text of a file, or what keeps it from being one.
pub(crate) fn decode(name: &Arc<PathBuf>, bytes: Vec<u8>) -> Result<String, Box<Diagnostic>> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        let message = "this file is UTF-16, not UTF-8";
        let diagnostic = Diagnostic::error("not-utf8", Label::file(name.clone(), ""), message);
        return Err(Box::new(diagnostic.hint("save it again as UTF-8".to_owned())));
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let message = "this file holds a NUL byte";
        let diagnostic = Diagnostic::error("nul-byte", byte_label(name, &bytes, at), message);
        let hint = "it is no text file, or was being written when the system stopped";
        return Err(Box::new(diagnostic.hint(hint.to_owned())));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes()[at];
        let message = "this file is not UTF-8";
        let label = byte_label(name, error.as_bytes(), at);
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
