//! The recorded edits of a list of prefixes, and a model of what a list comes to.
//!
//! The model knows nothing of tierwall's address sets: prefixes are parsed, sorted and merged here
//! anew.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

/// The first and the last address of what is left after merging.
pub(crate) type Ranges = BTreeSet<(u32, u32)>;

/// Every version of the list, the first one before any edit.
pub(crate) struct EditStream {
    lines: BTreeSet<String>,
    edits: Vec<Vec<(bool, String)>>,
}

impl EditStream {
    pub(crate) fn load() -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        let read = |name: &str| std::fs::read_to_string(data.join(name)).unwrap();
        let mut edits = Vec::<Vec<(bool, String)>>::new();
        for line in read("prefixes-v4.edits").lines() {
            let (sign, text) = line.split_once(' ').unwrap();
            match sign {
                "@" => edits.push(Vec::new()),
                "+" | "-" => edits.last_mut().unwrap().push((sign == "+", text.to_owned())),
                _ => panic!("`{line}` is no edit"),
            }
        }
        Self { lines: read("prefixes-v4.list").lines().map(String::from).collect(), edits }
    }

    pub(crate) fn versions(&self) -> usize {
        self.edits.len()
    }

    /// Goes on to a version, which is numbered from 1; asked for in order.
    pub(crate) fn apply(&mut self, version: usize) {
        for (add, line) in &self.edits[version - 1] {
            let fits = match add {
                true => self.lines.insert(line.clone()),
                false => self.lines.remove(line),
            };
            assert!(fits, "version {version}: {line} is added twice or removed twice");
        }
    }

    /// The list now, with one more line that is another in every version and touches no other:
    /// what tells that a version was taken.
    pub(crate) fn text(&self, version: usize) -> String {
        let marker = Ipv4Addr::from_bits(0xf000_0000 + 2 * version as u32);
        let mut text = format!("{marker}\n");
        for line in &self.lines {
            text += line;
            text.push('\n');
        }
        text
    }
}

/// What a list comes to.
pub(crate) fn merged(list: &str) -> Ranges {
    let mut ranges: Vec<(u32, u32)> = list.lines().map(range).collect();
    ranges.sort_unstable();
    let mut merged = Vec::<(u32, u32)>::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if u64::from(first) <= u64::from(before.1) + 1 => {
                before.1 = before.1.max(last);
            }
            _ => merged.push((first, last)),
        }
    }
    merged.into_iter().collect()
}

fn range(line: &str) -> (u32, u32) {
    let (address, length) = line.split_once('/').unwrap_or((line, "32"));
    let first = address.parse::<Ipv4Addr>().unwrap().to_bits();
    let length: u32 = length.parse().unwrap();
    (first, first | u32::MAX.checked_shr(length).unwrap_or(0))
}
