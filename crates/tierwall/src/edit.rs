//! `tierwall edit`: the policy file changed as visudo changes its own.
//!
//! The editor gets a copy beside the file, so that what it includes is found. What comes of it is
//! checked and compared with the kernel before it is the policy file, and put back if the daemon
//! refuses it. The file is never half written, never a bad one, and never over what somebody else
//! wrote meanwhile. What was written is thrown away only by who says so.

use crate::change::change;
use crate::error::Error;
use crate::judge::judge_text;
use crate::options::{Common, Edit};
use crate::output::{BAD, GOOD, WARNING, styled, tell};
use crate::plan;
use crate::policy_text::{Original, Prepared, prepare, put, read, replace, turn_at_once};
use crate::terminal::Terminal;
use control::{ClientError, FailureKind, Request};
use policy::ConfirmTime;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

pub(crate) fn run(common: &Common, options: &Edit) -> Result<u8, Error> {
    let Some(terminal) = Terminal::open()? else {
        return Err(Error::Edit(
            "this is no terminal, and nobody can be asked\n  hint: write the file by other means, \
             then `tierwall check`, `tierwall plan` and `tierwall reload`"
                .into(),
        ));
    };
    let Some(_turn) = turn_at_once(&common.config)? else {
        return Err(Error::Edit(format!(
            "{} is being edited already\n  hint: another `tierwall edit` or `tierwall member \
             promote` is at work on it",
            common.config.display()
        )));
    };
    // What is told here is for the person at the terminal.
    let common = &Common { json: false, ..common.clone() };
    let original = read(&common.config)?;
    let copy = copy_of(&original)?;
    let outcome = edited(common, options, &terminal, &original, copy.path());
    match outcome {
        Ok(Outcome::Unchanged) => {
            tell("nothing was changed\n");
            Ok(control::exit::OK)
        }
        Ok(Outcome::Wanted(text)) => install(common, options, &original, &text, copy),
        Ok(Outcome::GivenUp) => {
            tell("the policy is as it was\n");
            Ok(control::exit::FAILED)
        }
        Ok(Outcome::Unanswered) => {
            tell(&format!("the policy is as it was; {}\n", keep(copy)));
            Ok(control::exit::FAILED)
        }
        Err(error) => {
            let is_other = |bytes: Vec<u8>| bytes != original.text.as_bytes();
            if fs::read(copy.path()).is_ok_and(is_other) {
                tell(&format!("{}\n", keep(copy)));
            }
            Err(error)
        }
    }
}

/// What came of an edit.
enum Outcome {
    Unchanged,
    /// A good policy that is wanted.
    Wanted(String),
    /// By an answer.
    GivenUp,
    /// Nobody said what is to become of it.
    Unanswered,
}

/// A copy for the editor. Its name is hidden, so that no include matches it, and ends as editors
/// know it.
fn copy_of(original: &Original) -> Result<NamedTempFile, Error> {
    let name = original.path.file_name().unwrap_or_default().to_string_lossy();
    let directory = original.path.parent().unwrap_or(Path::new("/"));
    let make = || {
        let mut copy = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".new")
            .tempfile_in(directory)?;
        copy.write_all(original.text.as_bytes())?;
        Ok(copy)
    };
    make().map_err(|error: std::io::Error| {
        Error::Edit(format!("can't write a copy in {}: {error}", directory.display()))
    })
}

/// What the person makes of the copy.
fn edited(
    common: &Common,
    options: &Edit,
    terminal: &Terminal,
    original: &Original,
    copy: &Path,
) -> Result<Outcome, Error> {
    loop {
        terminal.edit(copy)?;
        let bytes = fs::read(copy).map_err(|error| {
            Error::Edit(format!("can't read what the editor wrote, {}: {error}", copy.display()))
        })?;
        if bytes == original.text.as_bytes() {
            return Ok(Outcome::Unchanged);
        }
        let told = judge_text(common, bytes.clone()).and_then(|judged| plan::told(common, judged));
        match told {
            Ok(text) => tell(&text),
            Err(error) => {
                tell(&error.told());
                let question = "(e)dit again, or e(x)it and leave the policy as it was?";
                match terminal.ask(question, &['e', 'x']) {
                    Some('e') => continue,
                    Some(_) => return Ok(Outcome::GivenUp),
                    None => return Ok(Outcome::Unanswered),
                }
            }
        }
        let answer = match options.yes {
            true => Some('y'),
            false => terminal.ask("apply this? (y)es, (n)o, (e)dit again", &['y', 'e', 'n']),
        };
        match (answer, String::from_utf8(bytes)) {
            (Some('y'), Ok(text)) => return Ok(Outcome::Wanted(text)),
            (Some('e'), _) => {}
            (Some(_), _) => return Ok(Outcome::GivenUp),
            (None, _) => return Ok(Outcome::Unanswered),
        }
    }
}

/// Makes the text the policy file and has the daemon apply it.
fn install(
    common: &Common,
    options: &Edit,
    original: &Original,
    text: &str,
    copy: NamedTempFile,
) -> Result<u8, Error> {
    let path = original.path.display();
    // First of all the way back, which no full disk can bar then.
    let replaced =
        prepare(original, &original.text).and_then(|before| Ok((before, replace(original, text)?)));
    let before = match replaced {
        Ok((before, true)) => before,
        Ok((_, false)) => {
            return Err(Error::Edit(format!(
                "{path} was changed by somebody else meanwhile; it stays as they wrote it\n  \
                 hint: {}",
                keep(copy)
            )));
        }
        Err(error) => {
            return Err(Error::Edit(format!(
                "can't write {path}: {error}; the policy is as it was\n  hint: {}",
                keep(copy)
            )));
        }
    };
    let installed = read(&original.path)?;
    match change(common, &request(options), "saved: the kernel held this policy already") {
        Ok(code) => Ok(code),
        Err(Error::Client(ClientError::NotRunning { .. })) => {
            let line = "saved; tierwalld isn't running, and enforces it when it starts";
            tell(&format!("{}\n", styled(WARNING, line)));
            Ok(control::exit::OK)
        }
        Err(Error::Refused(failure)) if failure.kind != FailureKind::NotPermitted => {
            // Errors of a policy have headings of their own.
            let gap = if failure.kind == FailureKind::BadPolicy { '\n' } else { ' ' };
            let message = failure.message.trim_end();
            tell(&format!("{}{gap}{message}\n", styled(BAD, "refused:")));
            put_back(before, &installed, text, copy);
            Err(Error::Told(failure.kind))
        }
        // Whether it was applied isn't known, or it is for another to do.
        Err(error) => {
            let line = format!("{path} is saved, but it isn't known to be applied");
            tell(&format!("{} {line}\n", styled(WARNING, "warning:")));
            Err(error)
        }
    }
}

/// What the daemon is asked for when the file is in its place.
fn request(options: &Edit) -> Request {
    Request::Reload(control::Reload {
        force: options.force,
        confirm: options.confirming.confirm.map(ConfirmTime::seconds),
        replace: false,
    })
}

/// Puts the old text back, then what was refused beside it.
fn put_back(before: Prepared, installed: &Original, text: &str, copy: NamedTempFile) {
    let path = installed.path.display();
    let (style, is_now) = match before.replace(installed) {
        Ok(true) => (GOOD, format!("{path} is as it was")),
        Ok(false) => (WARNING, format!("{path} was changed by somebody else and stays so")),
        Err(error) => {
            (BAD, format!("{path} holds what was refused; it can't be put back: {error}"))
        }
    };
    let rejected = rejected(&installed.path);
    let is_in = rejected.display();
    let line = match put(installed, &rejected, text) {
        Ok(()) => format!("{is_now}; what was refused is in {is_in}"),
        Err(error) => format!("{is_now}; {}, since {is_in} can't be written: {error}", keep(copy)),
    };
    tell(&format!("{}\n", styled(style, &line)));
}

fn rejected(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".rejected");
    name.into()
}

/// Keeps the copy. Where it is, in a sentence.
fn keep(copy: NamedTempFile) -> String {
    match copy.keep() {
        Ok((_, path)) => format!("your text is in {}", path.display()),
        Err(error) => format!("your text can't be kept: {}", error.error),
    }
}
