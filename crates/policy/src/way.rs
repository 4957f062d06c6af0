//! Opening a file by a way that only root can have laid.
//!
//! Whoever may write a directory on the way to a file, or owns a link there, decides which file is
//! found. So a path is walked name by name from the root: each name is opened in the directory that
//! was opened before it, and judged as it was opened. Links are followed by hand, under the same
//! rules. A name that is swapped meanwhile is either judged itself or never met.
//!
//! What lies in procfs or sysfs is no file that anybody wrote: processes and the kernel make up its
//! content, some of it without an end.

use rustix::fs::{CWD, FileType, Mode, OFlags, fgetxattr, fstat, fstatfs, openat, readlinkat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// As many symbolic links as the kernel follows (MAXSYMLINKS).
const MOST_LINKS: usize = 40;

/// Why a way leads nowhere, or may not be gone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WayError {
    #[error("{who} write the directory {}", .at.display())]
    Writable { at: PathBuf, who: &'static str, mend: &'static str },
    #[error("the {what} {} belongs to user {uid}, not to root", .at.display())]
    Owner { at: PathBuf, what: &'static str, uid: u32 },
    #[error("it is in {0}, which holds no stored files")]
    Pseudo(&'static str),
    #[error("it is a directory")]
    Directory,
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<Errno> for WayError {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

impl WayError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Writable { at, mend, .. } => Some(format!(
                "who can write there decides which file is found: {mend} {}",
                at.display()
            )),
            Self::Owner { at, .. } => Some(format!(
                "its owner decides which file is found: chown -h root {}",
                at.display()
            )),
            Self::Pseudo(_) => Some("name a stored file".into()),
            Self::Directory | Self::System(_) => None,
        }
    }
}

/// Opens the file at the end of a way on which every directory and link is root's, and nobody else
/// may write a directory, unless it is sticky. Nothing that isn't a regular file is opened for
/// reading, and opening never waits. `judge` sees the file before and after that.
pub(crate) fn open<E: From<WayError>>(
    path: &Path,
    judge: impl Fn(&Metadata) -> Result<(), E>,
) -> Result<(File, Metadata), E> {
    let (directory, name, found) = walk(path)?;
    judge(&metadata(&found)?)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | opening();
    let file = openat(&directory, &name, flags, Mode::empty()).map_err(WayError::from)?;
    let file = File::from(file);
    let metadata = metadata(&file)?;
    // Again: the name may be another file's by now.
    judge(&metadata)?;
    no_pseudo_file(&file)?;
    Ok((file, metadata))
}

/// The same by any way.
pub(crate) fn open_by_any<E: From<WayError>>(
    path: &Path,
    judge: impl Fn(&Metadata) -> Result<(), E>,
) -> Result<(File, Metadata), E> {
    let found = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    judge(&metadata(&File::from(found.map_err(WayError::from)?))?)?;
    let file = openat(CWD, path, OFlags::RDONLY | opening(), Mode::empty());
    let file = File::from(file.map_err(WayError::from)?);
    let metadata = metadata(&file)?;
    judge(&metadata)?;
    no_pseudo_file(&file)?;
    Ok((file, metadata))
}

/// The names in a directory.
pub(crate) fn list(directory: &Path) -> Result<fs::ReadDir, WayError> {
    let opened = openat(CWD, directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    no_pseudo_file(opened)?;
    Ok(fs::read_dir(directory)?)
}

/// Opening neither waits for anybody nor takes a terminal.
fn opening() -> OFlags {
    OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
}

fn metadata(file: &File) -> Result<Metadata, WayError> {
    file.metadata().map_err(WayError::System)
}

/// The directory that a way ends in, the name there, and what it names: no directory, no link.
fn walk(path: &Path) -> Result<(OwnedFd, OsString, File), WayError> {
    let root = || step(CWD, OsStr::new("/"));
    let mut directory = root()?;
    let mut at = PathBuf::from("/");
    // The next name is the last one.
    let mut rest = Vec::new();
    push(&mut rest, &std::path::absolute(path)?);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        match Path::new(&name).components().next() {
            Some(Component::RootDir) => (directory, at) = (root()?, "/".into()),
            Some(Component::ParentDir) => {
                directory = step(directory, OsStr::new(".."))?;
                at.pop();
            }
            Some(Component::Normal(_)) => {
                let found = step(&directory, &name)?;
                let stat = fstat(&found)?;
                let here = at.join(&name);
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => (directory, at) = (found, here),
                    FileType::Symlink if links < MOST_LINKS => {
                        let uid = stat.st_uid;
                        if uid != 0 {
                            return Err(WayError::Owner { at: here, what: "link", uid });
                        }
                        links += 1;
                        let target = readlinkat(&found, "", Vec::new())?;
                        push(&mut rest, Path::new(&OsString::from_vec(target.into_bytes())));
                        continue;
                    }
                    FileType::Symlink => return Err(Errno::LOOP.into()),
                    _ if rest.is_empty() => return Ok((directory, name, found.into())),
                    _ => return Err(Errno::NOTDIR.into()),
                }
            }
            _ => continue,
        }
        judge_directory(&directory, &at)?;
    }
    Err(WayError::Directory)
}

/// Puts the names of a path before those that are still to be gone along.
fn push(rest: &mut Vec<OsString>, path: &Path) {
    rest.extend(path.components().rev().map(|component| component.as_os_str().to_owned()));
}

/// What a name in a directory is: itself, not where it leads. Nothing is opened for reading.
fn step(directory: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // With O_DIRECTORY the kernel mounts what autofs is to mount there.
    match openat(&directory, name, flags | OFlags::DIRECTORY, Mode::empty()) {
        Err(Errno::NOTDIR) => openat(&directory, name, flags, Mode::empty()),
        found => found,
    }
}

fn judge_directory(directory: &OwnedFd, at: &Path) -> Result<(), WayError> {
    no_pseudo_file(directory)?;
    let stat = fstat(directory)?;
    let (uid, mode) = (stat.st_uid, Mode::from_raw_mode(stat.st_mode));
    if uid != 0 {
        return Err(WayError::Owner { at: at.into(), what: "directory", uid });
    }
    if mode.contains(Mode::SVTX) {
        // Only the owner of a name, and root, may take it away or give it to another file.
        return Ok(());
    }
    let writable = |who, mend| Err(WayError::Writable { at: at.into(), who, mend });
    if mode.contains(Mode::WOTH) {
        return writable("everybody can", "chmod go-w");
    }
    // Of a directory with an access list, the group's bits say what the list grants at most.
    if mode.contains(Mode::WGRP) {
        if stat.st_gid != 0 {
            return writable("its group can", "chmod g-w");
        }
        if may_others_write(directory)? {
            return writable("others whom its access list names can", "setfacl -b");
        }
    }
    Ok(())
}

/// Whether the access list of a directory of group root lets others write it than root's.
fn may_others_write(directory: &OwnedFd) -> Result<bool, Errno> {
    // What is opened by O_PATH has no attributes.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = openat(directory, ".", flags, Mode::empty())?;
    let mut list = Vec::with_capacity(LONGEST_LIST);
    match fgetxattr(&readable, "system.posix_acl_access", rustix::buffer::spare_capacity(&mut list))
    {
        Ok(_) => Ok(grants_others(&list)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The longest extended attribute (XATTR_SIZE_MAX), in bytes.
const LONGEST_LIST: usize = 64 << 10;

/// Whether an access list lets a named user or group write other than root, or can't be
/// understood. `include/uapi/linux/posix_acl_xattr.h`: a version, then entries of a tag, rights and
/// an id, little endian.
fn grants_others(list: &[u8]) -> bool {
    const VERSION: [u8; 4] = [2, 0, 0, 0];
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    const WRITE: u16 = 0x02;
    let Some(entries) = list.strip_prefix(&VERSION) else { return true };
    let (entries, rest) = entries.as_chunks::<8>();
    !rest.is_empty()
        || entries.iter().any(|[t0, t1, r0, r1, id @ ..]| {
            let (tag, rights) = (u16::from_le_bytes([*t0, *t1]), u16::from_le_bytes([*r0, *r1]));
            matches!(tag, USER | GROUP) && rights & WRITE != 0 && u32::from_le_bytes(*id) != 0
        })
}

/// Refuses what is in procfs or sysfs, wherever that is mounted.
fn no_pseudo_file(file: impl AsFd) -> Result<(), WayError> {
    const PROC: u32 = 0x9fa0;
    const SYSFS: u32 = 0x6265_6572;
    match fstatfs(file)?.f_type as u32 {
        PROC => Err(WayError::Pseudo("/proc")),
        SYSFS => Err(WayError::Pseudo("/sys")),
        _ => Ok(()),
    }
}

/// The path by which a file is known, however it is named. A missing one is known by its name.
pub(crate) fn true_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An access list as the kernel hands it out.
    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = entries.iter().flat_map(|(tag, rights, id)| {
            let (tag, rights, id) = (tag.to_le_bytes(), rights.to_le_bytes(), id.to_le_bytes());
            [&tag[..], &rights, &id].concat()
        });
        [2, 0, 0, 0].into_iter().chain(entries).collect()
    }

    #[test]
    fn an_access_list_lets_others_write_only_by_their_names() {
        const NOBODY: u32 = u32::MAX;
        let own = [(0x01, 7, NOBODY), (0x04, 7, NOBODY), (0x10, 7, NOBODY), (0x20, 5, NOBODY)];
        let with = |entry| list(&[&own[..], &[entry]].concat());
        assert!(!grants_others(&list(&own)));
        assert!(!grants_others(&with((0x02, 5, 1000))), "a user who may read");
        assert!(!grants_others(&with((0x02, 7, 0))), "root");
        assert!(grants_others(&with((0x02, 7, 1000))));
        assert!(grants_others(&with((0x08, 2, 1000))));
        assert!(grants_others(&[3, 0, 0, 0]), "of a version to come");
        assert!(grants_others(&list(&own)[..9]), "cut off");
    }
}
