//! Whether the policy is good; what is wrong is told by `tierwall check`.

use super::facts::Policy;
use super::finding::{Finding, Id};
use crate::output::counted;

/// How many problems are shown here.
const SHOWN: usize = 3;

pub(super) fn check(policy: &Policy, file: &str) -> Option<Finding> {
    Some(match policy {
        Policy::Missing => Finding::note(Id::PolicyMissing, format!("there is no policy {file}"))
            .advice("write one: `man tierwall.toml` explains every key"),
        Policy::Bad { errors, .. } => {
            let what = format!("{file} has {}", counted(errors.len(), "error"));
            Finding::error(Id::PolicyBad, what)
                .details(shown(errors))
                .advice("`tierwall check` shows each with its place and a way out")
        }
        Policy::Good(good) if good.warnings.is_empty() => return None,
        Policy::Good(good) => {
            let what = format!("{file} has {}", counted(good.warnings.len(), "warning"));
            Finding::warning(Id::PolicyWarnings, what)
                .details(shown(&good.warnings))
                .advice("`tierwall check` shows each with its place")
        }
    })
}

/// Tiers that follow from what somebody else in the network says.
pub(super) fn check_role(policy: &Policy) -> Option<Finding> {
    let given = &policy.says()?.roles_by_network;
    let (_, first) = given.first()?;
    let what =
        format!("this server's role follows from an address that the network gave it: {first}");
    let lines: Vec<String> =
        given.iter().map(|(tier, address)| format!("{address} puts it into {tier}")).collect();
    let finding = Finding::note(Id::RoleByNetwork, what).details(shown(&lines)).advice(
        "where you don't trust every machine on its link, name its tiers in /etc/tierwall/role, one a \
         line, and write role = { file = \"/etc/tierwall/role\" }",
    );
    Some(finding)
}

fn shown(lines: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = lines.iter().take(SHOWN).cloned().collect();
    if let Some(more) = lines.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        shown.push(format!("and {more} more"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::facts::Good;
    use super::*;

    fn told(policy: &Policy) -> Option<(String, Vec<String>)> {
        let finding = check(policy, "t.toml")?;
        let (severity, id) = (finding.severity, finding.id.name());
        Some((format!("{severity} {id}: {}", finding.what), finding.details))
    }

    #[test]
    fn a_role_that_others_on_the_link_may_choose_is_told() {
        let good = |roles_by_network| Policy::Good(Good { roles_by_network, ..Good::default() });
        assert!(check_role(&good(Vec::new())).is_none());
        let address = std::net::IpAddr::from([10, 0, 0, 1]);
        let finding = check_role(&good(vec![("app".into(), address)])).expect("a finding");
        assert_eq!(finding.details, ["10.0.0.1 puts it into app"]);
        assert!(finding.advice.contains("{ file = "), "{}", finding.advice);
    }

    #[test]
    fn each_state_of_it_is_told() {
        assert_eq!(told(&Policy::Good(Good::default())), None);
        let missing = "note policy-missing: there is no policy t.toml".to_owned();
        assert_eq!(told(&Policy::Missing), Some((missing, vec![])));
        let lines: Vec<String> = (1..=5).map(|number| format!("problem {number}")).collect();
        let (what, details) =
            told(&Policy::Bad { errors: lines.clone(), says: None }).expect("a finding");
        assert_eq!(what, "error policy-bad: t.toml has 5 errors");
        assert_eq!(details, ["problem 1", "problem 2", "problem 3", "and 2 more"]);
        let warnings = lines[..1].to_vec();
        let (what, details) =
            told(&Policy::Good(Good { warnings, ..Good::default() })).expect("a finding");
        assert_eq!(what, "warning policy-warnings: t.toml has 1 warning");
        assert_eq!(details, ["problem 1"]);
    }
}
