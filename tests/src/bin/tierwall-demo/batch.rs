//! What a daemon committed, from the line of its log that says so.

use serde::Serialize;

/// One batch that the kernel took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Batch {
    pub(crate) server: String,
    pub(crate) generation: u64,
    pub(crate) reason: String,
    /// Elements by set: `web_v4 +1 -0`.
    pub(crate) sets: String,
    pub(crate) rules_added: u64,
    pub(crate) rules_deleted: u64,
    pub(crate) bytes: u64,
    /// From the sending of the batch to the kernel's acknowledgement.
    pub(crate) microseconds: u64,
}

impl Batch {
    /// Those that `log` tells of.
    pub(crate) fn all(server: &str, log: &str) -> Vec<Self> {
        // The last line may not be whole yet.
        let lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.filter_map(|line| Self::parse(server, line.trim_end())).collect()
    }

    fn parse(server: &str, line: &str) -> Option<Self> {
        let (_, fields) = line.split_once(" INFO committed ")?;
        let number = |name| field(fields, name)?.parse().ok();
        Some(Self {
            server: server.to_owned(),
            generation: number("generation")?,
            reason: field(fields, "reason")?.to_owned(),
            sets: field(fields, "sets")?.to_owned(),
            rules_added: number("rules_added")?,
            rules_deleted: number("rules_deleted")?,
            bytes: number("bytes")?,
            microseconds: number("duration_us")?,
        })
    }

    /// Whether it is the smallest there is for one member more or less: one element of one set.
    pub(crate) fn is_one_element(&self) -> bool {
        let element = ["web_v4 +1 -0", "web_v4 +0 -1"].contains(&self.sets.as_str());
        element && self.rules_added == 0 && self.rules_deleted == 0
    }
}

/// The value behind `name=`, without its quotation marks.
fn field<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = fields;
    while let Some((key, behind)) = rest.split_once('=') {
        let (value, next) = match behind.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => behind.split_once(' ').unwrap_or((behind, "")),
        };
        if key.trim_start() == name {
            return Some(value);
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_half_a_line_is_not() {
        let line = "2026-01-01T00:00:00.0Z  INFO committed generation=7 reason=\"members changed\" \
                    sets=\"web_v4 +1 -0\" rules_added=0 rules_deleted=0 bytes=412 duration_us=51";
        assert_eq!(Batch::all("app1", line), []);
        let batches = Batch::all("app1", &format!("ready: generation=1\n{line}\n"));
        assert_eq!(batches.len(), 1);
        assert!(batches[0].is_one_element(), "{batches:?}");
        assert_eq!((batches[0].generation, batches[0].microseconds), (7, 51));
        assert_eq!(batches[0].reason, "members changed");
    }
}
