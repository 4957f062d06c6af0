//! The members that the daemon was given by command.

use crate::error::Error;
use crate::options::Common;
use control::{Client, MemberSummary, Request, Response, socket_path};

/// Those that the daemon was given, of all tiers or one.
pub(crate) fn by_command(common: &Common, tier: Option<&str>) -> Result<Vec<MemberSummary>, Error> {
    let client = Client::connect(&socket_path(&common.runtime_directory)).map_err(Error::Client)?;
    let request = Request::Members { tier: tier.map(str::to_owned) };
    match client.ask(&request).map_err(Error::Client)? {
        Response::Members(members) => Ok(members),
        other => Err(crate::unexpected(other)),
    }
}
