//! The test programs that speak with the kernel.

use crate::artifacts::{self, Artifact};
use crate::run;
use anyhow::{Result, bail};
use std::path::PathBuf;

/// The packages that have them. What the others do is the same on any kernel.
const PACKAGES: &[&str] = &["tierwall-netlink", "tierwall-tests", "tierwall-watch", "tierwalld"];

/// Programs of these packages that aren't run: the first boots machines of its own, the others'
/// tests don't ask the kernel anything.
const LEFT_OUT: &[&str] = &["machines", "tierwall-bench", "tierwall-demo", "tierwall-probe"];

/// A test program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: String,
    /// Where cargo would run it.
    pub(super) directory: PathBuf,
    pub(super) path: PathBuf,
}

/// Builds the programs and those that they run, and lists the former: all, or those with a name of
/// `filters`.
pub(super) fn build(profile: &str, filters: &[String]) -> Result<Vec<Program>> {
    let profile = format!("--profile={profile}");
    run::succeed(&mut run::cargo(&["build", "--workspace", "--bins", &profile]))?;
    let mut test = run::cargo(&["test", "--no-run", &profile]);
    for package in PACKAGES {
        test.args(["--package", package]);
    }
    let all = programs(artifacts::build(&mut test)?);
    let names: Vec<&str> = all.iter().map(|program| program.name.as_str()).collect();
    if let Some(unknown) = filters.iter().find(|filter| !names.contains(&filter.as_str())) {
        bail!("no test program is called `{unknown}`; there are {}", names.join(" "));
    }
    let is_wanted = |program: &Program| filters.is_empty() || filters.contains(&program.name);
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// Those that are run, by their names.
fn programs(artifacts: Vec<Artifact>) -> Vec<Program> {
    let is_run = |it: &Artifact| it.is_test && !LEFT_OUT.contains(&it.name.as_str());
    let mut programs: Vec<Program> = artifacts
        .into_iter()
        .filter(is_run)
        .map(|Artifact { name, package, path, is_test: _ }| Program {
            name,
            directory: package,
            path,
        })
        .collect();
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_told_from_others() {
        let artifact = |name: &str, is_test: bool| Artifact {
            name: name.to_owned(),
            is_test,
            package: "/r/tests".into(),
            path: format!("/r/target/debug/deps/{name}-1").into(),
        };
        let programs = programs(vec![
            artifact("traffic", true),
            artifact("tierwalld", false),
            artifact("machines", true),
            artifact("live", true),
        ]);
        let names: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
        assert_eq!(names, ["live", "traffic"]);
        assert_eq!(programs[0].directory, PathBuf::from("/r/tests"));
    }
}
