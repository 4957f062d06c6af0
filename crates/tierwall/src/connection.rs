//! The connection that a command is given over: what `SSH_CONNECTION` names.
//!
//! `sudo` takes it out of the environment, so the processes above are asked too.

use control::Connection;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::parent_id;

const VARIABLE: &str = "SSH_CONNECTION";

/// How many processes above are asked.
const ABOVE: usize = 32;

/// The one that this process is run over; none where it isn't run over any.
pub(crate) fn own() -> Option<Connection> {
    if let Ok(value) = std::env::var(VARIABLE) {
        return parse(&value);
    }
    let mut process = parent_id();
    for _ in 0..ABOVE {
        if process <= 1 {
            break;
        }
        // It may be another user's.
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        let value = variables.find_map(|variable| {
            std::str::from_utf8(variable).ok()?.strip_prefix(VARIABLE)?.strip_prefix('=')
        });
        if let Some(value) = value {
            return parse(value);
        }
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name, in parentheses, may hold anything.
        let (_, behind) = stat.rsplit_once(')')?;
        process = behind.split_whitespace().nth(1)?.parse().ok()?;
    }
    None
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
    use super::parse;

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
    }
}
