//! How old the open sessions are: whether somebody must have logged in by them.
//!
//! sshd ends a connection that nobody logs in by when its login grace is over. So an older one is a
//! session, whatever the login manager knows. The kernel doesn't tell the age of a connection: the
//! daemon looks from time to time, and notes what it sees for the first time. What was there before
//! it could look counts as old: nobody is to be locked out since their age isn't known.
//!
//! A connection is told by the kernel's cookie for its socket. Its ends come again: who connects from
//! one port over and over would grow old by them.

use policy::guard::Session;
use policy::model::Service;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::guard::by_service;

/// `LoginGraceTime`, unless sshd_config(5) says otherwise.
const LOGIN_GRACE: Duration = Duration::from_secs(120);

/// How often to look: a connection is taken for younger than it is by this at most.
const EVERY: Duration = Duration::from_secs(30);

/// The sessions that were seen.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    /// When, and on which services, it was looked last.
    looked: Option<(Instant, Vec<Service>)>,
    /// When each was seen first; none for one that may be older than that.
    seen: BTreeMap<u64, Option<Instant>>,
}

impl Ages {
    /// Takes note of all sessions that are open now on these services.
    pub(crate) fn look(
        &mut self,
        services: &[&Service],
        open: &BTreeMap<Session, u64>,
        now: Instant,
    ) {
        let seen = open.iter().map(|(session, cookie)| {
            let known = self.seen.get(cookie).copied();
            let first = self.was_watched(session.local.port()).then_some(now);
            (*cookie, known.unwrap_or(first))
        });
        self.seen = seen.collect();
        let services = services.iter().map(|service| (*service).clone()).collect();
        self.looked = Some((now, services));
    }

    /// Whether one that is open now is older than the login grace, or may be.
    pub(crate) fn is_old(&self, session: &Session, cookie: u64, now: Instant) -> bool {
        match self.seen.get(&cookie) {
            Some(Some(first)) => now.saturating_duration_since(*first) >= LOGIN_GRACE,
            Some(None) => true,
            // It came since, where that was looked at.
            None => !self.was_watched(session.local.port()),
        }
    }

    /// When to look again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.looked.as_ref().map(|(at, _)| *at + EVERY)
    }

    fn was_watched(&self, port: u16) -> bool {
        self.looked
            .as_ref()
            .is_some_and(|(_, services)| by_service(&services.iter().collect::<Vec<_>>(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruleset::Transport;

    fn service(port: u16) -> Service {
        let ports = [(Transport::Tcp, vec![port..=port])].into();
        Service { ports, ..Service::default() }
    }

    fn session(peer: u16, port: u16) -> Session {
        let end = |port| ([10, 0, 0, 1], port).into();
        Session::new(end(peer), end(port))
    }

    #[test]
    fn one_grows_old_from_when_it_was_seen_first() {
        let (ssh, start) = (service(22), Instant::now());
        let (first, second) = (session(1, 22), session(2, 22));
        let mut ages = Ages::default();
        assert!(ages.is_old(&first, 7, start), "nobody looked yet");
        ages.look(&[&ssh], &[(first, 7)].into(), start);
        assert!(ages.is_old(&first, 7, start), "it was there before");
        assert!(!ages.is_old(&second, 8, start), "it came since");
        let later = start + EVERY;
        ages.look(&[&ssh], &[(first, 7), (second, 8)].into(), later);
        assert!(ages.is_old(&first, 7, later));
        assert!(!ages.is_old(&second, 8, later + LOGIN_GRACE - EVERY));
        assert!(ages.is_old(&second, 8, later + LOGIN_GRACE));
    }

    #[test]
    fn another_connection_from_the_same_port_begins_anew() {
        let (ssh, start, one) = (service(22), Instant::now(), session(1, 22));
        let mut ages = Ages::default();
        ages.look(&[&ssh], &BTreeMap::new(), start);
        ages.look(&[&ssh], &[(one, 7)].into(), start);
        ages.look(&[&ssh], &[(one, 8)].into(), start + LOGIN_GRACE);
        assert!(!ages.is_old(&one, 8, start + LOGIN_GRACE));
    }

    #[test]
    fn on_a_port_that_nobody_looked_at_the_age_is_not_known() {
        let (ssh, other, start) = (service(22), service(2222), Instant::now());
        let one = session(1, 2222);
        let mut ages = Ages::default();
        ages.look(&[&ssh], &BTreeMap::new(), start);
        assert!(ages.is_old(&one, 7, start));
        ages.look(&[&ssh, &other], &[(one, 7)].into(), start);
        assert!(ages.is_old(&one, 7, start));
        assert!(!ages.is_old(&session(2, 2222), 8, start));
    }
}
