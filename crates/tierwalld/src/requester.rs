//! Who asks for a change: what the kernel says of the process at the other end of the control
//! socket. It may be gone by then, and its number another's: for the history, not for rights.
//!
//! The sandbox of the service hides other processes from `/proc`. Then the name of the process and
//! who logged in are what the request says, and marked so.

use control::{Caller, Requester};
use std::path::Path;
use tokio::net::unix::UCred;

/// A name that the kernel keeps has 15 bytes at most.
const LONGEST_NAME: usize = 15;

/// The one with these credentials, who says that of itself.
pub(crate) fn of(credentials: UCred, says: Option<Caller>) -> Requester {
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
    let known = Caller::read(Path::new(&format!("/proc/{pid}")));
    from(credentials.uid(), pid, known, says)
}

/// What is known goes before what is said.
fn from(uid: u32, pid: u32, known: Option<Caller>, says: Option<Caller>) -> Requester {
    let claimed = known.is_none() && says.is_some();
    let Caller { process, login, origin: _ } = known.or(says).unwrap_or_default();
    Requester { uid, pid, process: printable(&process), login, claimed }
}

/// In words, for the log and for reasons.
pub(crate) fn in_words(by: Option<&Requester>) -> String {
    let Some(Requester { uid, pid, process, login, claimed }) = by else { return "nobody".into() };
    let login = login.filter(|login| login != uid);
    let login = login.map(|login| format!(", logged in as uid {login}")).unwrap_or_default();
    let process = if process.is_empty() { "a process" } else { process };
    let claimed = if *claimed { ", as it says" } else { "" };
    format!("uid {uid}{login} ({process}, pid {pid}{claimed})")
}

/// A process chooses its name.
fn printable(name: &str) -> String {
    name.chars().take(LONGEST_NAME).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::Origin;

    fn caller(process: &str, login: Option<u32>) -> Option<Caller> {
        Some(Caller { process: process.to_owned(), login, origin: Origin::default() })
    }

    #[test]
    fn a_name_forges_no_line() {
        let by = from(0, 7, None, caller("a\x1b[1m\nb and much more than a name has", None));
        assert_eq!(by.process, "a?[1m?b and muc");
    }

    #[test]
    fn tells_who_logged_in_where_that_is_another() {
        let words = |login| in_words(Some(&from(0, 7, caller("tierwall", login), None)));
        assert_eq!(words(None), "uid 0 (tierwall, pid 7)");
        assert_eq!(words(Some(0)), "uid 0 (tierwall, pid 7)");
        assert_eq!(words(Some(1000)), "uid 0, logged in as uid 1000 (tierwall, pid 7)");
    }

    #[test]
    fn what_a_process_says_counts_only_where_it_is_hidden_and_is_marked() {
        let says = || caller("tierwall", Some(1000));
        let known = from(0, 7, caller("sh", None), says());
        assert_eq!(in_words(Some(&known)), "uid 0 (sh, pid 7)");
        let hidden = from(0, 7, None, says());
        let words = "uid 0, logged in as uid 1000 (tierwall, pid 7, as it says)";
        assert_eq!(in_words(Some(&hidden)), words);
        assert_eq!(in_words(Some(&from(0, 7, None, None))), "uid 0 (a process, pid 7)");
    }
}
