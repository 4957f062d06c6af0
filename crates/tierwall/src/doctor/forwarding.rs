//! Packets through this host: containers, virtual machines, tunnels.

use super::facts::{Policy, Sysctls};
use super::finding::{Finding, Id};
use super::sysctl::listed;
use netlink::Link;
use policy::model::{Forward, Mode};

/// Kinds of interfaces behind which others are.
const KINDS: &[&str] = &[
    "bridge",
    "geneve",
    "gre",
    "gretap",
    "ip6gre",
    "ip6tnl",
    "ipip",
    "ipvlan",
    "macvlan",
    "openvswitch",
    "ovpn",
    "ppp",
    "sit",
    "tun",
    "veth",
    "vti",
    "vti6",
    "vxlan",
    "wireguard",
    "xfrm",
];

pub(super) fn check(sysctls: &Sysctls, links: &[Link], policy: &Policy) -> Option<Finding> {
    let is_on = |path: &str| sysctls.get(path).is_some_and(|value| value.trim() == "1");
    let up: Vec<&Link> = links.iter().filter(|link| link.up && !link.loopback).collect();
    // Bridged packets pass the hook forward too where br_netfilter is asked to.
    let has_bridge = up.iter().any(|link| link.kind.as_deref() == Some("bridge"));
    let bridged = has_bridge && is_on("net/bridge/bridge-nf-call-iptables");
    let protocols = match (is_on("net/ipv4/ip_forward"), is_on("net/ipv6/conf/all/forwarding")) {
        (true, true) => "IPv4 and IPv6",
        (true, false) => "IPv4",
        (false, true) => "IPv6",
        (false, false) if bridged => "what its bridges pass on",
        (false, false) => return None,
    };
    // One interface forwards nothing; that of a container is a veth itself.
    if up.len() < 2 {
        return None;
    }
    let is_of_others =
        |link: &&&Link| link.kind.as_deref().is_some_and(|kind| KINDS.contains(&kind));
    let others: Vec<&str> = up.iter().filter(is_of_others).map(|link| link.name.as_str()).collect();
    let between = match others.is_empty() {
        false => format!("interfaces of containers, machines or tunnels: {}", listed(&others)),
        true => {
            let names: Vec<&str> = up.iter().map(|link| link.name.as_str()).collect();
            format!("interfaces: {}", listed(&names))
        }
    };
    let what = |rest: &str| format!("this host forwards {protocols}, and {rest}");
    let containers = "a container host needs forward = \"unmanaged\": whoever runs the containers filters what goes to them";
    Some(match policy.says() {
        None => Finding::note(Id::Forwarding, what("a policy would drop it unless it says otherwise"))
            .detail(between)
            .advice(containers),
        Some(good) => match (good.forward, good.mode.input) {
            (_, Mode::Off) => return None,
            (Forward::Drop, mode) => {
                let rest = match mode {
                    Mode::Enforce => "forward = \"drop\" ends that",
                    _ => "forward = \"drop\" ends that once input is enforced",
                };
                Finding::warning(Id::Forwarding, what(rest))
                    .detail(between)
                    .detail("connections through it that are open at the first enforcement end too")
                    .advice(format!("{containers}; forward = \"accept\" is for routers"))
            }
            (Forward::Accept | Forward::Unmanaged, _) => {
                Finding::note(Id::ForwardingOpen, what("the policy doesn't say what may pass"))
                    .detail(between)
                    .detail("published ports of containers are forwarded, not accepted: allows don't limit who reaches them")
                    .advice("limit it where it is made: DOCKER-USER, network policies, or chains of your own on the forward hook")
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::facts::Good;
    use super::super::sysctl::tests::{links, set};
    use super::*;
    use ::policy::model::Modes;

    fn on(paths: &[&str]) -> Sysctls {
        let mut sysctls = Sysctls::new();
        paths.iter().for_each(|path| set(&mut sysctls, path, "1\n"));
        sysctls
    }

    const V4: &str = "net/ipv4/ip_forward";
    const V6: &str = "net/ipv6/conf/all/forwarding";

    fn policy(forward: Forward, input: Mode) -> Policy {
        let mode = Modes { input, output: Mode::Enforce };
        Policy::Good(Good { forward, mode, ..Good::default() })
    }

    fn with_bridge() -> Vec<Link> {
        let mut links = links(&["lo", "eth0", "docker0"]);
        links[2].kind = Some("bridge".into());
        links
    }

    fn told(sysctls: &Sysctls, links: &[Link], policy: &Policy) -> Option<String> {
        let finding = check(sysctls, links, policy)?;
        Some(format!("{} {}: {}", finding.severity, finding.id.name(), finding.what))
    }

    #[test]
    fn what_is_not_on_or_has_nowhere_to_go_is_not_told() {
        let drop = policy(Forward::Drop, Mode::Enforce);
        assert_eq!(told(&Sysctls::new(), &with_bridge(), &drop), None);
        let mut container = links(&["lo", "eth0"]);
        container[1].kind = Some("veth".into());
        assert_eq!(told(&on(&[V4]), &container, &drop), None);
        let mut down = with_bridge();
        down[2].up = false;
        assert_eq!(told(&on(&[V4]), &down, &drop), None);
    }

    #[test]
    fn a_policy_that_drops_it_is_a_warning() {
        let drop = policy(Forward::Drop, Mode::Enforce);
        assert_eq!(
            told(&on(&[V4]), &with_bridge(), &drop).as_deref(),
            Some("warning forwarding: this host forwards IPv4, and forward = \"drop\" ends that")
        );
        let details = check(&on(&[V4]), &with_bridge(), &drop).map(|finding| finding.details);
        assert!(details.is_some_and(|details| details[0].ends_with(": docker0")));
        let two = told(&on(&[V4, V6]), &links(&["eth0", "eth1"]), &drop);
        assert!(two.is_some_and(|text| text.contains("IPv4 and IPv6")));
        let observed = told(&on(&[V6]), &with_bridge(), &policy(Forward::Drop, Mode::Observe));
        assert!(observed.is_some_and(|text| text.ends_with("once input is enforced")));
    }

    #[test]
    fn a_bridge_may_hand_its_packets_to_the_hook() {
        let drop = policy(Forward::Drop, Mode::Enforce);
        let bridged = on(&["net/bridge/bridge-nf-call-iptables"]);
        assert_eq!(told(&bridged, &links(&["eth0", "eth1"]), &drop), None);
        let text = told(&bridged, &with_bridge(), &drop);
        let expected = "warning forwarding: this host forwards what its bridges pass on, and forward = \"drop\" ends that";
        assert_eq!(text.as_deref(), Some(expected));
    }

    #[test]
    fn otherwise_it_is_a_note() {
        for forward in [Forward::Accept, Forward::Unmanaged] {
            let text = told(&on(&[V4]), &with_bridge(), &policy(forward, Mode::Enforce));
            assert!(text.is_some_and(|text| text.starts_with("note forwarding-open: ")));
        }
        let off = policy(Forward::Drop, Mode::Off);
        assert_eq!(told(&on(&[V4]), &with_bridge(), &off), None);
        let text = told(&on(&[V4]), &with_bridge(), &Policy::Missing);
        assert!(text.is_some_and(|text| text.starts_with("note forwarding: ")));
    }
}
