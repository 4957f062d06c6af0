//! What `nft` lists of our table, as a value: the independent reader.

use std::collections::{BTreeMap, BTreeSet};
use tierwall_tests::namespace::Namespace;

/// The table `inet filter`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listing {
    /// By the kernel's number.
    pub(crate) rules: BTreeMap<u64, Rule>,
    /// Handle and policy of each chain; chains without a hook have none.
    pub(crate) chains: BTreeMap<String, (u64, Option<String>)>,
    /// Handle and elements of each set and map.
    pub(crate) sets: BTreeMap<String, (u64, BTreeSet<String>)>,
    /// Packets by counter.
    pub(crate) counters: BTreeMap<String, u64>,
}

/// A rule, where it stands and what it does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) chain: String,
    /// Its place in the chain.
    pub(crate) index: usize,
    pub(crate) comment: String,
    pub(crate) statements: String,
}

/// A listing without handles and counts: what holds, however it came to be.
#[derive(Debug, PartialEq)]
pub(crate) struct Meaning {
    rules: BTreeSet<Rule>,
    policies: BTreeMap<String, Option<String>>,
    elements: BTreeMap<String, BTreeSet<String>>,
}

impl Listing {
    /// None where there is no such table.
    pub(crate) fn find(namespace: &Namespace) -> Option<Self> {
        // Not as JSON: of a table without its owner `nft` 1.0.6 ends that in the middle.
        let list = ["-a", "-y", "list", "table", "inet", "filter"];
        match namespace.command("nft", &list) {
            Ok(text) => Some(Self::parse(&text)),
            Err(error) if error.to_string().contains("No such file or directory") => None,
            Err(error) => panic!("{error:#}"),
        }
    }

    pub(crate) fn of(namespace: &Namespace) -> Self {
        Self::find(namespace).expect("the table is there")
    }

    /// Objects begin with one tab, what they hold with two or more.
    fn parse(text: &str) -> Self {
        let mut listing = Self {
            rules: BTreeMap::new(),
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
            counters: BTreeMap::new(),
        };
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (head, handle) = split_handle(line.trim_start());
            let mut body = Vec::new();
            while let Some(line) = lines.next_if(|line| line.starts_with("\t\t")) {
                body.push(line.trim());
            }
            match head.trim_end_matches(" {").split_once(' ') {
                Some(("chain", name)) => listing.take_chain(name, handle, &body),
                Some(("set" | "map", name)) => listing.take_set(name, handle, &body.join(" ")),
                Some(("counter", name)) => {
                    let packets = body[0].split(' ').nth(1).unwrap();
                    listing.counters.insert(name.into(), packets.parse().unwrap());
                }
                _ => {}
            }
        }
        assert!(!listing.chains.is_empty() || !text.contains("chain "), "{text}");
        listing
    }

    fn take_chain(&mut self, name: &str, handle: u64, body: &[&str]) {
        let mut policy = None;
        let mut index = 0;
        for line in body {
            if let Some((_, after)) = line.split_once("; policy ") {
                policy = Some(after.trim_end_matches(';').to_owned());
                continue;
            }
            let (rule, handle) = split_handle(line);
            let (statements, comment) = rule.split_once(" comment ").unwrap_or((rule, ""));
            let (comment, statements) = (comment.trim_matches('"').into(), statements.into());
            self.rules.insert(handle, Rule { chain: name.into(), index, comment, statements });
            index += 1;
        }
        self.chains.insert(name.into(), (handle, policy));
    }

    fn take_set(&mut self, name: &str, handle: u64, body: &str) {
        let elements = body.split_once("elements = { ").map_or("", |(_, elements)| elements);
        let elements = elements.trim_end_matches(" }").split(',').map(|e| e.trim().to_owned());
        // Those of what was logged come and go by themselves.
        let is_kept = |element: &String| !element.is_empty() && !name.contains(".logged_");
        let elements = elements.filter(is_kept).collect();
        self.sets.insert(name.into(), (handle, elements));
    }

    pub(crate) fn meaning(&self) -> Meaning {
        let policies = self.chains.iter().map(|(name, (_, policy))| (name.clone(), policy.clone()));
        let elements =
            self.sets.iter().map(|(name, (_, elements))| (name.clone(), elements.clone()));
        Meaning {
            rules: self.rules.values().cloned().collect(),
            policies: policies.collect(),
            elements: elements.collect(),
        }
    }

    /// The elements of a set as `nft` prints them; none where there is no such set.
    pub(crate) fn elements(&self, set: &str) -> Vec<String> {
        self.sets.get(set).into_iter().flat_map(|(_, elements)| elements).cloned().collect()
    }

    /// Rules of this one that `other` lacks: gone, moved to another chain, or changed.
    pub(crate) fn rules_beyond(&self, other: &Self) -> Vec<Rule> {
        let same = |handle: &u64, rule: &Rule| {
            other.rules.get(handle).is_some_and(|other| {
                (&other.chain, &other.comment, &other.statements)
                    == (&rule.chain, &rule.comment, &rule.statements)
            })
        };
        let beyond = self.rules.iter().filter(|(handle, rule)| !same(handle, rule));
        beyond.map(|(_, rule)| rule.clone()).collect()
    }
}

/// A line's own text, and the number behind it; 0 where there is none.
fn split_handle(line: &str) -> (&str, u64) {
    match line.rsplit_once(" # handle ") {
        Some((text, handle)) => (text, handle.parse().unwrap_or_default()),
        None => (line, 0),
    }
}
