//! A policy in a directory of its own, watched and loaded as the daemon does.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use policy::{Loaded, Options};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tierwall_watch::{LoadStart, Watcher};
use tokio::time::timeout;

/// Longer than a change may wait for another one, on a busy machine.
pub const LONG: Duration = Duration::from_secs(10);
/// Longer than the 100 ms that a name stays unsettled.
pub const QUIET: Duration = Duration::from_millis(250);

const OPTIONS: Options = Options { check_permissions: false, strict: false, warn_unseen: false };

pub fn load(path: &Path) -> Loaded {
    policy::load(path, &OPTIONS)
}

/// What the policy says, or what is wrong with it.
pub fn meaning(loaded: &Loaded) -> String {
    match &loaded.policy {
        Some(policy) => {
            let tiers = policy.tiers.iter().map(|(name, tier)| {
                let ranges = tier.v4.ranges().map(|range| range.to_string());
                format!("{name} {}", ranges.collect::<Vec<_>>().join(","))
            });
            tiers.collect::<Vec<_>>().join("; ")
        }
        None => {
            let messages = loaded.diagnostics.iter().map(|found| found.message.clone());
            messages.collect::<Vec<_>>().join("; ")
        }
    }
}

/// A policy with one tier `web`.
pub fn policy_of(tiers: &str) -> String {
    format!("{tiers}\n[[allow]]\nfrom = \"any\"\nto = \"*\"\nservice = \"tcp/80\"\n")
}

pub struct Site {
    pub root: PathBuf,
    pub policy: PathBuf,
    pub loaded: String,
    pub watcher: Watcher,
    _directory: TempDir,
}

impl Site {
    /// Writes files, links and directories (names that end in `/`), and watches `tierwall.toml`.
    pub async fn new(files: &[(&str, &str)]) -> Self {
        Self::at("tierwall.toml", files).await
    }

    pub async fn at(policy: &str, files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None if name.ends_with('/') => fs::create_dir_all(path).unwrap(),
                None => fs::write(path, text).unwrap(),
            }
        }
        Self::watch(root.join(policy), root, directory).await
    }

    pub async fn watch(policy: PathBuf, root: PathBuf, directory: TempDir) -> Self {
        let start = LoadStart::now();
        let loaded = load(&policy);
        let watcher = Watcher::new(&loaded.inputs, start).unwrap();
        let loaded = meaning(&loaded);
        let mut site = Self { root, policy, loaded, watcher, _directory: directory };
        site.quiet().await;
        assert!(site.watcher.unwatched().is_empty(), "{:?}", site.watcher.unwatched());
        site
    }

    pub fn reload(&mut self) {
        let start = LoadStart::now();
        let loaded = load(&self.policy);
        self.watcher.update(&loaded.inputs, start).unwrap();
        self.loaded = meaning(&loaded);
    }

    /// Loads until nothing changes. How often that was.
    pub async fn quiet(&mut self) -> usize {
        let mut loads = 0;
        while let Ok(result) = timeout(QUIET, self.watcher.changed()).await {
            result.unwrap();
            self.reload();
            loads += 1;
        }
        loads
    }

    /// Does something while the watcher waits. It must notice, and the policy be `expected` then.
    pub async fn change(&mut self, expected: &str, change: impl FnOnce(&Path) + Send + 'static) {
        let loads = self.count(change).await;
        assert_eq!(self.loaded, expected);
        assert_ne!(loads, 0, "not noticed");
    }

    /// Does something while the watcher waits, which concerns nobody.
    pub async fn no_change(&mut self, change: impl FnOnce(&Path) + Send + 'static) {
        assert_eq!(self.count(change).await, 0, "a change of nothing was told");
    }

    /// Does something while the watcher waits, and loads as often as it tells. How often that was.
    pub async fn count(&mut self, change: impl FnOnce(&Path) + Send + 'static) -> usize {
        let root = self.root.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            change(&root);
        });
        let mut loads = 0;
        while !thread.is_finished() {
            let told = timeout(Duration::from_millis(5), self.watcher.changed()).await;
            if let Ok(result) = told {
                result.unwrap();
                self.reload();
                loads += 1;
            }
        }
        thread.join().unwrap();
        loads + self.quiet().await
    }
}

/// Writes a file beside and renames it into place.
pub fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}
