//! Who may change the table: nobody, everybody, or one socket.
//!
//! A table that is made with `NFT_TABLE_F_OWNER` (5.12) belongs to the port of the socket that made
//! it: the kernel answers EPERM to everybody else, and leaves the table out of their `flush
//! ruleset`. With `NFT_TABLE_F_PERSIST` (6.9) beside it, the table outlives the socket as an orphan,
//! which anybody may change and anybody may adopt, by a message that asks for exactly these flags.
//! Without, it would vanish with the socket: tierwall never asks for one without the other.
//!
//! A table that was made without owner can't be given one (`nf_tables_updtable`): it has to be made
//! anew, in one batch.

use crate::connection::Connection;
use crate::dump::KernelTable;
use crate::uapi::{NFT_TABLE_F_OWNER, NFT_TABLE_F_PERSIST};

/// The flags of a table that is owned and stays: what it is made and adopted with.
pub(crate) const OWNED: u32 = NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST;

/// How a commit is to hold the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// A table that the plan makes belongs to nobody. One that exists stays as it is.
    #[default]
    Plain,
    /// A table that the plan makes belongs to this connection. One that exists stays as it is.
    Own,
    /// The orphan that is there belongs to this connection from the start of the batch on, before
    /// anything of the plan; so does a table that the plan makes. An empty plan is committed too.
    ///
    /// To be used with a generation: where there is no table, the kernel would make an empty one.
    Adopt,
}

/// Whose the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Nobody's and never to be anybody's: anybody may change it. Also where there is no table.
    Unowned,
    /// Its owner's socket is gone: anybody may change or adopt it.
    Orphan,
    /// This connection's.
    Ours,
    /// Another socket's, by its port: nobody else may change it. A port is often, but not
    /// necessarily, the id of the process.
    Other(u32),
}

impl Ownership {
    /// Reads flags and owner of a table as `port` sees them.
    pub(crate) fn of(flags: u32, owner: Option<u32>, port: u32) -> Self {
        match owner.filter(|_| flags & NFT_TABLE_F_OWNER != 0) {
            Some(owner) if owner == port => Self::Ours,
            Some(owner) => Self::Other(owner),
            None if flags & NFT_TABLE_F_PERSIST != 0 => Self::Orphan,
            None => Self::Unowned,
        }
    }
}

impl KernelTable {
    /// Whose the table is, seen from the connection with this [port](Connection::port).
    pub fn ownership(&self, port: u32) -> Ownership {
        Ownership::of(self.flags, self.owner, port)
    }
}

impl Connection {
    /// The port of the connection's socket: what the kernel knows an owner by, and what it names
    /// as the origin of a change in its notifications.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_owner_say_whose_it_is() {
        assert_eq!(Ownership::of(0, None, 7), Ownership::Unowned);
        assert_eq!(Ownership::of(4, None, 7), Ownership::Orphan);
        assert_eq!(Ownership::of(6, Some(7), 7), Ownership::Ours);
        assert_eq!(Ownership::of(6, Some(8), 7), Ownership::Other(8));
        assert_eq!(Ownership::of(2, Some(8), 7), Ownership::Other(8));
    }
}
