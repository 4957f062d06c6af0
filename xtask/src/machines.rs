//! `cargo xtask machines`: the packages, before lintian and on booted machines.
//!
//! The files of a machine are made once, by debootstrap from the archive that this machine
//! installs its own packages from, and stay in `target/machines`.

use crate::{artifacts, dist, needs, run};
use anyhow::{Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

const SUITE: &str = "bookworm";
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// Beside what a minimal system has: systemd, what the package depends on, what is looked with,
/// what Ansible asks of a host, the firewalls that people come from, and what installs the other
/// package.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,nftables,libnftnl11,libmnl0,procps,iproute2,\
                        openssh-server,python3,python3-apt,libpam-systemd,libnss-systemd,firewalld,ufw,rpm";

/// Of those, what is off until a test switches it on.
const OFF: [&str; 2] = ["firewalld", "ufw"];

/// Makes the packages and the files of a machine, and runs the tests.
pub(crate) fn machines(arguments: &[String]) -> Result<()> {
    check_right()?;
    needs::ensure(&[needs::DEMO, needs::DIST, needs::MACHINES])?;
    let dist::Packages { deb, rpm } = dist::dist()?;
    dist::lint(&deb)?;
    let base = base()?;
    let mut tests = run::cargo(&["test", "--package", "tierwall-tests", "--test", "machines"]);
    tests.args(["--", "--ignored", "--nocapture"]).args(arguments);
    tests.env("TIERWALL_DEB", deb).env("TIERWALL_RPM", rpm).env("TIERWALL_MACHINE", base);
    run::succeed(&mut tests)
}

/// That this user can boot machines.
///
/// # Errors
/// Where it isn't root.
pub(crate) fn check_right() -> Result<()> {
    ensure!(run::is_root()?, "machines take root: run this as root");
    Ok(())
}

/// A minimal Debian.
fn base() -> Result<PathBuf> {
    let directory = artifacts::target()?.join("machines");
    let (base, unfinished) = (directory.join(SUITE), directory.join(format!(".{SUITE}")));
    let made_of = directory.join(format!("{SUITE}.packages"));
    if base.is_dir() && fs::read_to_string(&made_of).is_ok_and(|packages| packages == PACKAGES) {
        return Ok(base);
    }
    if base.exists() {
        fs::remove_dir_all(&base)?;
    }
    eprintln!("making the files of a Debian {SUITE}, 400 MB in {}", directory.display());
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(&directory)?;
    let mut debootstrap = run::program("debootstrap");
    debootstrap.args(["--variant=minbase", "--include", PACKAGES, SUITE]);
    run::succeed(debootstrap.arg(&unfinished).arg(mirror()))?;
    let mut disable = run::program("systemctl");
    run::succeed(disable.arg("--root").arg(&unfinished).arg("disable").args(OFF))?;
    fs::rename(&unfinished, &base)?;
    fs::write(made_of, PACKAGES)?;
    Ok(base)
}

/// Where this machine has its packages from, if that is Debian's archive.
pub(crate) fn mirror() -> String {
    let lists = ["/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"];
    let read = |path: &&str| fs::read_to_string(Path::new(path)).ok();
    let text: String = lists.iter().filter_map(read).collect();
    let mut words =
        text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
    let found = words
        .find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"));
    found.unwrap_or(DEFAULT_MIRROR).to_owned()
}
