//! A firewalld of our own with a list of members, in a network namespace of its own.

use crate::generate::List;
use crate::peers::{self, Ran};
use crate::site;
use anyhow::Result;
use std::fs;

/// Above that many entries its reload ends in a timeout of the message bus.
pub(crate) const LARGEST: usize = 10_000;

/// One that runs, and ends with its value.
pub(crate) struct Firewalld(tierwall_tests::firewalld::Firewalld);

impl Firewalld {
    pub(crate) fn is_here() -> bool {
        ["firewalld", "firewall-cmd", "dbus-daemon"].into_iter().all(peers::is_here)
    }

    /// Starts one that has the members of `list` in its permanent configuration, not yet in the
    /// kernel.
    ///
    /// # Errors
    /// When it doesn't come up; it says why on standard error.
    pub(crate) fn start(list: &List) -> Result<Self> {
        let firewalld = Self(tierwall_tests::firewalld::Firewalld::start(&site::host()?)?);
        firewalld.configure(list)?;
        Ok(firewalld)
    }

    fn configure(&self, list: &List) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(&file, list.text())?;
        let from_file = format!("--add-entries-from-file={}", file.path().display());
        let size = format!("--option=maxelem={}", site::declared(list));
        let rule =
            "--add-rich-rule=rule family=ipv4 source ipset=peers port port=443 protocol=tcp accept";
        self.command(&["--permanent", "--new-ipset=peers", "--type=hash:ip", &size])?;
        self.command(&["--permanent", "--ipset=peers", &from_file])?;
        self.command(&["--permanent", "--zone=public", rule])?;
        Ok(())
    }

    /// Has it take up its permanent configuration; milliseconds.
    pub(crate) fn reload(&self) -> Result<f64> {
        Ok(self.command(&["--reload"])?.milliseconds)
    }

    /// Runs `firewall-cmd`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Ran> {
        peers::run_command(self.0.host(), &mut self.0.client(arguments))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}
