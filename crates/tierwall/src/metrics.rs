//! `tierwall metrics`: the daemon's numbers, in Prometheus' text format with or without `--json`.

use crate::error::Error;
use crate::options::Common;
use crate::output::print;
use control::{Client, Request, Response, socket_path};

pub(crate) fn run(common: &Common) -> Result<u8, Error> {
    let client = Client::connect(&socket_path(&common.runtime_directory)).map_err(Error::Client)?;
    match client.ask(&Request::Metrics).map_err(Error::Client)? {
        Response::Metrics(text) => print(&text)?,
        other => return Err(crate::unexpected(other)),
    }
    Ok(control::exit::OK)
}
