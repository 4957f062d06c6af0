//! What the kernel holds on a host, as `nft` lists it, and the generation of it.

use crate::network::Host;
use anyhow::{Context, Result};
use netlink::Connection;
use std::collections::{BTreeMap, BTreeSet};

/// The whole ruleset of a host's namespace at one time. Equal to another one exactly if nothing was
/// committed in between, by anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Every commit makes a new one, whatever it changes.
    pub generation: u32,
    /// `nft --handle list ruleset`, without what counts.
    pub listing: String,
}

/// The listing without the set that notes what was committed: it differs with every batch, and so
/// does its text.
fn without_state(listing: &str) -> String {
    let Some(start) = listing.find("\tset tierwall_state {") else { return listing.to_owned() };
    let end = listing[start..].find("\t}\n").map_or(listing.len(), |end| start + end + 3);
    let rest = listing[end..].strip_prefix('\n').unwrap_or(&listing[end..]);
    format!("{}{rest}", &listing[..start])
}

/// The listing without the elements that rules add as packets come, and the kernel forgets: those
/// of sets whose names say that they are of what was logged.
fn without_elements_of_rules(listing: &str) -> String {
    let (mut text, mut within, mut skipping) = (String::new(), false, false);
    for line in listing.split_inclusive('\n') {
        within = line.starts_with("\tset ") && line.contains(".logged_v")
            || within && line.starts_with("\t\t");
        skipping = within && (skipping || line.starts_with("\t\telements = "));
        if !skipping {
            text.push_str(line);
        }
    }
    text
}

impl Kernel {
    /// Reads it.
    ///
    /// # Errors
    /// Without `nft`, or the right to use it.
    pub fn of(host: &Host) -> Result<Self> {
        let generation = host.namespace.run(|| Connection::open()?.generation())?.0;
        let listing =
            host.namespace.command("nft", &["--handle", "--stateless", "list", "ruleset"])?;
        Ok(Self { generation, listing: without_elements_of_rules(&without_state(&listing)) })
    }

    /// What has a handle (tables, chains, sets, rules), by its table and handle: what has the same
    /// in two listings was not made anew in between.
    ///
    /// # Errors
    /// When the listing isn't one.
    pub fn handles(&self) -> Result<BTreeMap<(&str, u64), &str>> {
        let (mut handles, mut table) = (BTreeMap::new(), "");
        for line in self.listing.lines() {
            let Some((text, handle)) = line.rsplit_once(" # handle ") else { continue };
            if !text.starts_with('\t') {
                table = text;
            }
            let handle = handle.parse().with_context(|| format!("no handle: {line}"))?;
            handles.insert((table, handle), text.trim());
        }
        Ok(handles)
    }

    /// What it does, whoever made it when: the listing without handles, by its objects, whose order
    /// is that of their making.
    pub fn meaning(&self) -> BTreeSet<String> {
        let (mut objects, mut table, mut object) = (BTreeSet::new(), "", String::new());
        for line in self.listing.lines() {
            let line = line.split(" # handle ").next().unwrap_or(line);
            if line.starts_with("\t\t") {
                object = object + "\n" + line;
            } else if line.starts_with('\t') && line.ends_with('{') {
                object = format!("{table}\n{line}");
            } else if line == "\t}" {
                objects.insert(std::mem::take(&mut object));
            } else if line.ends_with('{') {
                table = line;
            } else if line.starts_with('\t') {
                objects.insert(format!("{table}\n{line}"));
            }
        }
        objects
    }
}
