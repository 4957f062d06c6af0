//! The policy as text: laid out as people write it, with a comment for each rule that became no
//! allow.

use crate::condition::{Direction, Names};
use crate::entry::Elsewhere;
use crate::entry::{Allow, Entry, Lost};
use crate::hook::Hooks;
use crate::service::{self, User};
use crate::tier::{Tier, Tiers, member_words};
use policy::model::{Deny, DenyAction, Forward, Mode};
use ruleset::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The longest line of a list.
const WIDTH: usize = 96;
/// The longest name of an allow, in bytes.
const LONGEST_NAME: usize = 90;

/// The most rules of a chain that are built in alike and are told one by one.
const MOST_BUILT_IN: usize = 3;

/// What the text is made of.
pub(crate) struct Policy<'a> {
    pub(crate) source: &'a str,
    pub(crate) tables: Vec<String>,
    /// Tables that nobody asked for.
    pub(crate) unread: Vec<String>,
    pub(crate) tiers: &'a Tiers,
    pub(crate) names: &'a Names,
    pub(crate) parts: Vec<Part<'a>>,
}

/// The rules of one host, or of several that have the same.
pub(crate) struct Part<'a> {
    /// The hosts.
    pub(crate) hosts: Vec<&'a str>,
    pub(crate) role: Vec<String>,
    pub(crate) hooks: &'a Hooks,
    pub(crate) entries: Vec<Entry>,
}

impl Part<'_> {
    /// All entries, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.hooks.others.iter().chain(&self.entries)
    }
}

impl Policy<'_> {
    pub(crate) fn text(&self) -> String {
        let mut text = self.heading();
        text += &self.settings();
        text += "\n[tiers]\n";
        let width = self.tiers.list.iter().map(|tier| tier.name.len()).max().unwrap_or(0);
        let used = self.used();
        let (tiers, idle): (Vec<&Tier>, Vec<&Tier>) =
            self.tiers.list.iter().partition(|tier| used.contains(&tier.name));
        for tier in tiers {
            text += &tier_text(tier, width);
        }
        if !idle.is_empty() {
            text += "# No allow names these sets, so they are no tiers:\n";
        }
        for line in idle.iter().flat_map(|tier| tier_lines(tier, width)) {
            let _ = writeln!(text, "# {line}");
        }
        text += &self.services();
        let mut taken = BTreeSet::new();
        for part in &self.parts {
            if self.parts.len() > 1 {
                let hosts = plain(&part.hosts.join(", "));
                let _ = write!(text, "\n# ==== {hosts} ====\n");
            }
            text += &self.rules(part, &mut taken);
        }
        text
    }

    /// The tiers that an allow names, also one that is only offered, and those of the servers.
    fn used(&self) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        for part in &self.parts {
            used.extend(part.role.iter().cloned());
            for entry in &part.entries {
                let allows = match entry {
                    Entry::Allow(allow) => std::slice::from_ref(allow),
                    Entry::Lost(lost) => &lost.nearest,
                    _ => &[],
                };
                used.extend(allows.iter().flat_map(|allow| self.tiers.words(&allow.peers)));
            }
        }
        used
    }

    fn rules(&self, part: &Part<'_>, taken: &mut BTreeSet<String>) -> String {
        let (mut text, mut after_comment) = (String::new(), false);
        let (entries, role) = (part.all().collect::<Vec<_>>(), part.role.as_slice());
        let mut told = BTreeSet::new();
        for (at, entry) in entries.iter().enumerate() {
            if let Entry::Chain(_) = entry {
                told.clear();
            }
            let part = match same_built_in(&entries[at..], entry) {
                // One line for all that are built in alike and of the same chain.
                Some((differs, count)) if told.contains(&differs) || count > MOST_BUILT_IN => {
                    if !told.insert(differs) {
                        continue;
                    }
                    match differs {
                        None => format!("# built in: {count} rules\n"),
                        Some(how) => comment("built in", &format!("{count} rules"), how),
                    }
                }
                _ => self.entry(entry, role, taken),
            };
            let is_comment = !matches!(entry, Entry::Allow(_) | Entry::Chain(_));
            if !(after_comment && is_comment) {
                text.push('\n');
            }
            text += &part;
            after_comment = is_comment;
        }
        text
    }

    fn heading(&self) -> String {
        let mut text = format!(
            "# Imported from {}: {}.\n",
            plain(self.source),
            plain(&self.tables.join(", "))
        );
        if !self.unread.is_empty() {
            let unread = plain(&self.unread.join(", "));
            let _ =
                writeln!(text, "# Tables that were not read: {unread} (--table takes several).");
        }
        text += "#\n# Read it and run `tierwall check`. What is built in (established connections, loopback, ICMP,
# neighbour discovery, DHCP) needs no allow. Rules that a policy can't say stand where they were, after
# `not imported`; allows that let through more than the table did, after `WIDER`.\n";
        if let Some(enforcing) = self.enforcing() {
            let _ = write!(
                text,
                "#\n# It only observes. Once `tierwall denied` shows nothing that has to pass, enforce what the table did:
# {enforcing}\n"
            );
        }
        if self.parts.len() > 1 {
            text += "#
# An allow holds at both ends: what one of these servers lets in from a tier, the servers of that tier
# may open. A server finds its role by its addresses, so each has to be in its tier.\n";
        }
        text.push('\n');
        text
    }

    /// The line that enforces what the first table does; none if that denies nothing.
    fn enforcing(&self) -> Option<String> {
        let [input, output] = self.parts.first()?.hooks.sides.as_slice() else { return None };
        let (input, output) = (input.mode, output.mode);
        [input, output]
            .contains(&Mode::Enforce)
            .then(|| mode_text(input, output).trim_end().to_owned())
    }

    fn settings(&self) -> String {
        let [first, others @ ..] = self.parts.as_slice() else { return String::new() };
        let [input, output] = first.hooks.sides.as_slice() else { return String::new() };
        let mut text = match first.role.as_slice() {
            _ if !others.is_empty() => "role    = \"auto\"\n".to_owned(),
            [one] => format!("role    = {}\n", quoted(one)),
            several => format!(
                "role    = [{}]\n",
                several.iter().map(|r| quoted(r)).collect::<Vec<_>>().join(", ")
            ),
        };
        let differs = |part: &&Part<'_>| {
            let [one, other] = part.hooks.sides.as_slice() else { return false };
            (one.mode, one.deny, other.mode, other.deny, part.hooks.forward)
                != (input.mode, input.deny, output.mode, output.deny, first.hooks.forward)
        };
        let others: Vec<&str> =
            others.iter().filter(differs).flat_map(|part| part.hosts.iter().copied()).collect();
        if !others.is_empty() {
            let (hosts, others) = (first.hosts.join(", "), plain(&others.join(", ")));
            let _ = writeln!(
                text,
                "# mode, deny and forward are those of {}; they differ on {others}.",
                plain(&hosts)
            );
        }
        // What the table enforces is enforced again by whoever has read the draft.
        let observed = |mode| if mode == Mode::Enforce { Mode::Observe } else { mode };
        text += &mode_text(observed(input.mode), observed(output.mode));
        let (default, deny) = (Deny::default(), Deny { input: input.deny, output: output.deny });
        let action = |action| if action == DenyAction::Drop { "drop" } else { "reject" };
        if deny != default {
            let (input, output) = (action(deny.input), action(deny.output));
            let _ = writeln!(text, "deny    = {{ input = \"{input}\", output = \"{output}\" }}");
        }
        match first.hooks.forward {
            Forward::Drop => {}
            Forward::Accept => text += "forward = \"accept\"\n",
            Forward::Unmanaged => text += "forward = \"unmanaged\"\n",
        }
        text
    }

    /// Names for what sets of ports opened, as far as an allow uses them.
    fn services(&self) -> String {
        let used: BTreeMap<&String, Vec<String>> = self
            .allows()
            .filter_map(|allow| {
                let name = self.names.services.get(&allow.service)?;
                let is_used = service::words(&allow.service, self.names)? == [name.as_str()];
                is_used.then_some((name, service::literals(&allow.service)?))
            })
            .collect();
        if used.is_empty() {
            return String::new();
        }
        let width = used.keys().map(|name| name.len()).max().unwrap_or(0);
        let mut text = String::from("\n[services]\n");
        for (name, words) in used {
            text += &list_text(&format!("{name:width$}"), &words);
        }
        text
    }

    fn allows(&self) -> impl Iterator<Item = &Allow> {
        let entries = self.parts.iter().flat_map(|part| &part.entries);
        entries.filter_map(|entry| match entry {
            Entry::Allow(allow) => Some(allow),
            _ => None,
        })
    }

    fn entry(&self, entry: &Entry, role: &[String], taken: &mut BTreeSet<String>) -> String {
        match entry {
            Entry::Chain(title) => format!("# {}\n", plain(title)),
            Entry::BuiltIn { rule, differs: None, .. } => format!("# built in: {}\n", plain(rule)),
            Entry::BuiltIn { rule, differs: Some(how), wider } => {
                let label = if *wider { "WIDER than the table, built in" } else { "built in" };
                comment(label, &plain(rule), how)
            }
            Entry::Denied { rule } => format!("# denied as everything else: {}\n", plain(rule)),
            Entry::Dead { rule } => format!("# never reached: {}\n", plain(rule)),
            Entry::Lost(lost) => self.lost(lost, role),
            Entry::Allow(allow) => self.allow(allow, role, taken).unwrap_or_default(),
        }
    }

    fn lost(&self, lost: &Lost, role: &[String]) -> String {
        let label = match lost.number {
            Some(number) => format!("not imported [{number}]"),
            None => "not imported".to_owned(),
        };
        let mut text = comment(&label, &plain(&lost.rule), &lost.why);
        let nearest: Vec<String> =
            lost.nearest.iter().filter_map(|a| self.allow(a, role, &mut BTreeSet::new())).collect();
        if !nearest.is_empty() {
            text += "#   next to it, but wider:\n";
        }
        for line in nearest.iter().flat_map(|allow| allow.lines()) {
            text += format!("#   {line}").trim_end();
            text.push('\n');
        }
        text
    }

    fn allow(
        &self,
        allow: &Allow,
        role: &[String],
        taken: &mut BTreeSet<String>,
    ) -> Option<String> {
        let mut text = String::new();
        let Elsewhere { open, accept } = &allow.elsewhere;
        text += &wider_elsewhere(open, ["opens", "open"]);
        text += &wider_elsewhere(accept, ["accepts", "accept"]);
        if !allow.heedless_of.is_empty() {
            let numbers: Vec<String> = allow.heedless_of.iter().map(|n| format!("[{n}]")).collect();
            let _ = writeln!(
                text,
                "# WIDER than the table: lets through what {} dropped",
                numbers.join(", ")
            );
        }
        text += "[[allow]]\n";
        if let Some(name) = allow.name.as_deref().and_then(|name| self.name(name, taken)) {
            let _ = writeln!(text, "name    = {}", quoted(&name));
        }
        let own = role.to_vec();
        let peers = self.tiers.words(&allow.peers);
        if peers.is_empty() {
            return None;
        }
        let (from, to) = match allow.direction {
            Direction::Input => (peers, own),
            Direction::Output => (own, peers),
        };
        text += &list_text("from   ", &from);
        text += &list_text("to     ", &to);
        text += &list_text("service", &service::words(&allow.service, self.names)?);
        let users = service::users(&allow.users, self.names)?;
        let word = |user: &User| match user {
            User::Uid(uid) => uid.to_string(),
            User::Name(name) => quoted(name),
        };
        match users.as_slice() {
            [] => {}
            [one] => {
                let _ = writeln!(text, "user    = {}", word(one));
            }
            several => {
                let words: Vec<String> = several.iter().map(word).collect();
                let _ = writeln!(text, "user    = [{}]", words.join(", "));
            }
        }
        Some(text)
    }

    /// A comment as a name that no other allow has.
    fn name(&self, comment: &str, taken: &mut BTreeSet<String>) -> Option<String> {
        let plain: String =
            comment.chars().map(|c| if policy::is_invisible(c) { ' ' } else { c }).collect();
        // Allows without a name go by what they say, which has an arrow in it.
        let plain = plain.replace("->", "to");
        let mut name = plain.trim().to_owned();
        while name.len() > LONGEST_NAME {
            name.pop();
        }
        let name = name.trim_end();
        if name.is_empty() {
            return None;
        }
        let numbered = (2..).map(|number| format!("{name} {number}"));
        std::iter::once(name.to_owned()).chain(numbered).find(|name| taken.insert(name.clone()))
    }
}

/// The mark for hosts that by an allow of another host `does` what their own tables denied.
fn wider_elsewhere(hosts: &[String], does: [&str; 2]) -> String {
    let (tables, who, does) = match hosts {
        [] => return String::new(),
        [_] => ("the table", "it", does[0]),
        _ => ("the tables", "they", does[1]),
    };
    format!("# WIDER than {tables} of {}: {who} now {does} this\n", plain(&hosts.join(", ")))
}

/// The line `mode`.
fn mode_text(input: Mode, output: Mode) -> String {
    let word = |mode| match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
        Mode::Off => "off",
    };
    match (word(input), word(output)) {
        (input, output) if input == output => format!("mode    = \"{input}\"\n"),
        (input, output) => {
            format!("mode    = {{ input = \"{input}\", output = \"{output}\" }}\n")
        }
    }
}

/// How a built-in rule differs, and how many rules from it to the end of its chain do alike.
fn same_built_in(rest: &[&Entry], entry: &Entry) -> Option<(Option<&'static str>, usize)> {
    let Entry::BuiltIn { differs, wider: false, .. } = entry else { return None };
    let chain = rest.iter().take_while(|entry| !matches!(entry, Entry::Chain(_)));
    let alike = |entry: &&&Entry| matches!(entry, Entry::BuiltIn { differs: other, wider: false, .. } if other == differs);
    Some((*differs, chain.filter(alike).count()))
}

fn tier_lines(tier: &Tier, width: usize) -> Vec<String> {
    tier_text(tier, width).lines().map(|line| line.trim_start_matches("# ").to_owned()).collect()
}

fn tier_text(tier: &Tier, width: usize) -> String {
    let mut text = String::new();
    if tier.timed > 0 {
        let _ = writeln!(
            text,
            "# not imported: {} of {} that end by themselves (`tierwall member add --for` has such)",
            tier.timed,
            plain(&tier.sets.join(" and "))
        );
    }
    if let Some(note) = &tier.note {
        let _ = writeln!(text, "# {note}");
    }
    let mut words = member_words(&tier.v4, Family::V4);
    words.extend(member_words(&tier.v6, Family::V6));
    let (name, one) = (&tier.name, words.join("\", \""));
    match words.as_slice() {
        [] => format!("{text}{name:width$} = []\n"),
        words if one.len() + width < WIDTH && words.len() <= 8 => {
            format!("{text}{name:width$} = [\"{one}\"]\n")
        }
        words => text + &lines(&format!("{name:width$}"), words),
    }
}

/// `key = "word"`, or a list of words.
fn list_text(key: &str, words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    match quoted.as_slice() {
        [one] => format!("{key} = {one}\n"),
        several => {
            let line = format!("{key} = [{}]\n", several.join(", "));
            if line.len() <= WIDTH { line } else { lines(key, words) }
        }
    }
}

fn lines(key: &str, words: &[String]) -> String {
    let mut text = format!("{key} = [\n");
    for word in words {
        let _ = writeln!(text, "  {},", quoted(word));
    }
    text + "]\n"
}

/// A comment about a rule, on one line if it fits.
fn comment(label: &str, rule: &str, why: &str) -> String {
    let line = format!("# {label}: {rule} ({why})\n");
    if line.len() <= WIDTH + 4 {
        return line;
    }
    format!("# {label}: {rule}\n#   ({why})\n")
}

/// Text that can stand in a comment: on one line, and seen as it is.
fn plain(text: &str) -> String {
    text.chars().map(|c| if policy::is_invisible(c) { '?' } else { c }).collect()
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
