//! The person at the terminal: their editor, and what they answer.
//!
//! Ctrl-C is the editor's while it runs. While a question waits it is no answer, as the end of input
//! is none, and the loss of the terminal.

use crate::error::Error;
use crate::output::tell;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;
use std::env;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How often a waiting question looks whether a signal came, in milliseconds.
const LOOK: u16 = 100;
/// The longest line that is an answer.
const LONGEST: usize = 256;

/// A terminal with somebody at it. Signals no longer end the process once it is there.
pub(crate) struct Terminal {
    interrupted: Arc<AtomicBool>,
}

impl Terminal {
    /// None where standard input or error is something else.
    pub(crate) fn open() -> Result<Option<Self>, Error> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(None);
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = interrupted.clone();
        ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
            .map_err(|error| Error::Edit(format!("can't take signals: {error}")))?;
        Ok(Some(Self { interrupted }))
    }

    /// Runs the editor that the environment names on a file, to its end.
    pub(crate) fn edit(&self, path: &Path) -> Result<(), Error> {
        let editor = editor();
        // The variable may hold arguments, and a shell's quotes: it is for a shell to read.
        let status = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("{editor} \"$@\""))
            .arg(&editor)
            .arg(path)
            .status();
        self.interrupted.store(false, Ordering::Relaxed);
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::Edit(format!(
                "the editor `{editor}` ended with {status}; nothing was changed\n  hint: VISUAL or \
                 EDITOR says which one is used"
            ))),
            Err(error) => Err(Error::Edit(format!("can't run the editor `{editor}`: {error}"))),
        }
    }

    /// Asks until the answer begins with one of `answers`. None where nobody answers.
    pub(crate) fn ask(&self, question: &str, answers: &[char]) -> Option<char> {
        loop {
            tell(&format!("{question} "));
            let Some(line) = self.line() else {
                tell("\n");
                return None;
            };
            let answer = line.trim().chars().next().map(|c| c.to_ascii_lowercase());
            if let Some(answer) = answer.filter(|answer| answers.contains(answer)) {
                return Some(answer);
            }
        }
    }

    /// A line of input; none at its end or after a signal.
    fn line(&self) -> Option<String> {
        let stdin = io::stdin();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') && line.len() < LONGEST {
            if self.interrupted.swap(false, Ordering::Relaxed) {
                return None;
            }
            let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::from(LOOK)) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(_) => return None,
            }
            let mut bytes = [0; LONGEST];
            match read(&stdin, &mut bytes) {
                Ok(0) => return None,
                Ok(length) => line.extend_from_slice(&bytes[..length]),
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

/// `VISUAL`, `EDITOR`, Debian's choice, `vi`.
fn editor() -> String {
    let named = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
    named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| {
        let chosen = Path::new("/usr/bin/sensible-editor");
        if chosen.exists() { chosen.display().to_string() } else { "vi".to_owned() }
    })
}
