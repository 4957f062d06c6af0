//! Which files match a pattern of an include, and where another one may appear.
//!
//! A search ends, whatever the directories hold: links to directories are followed by a name with
//! `*`, but not by `**`, which could be led round and round; nothing goes up again behind a wildcard;
//! and one load looks at so many names only. Hidden names match no wildcard: they are what editors
//! leave behind.

use crate::file::FileError;
use crate::input::{Input, InputKind};
use crate::way;
use glob::{MatchOptions, Pattern};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// How many names all patterns of a load look at together: ten times what the largest policies have.
pub(crate) const MOST_NAMES: usize = 250_000;

/// What came of a search.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    /// The files, sorted.
    pub(crate) files: BTreeSet<PathBuf>,
    /// The directories in which a new name may match.
    pub(crate) inputs: BTreeSet<Input>,
    /// What couldn't be looked into.
    pub(crate) unread: Vec<FileError>,
}

/// Why a pattern isn't searched for to its end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("{0}")]
    Syntax(&'static str),
    #[error("`..` can't follow a wildcard")]
    Up,
    #[error("it ends with `**`, which matches directories only")]
    NoFile,
    #[error("the patterns of this policy look at more than {MOST_NAMES} names")]
    TooMany,
}

impl PatternError {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Syntax(_) | Self::NoFile => "write one such as conf.d/*.toml",
            Self::Up => "write the directory by its own name",
            Self::TooMany => {
                "name the directory of the files, without `**`: do its links lead in circles?"
            }
        }
    }
}

/// Whether a name holds a wildcard.
pub(crate) fn is_wild(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// Searches for the files that match `pattern`, which is relative to `base` unless it is absolute.
/// `names` is how many names may still be looked at.
pub(crate) fn search(
    base: &Path,
    pattern: &str,
    names: &mut usize,
) -> Result<Matches, PatternError> {
    Pattern::new(pattern).map_err(|error| PatternError::Syntax(error.msg))?;
    let mut search = Search {
        directories: BTreeSet::from([base.to_owned()]),
        is_recursive: pattern.contains("**"),
        matches: Matches::default(),
        names,
    };
    let mut parts = Path::new(pattern).components().peekable();
    let mut was_wild = false;
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let found = match part {
            Component::Prefix(_) | Component::CurDir => continue,
            Component::RootDir => BTreeSet::from(["/".into()]),
            Component::ParentDir if was_wild => return Err(PatternError::Up),
            Component::Normal(name) if name == "**" && is_last => return Err(PatternError::NoFile),
            Component::Normal(name) if name == "**" => search.below()?,
            Component::Normal(name) if is_wild(&name.to_string_lossy()) => search.matching(name)?,
            Component::ParentDir | Component::Normal(_) => search.named(part.as_os_str(), was_wild),
        };
        was_wild |= is_wild(&part.as_os_str().to_string_lossy());
        if is_last {
            search.matches.files = found;
            break;
        }
        search.directories = found.into_iter().filter(|path| path.is_dir()).collect();
    }
    Ok(search.matches)
}

struct Search<'n> {
    /// Where the names so far lead.
    directories: BTreeSet<PathBuf>,
    /// Whether directories match at any depth.
    is_recursive: bool,
    matches: Matches,
    names: &'n mut usize,
}

impl Search<'_> {
    /// What is called exactly `name`. Behind a wildcard no other input says that it matters.
    fn named(&mut self, name: &OsStr, is_behind: bool) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for directory in std::mem::take(&mut self.directories) {
            let path = directory.join(name);
            let is_there = path.symlink_metadata().is_ok();
            if is_behind || !is_there {
                self.may_appear(&directory, name);
            }
            if is_there {
                found.insert(path);
            }
        }
        found
    }

    /// Names that match one part of the pattern.
    fn matching(&mut self, name: &OsStr) -> Result<BTreeSet<PathBuf>, PatternError> {
        let pattern = Pattern::new(&name.to_string_lossy());
        let pattern = pattern.map_err(|error| PatternError::Syntax(error.msg))?;
        let mut found = BTreeSet::new();
        for directory in std::mem::take(&mut self.directories) {
            self.may_appear(&directory, name);
            self.list(&directory, |entry, name| {
                if pattern.matches_with(name, MatchOptions::new()) {
                    found.insert(entry.path());
                }
            })?;
        }
        Ok(found)
    }

    /// The directories, and all below them.
    fn below(&mut self) -> Result<BTreeSet<PathBuf>, PatternError> {
        let mut rest: Vec<PathBuf> = std::mem::take(&mut self.directories).into_iter().collect();
        let mut found: BTreeSet<PathBuf> = rest.iter().cloned().collect();
        while let Some(directory) = rest.pop() {
            self.may_appear(&directory, OsStr::new("*"));
            self.list(&directory, |entry, _| {
                // Of the entry itself: a link is none.
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_directory && found.insert(entry.path()) {
                    rest.push(entry.path());
                }
            })?;
        }
        Ok(found)
    }

    /// Hands out the names in a directory that a wildcard may match.
    fn list(
        &mut self,
        directory: &Path,
        mut each: impl FnMut(&fs::DirEntry, &str),
    ) -> Result<(), PatternError> {
        let mut unread = |error| self.matches.unread.push(FileError::of_way(directory, error));
        let entries = match way::list(here(directory)) {
            Ok(entries) => entries,
            Err(error) => {
                unread(error);
                return Ok(());
            }
        };
        for entry in entries {
            *self.names = self.names.checked_sub(1).ok_or(PatternError::TooMany)?;
            match entry {
                Ok(entry) => {
                    let name = entry.file_name();
                    if let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) {
                        each(&entry, name);
                    }
                }
                Err(error) => unread(io::Error::into(error)),
            }
        }
        Ok(())
    }

    /// A name that matches the next part of the pattern may appear in a directory.
    fn may_appear(&mut self, directory: &Path, name: &OsStr) {
        let entries = if self.is_recursive { "*".into() } else { name.to_string_lossy().into() };
        let kind = InputKind::Directory { entries };
        self.matches.inputs.insert(Input { path: here(directory).into(), kind });
    }
}

/// The directory of a file that is named without one.
fn here(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    fn tree(files: &[&str], links: &[(&str, &str)]) -> TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
            fs::write(path, "").expect("a file");
        }
        for (link, target) in links {
            symlink(target, directory.path().join(link)).expect("a link");
        }
        directory
    }

    /// What matches, relative to the tree.
    fn found(tree: &TempDir, pattern: &str) -> Result<String, PatternError> {
        let matches = search(tree.path(), pattern, &mut 1000)?;
        let files = matches.files.iter().map(|path| path.strip_prefix(tree.path()));
        let files: Vec<String> =
            files.map(|path| path.expect("inside").display().to_string()).collect();
        Ok(files.join(" "))
    }

    #[test]
    fn finds_what_matches_and_nothing_hidden() {
        let tree = tree(
            &["a.toml", ".a.toml", "b.list", "d/b.toml", "d/.e/c.toml", ".d/x.toml", "d/e/f.toml"],
            &[],
        );
        for (pattern, wanted) in [
            ("*.toml", "a.toml"),
            ("d/?.toml", "d/b.toml"),
            ("[!a].list", "b.list"),
            ("*/b.toml", "d/b.toml"),
            (".d/*.toml", ".d/x.toml"),
            ("./d/../d/*.toml", "d/../d/b.toml"),
            ("**/*.toml", "a.toml d/b.toml d/e/f.toml"),
            ("d/**/**/f.toml", "d/e/f.toml"),
            ("gone/*.toml", ""),
            ("a.toml/*", ""),
        ] {
            assert_eq!(found(&tree, pattern).as_deref(), Ok(wanted), "{pattern}");
        }
    }

    #[test]
    fn links_in_circles_end() {
        let tree = tree(&["loop/x.toml"], &[("loop/a", "."), ("loop/b", ".")]);
        assert_eq!(found(&tree, "loop/**/*.toml"), Ok("loop/x.toml".into()));
        // By names with a wildcard they are followed, as far as somebody wrote.
        assert_eq!(found(&tree, "loop/*/x.toml"), Ok("loop/a/x.toml loop/b/x.toml".into()));
        let deep = format!("loop/{}*.toml", "*/".repeat(30));
        assert_eq!(found(&tree, &deep), Err(PatternError::TooMany));
    }

    #[test]
    fn says_what_is_no_pattern() {
        let tree = tree(&["far/x.toml"], &[("far/up", "../..")]);
        assert_eq!(found(&tree, "far/**/../*/*.toml"), Err(PatternError::Up));
        assert_eq!(found(&tree, "*/../x"), Err(PatternError::Up));
        assert_eq!(found(&tree, "far/**"), Err(PatternError::NoFile));
        assert!(matches!(found(&tree, "a**b"), Err(PatternError::Syntax(_))));
        assert!(matches!(found(&tree, "[a"), Err(PatternError::Syntax(_))));
    }

    #[test]
    fn nothing_in_proc_is_looked_at() {
        let matches = search(Path::new("/proc"), "*/status", &mut 1000).expect("it ends");
        assert!(matches.files.is_empty());
        assert_eq!(matches.unread.len(), 1, "{:?}", matches.unread);
    }
}
