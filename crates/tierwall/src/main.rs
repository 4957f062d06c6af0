//! tierwall: what a tier policy means on this server, and what its daemon does.
//!
//! Each command has a file. They return an exit code or an [`error::Error`], which is told here.

mod change;
mod check;
mod confirm;
mod denied;
mod doctor;
mod documents;
mod edit;
mod error;
mod explain;
mod export;
mod guard;
mod history;
mod import_command;
mod judge;
mod matrix;
mod member;
mod metrics;
mod options;
mod output;
mod own_addresses;
mod plan;
mod policy_text;
mod promote;
mod runtime_members;
mod sshd;
mod status;
mod suggest;
mod takeover;
mod teardown;
mod terminal;
mod time;
mod trace;
mod watch;
mod who_can;

use anstream::ColorChoice;
use clap::Parser;
use control::{Failure, FailureKind, Response};
use error::Error;
use options::{Color, Command, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return match error.use_stderr() {
                true => control::exit::USAGE.into(),
                false => control::exit::OK.into(),
            };
        }
    };
    match options.common.color {
        Color::Auto => {}
        Color::Always => ColorChoice::Always.write_global(),
        Color::Never => ColorChoice::Never.write_global(),
    }
    let common = &options.common;
    let outcome = match &options.command {
        Command::Check(check) => check::run(common, check),
        Command::Plan(plan) => plan::run(common, plan),
        Command::Explain(question) => explain::run(common, question),
        Command::Matrix(matrix) => matrix::run(common, matrix),
        Command::Trace(selection) => trace::run(common, selection),
        Command::WhoCan(question) => who_can::run(common, question),
        Command::Export(export) => export::run(common, export),
        Command::Status(status) => status::run(common, status),
        Command::Denied(denied) => denied::run(common, denied),
        Command::Suggest(suggest) => suggest::run(common, suggest),
        Command::Metrics => metrics::run(common),
        Command::Watch(watch) => watch::run(common, watch),
        Command::Reload(reload) => change::reload(common, reload),
        Command::Confirm(confirm) => confirm::run(common, confirm),
        Command::History => history::list(common),
        Command::Diff(diff) => history::diff(common, diff),
        Command::Rollback(rollback) => change::rollback(common, rollback),
        Command::Member(member) => member::run(common, member),
        Command::Doctor(doctor) => doctor::run(common, doctor),
        Command::Edit(edit) => edit::run(common, edit),
        Command::Import(import) => import_command::run(common, import),
        Command::Takeover(takeover) => takeover::run(common, takeover),
        Command::Teardown => teardown::run(common),
        Command::Completions(completions) => documents::completions(completions),
        Command::Manual(manual) => documents::manual(manual),
    };
    match outcome {
        Ok(code) => code.into(),
        Err(error) => {
            output::tell(&error.told());
            error.exit_code().into()
        }
    }
}

/// The daemon's refusal, or an answer to another question.
fn unexpected(response: Response) -> Error {
    Error::Refused(match response {
        Response::Failed(failure) => failure,
        _ => Failure {
            kind: FailureKind::Failed,
            message: "tierwalld answered another question than was asked".into(),
        },
    })
}
