//! What could not be read. A name whose definition may stand there is not called unknown.

use crate::source::Source;
use std::sync::Arc;

/// The unread parts of the policy.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// Files with syntax errors.
    pub(crate) broken: Vec<Arc<Source>>,
    /// Whether a file is missing altogether.
    pub(crate) lost_file: bool,
}

impl Gaps {
    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.broken.is_empty() && !self.lost_file
    }

    /// Whether `name` may be defined in what was not read.
    pub(crate) fn may_define(&self, name: &str) -> bool {
        let defines = |line: &str| {
            let line = line.trim_start().trim_start_matches('"');
            line.strip_prefix(name).is_some_and(|rest| !rest.starts_with(is_name_character))
        };
        self.lost_file || self.broken.iter().any(|source| source.text().lines().any(defines))
    }
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '-'
}
