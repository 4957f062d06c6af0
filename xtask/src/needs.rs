//! System packages: what is missing, why it is needed, and how it gets there.
//!
//! What counts is whether a program or library can be found, not which package says so; packages
//! are named only to install what can't.

use crate::run;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// Something that the machine must have.
pub(crate) struct Need {
    what: What,
    debian: &'static str,
    fedora: &'static str,
    why: &'static str,
}

enum What {
    /// In PATH or a directory of the administrator.
    Program(&'static str),
    /// For pkg-config: `name >= version`.
    Library(&'static str),
    /// An absolute path.
    File(&'static str),
}

/// A need: what must be found, its packages in Debian and Fedora, and why.
const fn need(what: What, [debian, fedora]: [&'static str; 2], why: &'static str) -> Need {
    Need { what, debian, fedora, why }
}

/// What building and watching the demo takes.
#[rustfmt::skip]
pub(crate) const DEMO: &[Need] = &[
    need(What::Program("cc"), ["gcc", "gcc"], "links programs"),
    need(What::Program("pkg-config"), ["pkg-config", "pkgconf-pkg-config"], "finds libraries"),
    need(What::Library("libmnl >= 1.0.4"), ["libmnl-dev", "libmnl-devel"], "carries messages to the kernel"),
    need(What::Library("libnftnl >= 1.2.1"), ["libnftnl-dev", "libnftnl-devel"], "encodes nftables objects"),
    need(What::Program("ip"), ["iproute2", "iproute"], "plugs the test network together"),
    need(What::Program("nft"), ["nftables", "nftables"], "shows what is in the kernel (tierwall never runs it)"),
    need(What::Program("unshare"), ["util-linux", "util-linux"], "keeps the demo apart from this machine"),
];

/// What the benchmark compares tierwall with, where it can be had.
#[rustfmt::skip]
pub(crate) const PEERS: &[Need] = &[
    need(What::Program("ipset"), ["ipset", "ipset"], "is what tierwall is compared with"),
];

/// A firewalld, to compare with and for the doctor to find.
#[rustfmt::skip]
pub(crate) const FIREWALLD: &[Need] = &[
    need(What::Program("firewalld"), ["firewalld", "firewalld"], "is what others run; masked, so that it never runs on this machine itself"),
    need(What::Program("dbus-daemon"), ["dbus-daemon", "dbus-daemon"], "is the message bus of a firewalld in a namespace of its own"),
];

/// What the tests take beyond that.
#[rustfmt::skip]
pub(crate) const TEST: &[Need] = &[
    need(What::File("/etc/protocols"), ["netbase", "setup"], "lets nft read and list protocols by name"),
    need(What::Program("iptables-nft-restore"), ["iptables", "iptables-nft"], "makes rules as Docker does, for the doctor to find"),
    need(What::Program("journalctl"), ["systemd", "systemd"], "reads the catalog of messages as it will be read"),
    need(What::Program("clang"), ["clang", "clang"], "builds the second netlink reader that tests compare with"),
];

/// What making packages takes beyond the demo.
#[rustfmt::skip]
pub(crate) const DIST: &[Need] = &[
    need(What::Program("dh"), ["debhelper", "debhelper"], "makes the Debian package"),
    need(What::Program("dpkg-buildpackage"), ["dpkg-dev", "dpkg-dev"], "makes the Debian package"),
    need(What::Program("rpmbuild"), ["rpm", "rpm-build"], "makes the RPM package"),
];

/// What looks at the Debian package.
#[rustfmt::skip]
pub(crate) const LINT: &[Need] = &[
    need(What::Program("lintian"), ["lintian", "lintian"], "knows what a Debian package should be like"),
];

/// What booting machines takes beyond packages.
#[rustfmt::skip]
pub(crate) const MACHINES: &[Need] = &[
    need(What::Program("debootstrap"), ["debootstrap", "debootstrap"], "makes the files of a machine"),
    need(What::Program("systemd-nspawn"), ["systemd-container", "systemd-container"], "boots it"),
    need(What::Program("ansible-playbook"), ["ansible-core", "ansible-core"], "rolls a policy out to it"),
    need(What::Program("ssh"), ["openssh-client", "openssh-clients"], "carries Ansible there"),
    need(What::Program("dnsmasq"), ["dnsmasq-base", "dnsmasq"], "gives it an address by DHCP"),
];

/// What booting other kernels takes.
#[rustfmt::skip]
pub(crate) const KERNELS: &[Need] = &[
    need(What::Program("qemu-system-x86_64"), ["qemu-system-x86", "qemu-system-x86-core"], "boots a kernel"),
    need(What::Program("busybox"), ["busybox-static", "busybox"], "is all that runs there before the files of this machine are mounted"),
    need(What::Program("depmod"), ["kmod", "kmod"], "finds a kernel's modules"),
    need(What::Program("apt-get"), ["apt", "apt"], "fetches kernels of Debian"),
    need(What::Program("dpkg-deb"), ["dpkg", "dpkg"], "unpacks them"),
    need(What::File("/usr/share/keyrings/debian-archive-keyring.gpg"), ["debian-archive-keyring", "debian-keyring"], "says that they are Debian's"),
];

impl Need {
    fn is_met(&self) -> bool {
        match self.what {
            What::Program(name) => has_program(name),
            What::File(path) => Path::new(path).is_file(),
            What::Library(condition) => run::program("pkg-config")
                .args(["--exists", condition])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success()),
        }
    }
}

/// Whether a program of that name can be run.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrator = ["/usr/sbin", "/sbin"].map(Path::new);
    let mut directories = std::env::split_paths(&path).chain(administrator.map(Path::to_path_buf));
    directories.any(|directory| directory.join(name).is_file())
}

/// Makes sure that all `needs` are met: installs packages where that can be done.
///
/// # Errors
/// When something is missing that can't be installed; the message names the packages.
pub(crate) fn ensure(needs: &[&[Need]]) -> Result<()> {
    let missing = || -> Vec<&Need> {
        needs.iter().copied().flatten().filter(|need| !need.is_met()).collect()
    };
    let before = missing();
    if before.is_empty() {
        return Ok(());
    }
    match before.iter().any(|need| need.debian == "firewalld") {
        true => masked(|| install(&before))?,
        false => install(&before)?,
    }
    let after: Vec<&str> = missing().iter().map(|need| need.debian).collect();
    if !after.is_empty() {
        bail!("still missing after their installation: {}", after.join(" "));
    }
    Ok(())
}

/// The same for what can be done without: says what is missing instead.
pub(crate) fn try_each(needs: &[Need]) {
    for need in needs.iter().filter(|need| !need.is_met()) {
        if let Err(error) = ensure(&[std::slice::from_ref(need)]) {
            eprintln!("warning: {} is left out: {error:#}", need.debian);
        }
    }
}

/// Installs firewalld with its unit masked: the package of Debian starts the service at once and at
/// every boot, and it would filter what nobody asked it to. A mask is a link to nothing in the
/// place of the unit.
fn masked(install: impl FnOnce() -> Result<()>) -> Result<()> {
    const MASK: &str = "/etc/systemd/system/firewalld.service";
    let mask = Path::new(MASK);
    let root = run::is_root()?;
    if mask.is_symlink() || mask.exists() || !can_install(root) {
        return install();
    }
    eprintln!("masking firewalld.service (`systemctl unmask firewalld` undoes it)");
    for command in [&["mkdir", "-p", "/etc/systemd/system"][..], &["ln", "-s", "/dev/null", MASK]] {
        run::succeed(&mut as_root(root, command)).context("can't mask firewalld.service")?;
    }
    // Where no systemd runs, there is nobody to tell.
    let _ = as_root(root, &["systemctl", "daemon-reload"]).stderr(Stdio::null()).status();
    install().inspect_err(|_| {
        let _ = as_root(root, &["rm", "-f", MASK]).status();
    })
}

fn install(missing: &[&Need]) -> Result<()> {
    let debian: Vec<&str> = missing.iter().map(|need| need.debian).collect();
    let fedora: Vec<&str> = missing.iter().map(|need| need.fedora).collect();
    let root = run::is_root()?;
    if !can_install(root) {
        bail!(
            "system packages are missing, and this program can't install them here\n  \
             Debian, Ubuntu:  apt-get install {}\n  \
             Fedora, RHEL:    dnf install {}",
            debian.join(" "),
            fedora.join(" ")
        );
    }
    eprintln!("installing with apt-get{}:", if root { "" } else { " (through sudo)" });
    for need in missing {
        eprintln!("  {:<14} {}", need.debian, need.why);
    }
    let wanted = [&["install", "--yes", "--no-install-recommends"][..], &debian].concat();
    // The lists of a fresh machine are empty or too old. Where a foreign source fails, the packages
    // may be there all the same.
    if let Err(error) = update_lists() {
        eprintln!("warning: {error:#}");
    }
    run::succeed(&mut apt_get(root, &wanted)).context("the packages can't be installed")
}

fn can_install(root: bool) -> bool {
    has_program("apt-get") && (root || has_program("sudo"))
}

/// Brings apt's lists of packages up to date.
pub(crate) fn update_lists() -> Result<()> {
    run::succeed(&mut apt_get(run::is_root()?, &["update", "--quiet"]))
}

fn apt_get(root: bool, arguments: &[&str]) -> Command {
    let mut command = as_root(root, &["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    command.args(arguments);
    command
}

/// A command, which may begin with variables, for the administrator: this user, or through sudo.
fn as_root(root: bool, command: &[&str]) -> Command {
    let mut program = run::program(if root { "env" } else { "sudo" });
    program.args(command);
    program
}
