//! Where cargo puts what it makes: its word for it, since CARGO_TARGET_DIR, CARGO_BUILD_TARGET and
//! a user's own configuration all move it.

use crate::run;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program that cargo made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) name: String,
    /// Whether it runs tests.
    pub(crate) is_test: bool,
    /// The directory of its package.
    pub(crate) package: PathBuf,
    pub(crate) path: PathBuf,
}

/// The target directory, absolute.
///
/// # Errors
/// When cargo doesn't tell.
pub(crate) fn target() -> Result<PathBuf> {
    target_of(&mut run::cargo(&[]))
}

fn target_of(cargo: &mut Command) -> Result<PathBuf> {
    let text = run::output(cargo.args(["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let directory = metadata["target_directory"].as_str();
    Ok(directory.context("cargo metadata names no target directory")?.into())
}

/// Runs `cargo`, a command that builds, with its progress and warnings on standard error; the
/// programs it made or found up to date.
///
/// # Errors
/// When it fails, or made no program.
pub(crate) fn build(cargo: &mut Command) -> Result<Vec<Artifact>> {
    cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    listed(&run::output(cargo)?)
}

fn listed(messages: &str) -> Result<Vec<Artifact>> {
    let mut artifacts = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line)?;
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        let (Some(path), Some(name)) = (text("/executable"), text("/target/name")) else {
            continue;
        };
        let manifest = PathBuf::from(text("/manifest_path").context("a target of no package")?);
        let package = manifest.parent().context("a manifest in no directory")?.to_owned();
        let is_test = message.pointer("/profile/test") == Some(&Value::Bool(true));
        artifacts.push(Artifact { name: name.to_owned(), is_test, package, path: path.into() });
    }
    ensure!(!artifacts.is_empty(), "cargo made no program");
    Ok(artifacts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_among_the_messages() {
        let line = |name: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/tests/Cargo.toml","target":{{"name":"{name}"}},"profile":{{"test":{test}}},"executable":"/t/x86_64/debug/deps/{name}-1"}}"#
            )
        };
        let finished = r#"{"reason":"build-finished","success":true}"#.to_owned();
        let artifacts =
            listed(&[line("live", true), line("tierwalld", false), finished].join("\n")).unwrap();
        let told: Vec<_> = artifacts.iter().map(|a| (a.name.as_str(), a.is_test)).collect();
        assert_eq!(told, [("live", true), ("tierwalld", false)]);
        assert_eq!(artifacts[0].package, PathBuf::from("/r/tests"));
        assert_eq!(artifacts[0].path, PathBuf::from("/t/x86_64/debug/deps/live-1"));
        assert!(listed("").is_err());
    }

    #[test]
    fn the_target_directory_is_where_cargo_is_told_to_put_it() {
        let elsewhere = run::root().join("elsewhere");
        let mut cargo = run::cargo(&[]);
        cargo.env("CARGO_TARGET_DIR", &elsewhere);
        assert_eq!(target_of(&mut cargo).unwrap(), elsewhere);
        let mut cargo = run::cargo(&[]);
        cargo.env_remove("CARGO_TARGET_DIR").args(["--config", "build.target-dir=\"other\""]);
        assert_eq!(target_of(&mut cargo).unwrap(), run::root().join("other"));
    }
}
