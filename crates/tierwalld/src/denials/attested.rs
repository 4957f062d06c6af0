//! Whether a denied packet comes from whom it says. An address is easily forged; an established TCP
//! connection isn't, by anybody who doesn't see what is answered to that address.

use super::compare::Compared;
use netlink::{TcpSocket, TcpState};
use ruleset::Hook;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The peers of the established connections, looked up once a second at most.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// When, by a clock that goes forward only; none while they were never looked up.
    second: Option<u32>,
    peers: BTreeSet<IpAddr>,
}

impl Peers {
    /// Says of each connection whether its sender is attested: what this server sends always is,
    /// and of the others those whose address has an established connection with this server now.
    /// `sockets` are only asked for if that decides anything. If they can't be read, nobody is attested.
    pub(super) fn attest<E>(
        &mut self,
        compared: &mut [Compared],
        seconds: u32,
        sockets: impl FnOnce() -> Result<Vec<TcpSocket>, E>,
    ) {
        let is_own = |one: &Compared| one.flow.mark.hook == Hook::Output;
        let matters = |one: &Compared| one.was_let_through && !is_own(one);
        if self.second != Some(seconds) && compared.iter().any(matters) {
            let open = sockets().unwrap_or_default().into_iter();
            let open = open.filter(|socket| socket.state == TcpState::Established);
            self.peers = open.map(|socket| socket.remote.ip().to_canonical()).collect();
            self.second = Some(seconds);
        }
        for one in compared {
            one.is_attested = is_own(one) || self.peers.contains(&one.flow.source.to_canonical());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::flow::{Flow, Service};
    use super::*;
    use policy::{Fate, Mark};

    fn compared(hook: Hook, source: &str, was_let_through: bool) -> Compared {
        let flow = Flow {
            mark: Mark { hook, fate: Fate::Denied },
            source: source.parse().expect("an address"),
            destination: "10.0.0.9".parse().expect("an address"),
            service: Service { protocol: 6, detail: Some(22) },
            user: None,
            interface: 2,
        };
        Compared {
            flow,
            is_known: true,
            was_let_through,
            has_left: false,
            is_attested: false,
            ends: None,
        }
    }

    fn socket(remote: &str, state: TcpState) -> TcpSocket {
        TcpSocket {
            local: "10.0.0.9:80".parse().expect("an address"),
            remote: remote.parse().expect("an address"),
            state,
            interface: 0,
            uid: 0,
            inode: 1,
            cookie: 0,
        }
    }

    fn attested(peers: &mut Peers, one: Compared, seconds: u32, sockets: &[TcpSocket]) -> bool {
        let mut one = [one];
        peers.attest(&mut one, seconds, || Ok::<_, ()>(sockets.to_vec()));
        one[0].is_attested
    }

    #[test]
    fn who_has_a_connection_is_who_they_say() {
        let open = [
            socket("10.0.0.1:999", TcpState::Established),
            socket("[::ffff:10.0.0.2]:999", TcpState::Established),
            // Anybody can ask for one by a forged address.
            socket("10.0.0.3:999", TcpState::SynReceived),
        ];
        let of =
            |hook, source| attested(&mut Peers::default(), compared(hook, source, true), 7, &open);
        assert!(of(Hook::Input, "10.0.0.1") && of(Hook::Input, "10.0.0.2"));
        assert!(!of(Hook::Input, "10.0.0.3") && !of(Hook::Input, "10.0.0.4"));
        assert!(!of(Hook::Forward, "10.0.0.4"));
        assert!(of(Hook::Output, "10.0.0.4"), "sent by this server");
    }

    #[test]
    fn the_kernel_is_asked_once_a_second_and_only_if_it_matters() {
        let mut peers = Peers::default();
        let asks = |peers: &mut Peers, one: Compared, seconds| {
            let mut asked = false;
            peers.attest(&mut [one], seconds, || {
                asked = true;
                Ok::<_, ()>(Vec::new())
            });
            asked
        };
        assert!(!asks(&mut peers, compared(Hook::Output, "10.0.0.1", true), 7));
        assert!(!asks(&mut peers, compared(Hook::Input, "10.0.0.1", false), 7));
        assert!(asks(&mut peers, compared(Hook::Input, "10.0.0.1", true), 7));
        assert!(!asks(&mut peers, compared(Hook::Input, "10.0.0.1", true), 7));
        assert!(asks(&mut peers, compared(Hook::Input, "10.0.0.1", true), 8));
        let mut one = [compared(Hook::Input, "10.0.0.1", true)];
        peers.attest(&mut one, 9, || Err(()));
        assert!(!one[0].is_attested);
    }
}
