//! The directories on the way to what tierwall reads, and what is in the state directory.

use super::super::facts::{Owned, Role};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(super) fn observe(config: &Path, inputs: &BTreeSet<policy::Input>, state: &Path) -> Vec<Owned> {
    let mut ways = BTreeSet::new();
    for file in inputs.iter().map(|input| input.path.as_path()).chain([config]) {
        // As named, and where links lead.
        let real = file.canonicalize();
        for path in [std::path::absolute(file), real].into_iter().flatten() {
            ways.extend(path.ancestors().skip(1).map(Path::to_owned));
        }
    }
    let mut paths: Vec<Owned> =
        ways.into_iter().filter_map(|path| owned(path, Role::Way)).collect();
    let files = fs::read_dir(state).into_iter().flatten().flatten().map(|file| file.path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    paths.extend(
        [state.to_owned()].into_iter().chain(files).filter_map(|path| owned(path, Role::State)),
    );
    paths
}

fn owned(path: PathBuf, role: Role) -> Option<Owned> {
    let metadata = fs::metadata(&path).ok()?;
    let (uid, gid) = (metadata.uid(), metadata.gid());
    Some(Owned { uid, gid, mode: metadata.mode() & 0o7777, path, role })
}
