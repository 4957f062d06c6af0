//! Units of systemd, by the files that it reads and leaves; systemctl need not be there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The units that are started at boot: links in `*.wants` and `*.requires`, but for masked ones.
pub(super) fn enabled(root: &Path) -> BTreeSet<String> {
    let system = root.join("etc/systemd/system");
    let mut units = BTreeSet::new();
    for directory in names(&system) {
        if directory.ends_with(".wants") || directory.ends_with(".requires") {
            units.extend(names(&system.join(directory)));
        }
    }
    units.retain(|unit| !is_masked(&system.join(unit)));
    units
}

fn is_masked(unit: &Path) -> bool {
    fs::read_link(unit).is_ok_and(|target| target == Path::new("/dev/null"))
}

/// The units that run: systemd keeps a link to what it calls their invocation.
pub(super) fn active(root: &Path) -> BTreeSet<String> {
    let links = names(&root.join("run/systemd/units"));
    links.iter().filter_map(|link| link.strip_prefix("invocation:")).map(str::to_owned).collect()
}

/// Whether ufw is on.
pub(super) fn ufw_is_enabled(root: &Path) -> bool {
    let text = fs::read_to_string(root.join("etc/ufw/ufw.conf")).unwrap_or_default();
    let mut values = text.lines().filter_map(|line| line.trim().strip_prefix("ENABLED="));
    values.next_back().is_some_and(|value| value.trim_matches('"').eq_ignore_ascii_case("yes"))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn units_are_read_from_links() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let system = root.path().join("etc/systemd/system");
        let wants = system.join("multi-user.target.wants");
        fs::create_dir_all(&wants).expect("made");
        for unit in ["firewalld.service", "docker.service"] {
            symlink(Path::new("/lib/systemd/system").join(unit), wants.join(unit)).expect("linked");
        }
        symlink("/dev/null", system.join("firewalld.service")).expect("linked");
        assert_eq!(enabled(root.path()), ["docker.service".to_owned()].into());

        let units = root.path().join("run/systemd/units");
        fs::create_dir_all(&units).expect("made");
        symlink("0123", units.join("invocation:docker.service")).expect("linked");
        assert_eq!(active(root.path()), ["docker.service".to_owned()].into());
        assert_eq!(active(Path::new("/nowhere")), BTreeSet::new());
    }

    #[test]
    fn the_file_of_ufw_is_read() {
        let root = tempfile::tempdir().expect("a temporary directory");
        assert!(!ufw_is_enabled(root.path()));
        fs::create_dir_all(root.path().join("etc/ufw")).expect("made");
        for (text, expected) in [
            ("# x\nENABLED=yes\nLOGLEVEL=low\n", true),
            ("ENABLED=no\n", false),
            ("#ENABLED=yes", false),
        ] {
            fs::write(root.path().join("etc/ufw/ufw.conf"), text).expect("written");
            assert_eq!(ufw_is_enabled(root.path()), expected, "{text}");
        }
    }
}
