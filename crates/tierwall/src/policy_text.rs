//! A file of the policy that is changed by command: read as it is, and replaced in one step.
//!
//! Who changes one has a turn, and the file keeps its owner, its permissions, its access list and
//! its other extended attributes. What somebody else wrote meanwhile is never overwritten.

use crate::error::Error;
use nix::fcntl::{Flock, FlockArg};
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

/// The longest list of names, and the longest value, that the kernel has (`XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 65_536;

/// One change at a time, as long as this lives: until the daemon has taken the files over, since a
/// second one would otherwise take away what it hasn't read. The lock is on the directory, which
/// stays the same one while files in it are replaced.
pub(crate) struct Turn(#[expect(dead_code, reason = "held")] Flock<File>);

/// Waits for one's turn.
pub(crate) fn turn(config: &Path) -> Result<Turn, Error> {
    let lock = |directory| {
        Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
    };
    let directory = directory(config)?;
    match File::open(&directory).and_then(lock) {
        Ok(lock) => Ok(Turn(lock)),
        Err(error) => Err(cannot("lock", &directory, &error)),
    }
}

/// One's turn; none where it is another's.
pub(crate) fn turn_at_once(config: &Path) -> Result<Option<Turn>, Error> {
    let directory = directory(config)?;
    let open = File::open(&directory).map_err(|error| cannot("lock", &directory, &error))?;
    match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(Turn(lock))),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(cannot("lock", &directory, &errno.into())),
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
        let mut file = File::open(&path)?;
        // Before its text: what is written after this differs from it.
        let metadata = file.metadata()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(Original { path, text, metadata })
    };
    read().map_err(|error: io::Error| cannot("read", path, &error))
}

/// Replaces a file in one step. Whether it was still the one that was read.
pub(crate) fn replace(original: &Original, text: &str) -> io::Result<bool> {
    let beside = beside(original, &original.path, text)?;
    if stamp(&fs::metadata(&original.path)?) != stamp(&original.metadata) {
        return Ok(false);
    }
    beside.persist(&original.path).map_err(|error| error.error)?;
    Ok(true)
}

/// Puts `text` into another file, in the place of whatever is there, as if it were the original's.
pub(crate) fn put(original: &Original, path: &Path, text: &str) -> io::Result<()> {
    beside(original, path, text)?.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// A file in the directory of `path` that is like the original in all but its text.
fn beside(original: &Original, path: &Path, text: &str) -> io::Result<tempfile::NamedTempFile> {
    let metadata = &original.metadata;
    let mut beside = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new("/")))?;
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
    use super::{read, replace, turn, turn_at_once};
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    #[test]
    fn a_turn_is_one_at_a_time() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("tierwall.toml");
        fs::write(&file, "one").expect("written");
        let first = turn(&file).expect("free");
        assert!(turn_at_once(&file).expect("asked").is_none());
        fs::rename(&file, directory.path().join("old")).expect("renamed");
        fs::write(&file, "two").expect("written");
        assert!(turn_at_once(&file).expect("asked").is_none(), "another file, the same turn");
        drop(first);
        assert!(turn_at_once(&file).expect("asked").is_some());
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
