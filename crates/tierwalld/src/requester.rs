//! Who asks for a change: what the kernel says of the process at the other end of the control
//! socket. It may be gone by then, and its number another's: for the history, not for rights.

use control::Requester;
use std::fs;
use tokio::net::unix::UCred;

/// `/proc/PID/loginuid` of who didn't log in.
const NOBODY: u32 = u32::MAX;

/// The one with these credentials.
pub(crate) fn of(credentials: UCred) -> Requester {
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
    let process = read("comm").map(|name| printable(&name)).unwrap_or_default();
    let login = read("loginuid").and_then(|uid| String::from_utf8(uid).ok()?.trim().parse().ok());
    let login = login.filter(|uid| *uid != NOBODY);
    Requester { uid: credentials.uid(), pid, process, login }
}

/// In words, for the log and for reasons.
pub(crate) fn in_words(by: Option<&Requester>) -> String {
    let Some(Requester { uid, pid, process, login }) = by else { return "nobody".into() };
    let login = login.filter(|login| login != uid);
    let login = login.map(|login| format!(", logged in as uid {login}")).unwrap_or_default();
    let process = if process.is_empty() { "a process" } else { process };
    format!("uid {uid}{login} ({process}, pid {pid})")
}

/// A process chooses its name.
fn printable(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    name.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_forges_no_line() {
        assert_eq!(printable(b"a\x1b[1m\nb\xff\n"), "a?[1m?b\u{fffd}");
    }

    #[test]
    fn tells_who_logged_in_where_that_is_another() {
        let requester = |login| {
            let process = "tierwall".to_owned();
            in_words(Some(&Requester { uid: 0, pid: 7, process, login }))
        };
        assert_eq!(requester(None), "uid 0 (tierwall, pid 7)");
        assert_eq!(requester(Some(0)), "uid 0 (tierwall, pid 7)");
        assert_eq!(requester(Some(1000)), "uid 0, logged in as uid 1000 (tierwall, pid 7)");
    }
}
