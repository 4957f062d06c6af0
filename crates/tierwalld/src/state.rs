//! The state directory: what outlives the daemon.
//!
//! Files are written beside their place, synced and renamed, so that a reader sees the old or the
//! new content whole. Nothing here is needed to enforce a policy: a full disk or a read-only
//! directory costs the memory of it, never the enforcement.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDirectory {
    path: PathBuf,
}

impl StateDirectory {
    /// Opens the directory, making it where it is missing.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// A directory inside, made where it is missing.
    pub(crate) fn within(&self, name: &str) -> io::Result<Self> {
        let path = self.path.join(name);
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Self { path }),
        }
    }

    /// The names of its files that can be read.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// The size of a file in bytes; none where it is missing or can't be read.
    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        fs::metadata(self.path.join(name)).ok().map(|file| file.len())
    }

    /// The user ids that names had last. None where the record is missing or can't be read.
    pub(crate) fn last_users(&self) -> Option<BTreeMap<String, u32>> {
        serde_json::from_slice(&self.read("users.json")?).ok()
    }

    /// Records the user ids of the names that the policy asks for.
    pub(crate) fn record_users(&self, users: &BTreeMap<String, u32>) -> io::Result<()> {
        self.write_synced("users.json", &serde_json::to_vec_pretty(users)?)
    }

    /// Saves a foreign table before it is replaced; returns where.
    pub(crate) fn save_foreign_table(&self, listing: &str) -> io::Result<PathBuf> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let name = format!("foreign-{now}.nft");
        self.write_synced(&name, listing.as_bytes())?;
        Ok(self.path.join(name))
    }

    /// The content of a file; none where it is missing or can't be read.
    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.try_read(name).ok().flatten()
    }

    /// The content of a file; none where it is missing.
    pub(crate) fn try_read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps what a damaged file holds under another name, so that the file can be written anew;
    /// returns which. Where it can be, the file stays until then, too.
    pub(crate) fn set_aside(&self, name: &str) -> io::Result<PathBuf> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let names = (0..100).map(|number| match number {
            0 => format!("{name}.damaged-{now}"),
            number => format!("{name}.damaged-{now}.{number}"),
        });
        let free = names.map(|name| self.path.join(name)).find(|path| !path.exists());
        let aside = free.ok_or(io::ErrorKind::AlreadyExists)?;
        let path = self.path.join(name);
        fs::hard_link(&path, &aside).or_else(|_| fs::rename(&path, &aside))?;
        Ok(aside)
    }

    /// Writes a file as a whole: old or new, never in between. It is on its way to the disk, which
    /// [`StateDirectory::sync`] waits for: a crash of the daemon can't lose it, one of the machine
    /// can.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.replace(name, |file| file.write_all(content))
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until a file, if it is there, and its name are on the disk.
    pub(crate) fn sync(&self, name: &str) -> io::Result<()> {
        match File::open(self.path.join(name)) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        File::open(&self.path)?.sync_all()
    }

    /// Writes a file as a whole and waits until it is on the disk.
    pub(crate) fn write_synced(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.write_synced_by(name, |file| file.write_all(content))
    }

    /// The same with content that `write` makes as it goes.
    pub(crate) fn write_synced_by(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        self.replace(name, |file| {
            write(file)?;
            file.sync_all()
        })?;
        File::open(&self.path)?.sync_all()
    }

    /// Puts what `write` makes in the place of a file. Where it can't, nothing of it stays: on a
    /// full disk its part would only take more of the room.
    fn replace(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let beside = self.path.join(format!(".{name}.new"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let replaced = options
            .open(&beside)
            .and_then(|mut file| write(&mut file))
            .and_then(|()| fs::rename(&beside, self.path.join(name)));
        replaced.inspect_err(|_| {
            let _ = fs::remove_file(&beside);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_leaves_the_old_and_no_part_of_the_new() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        state.write("role.json", b"old").expect("written");
        let half = |file: &mut File| {
            file.write_all(b"ne")?;
            Err(io::ErrorKind::StorageFull.into())
        };
        let error = state.write_synced_by("role.json", half).expect_err("a full disk");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(state.names(), ["role.json"]);
        assert_eq!(state.read("role.json"), Some(b"old".to_vec()));
    }
}
