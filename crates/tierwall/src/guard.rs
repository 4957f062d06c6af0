//! What the lockout guard would say of a reload. The daemon knows; where none runs, what a first
//! enforcement would meet is judged here.

use crate::error::Error;
use crate::judge::Judged;
use crate::options::Common;
use control::{Client, ClientError, Guarded, Login, Origin, Request, Response};
use control::{Connection, socket_path};
use policy::guard::{Asker, Present, Session, judge};
use policy::{Host, Point};
use ruleset::{Ruleset, Transport};
use std::collections::BTreeSet;
use std::path::Path;

/// How it is asked.
pub(crate) type Ask = fn(&Common, &Judged, &Ruleset, &Ruleset) -> Result<Guarded, String>;

/// What it says of the files as they are now, or why that isn't known. `before` is what the kernel
/// holds, `after` what `judged` compiles to.
pub(crate) fn ask(
    common: &Common,
    judged: &Judged,
    before: &Ruleset,
    after: &Ruleset,
) -> Result<Guarded, String> {
    let answer = Client::connect(&socket_path(&common.runtime_directory))
        .and_then(|client| client.ask(&Request::Guard));
    let file = common.config.display().to_string();
    match answer {
        Ok(Response::Guard(guarded)) if guarded.policy_file == file => Ok(guarded),
        Ok(Response::Guard(guarded)) => Err(format!("tierwalld enforces {}", guarded.policy_file)),
        Ok(other) => Err(crate::unexpected(other).message().unwrap_or_default()),
        Err(ClientError::NotRunning { .. }) => judge_here(common, judged, before, after),
        Err(error) => Err(Error::Client(error).message().unwrap_or_default()),
    }
}

/// The same as far as it can be known without the daemon: how old a session is can't, so all count.
pub(crate) fn judge_here(
    common: &Common,
    judged: &Judged,
    before: &Ruleset,
    after: &Ruleset,
) -> Result<Guarded, String> {
    let policy_file = common.config.display().to_string();
    let sockets = netlink::tcp_accepted(None).map_err(|error| error.to_string())?;
    let sessions: BTreeSet<Session> =
        sockets.iter().map(|socket| Session::new(socket.remote, socket.local)).collect();
    let is_guarded = |session: &&Session| {
        let port = Some(session.local.port());
        judged.policy.guarded.holds(Point { protocol: Transport::Tcp.protocol(), port })
    };
    let open: BTreeSet<Session> = sessions.iter().filter(is_guarded).copied().collect();
    let present = Present {
        counting: open.clone(),
        asker: asker(&sessions, &open),
        open,
        removed: BTreeSet::new(),
    };
    let host = Host { role: &judged.role, users: &judged.users, previous: None };
    let verdict = judge(&present, before, after, &judged.policy, host);
    Ok(Guarded { policy_file, refused: verdict.refusal(), shut_out: verdict.warnings() })
}

fn asker(sessions: &BTreeSet<Session>, open: &BTreeSet<Session>) -> Asker {
    let Origin { connections, session } = Origin::own();
    let own = connections.iter().map(|Connection { peer, local }| Session::new(*peer, *local));
    if let Some(own) = own.into_iter().find(|own| sessions.contains(own)) {
        return Asker::In([own].into());
    }
    let login = session.and_then(|name| Login::read(Path::new("/"), &name));
    match login.and_then(Login::address) {
        Some(address) => Asker::logged_in(address, open),
        None => Asker::Unknown,
    }
}
