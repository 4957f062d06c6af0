//! What a service manager keeps of a service's descriptors while no process of it runs
//! (sd_pid_notify_with_fds(3), sd_listen_fds(3)).

use anyhow::{Result, ensure};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

/// The descriptors that were stored, with their names. What a service stores with it is there for
/// the next one that is started with it.
#[derive(Debug, Default)]
pub struct FdStore {
    stored: RefCell<Vec<(String, OwnedFd)>>,
}

impl FdStore {
    /// The names of what is stored.
    pub fn names(&self) -> Vec<String> {
        self.stored.borrow().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Puts a descriptor there, as another service might have.
    pub fn put(&self, name: &str, descriptor: OwnedFd) {
        self.stored.borrow_mut().push((name.to_owned(), descriptor));
    }

    /// Forgets all of it, as a service manager does when the service is stopped.
    pub fn clear(&self) {
        self.stored.borrow_mut().clear();
    }

    /// Does what a notification asks for.
    ///
    /// # Errors
    /// When it stores no descriptor, or one that the manager would drop with its first error.
    pub(crate) fn note(&self, text: &str, descriptors: Vec<OwnedFd>) -> Result<()> {
        let value = |key| text.lines().find_map(|line| line.strip_prefix(key));
        let name = value("FDNAME=").unwrap_or("stored");
        if value("FDSTOREREMOVE=") == Some("1") {
            self.stored.borrow_mut().retain(|(stored, _)| stored != name);
        }
        if value("FDSTORE=") == Some("1") {
            ensure!(!descriptors.is_empty(), "no descriptor came with {text:?}");
            ensure!(value("FDPOLL=") == Some("0"), "{text:?} lets it go with an error");
            let named = descriptors.into_iter().map(|descriptor| (name.to_owned(), descriptor));
            self.stored.borrow_mut().extend(named);
        }
        Ok(())
    }

    /// `command` with what is stored as its descriptors from 3 on.
    pub(crate) fn passed_to(&self, command: &Command) -> Result<(Command, Vec<OwnedFd>)> {
        let stored = self.stored.borrow();
        // Inherited by what is started until they are dropped: not closed on exec.
        let passed = stored.iter().map(|(_, descriptor)| rustix::io::dup(descriptor));
        let passed: Vec<OwnedFd> = passed.collect::<Result<_, _>>()?;
        // Above those that they are to become.
        ensure!(passed.iter().all(|from| from.as_raw_fd() >= 3 + passed.len() as i32));
        let mut script = String::new();
        for (number, from) in passed.iter().enumerate() {
            let from = from.as_raw_fd();
            script += &format!("exec {}<&{from} {from}<&-; ", number + 3);
        }
        // LISTEN_PID is the process itself, which a shell knows before it becomes it.
        script += "export LISTEN_PID=$$; exec \"$0\" \"$@\"";
        let mut shell = Command::new("bash");
        shell.args(["-c", &script]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        let names = self.names().join(":");
        shell.env("LISTEN_FDS", passed.len().to_string()).env("LISTEN_FDNAMES", names);
        Ok((shell, passed))
    }
}

/// The next notification and the descriptors that came with it.
pub(crate) fn receive(notifications: &UnixDatagram) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let received = recvmsg(notifications, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok((String::from_utf8_lossy(&buffer[..received.bytes]).into_owned(), descriptors))
}
