//! Loads again and again: what is kept from one to the next changes no result.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tierwall_policy::{ListCache, Options, Style, load, load_again};

const POLICY: &str = "[tiers]\nbig = { file = \"big.list\" }\n\
    more = [\"10.9.0.0/16\", { file = \"big.list\" }, { file = \"six.list\" }, { file = \"small.list\" }]\n\
    [[allow]]\nfrom = \"big\"\nto = \"more\"\nservice = \"any\"\n";

struct Site {
    directory: TempDir,
    lists: ListCache,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            directory: tempfile::tempdir().expect("a directory"),
            lists: ListCache::default(),
        };
        site.write("tierwall.toml", POLICY);
        site.write("big.list", &"10.0.0.1\n10.0.2.0/24 # net\n".repeat(5000));
        site.write("six.list", &"2001:db8::1-2001:db8::9\n".repeat(5000));
        site.write("small.list", "10.8.0.1\n");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file in place, in another tick of the clock that stamps it.
    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let stamp =
            |path: &Path| fs::metadata(path).map(|file| (file.ctime(), file.ctime_nsec())).ok();
        let before = stamp(&path);
        loop {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("its mode");
            if stamp(&path) != before {
                return;
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Loads in both ways, twice; returns what is told.
    fn agrees(&mut self, check_permissions: bool) -> String {
        let options = Options { check_permissions, ..Options::default() };
        let policy = self.path("tierwall.toml");
        let fresh = load(&policy, &options);
        let told = fresh.diagnostics.render(Style::Plain);
        for _ in 0..2 {
            // So much later that all is at rest.
            let now = SystemTime::now() + Duration::from_secs(60);
            let again = load_again(&policy, &options, &mut self.lists, now);
            assert_eq!(again.policy, fresh.policy);
            assert_eq!(again.diagnostics.render(Style::Plain), told);
            assert_eq!(again.inputs, fresh.inputs);
        }
        told
    }
}

#[test]
fn every_edit_is_seen() {
    let mut site = Site::new();
    assert_eq!(site.agrees(false), "");
    // In place with the same length, longer, renamed over, gone, back, and another list beside.
    let edited = "10.0.0.2\n10.0.2.0/24 # net\n".repeat(5000);
    site.write("big.list", &edited);
    assert_eq!(site.agrees(false), "");
    site.write("big.list", &format!("{edited}10.0.5.5\n"));
    assert_eq!(site.agrees(false), "");
    site.write("beside.list", &edited);
    fs::rename(site.path("beside.list"), site.path("big.list")).expect("renamed");
    assert_eq!(site.agrees(false), "");
    fs::remove_file(site.path("big.list")).expect("removed");
    assert!(site.agrees(false).contains("there is no file"));
    site.write("big.list", &edited);
    assert_eq!(site.agrees(false), "");
    site.write("small.list", "10.8.0.2\n");
    assert_eq!(site.agrees(false), "");
    site.write("tierwall.toml", &POLICY.replace("10.9.0.0/16", "10.7.0.0/16"));
    assert_eq!(site.agrees(false), "");
}

#[test]
fn what_is_wrong_is_told_each_time() {
    let mut site = Site::new();
    let good = "10.0.0.1\n".repeat(9000);
    assert_eq!(site.agrees(false), "");
    for (bad, told) in [
        (format!("{good}10.0.0.300\n{good}"), "big.list:9001:1"),
        (format!("{good}10.0.0.7 # \0\n10.0.0.300\n"), "NUL"),
        (format!("{good}{}", "x\n".repeat(50)), "30 more lines"),
    ] {
        site.write("big.list", &bad);
        assert!(site.agrees(false).contains(told), "{told}");
        site.write("big.list", &good);
        assert_eq!(site.agrees(false), "");
    }
}

#[test]
fn rights_are_judged_each_time() {
    let mut site = Site::new();
    // Where the tests aren't run by root, the owner is told of; each time, too.
    let before = site.agrees(true);
    fs::set_permissions(site.path("big.list"), Permissions::from_mode(0o666)).expect("its mode");
    let told = site.agrees(true);
    assert!(told != before && told.contains("may be written by everybody"), "{told}");
    fs::set_permissions(site.path("big.list"), Permissions::from_mode(0o644)).expect("its mode");
    assert_eq!(site.agrees(true), before);
}

#[test]
fn a_file_that_is_far_too_large_is_refused() {
    let mut site = Site::new();
    let file = fs::File::create(site.path("big.list")).expect("a file");
    file.set_len(1 << 40).expect("a hole");
    assert!(site.agrees(false).contains("is larger than 256 MiB"));
}
