//! What is wrong with the policy files, for two kinds of readers.

use policy::{Diagnostics, Style};
use std::fmt;

/// Why the files can't be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// With the lines that it is about: for root, and for the log.
    pub(crate) told: String,
    /// Where and of which kind each error is, without a word of any file: for the group that may ask
    /// for `status`, who needn't be able to read the files.
    pub(crate) places: String,
    /// Whether it may be over later although nobody edits the files, so that they are tried again.
    pub(crate) may_pass: bool,
}

impl Problem {
    pub(crate) fn of(diagnostics: &Diagnostics) -> Self {
        let places = diagnostics.places();
        let places = format!("{places}\n`tierwall check`, run by root, shows the lines");
        let may_pass = diagnostics.iter().any(|found| found.is_error() && found.may_pass());
        Self { told: diagnostics.render(Style::Plain), places, may_pass }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told)
    }
}
