//! tierwalld: keeps this server's part of a tier policy in the kernel.
//!
//! The binary reads its options, sets up logging and hands over to [`daemon::run`].

mod addresses;
mod before;
mod boot;
mod clock;
mod daemon;
mod deadline;
mod denials;
mod drift;
mod engine;
mod errors;
mod event;
mod fd_store;
mod files;
mod foreign;
mod guard;
mod history;
mod host;
mod journal;
mod kernel;
mod known_lists;
mod last_good;
mod last_role;
mod manual;
mod member_file;
mod members;
mod memory;
mod metrics;
mod observing;
mod options;
mod pending;
mod places;
mod policy_file;
mod problem;
mod proof;
mod reconnect;
mod recorder;
mod refusal;
mod reply;
mod report;
mod requester;
mod service_manager;
mod session_ages;
mod shelf;
mod socket;
mod state;
mod status;
mod step;
mod trouble;
mod unwatched;
mod watchdog;
mod work;

use clap::Parser;
use journal::{Journal, kind};
use options::Options;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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
    if options.manual {
        return match manual::write(&mut std::io::stdout()) {
            Ok(()) => control::exit::OK.into(),
            Err(_) => control::exit::FAILED.into(),
        };
    }
    netlink::give_back_large_buffers();
    let in_journal = start_log();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(target: kind::FAILED, %error, "can't start");
            return control::exit::FAILED.into();
        }
    };
    let outcome = runtime.block_on(daemon::run(options));
    // What still waits for somebody else, such as a directory of users, waits in vain.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => control::exit::OK.into(),
        Err(error) => {
            let code = error.exit_code();
            tell(code, &errors::in_full(&error), in_journal);
            code.into()
        }
    }
}

/// Tells why the daemon ends. Diagnostics are laid out in lines: as they are, not as a field of a
/// log line.
fn tell(exit_code: u8, why: &str, in_journal: bool) {
    if !in_journal {
        let _ = writeln!(std::io::stderr(), "tierwalld: {why}");
        return;
    }
    match exit_code {
        control::exit::BAD_POLICY => {
            tracing::error!(target: kind::BAD_POLICY, exit_code, "can't start\n{why}");
        }
        control::exit::FOREIGN_TABLE => {
            tracing::error!(target: kind::FOREIGN_TABLE, exit_code, "can't start\n{why}");
        }
        _ => tracing::error!(target: kind::FAILED, exit_code, "can't start\n{why}"),
    }
}

/// To the journal where that reads standard error, else there: one line an event. Says whether it
/// is the journal.
///
/// A line that can't be written is lost: whoever reads the log may end before the daemon does,
/// which must not end it.
fn start_log() -> bool {
    let filter = EnvFilter::builder()
        .with_env_var("TIERWALL_LOG")
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    let registry = tracing_subscriber::registry().with(filter);
    if let Some(Ok(journal)) = journal::is_standard_error().then(Journal::open) {
        registry.with(journal).init();
        return true;
    }
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    match std::env::var_os("JOURNAL_STREAM") {
        // It has its own clock.
        Some(_) => registry.with(lines.without_time()).init(),
        None => registry.with(lines).init(),
    }
    false
}
