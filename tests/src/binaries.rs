//! Where the programs under test are: beside the running one, as cargo puts them.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// The path of `name` in the target directory that the running program was built into.
///
/// # Errors
/// When it wasn't built; the message says how.
pub fn find(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("can't find the running program")?;
    // Programs are in target/debug, tests in target/debug/deps.
    let found = own.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    match found.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!(
            "{name} isn't built: run `cargo xtask test`, or `cargo build --workspace --bins` first"
        ),
    }
}
