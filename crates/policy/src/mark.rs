//! What the log says of a packet: on which side it was, and what became of it.
//!
//! The compiler writes a mark as the prefix of each log rule, and whoever reads the log reads it
//! back from there. Its words are part of the interface: they never change.

use ruleset::Hook;
use std::fmt;

/// Which log rule a packet met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The side: input, output or forward.
    pub hook: Hook,
    /// What became of the packet.
    pub fate: Fate,
}

/// What becomes of a packet that isn't let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// No allow names it: it was dropped or refused.
    Denied,
    /// It would have been, but the side only observes.
    WouldDeny,
    /// Connection tracking calls it invalid: it was dropped.
    Invalid,
    /// It would have been, but the side only observes.
    WouldDropInvalid,
}

impl Fate {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Denied, Self::WouldDeny, Self::Invalid, Self::WouldDropInvalid];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::WouldDeny => "would deny",
            Self::Invalid => "invalid",
            Self::WouldDropInvalid => "would drop invalid",
        }
    }
}

/// `tierwall input denied`
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tierwall {} {}", self.hook, self.fate.words())
    }
}

impl Mark {
    /// Reads the prefix of a log rule. None where it is none of ours.
    pub fn read(prefix: &[u8]) -> Option<Self> {
        let rest = prefix.strip_prefix(b"tierwall ")?;
        let hooks: [(Hook, &[u8]); 3] =
            [(Hook::Input, b"input "), (Hook::Output, b"output "), (Hook::Forward, b"forward ")];
        let (hook, rest) =
            hooks.into_iter().find_map(|(hook, name)| Some((hook, rest.strip_prefix(name)?)))?;
        let fate = Fate::ALL.into_iter().find(|fate| fate.words().as_bytes() == rest)?;
        Some(Self { hook, fate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_as_it_was_written() {
        for hook in [Hook::Input, Hook::Output, Hook::Forward] {
            for fate in Fate::ALL {
                let mark = Mark { hook, fate };
                assert_eq!(Mark::read(mark.to_string().as_bytes()), Some(mark));
            }
        }
        for other in [&b""[..], b"tierwall", b"tierwall input", b"tierwall input denied "] {
            assert_eq!(Mark::read(other), None);
        }
    }
}
