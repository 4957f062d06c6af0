//! Whether somebody has a file open for writing: a read lease on it says so (fcntl(2), "Leases").

use nix::errno::Errno;
use nix::libc::{self, c_int};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Which signal tells of a lease (`asm-generic/fcntl.h`). libc lacks it.
const F_SETSIG: c_int = 10;

/// Whether somebody has the file open for writing, or mapped so. `file` is open for reading only.
/// Nobody is kept waiting for longer than this takes.
///
/// # Errors
/// Where that can't be told: on a file system without leases (`EINVAL`, `ENOLCK`), and of a file of
/// another owner without CAP_LEASE (`EACCES`).
pub fn is_open_for_writing(file: &File) -> io::Result<bool> {
    // Whoever opens it for writing while the lease is held has the kernel send a signal, SIGIO unless
    // said otherwise, which would end this process. SIGURG is ignored by default.
    fcntl(file, F_SETSIG, libc::SIGURG)?;
    match fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => {
            fcntl(file, libc::F_SETLEASE, libc::F_UNLCK)?;
            Ok(false)
        }
        Err(Errno::EAGAIN) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

fn fcntl(file: &File, command: c_int, argument: c_int) -> Result<(), Errno> {
    // SAFETY: the descriptor is open as long as the reference lives, and these commands take an
    // integer.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), command, argument) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};

    #[test]
    fn a_writer_shows_until_it_closes_the_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("a.list");
        fs::write(&path, "10.0.0.1\n").expect("written");
        let open = |write: bool| {
            OpenOptions::new().read(!write).append(write).open(&path).expect("opened")
        };
        let file = open(false);
        assert!(!is_open_for_writing(&file).expect("leases"));
        let writer = open(true);
        assert!(is_open_for_writing(&file).expect("leases"));
        drop(writer);
        assert!(!is_open_for_writing(&file).expect("leases"));
        // Other readers don't matter, and neither does what is renamed over it.
        let _reader = open(false);
        fs::write(directory.path().join("b"), "").expect("written");
        let other = OpenOptions::new().append(true).open(directory.path().join("b"));
        fs::rename(directory.path().join("b"), &path).expect("renamed");
        assert!(!is_open_for_writing(&file).expect("leases"));
        assert!(is_open_for_writing(&open(false)).expect("leases"));
        drop(other);
    }

    /// Whether a writer comes while the lease is held is a matter of luck in the test below.
    #[test]
    fn the_signal_of_a_writer_is_one_that_ends_nobody() {
        const F_GETSIG: c_int = 11;
        let file = tempfile::tempfile().expect("a temporary file");
        let _ = is_open_for_writing(&file);
        // SAFETY: the descriptor is open, and the command takes nothing.
        let signal = unsafe { libc::fcntl(file.as_raw_fd(), F_GETSIG) };
        assert_eq!(signal, libc::SIGURG);
    }

    #[test]
    fn writers_that_come_meanwhile_end_nobody() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("a.list");
        fs::write(&path, "").expect("written");
        let file = File::open(&path).expect("opened");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for _ in 0..2000 {
                    drop(OpenOptions::new().append(true).open(&path).expect("opened"));
                }
            });
            while !writer.is_finished() {
                is_open_for_writing(&file).expect("leases");
            }
        });
    }
}
