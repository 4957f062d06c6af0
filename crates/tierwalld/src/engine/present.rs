//! Who is in while a step is judged, and who asks for it.

use super::Engine;
use super::settle::FILES;
use crate::guard::{self, Guarded};
use crate::step::Asked;
use control::Login;
use policy::Policy;
use policy::guard::{Asker, Present, Session};
use policy::model::Service;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

/// The step of a reload, also of one that a signal asks for.
const RELOAD: &str = "reload";

impl Engine {
    /// Who is in on the services that `policy` guards or that were guarded so far: an edit of that
    /// list locks nobody out. Of a step by `addresses`, without those who are in by one that is
    /// gone.
    pub(super) fn present(
        &self,
        policy: &Policy,
        reason: &str,
        addresses: bool,
    ) -> Result<Present, netlink::Error> {
        let services = [&policy.guarded, &self.enforced.guarded, &self.lasting().guarded];
        let mut present = self.present_on(&services, reason, addresses)?;
        let by_file = self.asked.by.is_none() || FILES.contains(&reason);
        if by_file {
            let peers: BTreeSet<IpAddr> = present.open.iter().map(|one| one.peer.ip()).collect();
            present.removed = self.enforced.removed_in(policy, peers);
        }
        Ok(present)
    }

    /// The same on these services, whatever the step takes out of a tier.
    pub(super) fn present_on(
        &self,
        services: &[&Service],
        reason: &str,
        addresses: bool,
    ) -> Result<Present, netlink::Error> {
        let guarded = Guarded { services, asker: self.asked.over.as_ref() };
        let found = guard::sessions(guarded)?;
        // Else one counts whose address may be gone for this moment only.
        let found = if addresses { guard::to_own(found) } else { found };
        let logins = Login::all(&self.options.root);
        let now = Instant::now();
        let counts = |session: &Session, cookie: u64| {
            logins.contains(&Login::From(session.peer.ip()))
                || self.ages.is_old(session, cookie, now)
        };
        let counting = found.iter().filter(|(session, cookie)| counts(session, **cookie));
        let counting = counting.map(|(session, _)| *session).collect();
        let open = found.into_keys().collect();
        // Whoever starts tierwall for the first time is somebody.
        let asker = match self.asked.by.is_some() || self.held || reason == RELOAD {
            true => asker(&self.asked, &open, &self.options.root),
            false => Asker::Nobody,
        };
        Ok(Present { open, counting, asker, removed: BTreeSet::new() })
    }

    /// Takes note of who is in, so that their age is known later.
    pub(crate) fn look_at_sessions(&mut self) {
        let services = [&self.applied.guarded, &self.enforced.guarded, &self.lasting().guarded];
        let guarded = Guarded { services: &services, asker: None };
        // Where that can't be told, the guard says so when it matters.
        if let Ok(open) = guard::sessions(guarded) {
            let services = services.map(Clone::clone);
            self.ages.look(&services.each_ref(), &open, Instant::now());
            self.look_for_ends(&open);
        }
    }

    /// When that is due.
    pub(crate) fn sessions_due(&self) -> Option<Instant> {
        let is_guarded = !self.applied.guarded.is_empty() || !self.lasting().guarded.is_empty();
        self.ages.due().filter(|_| is_guarded)
    }
}

/// Who asks: known by the connection that the request comes over, or by the login session that it
/// comes from.
fn asker(asked: &Asked, open: &BTreeSet<Session>, logins: &Path) -> Asker {
    if let Some(over) = &asked.over {
        return Asker::In([Session::new(over.peer, over.local)].into());
    }
    let login = asked.origin.session.as_ref().and_then(|name| Login::read(logins, name));
    match login.and_then(Login::address) {
        Some(address) => Asker::logged_in(address, open),
        None => Asker::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{Connection, Origin};

    #[test]
    fn who_asks_is_known_by_their_connection_or_else_by_their_login() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let sessions = root.path().join("run/systemd/sessions");
        std::fs::create_dir_all(&sessions).expect("made");
        let remote = "REMOTE=1\nCLASS=user\nREMOTE_HOST=10.0.0.5\n";
        for (name, text) in [("3", remote), ("4", "REMOTE=0\nCLASS=user\n")] {
            std::fs::write(sessions.join(name), text).expect("written");
        }
        let end = |text: &str| text.parse().expect("an address and a port");
        let [first, second] = ["10.0.0.5:1", "10.0.0.6:1"]
            .map(|peer| Connection { peer: end(peer), local: end("10.0.0.1:22") });
        let session = |one: &Connection| Session::new(one.peer, one.local);
        let open = [session(&first), session(&second)].into();
        let asks = |name: Option<&str>, over: Option<Connection>| {
            let origin = Origin { session: name.map(Into::into), ..Origin::default() };
            asker(&Asked { by: None, origin, over }, &open, root.path())
        };
        assert_eq!(asks(Some("3"), None), Asker::In([session(&first)].into()));
        assert_eq!(asks(Some("4"), None), Asker::Local);
        assert_eq!(asks(Some("5"), None), Asker::Unknown);
        assert_eq!(asks(None, None), Asker::Unknown);
        assert_eq!(asks(Some("3"), Some(second)), Asker::In([session(&second)].into()));
    }
}
