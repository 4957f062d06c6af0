//! What to trace, from what was asked.

use crate::error::Error;
use crate::explain;
use crate::judge::resolve;
use crate::options::Trace;
use netlink::trace::{Selector, Side, Traffic};
use policy::explain::Party;
use policy::model::Service;
use policy::{Addresses, Member, Policy};
use std::collections::BTreeMap;

/// What stands for every address.
const ANY: &str = "any";

/// The ICMP of either family; `icmp` means both.
const ICMP: [u8; 2] = [1, 58];

/// What every server has, and what is meant for several.
const ANYWHERE: [&str; 6] =
    ["127.0.0.0/8", "169.254.0.0/16", "224.0.0.0-255.255.255.255", "::1", "fe80::/10", "ff00::/8"];

/// The selection, where tiers are those of `policy` if there is one.
pub(super) fn of(
    options: &Trace,
    policy: Option<&Policy>,
    services: &BTreeMap<String, Service>,
) -> Result<Selector, Error> {
    let (from, to) = (options.between.from(), options.between.to());
    let service = options.between.service();
    if from.is_none() && to.is_none() && service.is_none() {
        let hint = "name who sends, to whom or on what; `tierwall trace any` traces whatever comes";
        return Err(Error::Question("nothing says what to trace".into(), Some(hint.into())));
    }
    let given = |text: Option<&str>| match text {
        None | Some(ANY) => Ok(None),
        Some(who) => side(who, policy).map(Some),
    };
    let (from, to) = (given(from)?, given(to)?);
    let traffic = match service {
        None => Vec::new(),
        Some(service) => traffic(&explain::service(services, service)?),
    };
    Ok(Selector { from, to, traffic, both: options.both, rate: options.rate })
}

/// What is to be said where both sides are named and neither is this server: the reader may be on
/// another one than was meant.
pub(super) fn note(selector: &Selector) -> Result<Option<String>, Error> {
    let (Some(from), Some(to)) = (&selector.from, &selector.to) else { return Ok(None) };
    let everywhere = ANYWHERE.iter().filter_map(|text| text.parse::<Member>().ok());
    let here = everywhere.map(Addresses::from).fold(own()?, |here, more| here.union(&more));
    let is_here = |side: &Side| side.v4.intersects(&here.v4) || side.v6.intersects(&here.v6);
    let is_elsewhere = !is_here(from) && !is_here(to);
    Ok(is_elsewhere.then(|| {
        "neither side has an address of this server: only what it forwards can be seen here".into()
    }))
}

fn side(who: &str, policy: Option<&Policy>) -> Result<Side, Error> {
    let addresses: Addresses = match policy {
        Some(policy) => match explain::party(policy, who)? {
            Party::Here => own()?,
            Party::Tier(tier) => {
                policy.tiers.get(&tier).map(Addresses::of_tier).unwrap_or_default()
            }
            Party::Addresses { addresses, .. } => addresses,
        },
        None if explain::SELF.contains(&who) => own()?,
        None => match who.parse::<Member>() {
            Ok(member) => member.into(),
            Err(_) => resolve(who).into_iter().map(Addresses::single).collect(),
        },
    };
    if addresses.is_empty() {
        let hint = match policy {
            Some(_) => "name one that has, or an address",
            None => "without a policy that can be read, name an address, a prefix or a host",
        };
        return Err(Error::Question(format!("{who} has no address"), Some(hint.into())));
    }
    let Addresses { v4, v6 } = addresses;
    Ok(Side { v4, v6 })
}

fn own() -> Result<Addresses, Error> {
    let own = netlink::addresses().map_err(Error::Addresses)?;
    Ok(own.into_iter().map(Addresses::single).collect())
}

/// Empty for everything.
fn traffic(service: &Service) -> Vec<Traffic> {
    if service.any {
        return Vec::new();
    }
    let mut protocols = service.protocols.clone();
    if ICMP.iter().any(|icmp| protocols.contains(icmp)) {
        protocols.extend(ICMP);
    }
    let whole = protocols.into_iter().map(|protocol| Traffic { protocol, ports: None });
    let ports = service.ports.iter().flat_map(|(transport, ranges)| {
        let protocol = transport.protocol();
        ranges.iter().map(move |range| Traffic { protocol, ports: Some(range.clone()) })
    });
    whole.chain(ports).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_tells_who_is_on_another_server() {
        let side = |text: &str| {
            let Addresses { v4, v6 } = text.parse::<Member>().expect("a member").into();
            Some(Side { v4, v6 })
        };
        let is_noted = |from: Option<Side>, to: Option<Side>| {
            let selector = Selector { from, to, traffic: Vec::new(), both: false, rate: 1 };
            note(&selector).expect("this server's addresses").is_some()
        };
        assert!(is_noted(side("192.0.2.1"), side("192.0.2.128/25")));
        assert!(is_noted(side("2001:db8::1"), side("2001:db8::2")));
        assert!(!is_noted(side("192.0.2.1"), None), "to whomever is also to here");
        assert!(!is_noted(side("192.0.2.1"), side("239.1.2.3")), "multicast also comes to here");
        assert!(!is_noted(side("127.0.0.1"), side("127.0.0.53")));
    }

    #[test]
    fn services_become_protocols_and_ranges() {
        let of = |text: &str| traffic(&text.parse().expect("a service"));
        let port = |range| Traffic { protocol: 6, ports: Some(range) };
        let whole = |protocol| Traffic { protocol, ports: None };
        assert_eq!(of("tcp/80"), [port(80..=80)]);
        assert_eq!(of("tcp/1000-2000"), [port(1000..=2000)]);
        assert_eq!(of("icmp"), [whole(1), whole(58)]);
        assert_eq!(of("gre"), [whole(47)]);
        assert_eq!(of("any"), []);
    }
}
