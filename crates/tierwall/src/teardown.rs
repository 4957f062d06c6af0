//! `tierwall teardown`: take the table away, through the daemon or, where none runs, directly.

use crate::error::Error;
use crate::options::Common;
use crate::output::{print, print_json};
use control::{Client, ClientError, Request, Response, socket_path};
use netlink::{CommitError, Hold};
use ruleset::{Ruleset, TABLE};
use serde_json::json;

/// How often a lost race or an unclear outcome is settled by reading the table again.
const ATTEMPTS: usize = 5;

pub(crate) fn run(common: &Common) -> Result<u8, Error> {
    let existed = match Client::connect(&socket_path(&common.runtime_directory)) {
        Ok(client) => match client.ask(&Request::Teardown).map_err(Error::Client)? {
            Response::TornDown(existed) => existed,
            other => return Err(crate::unexpected(other)),
        },
        Err(ClientError::NotRunning { .. }) => directly()?,
        Err(error) => return Err(Error::Client(error)),
    };
    if common.json {
        print_json(&json!({ "removed": existed }))?;
    } else if existed {
        print(&format!("the table inet {TABLE} is gone: nothing is filtered now\n"))?;
    } else {
        print(&format!("there was no table inet {TABLE} to take away\n"))?;
    }
    Ok(control::exit::OK)
}

fn directly() -> Result<bool, Error> {
    let mut connection = netlink::Connection::open().map_err(Error::Kernel)?;
    let mut unclear = false;
    for attempt in 1.. {
        // Whose it is is enough.
        let found = connection.dump_up_to(0).map_err(Error::Kernel)?;
        match &found.ruleset.table {
            None => break,
            Some(table) if !table.is_ours() => return Err(Error::Foreign),
            Some(_) => {}
        }
        let plan = found.ruleset.diff(&Ruleset::default());
        match connection.commit(&plan, &found.handles, Some(found.generation), Hold::Plain) {
            Ok(_) => return Ok(true),
            Err(CommitError::Stale) if attempt < ATTEMPTS => {}
            Err(CommitError::Unknown(_)) if attempt < ATTEMPTS => unclear = true,
            Err(error) => return Err(Error::Commit(error)),
        }
    }
    Ok(unclear)
}
