//! A network namespace with the way to its nf_tables: what the tests of tables in the kernel
//! stand on.

use netlink::{Committed, Connection, Hold, KernelTable};
use ruleset::{Plan, Ruleset};
use tierwall_tests::namespace::Namespace;

/// The kernel of a namespace of its own.
pub(crate) struct Kernel {
    pub(crate) namespace: Namespace,
    /// Opened inside, so that it stays there whichever thread uses it.
    pub(crate) connection: Connection,
}

impl Kernel {
    /// A namespace without any table.
    pub(crate) fn new() -> Self {
        let namespace = Namespace::new().expect("a namespace");
        let connection = namespace.run(Connection::open).expect("a connection");
        Self { namespace, connection }
    }

    /// The table as we read it.
    pub(crate) fn dump(&mut self) -> KernelTable {
        self.connection.dump().expect("a table that can be read")
    }

    /// Plans the way from the table that is there to the one that `wanted` makes of it, and
    /// commits that. Returns what was there, too; the error holds the plan.
    pub(crate) fn change(
        &mut self,
        wanted: impl FnOnce(&Ruleset) -> Ruleset,
    ) -> Result<(KernelTable, Plan, Committed), String> {
        let found = self.dump();
        let plan = found.ruleset.diff(&wanted(&found.ruleset));
        let generation = Some(found.generation);
        let committed = self.connection.commit(&plan, &found.handles, generation, Hold::Plain);
        match committed {
            Ok(committed) => Ok((found, plan, committed)),
            Err(error) => Err(format!("{error}; the plan:\n{plan}")),
        }
    }
}
