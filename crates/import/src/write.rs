//! The policy as text: laid out as people write it, with a comment for each rule that became no
//! allow.

use crate::condition::{Direction, Names};
use crate::draft::{Allow, Entry, Lost};
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

/// What the text is made of.
pub(crate) struct Policy<'a> {
    pub(crate) source: &'a str,
    pub(crate) tables: Vec<String>,
    pub(crate) role: &'a [String],
    pub(crate) hooks: &'a Hooks,
    pub(crate) tiers: &'a Tiers,
    pub(crate) names: &'a Names,
    pub(crate) entries: &'a [Entry],
}

impl Policy<'_> {
    pub(crate) fn text(&self) -> String {
        let mut text = self.heading();
        text += &self.settings();
        text += "\n[tiers]\n";
        let width = self.tiers.list.iter().map(|tier| tier.name.len()).max().unwrap_or(0);
        for tier in &self.tiers.list {
            text += &tier_text(tier, width);
        }
        text += &self.services();
        let mut taken = BTreeSet::new();
        let mut after_comment = false;
        for entry in self.hooks.others.iter().chain(self.entries) {
            let part = self.entry(entry, &mut taken);
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
        text += "#
# Read it before it is enforced: `tierwall check`, then mode = \"observe\" for a week. What is built in
# (established connections, loopback, ICMP, neighbour discovery, DHCP) needs no allow. Rules that a
# policy can't say stand where they were, after `not imported`; allows that let through more than
# the table did, after `WIDER`.\n\n";
        text
    }

    fn settings(&self) -> String {
        let [input, output] = self.hooks.sides.as_slice() else { return String::new() };
        let mut text = match self.role {
            [one] => format!("role    = {}\n", quoted(one)),
            several => format!(
                "role    = [{}]\n",
                several.iter().map(|r| quoted(r)).collect::<Vec<_>>().join(", ")
            ),
        };
        let mode = |mode| match mode {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
            Mode::Off => "off",
        };
        if (input.mode, output.mode) == (Mode::Enforce, Mode::Enforce) {
            text += "mode    = \"enforce\"\n";
        } else if input.mode == output.mode {
            let _ = writeln!(text, "mode    = \"{}\"", mode(input.mode));
        } else {
            let (input, output) = (mode(input.mode), mode(output.mode));
            let _ = writeln!(text, "mode    = {{ input = \"{input}\", output = \"{output}\" }}");
        }
        let (default, deny) = (Deny::default(), Deny { input: input.deny, output: output.deny });
        let action = |action| if action == DenyAction::Drop { "drop" } else { "reject" };
        if deny != default {
            let (input, output) = (action(deny.input), action(deny.output));
            let _ = writeln!(text, "deny    = {{ input = \"{input}\", output = \"{output}\" }}");
        }
        match self.hooks.forward {
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
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Allow(allow) => Some(allow),
            _ => None,
        })
    }

    fn entry(&self, entry: &Entry, taken: &mut BTreeSet<String>) -> String {
        match entry {
            Entry::Chain(title) => format!("# {}\n", plain(title)),
            Entry::BuiltIn { rule, differs: None } => format!("# built in: {}\n", plain(rule)),
            Entry::BuiltIn { rule, differs: Some(how) } => comment("built in", &plain(rule), how),
            Entry::Denied { rule } => format!("# denied as everything else: {}\n", plain(rule)),
            Entry::Dead { rule } => format!("# never reached: {}\n", plain(rule)),
            Entry::Lost(lost) => self.lost(lost),
            Entry::Allow(allow) => self.allow(allow, taken).unwrap_or_default(),
        }
    }

    fn lost(&self, lost: &Lost) -> String {
        let label = match lost.number {
            Some(number) => format!("not imported [{number}]"),
            None => "not imported".to_owned(),
        };
        let mut text = comment(&label, &plain(&lost.rule), &lost.why);
        let nearest: Vec<String> =
            lost.nearest.iter().filter_map(|a| self.allow(a, &mut BTreeSet::new())).collect();
        if !nearest.is_empty() {
            text += "#   next to it, but wider:\n";
        }
        for line in nearest.iter().flat_map(|allow| allow.lines()) {
            text += format!("#   {line}").trim_end();
            text.push('\n');
        }
        text
    }

    fn allow(&self, allow: &Allow, taken: &mut BTreeSet<String>) -> Option<String> {
        let mut text = String::new();
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
        let own = self.role.to_vec();
        let peers = self.peers(allow);
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

    fn peers(&self, allow: &Allow) -> Vec<String> {
        let is_all = |wanted: Family| {
            allow.peers.iter().any(|(family, peer)| *family == wanted && peer.is_all(wanted))
        };
        if is_all(Family::V4) && is_all(Family::V6) {
            return vec!["any".into()];
        }
        let mut words: Vec<String> = Vec::new();
        for (family, peer) in &allow.peers {
            let tier = peer.set.as_ref().and_then(|(id, _)| self.tiers.of_set(id));
            let these = match tier {
                Some(tier) => vec![tier.to_owned()],
                None => member_words(&peer.ranges, *family),
            };
            for word in these {
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        words
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
