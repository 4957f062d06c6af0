//! The RPM package: what is in it, and what its scriptlets do on a machine with systemd. The machine
//! is a Debian, by `rpm --nodeps`: for the scriptlets, rpm and systemd are what they are elsewhere.

use crate::{POLICY, Site, made};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files with their modes and owners. Directories of others aren't ours.
const FILES: &str = "\
-rw-r--r-- root root /etc/tierwall/tierwall.toml
-rw-r--r-- root root /usr/lib/systemd/catalog/tierwall.catalog
-rw-r--r-- root root /usr/lib/systemd/system/tierwalld-hide.path
-rw-r--r-- root root /usr/lib/systemd/system/tierwalld-hide.service
-rw-r--r-- root root /usr/lib/systemd/system/tierwalld-metrics.socket
-rw-r--r-- root root /usr/lib/systemd/system/tierwalld.service
-rw-r--r-- root root /usr/lib/sysusers.d/tierwall.conf
-rw-r--r-- root root /usr/share/bash-completion/completions/tierwall
-rw-r--r-- root root /usr/share/fish/vendor_completions.d/tierwall.fish
-rw-r--r-- root root /usr/share/licenses/tierwall/LICENSE
-rw-r--r-- root root /usr/share/licenses/tierwall/NOTICES
-rw-r--r-- root root /usr/share/tierwall/60-tierwall.conf
-rw-r--r-- root root /usr/share/tierwall/grafana/tierwall.json
-rw-r--r-- root root /usr/share/tierwall/prometheus/tierwall.rules.yml
-rw-r--r-- root root /usr/share/zsh/site-functions/_tierwall
-rwxr-xr-x root root /usr/bin/tierwall
-rwxr-xr-x root root /usr/sbin/tierwalld
drwxr-xr-x root root /etc/tierwall
drwxr-xr-x root root /etc/tierwall/conf.d
drwxr-xr-x root root /usr/share/tierwall
drwxr-xr-x root root /usr/share/tierwall/grafana
drwxr-xr-x root root /usr/share/tierwall/prometheus
";

fn rpm(arguments: &[&str]) -> String {
    let output = Command::new("rpm").args(arguments).arg(made("TIERWALL_RPM")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "looks at the package: cargo xtask machines"]
fn the_rpm_holds_what_it_should() {
    let listed = rpm(&[
        "-qp",
        "--qf",
        "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\\n]",
    ]);
    let (mut documents, mut files): (Vec<&str>, Vec<&str>) = listed
        .lines()
        .filter(|line| !line.contains("/usr/lib/.build-id"))
        .partition(|line| line.contains("/usr/share/doc/") || line.contains("/usr/share/man/"));
    files.sort_unstable();
    assert_eq!(files.join("\n") + "\n", FILES);
    documents.retain(|line| !line.starts_with('d'));
    for name in ["man1/tierwall.1", "man8/tierwalld.8", "man5/tierwall.toml.5", "docs/journal.md"] {
        let page = documents.iter().find(|line| line.contains(name));
        assert!(page.is_some_and(|line| line.starts_with("-rw-r--r-- root root ")), "{name}");
    }
    let licence = rpm(&["-qp", "--qf", "%{LICENSE}"]);
    assert!(licence.contains(" AND GPL-3.0-or-later AND "), "{licence}");
    assert_eq!(rpm(&["-qp", "--configfiles"]).trim(), "/etc/tierwall/tierwall.toml");
    // Nothing of this system is needed but libraries and what the scriptlets call.
    let needed = rpm(&["-qp", "--requires"]);
    for name in ["libmnl.so.0", "libnftnl.so.11", "systemd", "/bin/sh"] {
        assert!(needed.contains(name), "{name}: {needed}");
    }
}

/// The same once more, as a later version.
fn newer(package: &Path) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let staged = directory.path().join("staged");
    fs::create_dir(&staged).unwrap();
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let copy = directory.path().join("old.rpm");
    fs::copy(package, &copy).unwrap();
    run(Command::new("rpm2archive").arg(&copy));
    run(Command::new("tar").arg("-xzf").arg(copy.with_extension("rpm.tgz")).arg("-C").arg(&staged));
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/rpm/tierwall.spec");
    let mut build = Command::new("rpmbuild");
    build.arg("-bb").arg(spec);
    let top = directory.path().join("top");
    for (name, value) in [
        ("_topdir", top.to_str().unwrap()),
        ("staged", staged.to_str().unwrap()),
        ("version_of_tierwall", "99.0.0"),
    ] {
        build.arg("--define").arg(format!("{name} {value}"));
    }
    run(&mut build);
    let built = fs::read_dir(top.join("RPMS")).unwrap().next().unwrap().unwrap().path();
    let newer = fs::read_dir(built).unwrap().next().unwrap().unwrap().path();
    (directory, newer)
}

#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn the_rpm_from_its_installation_to_its_removal() {
    let package = made("TIERWALL_RPM");
    let site = Site::new(&["10.10.1.20"]);
    site.offer(&package, "tierwall.rpm");
    site.ok("systemctl enable nftables");
    let said = site.ok("rpm --install --nodeps /root/tierwall.rpm");
    for text in
        ["nothing is filtered yet", "nftables.service is enabled", "systemctl disable nftables\n"]
    {
        assert!(said.contains(text), "{said}");
    }
    site.ok("systemctl disable nftables");
    assert!(site.fails("systemctl is-enabled tierwalld").contains("disabled"));
    site.ok("getent group tierwall");
    assert!(
        site.ok("journalctl --list-catalog").contains("tierwall: The policy files have errors")
    );
    assert_eq!(site.ok("rpm --verify --nodeps tierwall"), "");
    // Removed before it ever ran: there is nothing to take away.
    assert!(!site.ok("rpm --erase --nodeps tierwall").contains("the policy"));
    site.ok("rpm --install --nodeps /root/tierwall.rpm");

    site.write_policy(POLICY);
    site.ok("systemctl enable --now tierwalld");
    assert!(site.ok("ls -l /run/tierwall").contains("root tierwall"));
    let (table, before) = (site.table(), site.property("tierwalld", "MainPID"));
    let (_directory, newer) = newer(&package);
    site.offer(&newer, "newer.rpm");
    site.ok("rpm --upgrade --nodeps /root/newer.rpm");
    assert!(site.ok("rpm -q tierwall").contains("99.0.0"));
    assert_ne!(site.property("tierwalld", "MainPID"), before, "the old program still runs");
    for (name, value) in [("ActiveState", "active"), ("UnitFileState", "enabled")] {
        assert_eq!(site.property("tierwalld", name), value);
    }
    assert_eq!(site.table(), table);
    let error = site.fails("nft delete table inet filter");
    assert!(error.contains("Operation not permitted"), "{error}");
    // What was edited is kept.
    let kept = fs::read_to_string(site.machine.path("/etc/tierwall/tierwall.toml")).unwrap();
    assert_eq!(kept, POLICY);

    // Removed, the policy stays, and whoever removes it is told how to take it away.
    let said = site.ok("rpm --erase --nodeps tierwall");
    assert!(said.contains("the policy stays in the kernel"), "{said}");
    assert!(said.contains("\n    nft delete table inet filter\n"), "{said}");
    assert_eq!(site.table(), table);
    assert_eq!(site.property("tierwalld", "ActiveState"), "inactive");
    assert!(!site.machine.path("/usr/sbin/tierwalld").exists());
    let saved = site.machine.path("/etc/tierwall/tierwall.toml.rpmsave");
    assert_eq!(fs::read_to_string(saved).unwrap(), POLICY);
    site.ok("nft delete table inet filter");
    assert!(!site.ok("journalctl --list-catalog").contains("tierwall:"));
}
