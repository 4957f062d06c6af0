//! Services and users in the policy's words.

use crate::condition::Names;
use crate::intervals::Intervals;
use crate::region::{SERVICES, USERS};
use ruleset::Transport;

/// Whole protocols that may be listed beside each other; more are all but some.
const MOST_PROTOCOLS: usize = 8;
/// Ports of one transport that may be.
const MOST_PORTS: usize = 200;

/// The words of `service`; none where there are none for it.
pub(crate) fn words(service: &Intervals, names: &Names) -> Option<Vec<String>> {
    if *service == Intervals::all(SERVICES) {
        return Some(vec!["any".into()]);
    }
    if let Some(name) = names.services.get(service).filter(|name| is_service_name(name)) {
        return Some(vec![name.clone()]);
    }
    literals(service)
}

/// The same without names.
pub(crate) fn literals(service: &Intervals) -> Option<Vec<String>> {
    let (mut words, mut protocols) = (Vec::new(), 0);
    for protocol in 0..=u8::MAX {
        let span = crate::region::protocol(protocol);
        let part = service.intersection(&Intervals::range(span.0, span.1));
        if part.is_empty() {
            continue;
        }
        let transport = Transport::of_protocol(protocol);
        let is_every_port = || part.covers(&Intervals::range(span.0 + 1, span.1));
        if part.ranges() == [span] || (transport.is_some() && is_every_port()) {
            protocols += 1;
            words.push(policy::protocol_word(protocol)?);
            continue;
        }
        let transport = transport?;
        if part.ranges().len() > MOST_PORTS {
            return None;
        }
        // Nothing is ever sent to port 0.
        let ports = part.minus(&Intervals::range(span.0, span.0));
        words.extend(ports.ranges().iter().map(|(first, last)| {
            match (first & 0xffff, last & 0xffff) {
                (first, last) if first == last => format!("{transport}/{first}"),
                (first, last) => format!("{transport}/{first}-{last}"),
            }
        }));
    }
    (protocols <= MOST_PROTOCOLS && !words.is_empty()).then_some(words)
}

/// Whether a set's name can be a service's.
pub(crate) fn is_service_name(name: &str) -> bool {
    policy::is_name(name)
        && !policy::is_top_level_key(name)
        && policy::protocol_number(name).is_none()
}

/// A user in the policy: by number or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum User {
    Uid(u32),
    Name(String),
}

/// The users; nobody for everybody. None where there are no words for them.
pub(crate) fn users(users: &Intervals, names: &Names) -> Option<Vec<User>> {
    const MOST: u128 = 16;
    if *users == Intervals::all(USERS) {
        return Some(Vec::new());
    }
    let count: u128 = users.ranges().iter().map(|(first, last)| last - first + 1).sum();
    if count > MOST {
        return None;
    }
    let numbers = users.ranges().iter().flat_map(|(first, last)| *first..=*last);
    numbers
        .map(|number| match u32::try_from(number) {
            Ok(uid) if uid != u32::MAX => Some(User::Uid(uid)),
            Ok(_) => None,
            Err(_) => {
                names.of_user(number).filter(|name| is_user(name)).map(|n| User::Name(n.into()))
            }
        })
        .collect()
}

/// What the policy takes for a user's name.
fn is_user(name: &str) -> bool {
    let forbidden = |c: char| policy::is_invisible(c) || c.is_whitespace() || ":,/".contains(c);
    !name.is_empty()
        && name.len() <= 255
        && !name.contains(forbidden)
        && !name.bytes().all(|byte| byte.is_ascii_digit())
}
