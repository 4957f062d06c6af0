//! The file for node_exporter's textfile collector: written beside its place and renamed, so that
//! a reader sees the old or the new numbers whole.

use super::{Message, Reader, scrape};
use crate::journal::kind;
use crate::unwatched::Watched;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// The file, as long as it is wanted. A write that is under way when it isn't any more ends before
/// the file is taken away, and none comes after.
#[derive(Debug)]
pub(super) struct Textfile {
    path: PathBuf,
    is_over: Mutex<bool>,
}

impl Textfile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, is_over: Mutex::new(false) }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_over { Ok(()) } else { write(&self.path, text) }
    }

    /// Takes it away: the numbers of a daemon that has ended say nothing of what holds. Blocks.
    pub(super) fn end(&self) {
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        *is_over = true;
        if let Err(error) = remove(&self.path) {
            let path = self.path.display();
            tracing::warn!(target: kind::METRICS_NOT_SERVED, %path, %error, "can't remove the file of metrics, whose numbers are old now");
        }
    }
}

/// Writes it for ever, and says when that can't be done.
pub(super) async fn keep(file: Arc<Textfile>, interval: Duration, events: mpsc::Sender<Message>) {
    loop {
        let Some(text) = scrape(&events, Reader::Textfile).await else { return };
        let place = Arc::clone(&file);
        let written = tokio::task::spawn_blocking(move || place.write(&text)).await;
        let problem = written.unwrap_or_else(|error| Err(io::Error::other(error))).err();
        let problem = problem.map(|error| told(&file.path, &error));
        if events.send(Message::Watching(Watched::Textfile, problem)).await.is_err() {
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
    let written = file
        .set_permissions(Permissions::from_mode(0o644))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // Half of it is nobody's.
        let _ = remove(&beside);
    }
    written
}

fn remove(path: &Path) -> io::Result<()> {
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

    #[test]
    fn nothing_is_written_once_it_is_taken_away() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = Textfile::new(directory.path().join("x.prom"));
        file.write("one\n").expect("written");
        assert!(file.path.exists());
        file.end();
        // As what was under way then.
        file.write("late\n").expect("nothing to do");
        assert!(!file.path.exists());
    }

    #[test]
    fn what_cannot_take_its_place_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("x.prom");
        fs::create_dir(&path).expect("in its place");
        write(&path, "one\n").expect_err("a directory");
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
    }
}
