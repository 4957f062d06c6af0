//! Files and directories that decide what a policy says.

use std::path::PathBuf;

/// What of the file system the policy depends on: a change there may change the policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Input {
    /// The path, as the files that name it make it.
    pub path: PathBuf,
    /// What it is.
    pub kind: InputKind,
}

/// What a path is to the policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InputKind {
    /// The policy file or an included one. It may be missing.
    Policy,
    /// A list file. It may be missing.
    List,
    /// The file that names this server's tiers. It may be missing.
    Role,
    /// A directory that an include with wildcards looks in: new files there may match.
    Directory {
        /// The pattern that their names must match. Hidden names match no wildcard.
        entries: String,
    },
}
