//! Files that the service can't see: its sandbox hides what people and programs keep for
//! themselves, so that what `tierwall check` finds good there is missing for the daemon.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::Text;
use std::path::Path;

/// The unit, which says what is hidden.
const UNIT: &str = include_str!("../../../systemd/tierwalld.service");
/// Its `ProtectHome=` and `PrivateTmp=`.
const PRIVATE: [&str; 4] = ["/home", "/root", "/tmp", "/var/tmp"];

/// Warns of a path or pattern there, unless the file that names it is there itself, to be tried out.
pub(crate) fn warn(named: &Text, path: &Path, diagnostics: &mut Diagnostics) {
    if hides(named.place.source.name()).is_some() {
        return;
    }
    let Some(directory) = hides(path) else { return };
    let message = format!("tierwalld.service can't see {}", path.display());
    let hint = format!("its sandbox hides {directory}: put the file below /etc/tierwall");
    let diagnostic = Diagnostic::warning("unseen-file", named.place.label(), message);
    diagnostics.push(diagnostic.hint(hint));
}

/// The hidden directory, or file, that a path is in.
fn hides(path: &Path) -> Option<&'static str> {
    let truth = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_in = |directory: &&str| truth.starts_with(directory);
    if paths("BindPaths").chain(paths("BindReadOnlyPaths")).any(|shown| is_in(&shown)) {
        return None;
    }
    let hidden = paths("InaccessiblePaths").chain(paths("TemporaryFileSystem"));
    PRIVATE.into_iter().chain(hidden).find(is_in)
}

/// What a setting of the unit names.
fn paths(setting: &'static str) -> impl Iterator<Item = &'static str> {
    let values = UNIT.lines().filter_map(move |line| line.strip_prefix(setting)?.strip_prefix('='));
    // `-` in front: if it is there at all; behind `:` options.
    values.flat_map(str::split_whitespace).map(|value| {
        let path = value.trim_start_matches('-');
        path.split_once(':').map_or(path, |(path, _)| path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_unit_hides_is_known() {
        let hides = |path: &str| hides(Path::new(path));
        assert_eq!(hides("/run/feeds/cdn.list"), Some("/run"));
        assert_eq!(hides("/run/user/1000/cdn.list"), Some("/run"));
        assert_eq!(hides("/var/lib/docker/cdn.list"), Some("/var/lib/docker"));
        assert_eq!(hides("/etc/shadow"), Some("/etc/shadow"));
        assert_eq!(hides("/root/cdn.list"), Some("/root"));
        for seen in ["/etc/tierwall/cdn.list", "/srv/cdn.list", "/run/tierwall/x", "/run/nscd/x"] {
            assert_eq!(hides(seen), None, "{seen}");
        }
    }
}
