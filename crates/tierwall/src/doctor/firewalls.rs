//! Other firewalls and whatever else has tables here: what each means beside ours.

use super::chains::foreign;
use super::facts::Services;
use super::finding::{Finding, Id};
use super::product::{PRODUCTS, Product, is_of_iptables};
use super::sysctl::listed;
use crate::output::counted;
use netlink::LegacyTable;
use netlink::survey::{End, Family, Rule, Survey};
use ruleset::Policy;
use std::collections::BTreeSet;

pub(super) fn check(survey: &Survey, services: &Services) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        PRODUCTS.iter().filter_map(|product| of_product(product, survey, services)).collect();
    findings.extend(nftables_service(services));
    findings.extend(iptables(survey, services));
    findings.extend(legacy(services));
    findings
}

/// By what a product shows.
struct Evidence {
    tables: Vec<String>,
    running: Vec<String>,
    boot: Vec<String>,
}

impl Evidence {
    fn of(product: &Product, survey: &Survey, services: &Services) -> Self {
        let mut tables = Vec::new();
        for (family, name, table) in foreign(survey) {
            if product.has_table(name) {
                tables.push(format!("table {family} {name}"));
                continue;
            }
            let chains: Vec<&str> = table.chains.keys().map(String::as_str).collect();
            let own: Vec<&str> =
                chains.into_iter().filter(|chain| product.has_chain(chain)).collect();
            if !own.is_empty() {
                tables.push(format!("in table {family} {name}: {}", listed(&own)));
            }
        }
        let processes = product.processes.iter().filter(|name| services.processes.contains(**name));
        let mut running: Vec<String> =
            processes.map(|name| format!("process {name} runs")).collect();
        let mut boot = Vec::new();
        for unit in product.units {
            if services.active.contains(*unit) {
                running.push(format!("{unit} is active"));
            }
            if services.enabled.contains(*unit) {
                boot.push(format!("{unit} starts at boot"));
            }
        }
        if product.id == Id::Ufw {
            // Its unit is enabled on every Ubuntu and does nothing unless this says so.
            running.clear();
            boot.clear();
            if services.ufw_enabled {
                boot.push("/etc/ufw/ufw.conf says ENABLED=yes".to_owned());
            }
        }
        Self { tables, running, boot }
    }
}

fn of_product(product: &Product, survey: &Survey, services: &Services) -> Option<Finding> {
    let Evidence { tables, running, boot } = Evidence::of(product, survey, services);
    let state = match (tables.is_empty(), running.is_empty(), boot.is_empty()) {
        (true, true, true) => return None,
        (true, true, false) => "comes at the next boot",
        (true, false, _) => "runs here",
        (false, false, _) => "is active here",
        (false, true, _) => "has rules here",
    };
    let what = format!("{} {state}", product.name);
    let finding = match product.rivals {
        true => Finding::warning(product.id, what),
        false => Finding::note(product.id, what),
    };
    let (meaning, advice) = meaning(product);
    // What filters for the host itself, of those that tierwall takes the place of.
    let drafted = match product.id {
        Id::Firewalld => drafted(survey, &["firewalld"]),
        Id::Ufw => drafted(survey, &["filter"]),
        _ => None,
    };
    let advice = drafted.map_or(advice.to_owned(), |drafted| format!("{drafted}; {advice}"));
    Some(
        finding
            .details(tables.into_iter().chain(running).chain(boot))
            .detail(meaning)
            .advice(advice),
    )
}

/// How a policy is drafted out of the tables of these names that are there.
fn drafted(survey: &Survey, names: &[&str]) -> Option<String> {
    let is_read = |family| matches!(family, Family::Inet | Family::Ip | Family::Ip6);
    let tables = foreign(survey).filter(|(family, name, table)| {
        is_read(*family) && names.contains(name) && table.chains.values().any(|c| c.base.is_some())
    });
    let options: String =
        tables.map(|(family, name, _)| format!(" --table {family}/{name}")).collect();
    (!options.is_empty()).then(|| format!("`tierwall import{options}` drafts a policy out of it"))
}

fn meaning(product: &Product) -> (&'static str, &'static str) {
    match product.id {
        Id::Firewalld => (
            "both must accept a packet: what the policy allows stays closed where firewalld doesn't allow it",
            "once the policy says what firewalld allowed: `systemctl disable --now firewalld`, and `systemctl mask firewalld` so that nothing starts it",
        ),
        Id::Ufw => (
            "both must accept a packet: what the policy allows stays closed where ufw doesn't allow it",
            "once the policy says what ufw allowed: `ufw disable`",
        ),
        Id::Docker => (
            "it translates and forwards to containers; published ports pass by tierwall's input, and NAT goes on working beside it",
            "forward = \"unmanaged\" in the policy; limit published ports in the chain DOCKER-USER",
        ),
        Id::Podman => (
            "it translates and forwards to containers; published ports pass by tierwall's input, and NAT goes on working beside it",
            "forward = \"unmanaged\" in the policy",
        ),
        Id::Libvirt => (
            "it forwards to virtual machines, and they ask this host for addresses and names",
            "forward = \"unmanaged\" in the policy, and an allow for udp/67 and for udp/53 and tcp/53 from their networks",
        ),
        Id::Kubernetes => (
            "it translates and forwards to pods; services of type NodePort pass by tierwall's input",
            "forward = \"unmanaged\" in the policy, and allows for the kubelet, the API server and the overlay between nodes",
        ),
        _ => {
            ("what it denies stays denied, whatever the policy allows", "nothing, if that is meant")
        }
    }
}

fn nftables_service(services: &Services) -> Option<Finding> {
    const UNIT: &str = "nftables.service";
    let when = match (services.enabled.contains(UNIT), services.active.contains(UNIT)) {
        (false, false) => return None,
        (true, _) => "loads /etc/nftables.conf at boot",
        (false, true) => "has loaded /etc/nftables.conf",
    };
    Some(
        Finding::warning(Id::NftablesService, format!("{UNIT} {when}"))
            .detail("most such files begin with `flush ruleset`: where tierwall's table belongs to it, that fails; elsewhere it takes the table away until tierwalld has put it back")
            .advice("once the policy says what the file says: `systemctl disable nftables`, without --now, since stopping it flushes every table too"),
    )
}

/// Rules for this host's own traffic, in chains that no product is known to make. What iptables
/// forwards and translates is the business of those who made it.
fn iptables(survey: &Survey, services: &Services) -> Option<Finding> {
    let mut lines = Vec::new();
    for (family, name, table) in foreign(survey) {
        if name != "filter" || !is_of_iptables(family, name, table.chains.keys()) {
            continue;
        }
        let of_a_product = |chain: &str| chain == "FORWARD" || Product::of(name, chain).is_some();
        let leads_to_one = |rule: &&Rule| match &rule.end {
            Some(End::Jump(chain) | End::Goto(chain)) => of_a_product(chain),
            _ => false,
        };
        let own = table.chains.iter().filter(|(chain, _)| !of_a_product(chain));
        let rules = own.clone().flat_map(|(_, chain)| &chain.rules);
        let rules = rules.filter(|rule| !leads_to_one(rule)).count();
        let drops = own
            .filter_map(|(_, chain)| chain.base.as_ref())
            .any(|base| base.policy == Policy::Drop);
        if rules > 0 || drops {
            let policy = if drops { ", and a policy that drops" } else { "" };
            let rules = counted(rules, "rule");
            lines.push(format!("table {family} {name}: {rules} for this host itself{policy}"));
        }
    }
    let restored: Vec<String> =
        ["iptables.service", "ip6tables.service", "netfilter-persistent.service"]
            .into_iter()
            .filter(|unit| services.enabled.contains(*unit))
            .map(|unit| format!("{unit} restores rules at boot"))
            .collect();
    if lines.is_empty() && restored.is_empty() {
        return None;
    }
    Some(
        Finding::note(Id::Iptables, "there are rules of iptables")
            .details(lines.into_iter().chain(restored))
            .detail("they go on working beside tierwall; those that deny are told apart")
            .advice(match drafted(survey, &["filter"]) {
                Some(drafted) => format!("what filters for this host belongs into the policy: {drafted}"),
                None => "`iptables-save` and `ip6tables-save` show them: what filters for this host belongs into the policy".into(),
            }),
    )
}

/// Tables without a rule, as listing them once makes them, do nothing.
fn legacy(services: &Services) -> Option<Finding> {
    let (mut lines, mut commands) = (Vec::new(), BTreeSet::new());
    let mut denies = false;
    for table in &services.legacy {
        let LegacyTable { family, name, rules, denials, dropping } = table;
        if *rules == 0 && dropping.is_empty() {
            continue;
        }
        denies |= *denials > 0 || !dropping.is_empty();
        let mut line = format!("{family} {name}: {}", counted(*rules, "rule"));
        if *denials > 0 {
            line += &format!(", of which {denials} deny");
        }
        if !dropping.is_empty() {
            line += &format!("; {} drops by its policy", dropping.join(", "));
        }
        lines.push(line);
        commands.insert(match family {
            Family::Ip6 => "`ip6tables-legacy-save`",
            _ => "`iptables-legacy-save`",
        });
    }
    if lines.is_empty() {
        return None;
    }
    let what = "there are rules of the old iptables";
    let finding = match denies {
        true => Finding::warning(Id::IptablesLegacy, what),
        false => Finding::note(Id::IptablesLegacy, what),
    };
    let commands: Vec<&str> = commands.into_iter().collect();
    Some(
        finding
            .details(lines)
            .detail("`nft list ruleset` doesn't show them; they must accept what the policy allows")
            .advice(format!(
                "{} shows them: what filters for this host belongs into the policy",
                commands.join(" and ")
            )),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::super::walk::tests::{rule, table};
    use super::*;
    use crate::doctor::testing::told;
    use netlink::survey::{End, Matches, Table};
    use ruleset::{Base, Hook};
    use std::collections::BTreeSet;

    fn survey(tables: Vec<(Family, &str, Table)>) -> Survey {
        let key = |(family, name, table): (Family, &str, Table)| ((family, name.to_owned()), table);
        Survey { tables: tables.into_iter().map(key).collect() }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_host_without_any_is_not_told() {
        assert_eq!(told(&check(&Survey::default(), &Services::default())), "");
    }

    #[test]
    fn firewalld_is_known_by_table_process_or_unit() {
        let find = |survey: Survey, services: Services| told(&check(&survey, &services));
        let both = Services { processes: set(&["firewalld"]), ..Services::default() };
        let by_table = survey(vec![(Family::Inet, "firewalld", Table::default())]);
        assert!(find(by_table, both).ends_with("is active here\n"));
        let by_table = survey(vec![(Family::Inet, "firewalld", Table::default())]);
        let line = |state| format!("warning firewalld: firewalld {state}\n");
        assert_eq!(find(by_table, Services::default()), line("has rules here"));
        let running = Services { processes: set(&["firewalld"]), ..Services::default() };
        assert_eq!(find(Survey::default(), running), line("runs here"));
        let enabled = Services { enabled: set(&["firewalld.service"]), ..Services::default() };
        assert_eq!(find(Survey::default(), enabled), line("comes at the next boot"));
    }

    #[test]
    fn docker_is_known_in_the_tables_of_iptables() {
        let to = |chain: &str| rule(Matches::All, End::Jump(chain.into()));
        let mut filter = table(&[
            ("INPUT", vec![to("KUBE-FIREWALL"), rule(Matches::Some, End::Accept)]),
            ("FORWARD", vec![to("DOCKER-USER"), rule(Matches::Some, End::Accept)]),
            ("DOCKER", vec![]),
            ("DOCKER-USER", vec![]),
        ]);
        let base = Base::filter(Hook::Forward, Policy::Drop);
        filter.chains.get_mut("FORWARD").expect("the chain").base = Some(base);
        let findings = check(&survey(vec![(Family::Ip, "filter", filter)]), &Services::default());
        assert_eq!(
            told(&findings),
            "note docker: Docker has rules here\nnote iptables: there are rules of iptables\n"
        );
        assert_eq!(findings[0].details[0], "in table ip filter: DOCKER, DOCKER-USER");
        assert_eq!(findings[1].details[0], "table ip filter: 1 rule for this host itself");
    }

    #[test]
    fn the_unit_of_ufw_says_nothing_but_its_file_does() {
        let unit = Services { enabled: set(&["ufw.service"]), ..Services::default() };
        assert_eq!(told(&check(&Survey::default(), &unit)), "");
        let file = Services { ufw_enabled: true, ..unit };
        let expected = "warning ufw: ufw comes at the next boot\n";
        assert_eq!(told(&check(&Survey::default(), &file)), expected);
    }

    #[test]
    fn services_that_load_rules_are_told() {
        let services = Services {
            enabled: set(&["nftables.service", "netfilter-persistent.service"]),
            legacy: vec![legacy_table("filter", 3, &["INPUT"]), legacy_table("mangle", 0, &[])],
            ..Services::default()
        };
        let expected = "warning nftables-service: nftables.service loads /etc/nftables.conf at boot\n\
                        note iptables: there are rules of iptables\n\
                        warning iptables-legacy: there are rules of the old iptables\n";
        assert_eq!(told(&check(&Survey::default(), &services)), expected);
    }

    fn legacy_table(name: &str, rules: usize, dropping: &[&'static str]) -> LegacyTable {
        let (family, name, dropping) = (Family::Ip6, name.to_owned(), dropping.to_vec());
        LegacyTable { family, name, rules, denials: rules / 3, dropping }
    }

    #[test]
    fn tables_of_the_old_iptables_are_told_by_what_they_do() {
        let find = |tables| {
            let services = Services { legacy: tables, ..Services::default() };
            legacy(&services).map(|finding| (finding.severity, finding.details[0].clone()))
        };
        assert_eq!(find(vec![legacy_table("filter", 0, &[])]), None);
        assert_eq!(
            find(vec![legacy_table("filter", 1, &[])]),
            Some((Severity::Note, "ip6 filter: 1 rule".into()))
        );
        let text = "ip6 filter: 3 rules, of which 1 deny; INPUT, FORWARD drops by its policy";
        assert_eq!(
            find(vec![legacy_table("filter", 3, &["INPUT", "FORWARD"])]),
            Some((Severity::Warning, text.into()))
        );
    }

    #[test]
    fn empty_chains_of_iptables_are_not_told() {
        let empty = table(&[("INPUT", vec![])]);
        let findings = check(&survey(vec![(Family::Ip, "filter", empty)]), &Services::default());
        assert_eq!(told(&findings), "");
    }
}
