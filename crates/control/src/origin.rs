//! Where a command is run from: the connection that it comes over, and the login session it is in.
//!
//! The sandbox of the daemon hides other processes, so the command line says both. The daemon
//! believes what it can see itself: that such a connection is open here, and what the login manager
//! recorded of that session.

use crate::generation::Connection;
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// What sshd sets for the programs of a session. `sudo` takes it out of the environment, and a
/// terminal multiplexer keeps that of an earlier session.
const VARIABLE: &str = "SSH_CONNECTION";

/// How many processes above are asked.
const ABOVE: usize = 32;

/// `/proc/PID/sessionid` of a process that nobody logged in to start.
const NO_SESSION: &str = "4294967295";

/// Where a process was started from, as far as it can tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The connections that it and the processes above it are run over, by their own word, the
    /// nearest first. Those that ended may be among them.
    pub connections: Vec<Connection>,
    /// The login manager's name for the session that it is in.
    pub session: Option<String>,
}

impl Origin {
    /// That of this process.
    pub fn own() -> Self {
        let mut connections = Vec::new();
        let mut process = Some(std::process::id());
        for _ in 0..=ABOVE {
            let Some(id) = process.filter(|id| *id > 1) else { break };
            // It may be another user's.
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            let found = connection_in(&environment);
            connections.extend(found.filter(|found| !connections.contains(found)));
            process =
                fs::read_to_string(format!("/proc/{id}/stat")).ok().as_deref().and_then(parent);
        }
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let audit = fs::read_to_string("/proc/self/sessionid").unwrap_or_default();
        let audit = Some(audit.trim().to_owned());
        let audit = audit.filter(|session| !session.is_empty() && session != NO_SESSION);
        Self { connections, session: session_in(&cgroup).or(audit) }
    }
}

/// What an environment says of it.
fn connection_in(environment: &[u8]) -> Option<Connection> {
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| {
        std::str::from_utf8(variable).ok()?.strip_prefix(VARIABLE)?.strip_prefix('=')
    });
    parse(value?)
}

/// The process that started the one with this `stat`, whose name, in parentheses, may hold anything.
fn parent(stat: &str) -> Option<u32> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(1)?.parse().ok()
}

/// The session whose scope is on the way to a control group, of whatever hierarchy.
fn session_in(cgroup: &str) -> Option<String> {
    let mut parts = cgroup.lines().flat_map(|line| line.split('/'));
    let session =
        |part: &str| part.strip_prefix("session-")?.strip_suffix(".scope").map(Into::into);
    parts.find_map(session)
}

/// `10.0.0.5 50122 10.0.1.20 22`: the client's end, then this server's.
fn parse(value: &str) -> Option<Connection> {
    let mut words = value.split_whitespace();
    let mut end = || -> Option<SocketAddr> {
        // An IPv6 address of a link has its interface behind it.
        let address: IpAddr = words.next()?.split('%').next()?.parse().ok()?;
        Some(SocketAddr::new(address.to_canonical(), words.next()?.parse().ok()?))
    };
    Some(Connection { peer: end()?, local: end()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_sshd_writes() {
        let ends = |value: &str| parse(value).map(|c| (c.peer.to_string(), c.local.to_string()));
        let both = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(ends("10.0.0.5 50122 10.0.1.20 22"), both("10.0.0.5:50122", "10.0.1.20:22"));
        assert_eq!(
            ends("fe80::1%eth0 7 ::ffff:10.0.0.1 2222"),
            both("[fe80::1]:7", "10.0.0.1:2222")
        );
        for value in ["", "10.0.0.5", "10.0.0.5 1 10.0.0.6", "a b c d", "1.2.3.4 70000 1.2.3.4 1"] {
            assert_eq!(ends(value), None, "{value}");
        }
        let environment = b"A=SSH_CONNECTION=x\0SSH_CONNECTION=10.0.0.5 7 10.0.1.20 22\0B=1";
        assert_eq!(connection_in(environment), parse("10.0.0.5 7 10.0.1.20 22"));
        assert_eq!(connection_in(b"SSH_CONNECTION_X=10.0.0.5 7 10.0.1.20 22"), None);
    }

    #[test]
    fn a_session_is_known_by_its_scope_and_a_parent_behind_any_name() {
        let scope = "0::/user.slice/user-1000.slice/session-c7.scope/app\n";
        assert_eq!(session_in(scope), Some("c7".into()));
        let beside_v1 = "1:name=systemd:/user.slice/user-0.slice/session-3.scope\n0::/\n";
        assert_eq!(session_in(beside_v1), Some("3".into()));
        for other in ["", "0::/system.slice/tierwalld.service\n", "0::/user.slice/session-3\n"] {
            assert_eq!(session_in(other), None);
        }
        assert_eq!(parent("71 (a) S 9) S 42 71 71 0"), Some(42));
        assert_eq!(parent("71"), None);
    }
}
