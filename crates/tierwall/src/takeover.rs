//! `tierwall takeover`: has a table that tierwall did not make replaced by the policy, once.
//!
//! A running daemon replaces it at once. Otherwise the next start of one has leave to.

use crate::error::Error;
use crate::options::{Common, Judgement, Takeover};
use crate::output::{counted, print, print_json, tell};
use crate::terminal::Terminal;
use crate::{change, judge};
use control::takeover::{LEAVE_LASTS, Leave, give_leave};
use control::{Client, ClientError, Request, socket_path};
use ruleset::{TABLE, Table};
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn run(common: &Common, options: &Takeover) -> Result<u8, Error> {
    let mut connection = netlink::Connection::open().map_err(Error::Kernel)?;
    let found = connection.dump_up_to(0).map_err(Error::Kernel)?.ruleset.table;
    let Some(table) = found.filter(|table| !table.is_ours() && !table.is_inert()) else {
        return nothing(common);
    };
    // Of a policy with errors nothing would be enforced in its place.
    judge::judge(common, &Judgement { as_: None, strict: false })?;
    if !options.yes && !is_wanted(common, &table)? {
        tell("the table stays as it is\n");
        return Ok(control::exit::OK);
    }
    match Client::connect(&socket_path(&common.runtime_directory)) {
        Ok(_) => {
            let request = Request::Takeover { force: options.force };
            change::change(common, &request, "nothing changed: the kernel holds this policy")
        }
        Err(ClientError::NotRunning { .. }) => leave(common, options.force),
        Err(error) => Err(Error::Client(error)),
    }
}

fn nothing(common: &Common) -> Result<u8, Error> {
    match common.json {
        true => print_json(&json!({ "foreign": false }))?,
        false => {
            print(&format!("nothing to take over: no table inet {TABLE} is in tierwall's way\n"))?
        }
    }
    Ok(control::exit::OK)
}

fn is_wanted(common: &Common, table: &Table) -> Result<bool, Error> {
    let rules: usize = table.chains.values().map(|chain| chain.rules.len()).sum();
    tell(&format!(
        "the table inet {TABLE}, which tierwall did not make, has {} and {}\n\
         {} takes its place; what the table lets through and the policy doesn't is denied then\n",
        counted(table.chains.len(), "chain"),
        counted(rules, "rule"),
        common.config.display(),
    ));
    let Some(terminal) = Terminal::open()? else {
        let hint = "`--yes` replaces it without a question".to_owned();
        return Err(Error::Question("nobody is there to be asked".into(), Some(hint)));
    };
    Ok(terminal.ask("replace it? (y)es, (n)o", &['y', 'n']) == Some('y'))
}

/// Leave for the next start of the daemon.
fn leave(common: &Common, force: bool) -> Result<u8, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    give_leave(&common.runtime_directory, Leave { given: now, force }).map_err(|error| {
        let directory = common.runtime_directory.display();
        Error::Question(format!("can't write into {directory}: {error}"), None)
    })?;
    if common.json {
        print_json(&json!({ "foreign": true, "replaced_by_a_start_until": now + LEAVE_LASTS }))?;
    } else {
        let minutes = LEAVE_LASTS / 60;
        print(&format!(
            "tierwalld isn't running; its next start replaces the table, within {minutes} minutes\n\
             next: systemctl enable --now tierwalld\n"
        ))?;
    }
    Ok(control::exit::OK)
}
