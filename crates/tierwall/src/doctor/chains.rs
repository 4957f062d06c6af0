//! Base chains of others that may deny what tierwall accepts.
//!
//! Every base chain of a hook sees a packet, in the order of priorities, and each must let it pass:
//! an accept ends its own chain only.

use super::facts::Policy;
use super::finding::{Finding, Id, Severity};
use super::product::Product;
use super::walk::{Fate, Place, ReversePath};
use netlink::survey::{Chain, Diversion, Family, Survey, Table};
use policy::model::Forward;
use ruleset::{Base, Hook, Policy as ChainPolicy, TABLE};

/// How many rules a finding names.
const SHOWN: usize = 3;

pub(super) fn check(survey: &Survey, policy: &Policy) -> Vec<Finding> {
    let mut findings: Vec<Finding> = foreign_table(survey).into_iter().collect();
    let mut layer_two = Vec::new();
    let has_docker = foreign(survey).any(|(_, name, table)| {
        let mut chains = table.chains.keys();
        chains.any(|chain| Product::of(name, chain).is_some_and(|made| made.id == Id::Docker))
    });
    for (family, name, table) in foreign(survey) {
        if (family, name) == (Family::Inet, TABLE) {
            continue;
        }
        for (chain, base) in base_chains(table) {
            let at = At { family, table: name, chain, base, devices: &table.chains[chain].devices };
            let fate = Fate::of(table, chain);
            if matches!(family, Family::Arp | Family::Bridge) {
                if fate.denies_by_default() || !fate.some.is_empty() {
                    layer_two.push(at.described());
                }
                continue;
            }
            findings.extend(denials(&at, &fate, policy, has_docker));
            findings.extend(queue(&at, &fate));
            findings.extend(fate.diverts.iter().map(|(what, by)| diverted(&at, *what, by)));
        }
    }
    if !layer_two.is_empty() {
        findings.push(
            Finding::note(
                Id::ForeignLayerTwo,
                "chains below IP may drop packets before tierwall sees them",
            )
            .details(layer_two)
            .advice("`nft list ruleset bridge` and `nft list ruleset arp` show them"),
        );
    }
    findings
}

/// Whether rules of others check the sources of packets against routes.
pub(super) fn reverse_path(survey: &Survey) -> ReversePath {
    let mut found = ReversePath::default();
    for (family, _, table) in foreign(survey) {
        for (chain, _) in base_chains(table) {
            let ReversePath { v4, v6 } = Fate::of(table, chain).reverse_path;
            found.v4 |= v4 && family != Family::Ip6;
            found.v6 |= v6 && family != Family::Ip;
        }
    }
    found
}

/// Tables that tierwall didn't make and that do something.
pub(super) fn foreign(survey: &Survey) -> impl Iterator<Item = (Family, &str, &Table)> {
    let tables = survey
        .tables
        .iter()
        .filter(|((family, name), table)| !survey.is_ours(*family, name) && !table.dormant);
    tables.map(|((family, name), table)| (*family, name.as_str(), table))
}

fn base_chains(table: &Table) -> impl Iterator<Item = (&str, &Base)> {
    table.chains.iter().filter_map(|(name, chain)| Some((name.as_str(), chain.base.as_ref()?)))
}

/// A table of the name of ours that isn't ours.
fn foreign_table(survey: &Survey) -> Option<Finding> {
    let table = survey.tables.get(&(Family::Inet, TABLE.to_owned()))?;
    let does_nothing = |chain: &Chain| {
        let base = chain.base.as_ref();
        chain.rules.is_empty() && base.is_none_or(|base| base.policy == ChainPolicy::Accept)
    };
    if survey.is_ours(Family::Inet, TABLE) || table.chains.values().all(does_nothing) {
        return None;
    }
    Some(
        Finding::error(Id::ForeignTable, format!("there is a table inet {TABLE} that tierwall did not make"))
            .detail("tierwalld doesn't start: it would have to replace it")
            .advice("`tierwall import` writes a policy out of it; then `tierwall takeover` has it replaced, with a description saved in the state directory"),
    )
}

/// Where a base chain is.
struct At<'t> {
    family: Family,
    table: &'t str,
    chain: &'t str,
    base: &'t Base,
    devices: &'t [String],
}

impl At<'_> {
    fn described(&self) -> String {
        let Self { family, table, chain, base, devices } = self;
        let devices = match devices {
            [] => String::new(),
            devices => format!(" of {}", devices.join(", ")),
        };
        let hook = hook_name(*family, base.hook);
        format!(
            "table {family} {table}, chain {chain} (hook {hook}{devices}, priority {})",
            base.priority
        )
    }

    /// When it sees a packet that tierwall sees too.
    fn order(&self) -> &'static str {
        // By name: the numbers of an interface's own hooks are those of others elsewhere.
        match (hook_name(self.family, self.base.hook), self.base.priority) {
            ("postrouting" | "egress", _) | ("input" | "output" | "forward", 1..) => {
                "it sees packets after tierwall's chain"
            }
            ("input" | "output" | "forward", 0) => {
                "it has the priority of tierwall's chain: the newer of both comes first"
            }
            _ => "it sees packets before tierwall's chain",
        }
    }

    fn of_which(&self) -> &'static str {
        match self.family {
            Family::Ip => "IPv4 packets",
            Family::Ip6 => "IPv6 packets",
            _ => "packets",
        }
    }
}

fn hook_name(family: Family, hook: Hook) -> &'static str {
    // `enum nf_inet_hooks`, `enum nf_dev_hooks` and `NF_ARP_…` in the kernel's headers.
    let number = match hook {
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Other(number) => number,
    };
    match (family, number) {
        (Family::Netdev, 0) => "ingress",
        (Family::Netdev, 1) => "egress",
        (Family::Arp, 0) => "input",
        (Family::Arp, 1) => "output",
        (Family::Arp, 2) => "forward",
        (_, 0) => "prerouting",
        (_, 1) => "input",
        (_, 2) => "forward",
        (_, 3) => "output",
        (_, 4) => "postrouting",
        (_, 5) => "ingress",
        _ => "unknown",
    }
}

fn denials(at: &At<'_>, fate: &Fate, policy: &Policy, has_docker: bool) -> Option<Finding> {
    let severity = severity(at, policy)?;
    if fate.denies_by_default() {
        let maker =
            Product::of(at.table, at.chain).map(|product| format!(", of {},", product.name));
        let what = format!(
            "{}{} denies what it doesn't accept",
            at.described(),
            maker.unwrap_or_default()
        );
        let by = match &fate.always {
            Some(place) => format!("by {}", shown(place)),
            None => "by its policy".to_owned(),
        };
        return Some(
            Finding::new(severity, Id::ForeignDrop, what)
                .detail(by)
                .detail(at.order())
                .detail(format!("{} must be accepted by every base chain of a hook: what the policy allows stays closed unless this one accepts it too", at.of_which()))
                .advice(format!("take the chain away once the policy says what it says{}, or accept there what the policy allows", drafted(at))),
        );
    }
    // What was made to deny is left to deny.
    // From version 28 on, Docker keeps others from its containers' addresses by rules there.
    let is_dockers =
        |place: &Place| has_docker && (at.table, place.chain.as_str()) == ("raw", "PREROUTING");
    let is_meant = |place: &&Place| {
        let maker = Product::of(at.table, &place.chain);
        maker.is_some_and(|product| !product.rivals) || is_dockers(place)
    };
    let meant: Vec<&Place> = fate.some.iter().filter(is_meant).collect();
    let severity = match fate.some.len() {
        0 => return None,
        all if all == meant.len() => Severity::Note,
        _ => severity,
    };
    let mut places: Vec<&Place> = fate.some.iter().collect();
    places.sort_by_key(|place| meant.contains(place));
    let mut lines: Vec<String> =
        places.iter().take(SHOWN).map(|place| format!("by {}", shown(place))).collect();
    if let Some(more) = places.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        lines.push(format!("and by {more} more"));
    }
    Some(
        Finding::new(
            severity,
            Id::ForeignDropSome,
            format!("{} denies some {}", at.described(), at.of_which()),
        )
        .details(lines)
        .detail(at.order())
        .advice(format!(
            "`nft --handle list table {} {}` shows whether that could be what the policy allows",
            at.family, at.table
        )),
    )
}

/// How a policy is drafted out of the table, if `import` reads such.
fn drafted(at: &At<'_>) -> String {
    let is_read = matches!(at.family, Family::Inet | Family::Ip | Family::Ip6)
        && matches!(hook_name(at.family, at.base.hook), "input" | "output");
    match is_read {
        true => format!(" (`tierwall import --table {}/{}` drafts it)", at.family, at.table),
        false => String::new(),
    }
}

fn queue(at: &At<'_>, fate: &Fate) -> Option<Finding> {
    let place = fate.queue.as_ref()?;
    Some(
        Finding::note(Id::ForeignQueue, format!("{} hands packets to a program", at.described()))
            .detail(format!("by {}", shown(place)))
            .detail(
                "while that program is away, such packets are dropped, unless the rule says bypass",
            )
            .advice("nothing, if that is meant: an IDS does so"),
    )
}

/// What becomes of allowed connections where a rule of others does more than let pass or deny.
fn diverted(at: &At<'_>, diversion: Diversion, by: &Place) -> Finding {
    let (id, does, means, advice) = match diversion {
        Diversion::Untracked => (
            Id::ForeignUntracked,
            "keeps packets from connection tracking",
            "tierwall knows the answers of an allowed connection by tracking: without it they count as connections of their own, and are denied",
            "take the rule away, or limit it to packets that are only forwarded",
        ),
        Diversion::Synproxy => (
            Id::ForeignDiverted,
            "answers new connections in the server's place (synproxy)",
            "it needs packets that are untracked or invalid to pass, which tierwall's chain may deny: an allowed service may not answer",
            "take the rule away: the kernel's own SYN cookies protect a server (net.ipv4.tcp_syncookies)",
        ),
        Diversion::Forwarded => (
            Id::ForeignDiverted,
            "sends packets out of another interface (fwd)",
            "they pass all other chains by: the policy neither allows nor denies them",
            "nothing, if that is meant; otherwise take the rule away",
        ),
        Diversion::Proxied => (
            Id::ForeignDiverted,
            "hands packets to a transparent proxy (tproxy)",
            "they keep the port that they were sent to, and that is what the policy judges them by, not the proxy's",
            "allow the ports that the proxy takes over, not its own",
        ),
    };
    Finding::warning(id, format!("{} {does}", at.described()))
        .detail(format!("by {}", shown(by)))
        .detail(means)
        .advice(advice)
}

/// Chains of others through which packets of this server's own connections go and that may change
/// what becomes of them, a line each.
pub(crate) fn beside(survey: &Survey) -> Vec<String> {
    let mut lines = Vec::new();
    for (family, name, table) in foreign(survey) {
        if matches!(family, Family::Arp | Family::Bridge) || (family, name) == (Family::Inet, TABLE)
        {
            continue;
        }
        for (chain, base) in base_chains(table) {
            if base.hook == Hook::Forward {
                continue;
            }
            let at = At { family, table: name, chain, base, devices: &table.chains[chain].devices };
            let Fate { diverts, some, queue, policy, always, reverse_path: _ } =
                Fate::of(table, chain);
            let does = if policy || always.is_some() {
                "denies what it doesn't accept"
            } else if !diverts.is_empty() {
                "takes some packets another way"
            } else if !some.is_empty() {
                "denies some packets"
            } else if queue.is_some() {
                "hands packets to a program"
            } else {
                continue;
            };
            lines
                .push(format!("{} {does}, and decides too: see `tierwall doctor`", at.described()));
        }
    }
    lines
}

/// The rule as a person finds it, and who made it.
fn shown(Place { chain, handle }: &Place) -> String {
    match Product::of("", chain) {
        Some(product) => {
            format!("the rule with handle {handle} in chain {chain} ({})", product.name)
        }
        None => format!("the rule with handle {handle} in chain {chain}"),
    }
}

/// How bad it is that a chain denies; none where tierwall accepts nothing that it could deny.
fn severity(at: &At<'_>, policy: &Policy) -> Option<Severity> {
    let is_forward = at.base.hook == Hook::Forward;
    match policy.says().map(|good| good.forward) {
        _ if !is_forward => Some(Severity::Warning),
        Some(Forward::Accept) => Some(Severity::Warning),
        Some(Forward::Drop | Forward::Unmanaged) => None,
        None => Some(Severity::Note),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Good;
    use super::super::walk::tests::{rule, table};
    use super::*;
    use crate::doctor::show::Report;
    use crate::doctor::testing::told;
    use netlink::survey::{End, Matches, Rule};
    use ruleset::TABLE_COMMENT;

    fn survey(tables: Vec<(Family, &str, Table)>) -> Survey {
        let key = |(family, name, table): (Family, &str, Table)| ((family, name.to_owned()), table);
        Survey { tables: tables.into_iter().map(key).collect() }
    }

    /// A table with one base chain `in`.
    fn based(hook: Hook, priority: i32, policy: ChainPolicy, rules: Vec<Rule>) -> Table {
        let mut table = table(&[("in", rules)]);
        let base = Base { priority, ..Base::filter(hook, policy) };
        table.chains.get_mut("in").expect("the chain").base = Some(base);
        table
    }

    fn find(family: Family, name: &str, table: Table) -> Vec<Finding> {
        check(&survey(vec![(family, name, table)]), &Policy::Missing)
    }

    fn dropping(hook: Hook) -> Table {
        based(hook, -5, ChainPolicy::Drop, vec![])
    }

    #[test]
    fn ours_and_those_that_do_nothing_are_not_told() {
        let ours = Table { comment: Some(TABLE_COMMENT.into()), ..dropping(Hook::Input) };
        assert_eq!(told(&find(Family::Inet, TABLE, ours)), "");
        let inert = based(Hook::Input, 0, ChainPolicy::Accept, vec![]);
        assert_eq!(told(&find(Family::Inet, TABLE, inert.clone())), "");
        assert_eq!(told(&find(Family::Ip, "x", inert)), "");
        let dormant = Table { dormant: true, ..dropping(Hook::Input) };
        assert_eq!(told(&find(Family::Ip, "x", dormant)), "");
    }

    #[test]
    fn a_table_in_our_place_is_an_error() {
        let findings = find(Family::Inet, TABLE, dropping(Hook::Input));
        let expected =
            "error foreign-table: there is a table inet filter that tierwall did not make\n";
        assert_eq!(told(&findings), expected);
    }

    #[test]
    fn a_default_denial_is_a_warning_that_says_by_what() {
        let findings = find(Family::Ip, "x", dropping(Hook::Input));
        assert_eq!(
            told(&findings),
            "warning foreign-drop: table ip x, chain in (hook input, priority -5) denies what it doesn't accept\n"
        );
        assert_eq!(findings[0].details[0], "by its policy");
        assert_eq!(findings[0].details[1], "it sees packets before tierwall's chain");
        assert!(findings[0].details[2].starts_with("IPv4 packets must be accepted"));
        let closing = vec![rule(Matches::Some, End::Accept), rule(Matches::All, End::Reject)];
        let table = based(Hook::Output, 10, ChainPolicy::Accept, closing);
        let findings = find(Family::Inet, "firewalld", table);
        assert!(told(&findings).contains("priority 10), of firewalld, denies"));
        assert_eq!(findings[0].details[0], "by the rule with handle 2 in chain in");
        assert_eq!(findings[0].details[1], "it sees packets after tierwall's chain");
    }

    #[test]
    fn names_of_chains_command_no_terminal() {
        let mut hostile = table(&[("in\x1b]0;x\u{7}\u{202e}", vec![])]);
        let base = Base { priority: 0, ..Base::filter(Hook::Input, ChainPolicy::Drop) };
        hostile.chains.values_mut().for_each(|chain| chain.base = Some(base.clone()));
        let report = Report::new(find(Family::Ip, "a\nb\u{9b}2J", hostile), Vec::new());
        let text = anstream::adapter::strip_str(&report.as_text()).to_string();
        assert!(text.contains("table ip a?b?2J, chain in?]0;x?? (hook input"), "{text:?}");
        // A program gets them as they are.
        let what = &report.as_json()["findings"][0]["what"];
        assert!(what.as_str().is_some_and(|what| what.contains('\x1b')), "{what}");
    }

    #[test]
    fn denials_of_some_are_notes_where_they_are_meant() {
        let some = || vec![rule(Matches::Some, End::Drop)];
        let table_of = |rules| based(Hook::Input, 0, ChainPolicy::Accept, rules);
        let findings = find(Family::Inet, "mine", table_of(some()));
        assert!(
            told(&findings).starts_with("warning foreign-drop-some: table inet mine, chain in")
        );
        let findings = find(Family::Inet, "f2b-table", table_of(some()));
        assert!(told(&findings).starts_with("note foreign-drop-some: "));
        // A chain of fail2ban, and a rule of somebody: the latter comes first.
        let mut shared = table_of(vec![
            rule(Matches::Some, End::Jump("f2b-sshd".into())),
            rule(Matches::Some, End::Drop),
        ]);
        shared.chains.extend(table(&[("f2b-sshd", some())]).chains);
        let findings = find(Family::Ip, "filter", shared);
        assert!(told(&findings).starts_with("warning foreign-drop-some"));
        assert_eq!(
            findings[0].details[..2],
            [
                "by the rule with handle 2 in chain in",
                "by the rule with handle 1 in chain f2b-sshd (fail2ban)"
            ]
        );
    }

    #[test]
    fn docker_guards_its_containers_in_the_raw_table() {
        let mut raw = table(&[("PREROUTING", vec![rule(Matches::Some, End::Drop)])]);
        let base = Base { priority: -300, ..Base::filter(Hook::Other(0), ChainPolicy::Accept) };
        raw.chains.get_mut("PREROUTING").expect("the chain").base = Some(base);
        let alone = vec![(Family::Ip, "raw", raw.clone())];
        let find = |tables| told(&check(&survey(tables), &Policy::Missing));
        assert!(find(alone).starts_with("warning foreign-drop-some"));
        let beside =
            vec![(Family::Ip, "raw", raw), (Family::Ip, "filter", table(&[("DOCKER", vec![])]))];
        assert!(find(beside).starts_with("note foreign-drop-some"));
    }

    #[test]
    fn on_forward_it_matters_only_where_the_policy_accepts() {
        let find = |forward| {
            let policy = Policy::Good(Good { forward, ..Good::default() });
            told(&check(&survey(vec![(Family::Ip, "x", dropping(Hook::Forward))]), &policy))
        };
        assert!(find(Forward::Accept).starts_with("warning foreign-drop"));
        assert_eq!(find(Forward::Drop), "");
        assert_eq!(find(Forward::Unmanaged), "");
        let without = super::tests::find(Family::Ip, "x", dropping(Hook::Forward));
        assert!(told(&without).starts_with("note foreign-drop"));
    }

    #[test]
    fn other_hooks_have_their_names_and_order() {
        for (family, number, hook, order) in [
            (Family::Ip, 0, "prerouting", "before"),
            (Family::Inet, 4, "postrouting", "after"),
            (Family::Inet, 5, "ingress", "before"),
            (Family::Netdev, 0, "ingress", "before"),
            (Family::Netdev, 1, "egress", "after"),
        ] {
            // As the survey reads it: of all families by the numbers that ours has them by.
            let hook_of = |number| match number {
                1 => Hook::Input,
                number => Hook::Other(number),
            };
            let findings = find(family, "x", dropping(hook_of(number)));
            assert!(findings[0].what.contains(&format!("(hook {hook}, ")), "{findings:?}");
            assert!(findings[0].details[1].contains(order), "{findings:?}");
        }
    }

    #[test]
    fn bridges_and_queues_are_notes() {
        let findings = find(Family::Bridge, "x", dropping(Hook::Forward));
        assert!(told(&findings).starts_with("note foreign-layer-two"));
        let queue = vec![rule(Matches::Some, End::Queue)];
        let findings = find(Family::Inet, "ids", based(Hook::Input, 0, ChainPolicy::Accept, queue));
        assert!(told(&findings).starts_with("note foreign-queue"));
    }

    #[test]
    fn reverse_paths_are_of_the_family_of_their_table() {
        let source = Matches::BadSource { v4: true, v6: true };
        let of = |family| {
            let rules = vec![rule(source, End::Drop)];
            let table = based(Hook::Other(0), -300, ChainPolicy::Accept, rules);
            reverse_path(&survey(vec![(family, "x", table)]))
        };
        assert_eq!(of(Family::Inet), ReversePath { v4: true, v6: true });
        assert_eq!(of(Family::Ip), ReversePath { v4: true, v6: false });
        assert_eq!(of(Family::Ip6), ReversePath { v4: false, v6: true });
    }
}
