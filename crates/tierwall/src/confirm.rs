//! `tierwall confirm`, and how a change that waits for it is told.

use crate::error::Error;
use crate::options::{Common, Confirm};
use crate::output::{BAD, WARNING, print, print_json, styled};
use crate::time::left;
use control::{Client, Pending, Request, Response, socket_path};
use serde_json::json;

pub(crate) fn run(common: &Common, confirm: &Confirm) -> Result<u8, Error> {
    let client = Client::connect(&socket_path(&common.runtime_directory)).map_err(Error::Client)?;
    match client.ask(&Request::Confirm { force: confirm.force }).map_err(Error::Client)? {
        Response::Confirmed(generation) if common.json => {
            print_json(&json!({ "generation": generation, "forced": confirm.force }))?;
        }
        Response::Confirmed(generation) => {
            print(&format!("generation {generation} is confirmed: it stays\n"))?;
        }
        other => return Err(crate::unexpected(other)),
    }
    Ok(control::exit::OK)
}

/// That a change waits, for how long, and what to do.
pub(crate) fn as_text(pending: &Pending) -> String {
    let Pending { generation, until, .. } = pending;
    let (left, how) = (left(*until), how(pending));
    let heading = format!("generation {generation} waits to be confirmed, {left} left:");
    let heading = styled(BAD, &heading);
    let back = styled(WARNING, &way_back(pending));
    format!("{heading} {how}\n{back}\n")
}

/// What becomes of it otherwise.
pub(crate) fn way_back(pending: &Pending) -> String {
    let Pending { back_to, observes, .. } = pending;
    let only = if *observes { ", observing only: nothing is denied then" } else { "" };
    format!("otherwise it is rolled back to generation {back_to}{only}")
}

/// What has to be done for it to stay.
pub(crate) fn how(pending: &Pending) -> String {
    let from: Vec<String> = pending.from.iter().map(ToString::to_string).collect();
    match &from[..] {
        [] => "run `tierwall confirm`".to_owned(),
        from => {
            let from = from.join(" or ");
            format!("open a new connection from {from}, and there run `tierwall confirm`")
        }
    }
}
