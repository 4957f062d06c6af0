//! promtool, which says whether metrics, rules and their tests are good.
//!
//! Debian has it in the package of Prometheus, whose installation starts a server. So the package
//! is fetched but not installed, and the one program taken out of it.

use crate::{artifacts, needs, run};
use anyhow::{Context, Result, bail};
use std::fs;

/// The package that has it, in Debian and others.
const PACKAGE: &str = "prometheus";

/// Makes sure that the tests find it: installed, or as `tools/promtool` in the target directory.
///
/// # Errors
/// When it is neither there nor can be fetched.
pub(crate) fn ensure() -> Result<()> {
    let tools = artifacts::target()?.join("tools");
    if needs::has_program("promtool") || tools.join("promtool").is_file() {
        return Ok(());
    }
    if !needs::has_program("apt-get") || !needs::has_program("dpkg-deb") {
        bail!("promtool is missing, which checks the metrics: put the one of Prometheus into PATH");
    }
    eprintln!(
        "fetching promtool, which checks the metrics, out of Debian's package {PACKAGE}; 20 MB"
    );
    let unpacked = tools.join("prometheus");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked)?;
    }
    fs::create_dir_all(&unpacked)?;
    if download(&unpacked).is_err() {
        // The lists of a fresh machine are empty or too old.
        needs::update_lists()?;
        download(&unpacked).context("the package can't be fetched")?;
    }
    let entries = fs::read_dir(&unpacked)?.collect::<Result<Vec<_>, _>>()?;
    let package = entries.first().context("apt-get fetched nothing")?.path();
    run::succeed(run::program("dpkg-deb").arg("-x").arg(&package).arg(unpacked.join("files")))?;
    fs::rename(unpacked.join("files/usr/bin/promtool"), tools.join("promtool"))?;
    Ok(fs::remove_dir_all(&unpacked)?)
}

fn download(directory: &std::path::Path) -> Result<()> {
    let mut apt = run::program("apt-get");
    // As the user who asks, since the directory is theirs.
    apt.args(["-o", "APT::Sandbox::User=root", "download", PACKAGE]).current_dir(directory);
    run::succeed(&mut apt)
}
