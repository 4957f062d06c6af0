//! This host's own addresses, by rtnetlink.
//!
//! Asked of the kernel directly and not by `getifaddrs`, which doesn't tell the scope of an
//! address.

use crate::attribute::{Attribute, Malformed};
use crate::error::Error;
use crate::message::{self, Message};
use crate::socket::{Consistency, Socket};
use crate::uapi::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The length of `struct ifaddrmsg`: family, prefix length, flags, scope, index.
const HEADER: usize = 8;
/// How often a list is asked for that changes while it is read.
const ATTEMPTS: usize = 4;
const WHAT: &str = "this host's addresses";

/// The addresses that others can reach this host by, in ascending order: neither loopback nor
/// link-local ones, nor any that turned out to be taken (duplicate address detection).
///
/// # Errors
/// When the kernel can't be asked. It needs no rights.
pub fn addresses() -> Result<Vec<IpAddr>, Error> {
    let mut socket = Socket::open(mnl::Bus::Route)?;
    for _ in 0..ATTEMPTS {
        let mut bytes = Vec::new();
        let sequence = socket.next_sequence();
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        // Family and three zeros: what `ifaddrmsg` and `nfgenmsg` have in common.
        let start = message::open(&mut bytes, RTM_GETADDR, flags, sequence, (0, 0));
        bytes.extend_from_slice(&[0; HEADER - message::FAMILY_HEADER]);
        message::close(&mut bytes, start);
        let mut addresses = BTreeSet::new();
        let consistency = socket.ask(WHAT, &bytes, |message| {
            addresses.extend(decode(message)?);
            Ok(())
        })?;
        if consistency == Consistency::Consistent {
            return Ok(addresses.into_iter().collect());
        }
    }
    Err(Error::Unsteady { attempts: ATTEMPTS })
}

/// The address in a message, if others can reach it.
fn decode(message: Message<'_>) -> Result<Option<IpAddr>, Malformed> {
    if message.kind != RTM_NEWADDR {
        return Ok(None);
    }
    let found = Found::read(message)?;
    Ok(found.filter(|found| found.flags & IFA_F_DADFAILED == 0).map(|found| found.address))
}

/// An address that is meant to be reached by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    address: IpAddr,
    flags: u32,
}

impl Found {
    /// Reads a `struct ifaddrmsg` and what follows it: none where the address is of the loopback
    /// interface or only for one link.
    pub(crate) fn read(message: Message<'_>) -> Result<Option<Self>, Malformed> {
        let [_, _, flags, scope, ..] = *message.payload else { return Err(Malformed) };
        let (mut local, mut address, mut flags) = (None, None, u32::from(flags));
        for attribute in message.attributes(HEADER)? {
            let attribute = attribute?;
            match attribute.kind {
                IFA_LOCAL => local = ip(attribute),
                IFA_ADDRESS => address = ip(attribute),
                IFA_FLAGS => flags = attribute.host_u32()?,
                _ => {}
            }
        }
        // On a point-to-point interface IFA_ADDRESS is the other end's.
        let Some(own) = local.or(address) else { return Ok(None) };
        let meant = scope < RT_SCOPE_LINK && !own.is_loopback();
        Ok(meant.then_some(Self { address: own, flags }))
    }
}

fn ip(attribute: Attribute<'_>) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(attribute.payload).map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = <[u8; 16]>::try_from(attribute.payload).map(|bytes| Ipv6Addr::from(bytes).into());
    v4.or(v6).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::{Attributes, put};
    use proptest::prelude::*;

    fn message(payload: &[u8]) -> Message<'_> {
        Message { kind: RTM_NEWADDR, flags: 0, sequence: 1, port: 0, payload }
    }

    fn read(scope: u8, flags: u8, attributes: &[(u16, &[u8])]) -> Option<IpAddr> {
        let mut payload = vec![2, 24, flags, scope, 1, 0, 0, 0];
        for (kind, bytes) in attributes {
            put(&mut payload, *kind, bytes);
        }
        decode(message(&payload)).expect("well-formed")
    }

    #[test]
    fn prefers_the_local_end_and_leaves_out_what_nobody_reaches() {
        let (own, peer) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let both: [(u16, &[u8]); 2] = [(IFA_ADDRESS, &peer), (IFA_LOCAL, &own)];
        assert_eq!(read(0, 0, &both), Some(own.into()));
        assert_eq!(read(0, 0, &both[..1]), Some(peer.into()));
        assert_eq!(read(RT_SCOPE_LINK, 0, &both), None);
        assert_eq!(read(254, 0, &both), None);
        assert_eq!(read(0, IFA_F_DADFAILED as u8, &both), None);
        assert_eq!(read(0, 0, &[(IFA_LOCAL, &[127, 0, 0, 2])]), None);
        assert_eq!(read(0, 0, &[(IFA_ADDRESS, &[1, 2, 3])]), None);
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(message(&bytes));
            let _ = Attributes::new(&bytes).flatten().map(ip).count();
        }
    }
}
