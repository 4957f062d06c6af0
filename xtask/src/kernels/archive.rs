//! Kernels as Debian packages them, unpacked below `target/kernels` and never installed.
//!
//! apt looks for them in a list of sources of our own, so that it doesn't matter which release this
//! machine runs, and the lists of the machine stay as they are.

use crate::{machines, run};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The series that can be asked for, and the suite of Debian that has each.
const SUITES: &[(&str, &str)] = &[("6.1", "bookworm"), ("6.12", "bookworm-backports")];
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel, unpacked.
#[derive(Debug)]
pub(super) struct Kernel {
    /// As it was asked for: the name of its directory.
    pub(super) name: String,
    /// As it calls itself: `6.1.0-47-amd64`.
    pub(super) release: String,
    /// Its own directory, with `files` beside what runs made.
    pub(super) directory: PathBuf,
}

impl Kernel {
    pub(super) fn files(&self) -> PathBuf {
        self.directory.join("files")
    }

    pub(super) fn image(&self) -> PathBuf {
        self.files().join(format!("boot/vmlinuz-{}", self.release))
    }
}

/// The kernel of a series or of a package, unpacked below `directory` unless it already is.
pub(super) fn fetch(which: &str, directory: &Path) -> Result<Kernel> {
    let (name, package) = match which.ends_with(".deb") {
        true => {
            let package = fs::canonicalize(which).with_context(|| format!("can't find {which}"))?;
            let name = package.file_stem().context("a package without a name")?;
            (name.to_string_lossy().into_owned(), Some(package))
        }
        false => (which.to_owned(), None),
    };
    let directory = directory.join(&name);
    let files = directory.join("files");
    if !files.is_dir() {
        fs::create_dir_all(&directory)?;
        let package = match package {
            Some(package) => package,
            None => download(which, &directory)?,
        };
        let unpacked = directory.join(".files");
        if unpacked.exists() {
            fs::remove_dir_all(&unpacked)?;
        }
        let mut unpack = run::program("dpkg-deb");
        run::succeed(unpack.arg("--extract").arg(&package).arg(&unpacked))?;
        // Newer packages have all in /usr, where /lib is a link of the system.
        if !unpacked.join("lib").exists() {
            std::os::unix::fs::symlink("usr/lib", unpacked.join("lib"))?;
        }
        let mut index = run::program("depmod");
        run::succeed(index.arg("--basedir").arg(&unpacked).arg(release(&unpacked)?))?;
        fs::rename(&unpacked, &files)?;
    }
    let release = release(&files)?;
    Ok(Kernel { name, release, directory })
}

/// What the only kernel in a package calls itself.
fn release(files: &Path) -> Result<String> {
    let modules = fs::read_dir(files.join("lib/modules"));
    let mut modules = modules.context("the package holds no modules: it isn't a kernel's")?;
    let first = modules.next().context("the package holds no kernel")??;
    Ok(first.file_name().to_string_lossy().into_owned())
}

/// Downloads the package of a series.
fn download(series: &str, directory: &Path) -> Result<PathBuf> {
    let Some((_, suite)) = SUITES.iter().find(|(known, _)| *known == series) else {
        let known: Vec<&str> = SUITES.iter().map(|(known, _)| *known).collect();
        bail!(
            "no kernel is known by `{series}`; known are {}, and any package by its path (.deb)",
            known.join(" and ")
        );
    };
    let apt = Apt::new(suite, &directory.join("apt"))?;
    eprintln!("fetching Linux {series} from {suite}, some 100 MB, into {}", directory.display());
    run::succeed(apt.command("apt-get").args(["--quiet", "update"]))?;
    // The package of that name is empty, and depends on that of the newest kernel.
    let shown = run::output(apt.command("apt-cache").args(["show", "linux-image-amd64"]))?;
    let package = shown
        .lines()
        .filter_map(|line| line.strip_prefix("Depends: "))
        .flat_map(str::split_whitespace)
        .find(|word| word.starts_with(&format!("linux-image-{series}.")))
        .with_context(|| format!("{suite} has no Linux {series}"))?;
    let mut get = apt.command("apt-get");
    run::succeed(get.args(["--quiet", "download", package]).current_dir(directory))?;
    let names = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let mut paths = names.into_iter().map(|entry| entry.path());
    let found = paths.find(|path| {
        path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
        })
    });
    found.with_context(|| format!("apt-get downloaded no {package}"))
}

/// apt with sources and lists of its own.
struct Apt {
    settings: Vec<String>,
}

impl Apt {
    fn new(suite: &str, directory: &Path) -> Result<Self> {
        ensure!(Path::new(KEYS).is_file(), "{KEYS} is missing: Debian's packages can't be checked");
        let (lists, cache) = (directory.join("lists"), directory.join("cache"));
        fs::create_dir_all(lists.join("partial"))?;
        fs::create_dir_all(cache.join("archives/partial"))?;
        let sources = directory.join("sources.list");
        fs::write(
            &sources,
            format!("deb [signed-by={KEYS}] {} {suite} main\n", machines::mirror()),
        )?;
        let settings = vec![
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=-".to_owned(),
            format!("Dir::State::Lists={}", lists.display()),
            format!("Dir::Cache={}", cache.display()),
            "Acquire::Languages=none".to_owned(),
            // Its own user needn't be able to read this directory.
            "APT::Sandbox::User=root".to_owned(),
            "APT::Architecture=amd64".to_owned(),
        ];
        Ok(Self { settings })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = run::program(name);
        for setting in &self.settings {
            command.args(["-o", setting]);
        }
        command
    }
}
