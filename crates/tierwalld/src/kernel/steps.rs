//! From the mirror to what is wanted: the plan, what it means for the table's owner, and its size.

use super::{KernelError, Mirror};
use netlink::{Hold, Ownership};
use ruleset::{Operation, Plan, Ruleset, Summary};

/// What a plan changes. What a deleted table takes with it counts as deleted, and what was in a set
/// that is flushed, if that is known.
pub(super) fn summary(plan: &Plan, found: &Ruleset) -> Summary {
    let mut summary = plan.summary();
    for operation in &plan.operations {
        if let (Operation::FlushSet { set }, Some(table)) = (operation, &found.table) {
            let held = table.sets.get(set).map_or(0, |set| set.elements.len());
            summary.sets.entry(set.clone()).or_default().deleted += held;
        }
    }
    let gone = found.table.iter().filter(|_| plan.operations.contains(&Operation::DeleteTable));
    for table in gone {
        summary.rules_deleted +=
            table.chains.values().map(|chain| chain.rules.len()).sum::<usize>();
        for (name, set) in table.sets.iter().filter(|(_, set)| !set.elements.is_empty()) {
            summary.sets.entry(name.clone()).or_default().deleted += set.elements.len();
        }
    }
    summary
}

pub(super) fn elements(plan: &Plan) -> usize {
    plan.summary().sets.values().map(|count| count.added + count.deleted).sum()
}

/// How to get from the mirror to `wanted`, and to the ownership it is to have. A table can't be
/// given or freed of an owner: where it has to be, it is made anew in the same batch.
pub(super) fn plan(
    mirror: &Mirror,
    wanted: &Ruleset,
    exclusive: bool,
) -> Result<(Plan, Hold), KernelError> {
    if let Ownership::Other(port) = mirror.ownership {
        return Err(KernelError::Owned(port));
    }
    let exists = mirror.ruleset.table.is_some();
    let anew = match mirror.ownership {
        Ownership::Unowned => exclusive && exists,
        Ownership::Ours => !exclusive,
        Ownership::Orphan | Ownership::Other(_) => false,
    };
    let plan = if anew {
        let mut plan = mirror.ruleset.diff(&Ruleset::default());
        plan.operations.extend(Ruleset::default().diff(wanted).operations);
        plan
    } else {
        mirror.ruleset.diff(wanted)
    };
    let makes = plan.operations.iter().any(|o| matches!(o, Operation::AddTable { .. }));
    let hold = match mirror.ownership {
        _ if !exclusive => Hold::Plain,
        _ if makes => Hold::Own,
        Ownership::Orphan => Hold::Adopt,
        _ => Hold::Plain,
    };
    Ok((plan, hold))
}

/// Whether the plan names rules that are there.
pub(super) fn needs_handles(plan: &Plan) -> bool {
    plan.operations.iter().any(|operation| {
        matches!(
            operation,
            Operation::DeleteRule { .. } | Operation::InsertRule { before: Some(_), .. }
        )
    })
}

/// Whether rules have other indexes after the plan, or new ones no known handle.
pub(super) fn moves_rules(plan: &Plan) -> bool {
    plan.operations.iter().any(|operation| {
        matches!(
            operation,
            Operation::DeleteRule { .. }
                | Operation::InsertRule { .. }
                | Operation::DeleteTable
                | Operation::AddTable { .. }
        )
    })
}
