//! A file of the policy that is changed by command: read as it is, and replaced in one step.
//!
//! Who changes one has a turn, and the file keeps its owner, its permissions, its access list and
//! its other extended attributes. What somebody else wrote meanwhile is never overwritten.

use crate::error::Error;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The longest list of names, and the longest value, that the kernel has (`XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 65_536;

/// The file beside the policy that is locked: one that nobody else may open, or anybody could keep
/// others from their turn.
const LOCK: &str = ".tierwall.lock";

/// One change at a time, as long as this lives: until the daemon has taken the files over, since a
/// second one would otherwise take away what it hasn't read.
pub(crate) struct Turn {
    /// None where the directory itself is locked.
    path: Option<PathBuf>,
    #[expect(dead_code, reason = "held")]
    lock: Flock<File>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before it is unlocked: who is next sees then that it is gone.
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// Waits for one's turn.
pub(crate) fn turn(config: &Path) -> Result<Turn, Error> {
    loop {
        if let Some(turn) = take_turn(config, FlockArg::LockExclusive)? {
            return Ok(turn);
        }
    }
}

/// One's turn; none where it is another's.
pub(crate) fn turn_at_once(config: &Path) -> Result<Option<Turn>, Error> {
    take_turn(config, FlockArg::LockExclusiveNonblock)
}

fn take_turn(config: &Path, how: FlockArg) -> Result<Option<Turn>, Error> {
    let directory = directory(config)?;
    let path = directory.join(LOCK);
    let cannot = |error: io::Error| cannot("lock", &path, &error);
    let mut options = File::options();
    options.write(true).create(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    loop {
        let (file, is_own) = match options.open(&path) {
            Ok(file) => (file, true),
            // Nobody can change what is in there; what deployment wrote may still be taken over.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                (File::open(&directory).map_err(cannot)?, false)
            }
            Err(error) => return Err(cannot(error)),
        };
        let lock = match Flock::lock(file, how) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => return Ok(None),
            Err((_, errno)) => return Err(cannot(errno.into())),
        };
        if !is_own {
            return Ok(Some(Turn { path: None, lock }));
        }
        // Who had it before may have taken it away meanwhile.
        let locked = lock.metadata().map_err(cannot)?;
        let is_there = fs::symlink_metadata(&path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino()));
        if is_there {
            return Ok(Some(Turn { path: Some(path), lock }));
        }
    }
}

/// Where the policy file is, behind symbolic links.
fn directory(config: &Path) -> Result<PathBuf, Error> {
    let path = fs::canonicalize(config).map_err(|error| cannot("read", config, &error))?;
    Ok(path.parent().unwrap_or(Path::new("/")).to_owned())
}

fn cannot(do_what: &str, path: &Path, error: &io::Error) -> Error {
    Error::Edit(format!("can't {do_what} {}: {error}", path.display()))
}

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct Original {
    /// Where a symbolic link leads to.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    metadata: Metadata,
}

/// Reads a file that may be replaced.
pub(crate) fn read(path: &Path) -> Result<Original, Error> {
    let read = || {
        let path = fs::canonicalize(path)?;
        // A pipe would wait for a writer.
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let mut file = File::options().read(true).custom_flags(flags.bits()).open(&path)?;
        // Before its text: what is written after this differs from it.
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(Original { path, text, metadata })
    };
    read().map_err(|error: io::Error| cannot("read", path, &error))
}

/// Replaces a file in one step. Whether it was still the one that was read.
pub(crate) fn replace(original: &Original, text: &str) -> io::Result<bool> {
    prepare(original, text)?.replace(original)
}

/// A text that is on the disk, ready to be in the place of a file: nothing of that can fail any more
/// for want of room.
pub(crate) struct Prepared(NamedTempFile);

/// Prepares a file that is like the original in all but its text.
pub(crate) fn prepare(original: &Original, text: &str) -> io::Result<Prepared> {
    beside(original, &original.path, text).map(Prepared)
}

impl Prepared {
    /// Replaces a file with it. Whether it was still the one that was read.
    pub(crate) fn replace(self, original: &Original) -> io::Result<bool> {
        if stamp(&fs::metadata(&original.path)?) != stamp(&original.metadata) {
            return Ok(false);
        }
        self.0.persist(&original.path).map_err(|error| error.error)?;
        Ok(true)
    }
}

/// Puts `text` into another file, in the place of whatever is there, as if it were the original's.
pub(crate) fn put(original: &Original, path: &Path, text: &str) -> io::Result<()> {
    beside(original, path, text)?.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// A file in the directory of `path` that is like the original in all but its text.
fn beside(original: &Original, path: &Path, text: &str) -> io::Result<NamedTempFile> {
    let metadata = &original.metadata;
    let mut beside = NamedTempFile::new_in(path.parent().unwrap_or(Path::new("/")))?;
    beside.write_all(text.as_bytes())?;
    let file = beside.as_file();
    fchown(file, Some(metadata.uid()), Some(metadata.gid()))?;
    // After the owner, which takes some permissions away; before the access list, which they are
    // a part of.
    file.set_permissions(metadata.permissions())?;
    copy_attributes(&original.path, file);
    file.sync_all()?;
    Ok(beside)
}

/// Copies the access list and the other extended attributes, as far as the file systems and the
/// security modules let us.
fn copy_attributes(from: &Path, to: &File) {
    let Ok(from) = File::open(from) else { return };
    let (mut names, mut value) = (vec![0; XATTR_MAX], vec![0; XATTR_MAX]);
    let Ok(length) = flistxattr(&from, &mut names) else { return };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if let Ok(length) = fgetxattr(&from, name, &mut value) {
            let _ = fsetxattr(to, name, &value[..length], XattrFlags::empty());
        }
    }
}

/// What is another after any change of a file.
fn stamp(metadata: &Metadata) -> impl PartialEq + use<> {
    (
        (metadata.dev(), metadata.ino(), metadata.size()),
        (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()),
    )
}

#[cfg(test)]
mod tests {
    use super::{LOCK, read, replace, turn, turn_at_once};
    use nix::fcntl::{Flock, FlockArg};
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_turn_is_one_at_a_time_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("tierwall.toml");
        fs::write(&file, "one").expect("written");
        // Anybody can lock what they may open.
        let open = fs::File::open(directory.path()).expect("opened");
        let stranger = Flock::lock(open, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
        let first = turn(&file).expect("free, whatever else is locked");
        let lock = fs::metadata(directory.path().join(LOCK)).expect("there");
        assert_eq!(lock.mode() & 0o777, 0o600);
        assert!(turn_at_once(&file).expect("asked").is_none());
        fs::rename(&file, directory.path().join("old")).expect("renamed");
        fs::write(&file, "two").expect("written");
        assert!(turn_at_once(&file).expect("asked").is_none(), "another file, the same turn");
        drop(first);
        assert!(turn_at_once(&file).expect("asked").is_some());
        assert!(!directory.path().join(LOCK).exists());
        drop(stranger);
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let pipe = directory.path().join("tierwall.toml");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
        for path in [pipe.as_path(), Path::new("/dev/zero"), directory.path()] {
            let error = read(path).expect_err("no file").told();
            assert!(error.contains("regular file"), "{error}");
        }
    }

    #[test]
    fn whoever_waits_gets_the_turn_when_its_file_is_gone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("tierwall.toml");
        fs::write(&file, "").expect("written");
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _turn = turn(&file).expect("one's turn");
                        assert_eq!(count.fetch_add(1, Ordering::SeqCst), 0, "two have a turn");
                        count.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn a_file_keeps_its_access_list_and_attributes() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a temporary directory");
        let file = directory.path().join("tierwall.toml");
        fs::write(&file, "one").expect("written");
        // `struct posix_acl_xattr_header` and entries: user::rw-, user:1:r--, group::r--, mask::r--,
        // other::---
        let mut list = vec![2, 0, 0, 0];
        for (tag, rights, id) in [
            (1u16, 6u16, u32::MAX),
            (2, 4, 1),
            (4, 4, u32::MAX),
            (16, 4, u32::MAX),
            (32, 0, u32::MAX),
        ] {
            list.extend(tag.to_le_bytes());
            list.extend(rights.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        const NAME: &str = "system.posix_acl_access";
        setxattr(&file, NAME, &list, XattrFlags::empty()).expect("tmpfs has access lists");
        let old = read(&file).expect("readable");
        assert!(replace(&old, "two").expect("replaced"));
        let mut kept = vec![0; 200];
        let length = getxattr(&file, NAME, &mut kept).expect("kept");
        assert_eq!(kept[..length], list);
    }

    #[test]
    fn a_file_keeps_its_owner_and_is_replaced_only_as_it_was_read() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("tierwall.toml");
        fs::write(&file, "one").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        // Root may give files away; who isn't keeps them.
        let _ = chown(&file, None, Some(4));
        let owner = |metadata: fs::Metadata| (metadata.uid(), metadata.gid(), metadata.mode());
        let before = owner(fs::metadata(&file).expect("there"));
        let old = read(&file).expect("readable");
        assert!(replace(&old, "two").expect("replaced"));
        assert_eq!(owner(fs::metadata(&file).expect("there")), before);
        assert!(!replace(&old, "three").expect("checked"), "it is another one now");
        assert_eq!(fs::read_to_string(&file).expect("readable"), "two");

        let two = read(&file).expect("readable");
        fs::write(&file, "2wo").expect("written in place");
        assert!(!replace(&two, "three").expect("checked"));
        assert_eq!(fs::read_to_string(&file).expect("readable"), "2wo");
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
    }
}
