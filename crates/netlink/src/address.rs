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

/// An address by which others can reach this host, and what the kernel knows of where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostAddress {
    /// The address.
    pub address: IpAddr,
    /// How many of its bits are that of its network.
    pub prefix_length: u8,
    /// Whether it was set for good: its lifetime is infinite.
    pub is_permanent: bool,
    /// Whether something shows that it was made of a prefix in a router advertisement: a lifetime,
    /// temporary addresses that are made beside it (`mngtmpaddr`) or that it is one of, an interface
    /// identifier that the kernel chose, or the kernel's word for it (from Linux 5.18 on). False of
    /// IPv4. Whoever handles advertisements in place of the kernel may set an address without any of
    /// that.
    pub shows_advertisement: bool,
}

/// The addresses that others can reach this host by, in ascending order: neither loopback nor
/// link-local ones, nor any that turned out to be taken (duplicate address detection). One that two
/// interfaces have is there twice if the kernel says different things of the two.
///
/// If they change faster than they can be read, these are all that were seen meanwhile: the kernel
/// says that a list is incomplete, and one that stays is missing in some of them at most. Some may be
/// gone by then, which whoever listens to [`crate::AddressEvents`] hears.
///
/// # Errors
/// When the kernel can't be asked. It needs no rights.
pub fn host_addresses() -> Result<Vec<HostAddress>, Error> {
    let mut socket = Socket::open(mnl::Bus::Route)?;
    let mut seen = BTreeSet::new();
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
        seen.append(&mut addresses);
    }
    Ok(seen.into_iter().collect())
}

/// The same without where they came from, each once.
///
/// # Errors
/// As [`host_addresses`].
pub fn addresses() -> Result<Vec<IpAddr>, Error> {
    let mut addresses: Vec<IpAddr> =
        host_addresses()?.into_iter().map(|found| found.address).collect();
    addresses.dedup();
    Ok(addresses)
}

/// The address in a message, if others can reach it.
fn decode(message: Message<'_>) -> Result<Option<HostAddress>, Malformed> {
    if message.kind != RTM_NEWADDR {
        return Ok(None);
    }
    let found = Found::read(message)?;
    Ok(found.filter(|found| found.flags & IFA_F_DADFAILED == 0).map(Found::judge))
}

/// An address that is meant to be reached by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    address: IpAddr,
    prefix_length: u8,
    flags: u32,
    proto: u8,
    /// Whether it is preferred, or valid, for a time only.
    is_for_a_time: bool,
}

impl Found {
    /// Reads a `struct ifaddrmsg` and what follows it: none where the address is of the loopback
    /// interface or only for one link.
    pub(crate) fn read(message: Message<'_>) -> Result<Option<Self>, Malformed> {
        let [_, prefix_length, flags, scope, ..] = *message.payload else { return Err(Malformed) };
        let (mut local, mut address, mut flags) = (None, None, u32::from(flags));
        let (mut proto, mut is_for_a_time) = (0, false);
        for attribute in message.attributes(HEADER)? {
            let attribute = attribute?;
            match attribute.kind {
                IFA_LOCAL => local = ip(attribute),
                IFA_ADDRESS => address = ip(attribute),
                IFA_FLAGS => flags = attribute.host_u32()?,
                IFA_PROTO => proto = attribute.u8()?,
                IFA_CACHEINFO => is_for_a_time = has_end(attribute)?,
                _ => {}
            }
        }
        // On a point-to-point interface IFA_ADDRESS is the other end's.
        let Some(own) = local.or(address) else { return Ok(None) };
        let meant = scope < RT_SCOPE_LINK && !own.is_loopback();
        let found = Self { address: own, prefix_length, flags, proto, is_for_a_time };
        Ok(meant.then_some(found))
    }

    fn judge(self) -> HostAddress {
        let Self { address, prefix_length, flags, proto, is_for_a_time } = self;
        let made = IFA_F_TEMPORARY | IFA_F_MANAGETEMPADDR | IFA_F_STABLE_PRIVACY;
        let shows = is_for_a_time || flags & made != 0 || proto == IFAPROT_KERNEL_RA;
        HostAddress {
            address,
            prefix_length,
            is_permanent: flags & IFA_F_PERMANENT != 0,
            shows_advertisement: address.is_ipv6() && shows,
        }
    }
}

/// Whether one of the lifetimes at the beginning of a `struct ifa_cacheinfo` ends.
fn has_end(attribute: Attribute<'_>) -> Result<bool, Malformed> {
    let (lifetimes, _) = attribute.payload.as_chunks::<4>();
    let [preferred, valid, ..] = *lifetimes else { return Err(Malformed) };
    let is_infinite = |bytes| u32::from_ne_bytes(bytes) == INFINITY_LIFE_TIME;
    Ok(!is_infinite(preferred) || !is_infinite(valid))
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

    fn found(prefix: u8, scope: u8, flags: u8, rest: &[(u16, &[u8])]) -> Option<HostAddress> {
        let mut payload = vec![2, prefix, flags, scope, 1, 0, 0, 0];
        for (kind, bytes) in rest {
            put(&mut payload, *kind, bytes);
        }
        decode(message(&payload)).expect("well-formed")
    }

    fn read(scope: u8, flags: u8, attributes: &[(u16, &[u8])]) -> Option<IpAddr> {
        found(24, scope, flags, attributes).map(|found| found.address)
    }

    #[test]
    fn tells_what_shows_an_advertisement() {
        let six = "2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets();
        let judged = |flags: u32, attributes: &[(u16, &[u8])]| {
            let flags = flags.to_ne_bytes();
            let all = [&[(IFA_ADDRESS, &six[..]), (IFA_FLAGS, &flags[..])], attributes].concat();
            let found = found(64, 0, 0, &all).expect("an address");
            assert_eq!(found.prefix_length, 64);
            (found.is_permanent, found.shows_advertisement)
        };
        let lifetimes =
            |preferred: u32, valid: u32| [preferred, valid, 7, 7].map(u32::to_ne_bytes).concat();
        let (for_ever, ends) = (lifetimes(u32::MAX, u32::MAX), lifetimes(u32::MAX, 86_400));
        let permanent = IFA_F_PERMANENT;
        assert_eq!(judged(permanent, &[(IFA_CACHEINFO, &for_ever)]), (true, false));
        // Set by hand: the kernel knows other protocols, and this bit is that of `nodad`.
        assert_eq!(judged(permanent | 2, &[(IFA_PROTO, &[77])]), (true, false));
        assert_eq!(judged(0, &[]), (false, false));
        assert_eq!(judged(0, &[(IFA_CACHEINFO, &ends)]), (false, true));
        // What was announced for ever is deprecated after a time all the same.
        for preferred in [0, 3600] {
            let lifetimes = lifetimes(preferred, u32::MAX);
            assert_eq!(judged(permanent, &[(IFA_CACHEINFO, &lifetimes)]), (true, true));
        }
        for made in [IFA_F_TEMPORARY, IFA_F_MANAGETEMPADDR, IFA_F_STABLE_PRIVACY] {
            assert_eq!(judged(permanent | made, &[]), (true, true));
        }
        assert_eq!(judged(permanent, &[(IFA_PROTO, &[IFAPROT_KERNEL_RA])]), (true, true));
        // In IPv4 the first flag is that of a second address in a network.
        let flags = (permanent | IFA_F_TEMPORARY).to_ne_bytes();
        let four = [(IFA_LOCAL, &[10, 0, 0, 1][..]), (IFA_FLAGS, &flags)];
        let four = found(24, 0, 0, &four).expect("an address");
        assert_eq!((four.is_permanent, four.shows_advertisement), (true, false));
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
