//! `tierwall edit`: the policy file changed as visudo changes its own.
//!
//! The editor gets a copy beside the file, so that what it includes is found. What comes of it is
//! checked and compared with the kernel before it is the policy file, and put back if the daemon
//! refuses it. The file is never half written, never a bad one, and never over what somebody else
//! wrote meanwhile.

use crate::change::change;
use crate::connection;
use crate::error::Error;
use crate::judge::judge_text;
use crate::options::{Common, Edit};
use crate::output::{BAD, GOOD, WARNING, styled, tell};
use crate::plan;
use crate::policy_text::{Original, put, read, replace, turn_at_once};
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
    let Some(text) = edited(common, options, &terminal, &original, copy.path())? else {
        return Ok(control::exit::FAILED);
    };
    if text == original.text {
        tell("nothing was changed\n");
        return Ok(control::exit::OK);
    }
    install(common, options, &original, &text, copy)
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

/// What the person made of the copy: a good policy that they want, or the text as it was. None
/// where they gave up.
fn edited(
    common: &Common,
    options: &Edit,
    terminal: &Terminal,
    original: &Original,
    copy: &Path,
) -> Result<Option<String>, Error> {
    loop {
        terminal.edit(copy)?;
        let bytes = fs::read(copy).map_err(|error| {
            Error::Edit(format!("can't read what the editor wrote, {}: {error}", copy.display()))
        })?;
        if bytes == original.text.as_bytes() {
            return Ok(Some(original.text.clone()));
        }
        let told = judge_text(common, bytes.clone()).and_then(|judged| plan::told(common, judged));
        match told {
            Ok(text) => tell(&text),
            Err(error) => {
                tell(&error.told());
                let question = "(e)dit again, or e(x)it and leave the policy as it was?";
                match terminal.ask(question, &['e', 'x']) {
                    'e' => continue,
                    _ => return Ok(gave_up()),
                }
            }
        }
        let answer = match options.yes {
            true => 'y',
            false => terminal.ask("apply this? (y)es, (n)o, (e)dit again", &['y', 'e', 'n']),
        };
        match answer {
            'y' => return Ok(String::from_utf8(bytes).ok()),
            'e' => {}
            _ => return Ok(gave_up()),
        }
    }
}

fn gave_up() -> Option<String> {
    tell("the policy is as it was\n");
    None
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
    let replaced = replace(original, text).map_err(|error| {
        Error::Edit(format!("can't write {path}: {error}; the policy is as it was"))
    });
    if !matches!(replaced, Ok(true)) {
        let kept = keep(copy);
        return Err(match replaced {
            Err(Error::Edit(message)) => Error::Edit(format!("{message}\n  hint: {kept}")),
            Err(error) => error,
            Ok(_) => Error::Edit(format!(
                "{path} was changed by somebody else meanwhile; it stays as they wrote it\n  \
                 hint: {kept}"
            )),
        });
    }
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
            put_back(original, &installed, text)?;
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
        connection: connection::own(),
    })
}

/// Puts the old text back, and what was refused beside it.
fn put_back(original: &Original, installed: &Original, text: &str) -> Result<(), Error> {
    let rejected = rejected(&original.path);
    let path = original.path.display();
    let cannot =
        |what: &Path, error| Error::Edit(format!("can't write {}: {error}", what.display()));
    put(installed, &rejected, text).map_err(|error| cannot(&rejected, error))?;
    let is_back =
        replace(installed, &original.text).map_err(|error| cannot(&original.path, error))?;
    let line = match is_back {
        true => format!("{path} is as it was; what was refused is in {}", rejected.display()),
        false => format!(
            "{path} was changed by somebody else and stays so; what was refused is in {}",
            rejected.display()
        ),
    };
    tell(&format!("{}\n", styled(if is_back { GOOD } else { WARNING }, &line)));
    Ok(())
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
