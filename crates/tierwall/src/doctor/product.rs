//! Programs that make tables or chains, and by what they are known.

use super::finding::Id;
use netlink::survey::Family;

/// A program that filters or translates.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) id: Id,
    pub(super) name: &'static str,
    /// The names of its own tables.
    tables: &'static [&'static str],
    /// What the names of its chains begin with, in tables that it shares.
    chains: &'static [&'static str],
    /// Its processes.
    pub(super) processes: &'static [&'static str],
    /// Its units.
    pub(super) units: &'static [&'static str],
    /// Whether it is a firewall for this host, whose denials meet what tierwall allows. The others
    /// deny what they are there to deny.
    pub(super) rivals: bool,
}

/// A program that is known by its tables and chains only.
const fn other(
    name: &'static str,
    tables: &'static [&'static str],
    chains: &'static [&'static str],
) -> Product {
    let (processes, units) = (&[], &[]);
    Product { id: Id::OtherFirewall, name, tables, chains, processes, units, rivals: false }
}

pub(super) const PRODUCTS: &[Product] = &[
    Product {
        id: Id::Firewalld,
        name: "firewalld",
        tables: &["firewalld", "firewalld_policy_drop"],
        chains: &[],
        processes: &["firewalld"],
        units: &["firewalld.service"],
        rivals: true,
    },
    Product {
        id: Id::Ufw,
        name: "ufw",
        tables: &[],
        chains: &["ufw-", "ufw6-"],
        processes: &[],
        units: &["ufw.service"],
        rivals: true,
    },
    Product {
        id: Id::Docker,
        name: "Docker",
        tables: &["docker-bridges"],
        chains: &["DOCKER"],
        processes: &["dockerd"],
        units: &["docker.service"],
        rivals: false,
    },
    Product {
        id: Id::Podman,
        name: "Podman",
        tables: &["netavark"],
        chains: &["NETAVARK", "CNI-"],
        processes: &["conmon"],
        units: &[],
        rivals: false,
    },
    Product {
        id: Id::Libvirt,
        name: "libvirt",
        tables: &["libvirt_network"],
        chains: &["LIBVIRT_"],
        processes: &["libvirtd", "virtnetworkd"],
        units: &["libvirtd.service", "virtnetworkd.service"],
        rivals: false,
    },
    Product {
        id: Id::Kubernetes,
        name: "Kubernetes",
        tables: &["kube-proxy", "calico", "kube-router"],
        chains: &["KUBE-", "cali-", "cali:", "CILIUM_", "KUBE_ROUTER", "FLANNEL-"],
        processes: &["kubelet", "kube-proxy", "calico-node", "cilium-agent", "k3s-server"],
        units: &["kubelet.service", "k3s.service", "k3s-agent.service"],
        rivals: false,
    },
    other("fail2ban", &["f2b-table"], &["f2b-"]),
    other("CrowdSec", &["crowdsec", "crowdsec6"], &["CROWDSEC"]),
    other("sshguard", &["sshguard"], &["sshguard"]),
    other("LXD", &["lxd"], &[]),
    other("Incus", &["incus"], &[]),
    other("Tailscale", &[], &["ts-"]),
    other("systemd-networkd", &["io.systemd.nat"], &[]),
    other("Foomuuri", &["foomuuri"], &[]),
];

impl Product {
    /// Whether a chain is its, by its table or its own name.
    pub(super) fn made(&self, table: &str, chain: &str) -> bool {
        self.tables.contains(&table) || self.has_chain(chain)
    }

    /// Whether a table is its own.
    pub(super) fn has_table(&self, table: &str) -> bool {
        self.tables.contains(&table)
    }

    /// Whether a chain is its by name.
    pub(super) fn has_chain(&self, chain: &str) -> bool {
        self.chains.iter().any(|prefix| chain.starts_with(prefix))
    }

    /// Who made a chain.
    pub(super) fn of(table: &str, chain: &str) -> Option<&'static Self> {
        PRODUCTS.iter().find(|product| product.made(table, chain))
    }
}

/// Whether a table is one that `iptables-nft` made, by its name and chains.
pub(super) fn is_of_iptables<'c>(
    family: Family,
    table: &str,
    mut chains: impl Iterator<Item = &'c String>,
) -> bool {
    const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
    matches!(family, Family::Ip | Family::Ip6)
        && ["filter", "nat", "mangle", "raw", "security"].contains(&table)
        && chains.any(|chain| BUILT_IN.contains(&chain.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_known_by_their_table_or_name() {
        let of = |table, chain| Product::of(table, chain).map(|product| product.name);
        assert_eq!(of("firewalld", "filter_INPUT"), Some("firewalld"));
        assert_eq!(of("filter", "DOCKER-USER"), Some("Docker"));
        assert_eq!(of("nat", "KUBE-SERVICES"), Some("Kubernetes"));
        assert_eq!(of("filter", "ufw6-before-input"), Some("ufw"));
        assert_eq!(of("netavark", "INPUT"), Some("Podman"));
        assert_eq!(of("filter", "f2b-sshd"), Some("fail2ban"));
        assert_eq!(of("filter", "INPUT"), None);
        assert_eq!(of("mine", "input"), None);
    }

    #[test]
    fn tables_of_iptables_have_its_chains() {
        let is =
            |family, table, chain: &str| is_of_iptables(family, table, [chain.to_owned()].iter());
        assert!(is(Family::Ip, "filter", "INPUT") && is(Family::Ip6, "nat", "PREROUTING"));
        assert!(!is(Family::Ip, "filter", "input"));
        assert!(!is(Family::Inet, "filter", "INPUT"));
        assert!(!is(Family::Ip, "mine", "INPUT"));
    }
}
