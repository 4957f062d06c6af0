//! The login manager's sessions: who logged in, and from where.
//!
//! logind writes a file for each, which everybody may read; `sd_session_get_remote_host(3)` and the
//! like read the same ones. A system without it has none.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// Where logind keeps them, below the root directory.
const SESSIONS: &str = "run/systemd/sessions";

/// A session that somebody is logged in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// On this server's own console.
    Local,
    /// From this address.
    From(IpAddr),
    /// From elsewhere, by a name that may be anybody's.
    Elsewhere,
}

impl Login {
    /// The session `name` of the system below `root`; none where there is none, where it ended and only left programs behind,
    /// or where nobody logged in for it.
    pub fn read(root: &Path, name: &str) -> Option<Self> {
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
        // What else a name may lead to, a pipe or a device, is never opened.
        let path = is_name.then(|| root.join(SESSIONS).join(name))?;
        parse(&fs::read_to_string(path).ok()?)
    }

    /// Where somebody is in from: nowhere for the console, none where that isn't known.
    pub fn address(self) -> Option<Option<IpAddr>> {
        match self {
            Self::Local => Some(None),
            Self::From(address) => Some(Some(address)),
            Self::Elsewhere => None,
        }
    }

    /// Those of all sessions.
    pub fn all(root: &Path) -> Vec<Self> {
        let entries = fs::read_dir(root.join(SESSIONS)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| Self::read(root, &name)).collect()
    }
}

fn parse(text: &str) -> Option<Login> {
    let value = |key: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    // Others are the user's manager, the screen that asks for a name, or a job.
    let is_persons = value("CLASS").is_none_or(|class| class == "user" || class == "user-early");
    let is_open = value("STATE").is_none_or(|state| state != "closing");
    if !is_persons || !is_open {
        return None;
    }
    if value("REMOTE") != Some("1") {
        return Some(Login::Local);
    }
    let host = value("REMOTE_HOST").unwrap_or_default();
    let address = host.split('%').next().unwrap_or_default().parse();
    Some(address.map_or(Login::Elsewhere, |address: IpAddr| Login::From(address.to_canonical())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSH: &str = "# This is private data. Do not parse.\nUID=1000\nUSER=ada\nACTIVE=1\nSTATE=\
                       active\nREMOTE=1\nTYPE=tty\nCLASS=user\nSCOPE=session-3.scope\nREMOTE_HOST=\
                       10.0.0.5\nSERVICE=sshd\nLEADER=71\n";

    #[test]
    fn a_session_is_from_where_it_says_while_somebody_is_in() {
        let from = |address: &str| Some(Login::From(address.parse().expect("an address")));
        assert_eq!(parse(SSH), from("10.0.0.5"));
        assert_eq!(parse(&SSH.replace("10.0.0.5", "fe80::1%eth0")), from("fe80::1"));
        assert_eq!(parse(&SSH.replace("10.0.0.5", "::ffff:10.0.0.5")), from("10.0.0.5"));
        assert_eq!(parse(&SSH.replace("10.0.0.5", "host.example")), Some(Login::Elsewhere));
        assert_eq!(parse(&SSH.replace("REMOTE=1", "REMOTE=0")), Some(Login::Local));
        assert_eq!(parse(&SSH.replace("=active", "=closing")), None);
        assert_eq!(parse(&SSH.replace("CLASS=user", "CLASS=manager")), None);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let sessions = directory.path().join(SESSIONS);
        fs::create_dir_all(&sessions).expect("made");
        fs::write(sessions.join("../3"), SSH).expect("written");
        let read = |name: &str| Login::read(directory.path(), name);
        assert_eq!((read("../3"), read(""), read("3")), (None, None, None));
        fs::write(sessions.join("3"), SSH).expect("written");
        assert_eq!((read("3"), Login::all(directory.path()).len()), (parse(SSH), 1));
    }
}
