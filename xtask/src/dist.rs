//! `cargo xtask dist`: the packages, as `dist/tierwall_VERSION_ARCH.deb` and `.rpm`.
//!
//! All that differs between them is in `config/debian` and `config/rpm`. What goes into both is
//! staged in the target directory, below `dist`: release programs, and the manual pages and completions that these
//! print themselves.

use crate::artifacts::{self, Artifact};
use crate::{needs, notices, run};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The shells that completions are made for, and what their files are called.
const SHELLS: [(&str, &str); 3] =
    [("bash", "tierwall"), ("zsh", "_tierwall"), ("fish", "tierwall.fish")];

/// The programs.
const PROGRAMS: [&str; 2] = ["tierwall", "tierwalld"];

/// The units, in `systemd`.
const UNITS: [&str; 4] = [
    "tierwalld.service",
    "tierwalld-hide.path",
    "tierwalld-hide.service",
    "tierwalld-metrics.socket",
];

/// Both packages.
pub(crate) struct Packages {
    pub(crate) deb: PathBuf,
    pub(crate) rpm: PathBuf,
}

/// Makes them.
pub(crate) fn dist() -> Result<Packages> {
    needs::ensure(&[needs::DEMO, needs::DIST])?;
    let programs = PROGRAMS.map(|name| ["--package", name]);
    let mut build = run::cargo(&["build", "--release", "--locked"]);
    let built = artifacts::build(build.args(programs.as_flattened()))?;
    let root = run::root();
    let stage = artifacts::target()?.join("dist");
    clear(&stage)?;
    let notices = notices::collect(&PROGRAMS)?;
    let parts = parts(&root, &stage, &built, &notices.text)?;
    let dist = root.join("dist");
    fs::create_dir_all(&dist)?;
    let place = |package: PathBuf| -> Result<PathBuf> {
        let name = package.file_name().context("a package without a name")?;
        fs::copy(&package, dist.join(name))?;
        println!("dist/{}", name.to_string_lossy());
        Ok(dist.join(name))
    };
    let deb = place(deb(&root, &stage, &parts)?)?;
    let rpm = place(rpm(&root, &stage, &parts, &notices.expression)?)?;
    Ok(Packages { deb, rpm })
}

/// Has lintian look at the Debian package, where it can be had. A newer one may know of more than
/// whoever makes a package for themselves has to see to, so [`dist`] doesn't ask it.
///
/// # Errors
/// Where it finds something that no override has a reason for.
pub(crate) fn lint(deb: &Path) -> Result<()> {
    needs::try_each(needs::LINT);
    if !needs::has_program("lintian") {
        return Ok(());
    }
    let mut lintian = run::program("lintian");
    run::succeed(lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(deb))
}

fn clear(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    Ok(fs::create_dir_all(directory)?)
}

/// What both packages hold, under the names that `config/debian/tierwall.install` knows.
fn parts(root: &Path, stage: &Path, built: &[Artifact], notices: &str) -> Result<PathBuf> {
    let parts = stage.join(format!("tierwall-{}", env!("CARGO_PKG_VERSION")));
    for directory in ["bin", "man", "completions", "etc", "examples"] {
        fs::create_dir_all(parts.join(directory))?;
    }
    for program in PROGRAMS {
        copy(path_of(built, program)?, &parts.join("bin").join(program), 0o755)?;
    }
    let [tierwall, tierwalld] = PROGRAMS.map(|program| parts.join("bin").join(program));
    let man = parts.join("man");
    run::succeed(Command::new(&tierwall).arg("manual").arg(&man))?;
    let page = run::output(Command::new(tierwalld).arg("--manual"))?;
    fs::write(man.join("tierwalld.8"), page)?;
    copy(&root.join("docs/tierwall.toml.5"), &man.join("tierwall.toml.5"), 0o644)?;
    for (shell, file) in SHELLS {
        let script = run::output(Command::new(&tierwall).args(["completions", shell]))?;
        fs::write(parts.join("completions").join(file), script)?;
    }
    copy(&root.join("config/tierwall.toml"), &parts.join("etc/tierwall.toml"), 0o644)?;
    copy_all(&root.join("config/examples"), &parts.join("examples"))?;
    copy_all(&root.join("config/sysctl"), &parts.join("sysctl"))?;
    copy_all(&root.join("config/journal"), &parts.join("journal"))?;
    copy_all(&root.join("config/grafana"), &parts.join("grafana"))?;
    // Not their tests: whoever loads all files of the directory has Prometheus read rules only.
    let rules = "prometheus/tierwall.rules.yml";
    copy(&root.join("config").join(rules), &parts.join(rules), 0o644)?;
    copy_all(&root.join("docs"), &parts.join("docs"))?;
    fs::remove_file(parts.join("docs/tierwall.toml.5"))?;
    for file in ["README.md", "CHANGELOG.md", "LICENSE"] {
        copy(&root.join(file), &parts.join(file), 0o644)?;
    }
    fs::write(parts.join("NOTICES"), notices)?;
    Ok(parts)
}

fn path_of<'a>(built: &'a [Artifact], program: &str) -> Result<&'a Path> {
    let found = built.iter().find(|artifact| artifact.name == program);
    Ok(&found.with_context(|| format!("cargo made no {program}"))?.path)
}

fn deb(root: &Path, stage: &Path, parts: &Path) -> Result<PathBuf> {
    let debian = parts.join("debian");
    copy_all(&root.join("config/debian"), &debian)?;
    fs::set_permissions(debian.join("rules"), fs::Permissions::from_mode(0o755))?;
    for unit in UNITS {
        let packaged = debian.join(format!("tierwall.{unit}"));
        copy(&root.join("systemd").join(unit), &packaged, 0o644)?;
    }
    copy(&root.join("config/sysusers/tierwall.conf"), &debian.join("tierwall.sysusers"), 0o644)?;
    // The time of the last commit: the same tree gives the same package.
    let date = run::output(run::program("git").args(["log", "-1", "--format=%cD"]))?;
    let version = env!("CARGO_PKG_VERSION");
    let changelog = format!(
        "tierwall ({version}) unstable; urgency=medium\n\n  * See /usr/share/doc/tierwall/CHANGELOG.md.\n\n \
         -- tierwall developers <tierwall@localhost>  {}\n",
        date.trim()
    );
    fs::write(debian.join("changelog"), changelog)?;
    let mut build = run::program("dpkg-buildpackage");
    build.args(["--build=binary", "--no-sign", "--no-check-builddeps"]).current_dir(parts);
    run::succeed(&mut build)?;
    only(stage, "deb")
}

fn rpm(root: &Path, stage: &Path, parts: &Path, licence: &str) -> Result<PathBuf> {
    let staged = stage.join("rpm-root");
    for (from, to) in [
        ("bin/tierwall", "usr/bin/tierwall"),
        ("bin/tierwalld", "usr/sbin/tierwalld"),
        ("etc/tierwall.toml", "etc/tierwall/tierwall.toml"),
        ("completions/tierwall", "usr/share/bash-completion/completions/tierwall"),
        ("completions/_tierwall", "usr/share/zsh/site-functions/_tierwall"),
        ("completions/tierwall.fish", "usr/share/fish/vendor_completions.d/tierwall.fish"),
        ("README.md", "usr/share/doc/tierwall/README.md"),
        ("CHANGELOG.md", "usr/share/doc/tierwall/CHANGELOG.md"),
        ("LICENSE", "usr/share/licenses/tierwall/LICENSE"),
        ("NOTICES", "usr/share/licenses/tierwall/NOTICES"),
    ] {
        let mode = fs::metadata(parts.join(from))?.permissions().mode() & 0o777;
        copy(&parts.join(from), &staged.join(to), mode)?;
    }
    let units = staged.join("usr/lib/systemd/system");
    for unit in UNITS {
        copy(&root.join("systemd").join(unit), &units.join(unit), 0o644)?;
    }
    let sysusers = staged.join("usr/lib/sysusers.d/tierwall.conf");
    copy(&root.join("config/sysusers/tierwall.conf"), &sysusers, 0o644)?;
    copy_all(&parts.join("journal"), &staged.join("usr/lib/systemd/catalog"))?;
    fs::create_dir_all(staged.join("etc/tierwall/conf.d"))?;
    copy_all(&parts.join("examples"), &staged.join("usr/share/doc/tierwall/examples"))?;
    copy_all(&parts.join("sysctl"), &staged.join("usr/share/tierwall"))?;
    for directory in ["grafana", "prometheus"] {
        copy_all(&parts.join(directory), &staged.join("usr/share/tierwall").join(directory))?;
    }
    copy_all(&parts.join("docs"), &staged.join("usr/share/doc/tierwall/docs"))?;
    for page in fs::read_dir(parts.join("man"))? {
        let page = page?.path();
        let section = page.extension().context("a manual page without a section")?;
        let name = page.file_name().context("a manual page without a name")?;
        let directory = staged.join(format!("usr/share/man/man{}", section.to_string_lossy()));
        copy(&page, &directory.join(name), 0o644)?;
    }
    let mut build = run::program("rpmbuild");
    build.arg("-bb").arg(root.join("config/rpm/tierwall.spec"));
    let top = stage.join("rpm");
    for (name, value) in [
        ("_topdir", top.display().to_string()),
        ("staged", staged.display().to_string()),
        ("version_of_tierwall", env!("CARGO_PKG_VERSION").to_owned()),
        ("licence_of_tierwall", licence.to_owned()),
    ] {
        build.arg("--define").arg(format!("{name} {value}"));
    }
    run::succeed(&mut build)?;
    let architecture = run::output(run::program("rpm").args(["--eval", "%{_arch}"]))?;
    only(&top.join("RPMS").join(architecture.trim()), "rpm")
}

/// The only file of its kind there.
fn only(directory: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let mut found = entries.into_iter().map(|entry| entry.path());
    let mut found = found.by_ref().filter(|path| path.extension().is_some_and(|e| e == extension));
    let first = found.next().with_context(|| format!("no .{extension} was made"))?;
    ensure!(found.next().is_none(), "more than one .{extension} was made");
    Ok(first)
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::copy(from, to).with_context(|| format!("can't copy {}", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// The files of a directory, without directories in it.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("can't read {}", from.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            copy(&entry.path(), &to.join(entry.file_name()), 0o644)?;
        }
    }
    Ok(())
}
