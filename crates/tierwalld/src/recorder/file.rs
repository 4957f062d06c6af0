//! What there is to write to the state directory, and what a start does for want of it.

use std::fmt;

/// A file in the state directory, or the files of one thing. The order is that of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StateFile {
    /// The change to be confirmed, and the way back from it.
    Pending,
    /// The members added at run time.
    Members,
    /// A copy of them that is known to be on the disk.
    MembersCopy,
    /// The text that is held back.
    Refusal,
    /// The last good policy.
    Policy,
    /// What each list held when it was taken last.
    Lists,
    Role,
    Users,
    /// That the kernel's table is known.
    Proof,
    Observing,
    History,
    Denials,
    /// The policies of earlier generations: last, since they may be large.
    Versions,
}

/// What a start does where nothing can be kept.
pub(super) const WITHOUT_A_DIRECTORY: &str =
    "applies the policy files as they are, held back or not, without runtime members";

impl StateFile {
    /// What a start would do for want of it; nothing where it enforces the same.
    pub(super) fn at_start(self, is_held_back: bool) -> Option<&'static str> {
        match self {
            Self::Pending => Some("rolls back the last change that had to be confirmed"),
            Self::Members => Some("has the runtime members of before the last `tierwall member`"),
            Self::Refusal if is_held_back => Some("applies the policy files, which are held back"),
            Self::Refusal => Some("may hold back the policy files, which aren't any more"),
            Self::Policy => Some("falls back to an older policy if the files can't be applied"),
            Self::Lists => Some("takes lists that look emptied by accident"),
            Self::Role => Some("begins with an older role while addresses are missing"),
            Self::Users => Some("begins with older user ids while they can't be looked up"),
            Self::MembersCopy
            | Self::Proof
            | Self::Observing
            | Self::History
            | Self::Denials
            | Self::Versions => None,
        }
    }
}

impl fmt::Display for StateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "record of a pending change",
            Self::Members => "runtime members",
            Self::MembersCopy => "copy of the runtime members",
            Self::Refusal => "text that is held back",
            Self::Policy => "last good policy",
            Self::Lists => "last content of the lists",
            Self::Role => "role",
            Self::Users => "user ids",
            Self::Proof => "generation of the kernel",
            Self::Observing => "time since which a side observes",
            Self::History => "history",
            Self::Denials => "denials",
            Self::Versions => "policies of earlier generations",
        })
    }
}
