//! A change of our table by another process.

use std::fmt;

/// What foreign transactions did, in words for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// Who made the first of them.
    pub(crate) process: String,
    /// 0 where nobody knows who it was.
    pub(crate) pid: u32,
    /// What it did.
    pub(crate) what: String,
    /// How many transactions followed, of this process or others.
    pub(crate) more: usize,
}

impl Foreign {
    /// A change that may have been, by whoever, where nobody could see it.
    pub(crate) fn unseen(what: &str) -> Self {
        Self { process: "unknown".into(), pid: 0, what: what.into(), more: 0 }
    }

    /// For `status`.
    pub(crate) fn told(&self) -> String {
        format!("{} (pid {}): {self}", self.process, self.pid)
    }

    /// Whether it says who made the change that was `found` before, by whoever. Who looks at the table
    /// may find a change before its event says whose it was.
    pub(crate) fn names(&self, found: Option<&Self>) -> bool {
        self.pid != 0 && found.is_some_and(|found| found.pid == 0)
    }

    /// Both as one: what somebody knows goes before what nobody does.
    pub(crate) fn and(self, later: Self) -> Self {
        match (self.pid, later.pid) {
            (0, 0) => self,
            (0, _) => later,
            (_, 0) => self,
            _ => Self { more: self.more + 1 + later.more, ..self },
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match self.more {
            0 => Ok(()),
            1 => f.write_str("; and one more transaction"),
            more => write!(f, "; and {more} more transactions"),
        }
    }
}
