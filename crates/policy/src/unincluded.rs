//! Files of the policy that nothing includes: they stand where included files belong, and mean
//! nothing.

use crate::diagnostic::{Diagnostic, Diagnostics, Label};
use crate::pattern;
use crate::quoting::quote;
use crate::way::true_path;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where included files belong, beside the policy file.
const PLACE: &str = "conf.d/*.toml";

/// How many are named; the others are counted.
const NAMED: usize = 3;

/// Warns of files in `conf.d` beside the policy file that are none of `seen`, the true paths of all
/// that were read.
pub(crate) fn warn(policy: &Arc<PathBuf>, seen: &BTreeSet<PathBuf>, diagnostics: &mut Diagnostics) {
    let base = policy.parent().unwrap_or(Path::new(""));
    let mut names = pattern::MOST_NAMES;
    let Ok(matches) = pattern::search(base, PLACE, &mut names) else { return };
    let unseen = matches.files.iter().filter(|file| file.is_file());
    let unseen = unseen.filter(|file| !seen.contains(&true_path(file)));
    let names: Vec<String> =
        unseen.filter_map(|file| Some(quote(&file.file_name()?.to_string_lossy()))).collect();
    if names.is_empty() {
        return;
    }
    let shown = names[..names.len().min(NAMED)].join(", ");
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more,"),
    };
    let message = format!("nothing includes {shown}{more} in conf.d");
    let label = Label::file(policy.clone(), "");
    let hint = format!("write include = [\"{PLACE}\"] at the top, or move the files elsewhere");
    diagnostics.push(Diagnostic::warning("unincluded-file", label, message).hint(hint));
}
