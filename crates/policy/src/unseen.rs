//! Files that the service can't see: its sandbox hides what people and programs keep for
//! themselves, so that what `tierwall check` finds good there is missing for the daemon.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::Text;
use std::path::Path;

/// `ProtectHome=` and `PrivateTmp=` of tierwalld.service.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

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

/// The hidden directory that a file is in.
fn hides(path: &Path) -> Option<&'static str> {
    let truth = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    HIDDEN.into_iter().find(|directory| truth.starts_with(directory))
}
