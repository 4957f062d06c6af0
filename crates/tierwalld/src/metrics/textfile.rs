//! The file for node_exporter's textfile collector: written beside its place and renamed, so that
//! a reader sees the old or the new numbers whole.

use super::{Reader, scrape};
use crate::event::Event;
use crate::unwatched::Watched;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// Writes it for ever, and says when that can't be done.
pub(super) async fn keep(path: PathBuf, interval: Duration, events: mpsc::Sender<Event>) {
    loop {
        let Some(text) = scrape(&events, Reader::Textfile).await else { return };
        let place = path.clone();
        let written = tokio::task::spawn_blocking(move || write(&place, &text)).await;
        let problem = written.unwrap_or_else(|error| Err(io::Error::other(error))).err();
        let problem = problem.map(|error| told(&path, &error));
        if events.send(Event::Watching(Watched::Textfile, problem)).await.is_err() {
            return;
        }
        tokio::time::sleep(interval).await;
    }
}

fn told(path: &Path, error: &io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            "; the sandbox of the service makes it read-only: `systemctl edit tierwalld` and add \
             ReadWritePaths= below [Service]"
        }
        _ => "",
    };
    format!("{}: {error}{hint}", path.display())
}

/// A directory may belong to another user, so nothing that lies there is opened, only what is made
/// here. node_exporter reads only what ends with `.prom`.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let beside = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    remove(&beside)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&beside)?;
    // Whatever the umask.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    fs::rename(&beside, path)
}

/// Takes it away: the numbers of a daemon that has ended say nothing of what holds.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn is_readable_by_all_and_follows_no_link() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, victim) = (directory.path().join("x.prom"), directory.path().join("victim"));
        fs::write(&victim, "untouched").expect("written");
        symlink(&victim, directory.path().join(".x.prom.new")).expect("linked");
        symlink(&victim, &path).expect("linked");
        for text in ["one\n", "another\n"] {
            write(&path, text).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
        }
        assert_eq!(fs::read_to_string(&victim).expect("there"), "untouched");
        let mode = fs::symlink_metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 2);
        remove(&path).expect("removed");
        remove(&path).expect("gone");
    }
}
