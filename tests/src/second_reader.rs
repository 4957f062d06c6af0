//! What the second reader of tables, `rustables` 0.9, is shown: it refuses a whole rule for one
//! `meta` or `ct` key that it doesn't know.

use ruleset::{Field, Statement, Table};

/// The table without matches that `rustables` can't read. `nft` and the project's own reader are
/// compared on all of it.
pub fn legible(table: &Table) -> Table {
    let is_known = |statement: &Statement| {
        !matches!(
            statement,
            Statement::Match { field: Field::PacketType | Field::IifKind | Field::CtDirection, .. }
        )
    };
    let mut table = table.clone();
    for rule in table.chains.values_mut().flat_map(|chain| &mut chain.rules) {
        rule.statements.retain(is_known);
    }
    table
}
