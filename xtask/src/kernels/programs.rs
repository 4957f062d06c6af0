//! The test programs that speak with the kernel.

use crate::run;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;

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
    let mut test = run::cargo(&["test", "--no-run", "--message-format=json", &profile]);
    for package in PACKAGES {
        test.args(["--package", package]);
    }
    // The progress goes on standard error.
    let all = listed(&run::output(test.stderr(Stdio::inherit()))?)?;
    let names: Vec<&str> = all.iter().map(|program| program.name.as_str()).collect();
    if let Some(unknown) = filters.iter().find(|filter| !names.contains(&filter.as_str())) {
        bail!("no test program is called `{unknown}`; there are {}", names.join(" "));
    }
    let is_wanted = |program: &Program| filters.is_empty() || filters.contains(&program.name);
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// What cargo says of the test programs it made, by their names.
fn listed(messages: &str) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line)?;
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        let (Some(path), Some(name)) = (text("/executable"), text("/target/name")) else {
            continue;
        };
        if message.pointer("/profile/test") != Some(&Value::Bool(true)) || LEFT_OUT.contains(&name)
        {
            continue;
        }
        let manifest = PathBuf::from(text("/manifest_path").context("a target of no package")?);
        let directory = manifest.parent().context("a manifest in no directory")?.to_owned();
        programs.push(Program { name: name.to_owned(), directory, path: path.into() });
    }
    ensure!(!programs.is_empty(), "cargo made no test program");
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_told_from_others() {
        let line = |name: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/tests/Cargo.toml","target":{{"name":"{name}"}},"profile":{{"test":{test}}},"executable":"/r/target/debug/deps/{name}-1"}}"#
            )
        };
        let messages = [
            line("traffic", true),
            line("tierwalld", false),
            line("machines", true),
            line("live", true),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let programs = listed(&messages.join("\n")).unwrap();
        let names: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
        assert_eq!(names, ["live", "traffic"]);
        assert_eq!(programs[0].directory, PathBuf::from("/r/tests"));
        assert!(listed("").is_err());
    }
}
