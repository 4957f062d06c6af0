//! The policy file and the files it includes, read in order.
//!
//! An included file holds tiers, services, allows and further includes. Each file is read once,
//! whichever patterns match it; one that leads back to itself is an error.

use crate::diagnostic::{Diagnostic, Diagnostics, Label};
use crate::document::{Document, Reader, Text};
use crate::file::{self, FileError, Opened};
use crate::gap::Gaps;
use crate::held::{Again, HeldLists, Taking};
use crate::input::{Input, InputKind};
use crate::list_cache::Stamp;
use crate::load_options::Options;
use crate::pattern::{self, Matches};
use crate::quoting::quote;
use crate::setting::Settings;
use crate::source::{Place, Source, Sources};
use crate::syntax::{self, Trust};
use crate::way::true_path;
use crate::{unincluded, unseen};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many files deep includes may lead.
const DEEPEST: usize = 16;

/// What the load collects on its way.
pub(crate) struct Reading<'o> {
    pub(crate) options: &'o Options,
    /// What earlier loads left, where this isn't the only one.
    pub(crate) again: Option<Again<'o>>,
    /// Lists that aren't taken as their files are.
    pub(crate) held: HeldLists,
    pub(crate) diagnostics: Diagnostics,
    pub(crate) inputs: BTreeSet<Input>,
    pub(crate) sources: Sources,
    pub(crate) gaps: Gaps,
    /// What every file says, the policy file first.
    pub(crate) documents: Vec<Document>,
    pub(crate) settings: Settings,
    /// Syntax errors, which are never dropped for an untrusted line.
    pub(crate) syntax: Diagnostics,
    pub(crate) trust: BTreeMap<Arc<PathBuf>, Trust>,
    /// The directory of the policy file, behind links.
    home: PathBuf,
    /// Files that have been read, by their one true path.
    seen: BTreeSet<PathBuf>,
    /// How many names patterns may still look at.
    names: usize,
    /// The files that include one another on the way to the one being read.
    stack: Vec<(PathBuf, Arc<PathBuf>)>,
}

impl<'o> Reading<'o> {
    pub(crate) fn new(options: &'o Options, again: Option<Again<'o>>) -> Self {
        Self {
            options,
            again,
            held: HeldLists::default(),
            diagnostics: Diagnostics::default(),
            inputs: BTreeSet::new(),
            sources: Sources::default(),
            gaps: Gaps::default(),
            documents: Vec::new(),
            settings: Settings::default(),
            syntax: Diagnostics::default(),
            trust: BTreeMap::new(),
            home: PathBuf::new(),
            seen: BTreeSet::new(),
            names: pattern::MOST_NAMES,
            stack: Vec::new(),
        }
    }

    /// Reads the policy file and all that it includes.
    pub(crate) fn policy_file(&mut self, path: &Path) {
        self.inputs.insert(Input { path: path.into(), kind: InputKind::Policy });
        match self.open(path).and_then(|opened| self.read(opened)) {
            Ok(bytes) => self.policy_bytes(path, bytes),
            Err(error) => {
                self.gaps.lost_file = true;
                let label = Label::file(Arc::new(path.into()), "");
                let hint = match error {
                    FileError::Directory(_) => Some("name the policy file in it".to_owned()),
                    FileError::Missing(_) => Some("write one, or name another file".to_owned()),
                    ref error => error.hint(),
                };
                let diagnostic = Diagnostic::error(error.code(), label, error.to_string());
                self.diagnostics.push(diagnostic.hint(hint));
            }
        }
    }

    /// The same, with the content of the policy file at hand.
    pub(crate) fn policy_bytes(&mut self, path: &Path, bytes: Vec<u8>) {
        let name = Arc::new(path.to_owned());
        let truth = true_path(path);
        self.home = truth.parent().unwrap_or(Path::new("/")).to_owned();
        self.seen.insert(truth.clone());
        self.stack.push((truth, name.clone()));
        self.content(&name, bytes, None);
        self.stack.pop();
        // Of what couldn't be read nobody knows what it includes.
        if self.options.warn_unseen && self.gaps.is_empty() {
            unincluded::warn(&name, &self.seen, &mut self.diagnostics);
        }
    }

    /// Reads the text of a file, then what it includes.
    fn content(&mut self, name: &Arc<PathBuf>, bytes: Vec<u8>, named_at: Option<&Place>) {
        let text = match file::decode(name, &bytes) {
            Ok(text) => text,
            Err(mut diagnostic) => {
                self.gaps.lost_file = true;
                diagnostic.related.extend(named_at.map(|place| place.labelled("included here")));
                return self.diagnostics.push(*diagnostic);
            }
        };
        let source = Arc::new(Source::new(name.as_ref(), text));
        self.sources.push(source.clone());
        let (table, trust) = syntax::parse(&source, &mut self.syntax);
        if !trust.is_whole() {
            self.gaps.broken.push(source.clone());
        }
        self.trust.insert(source.name().clone(), trust);
        let mut reader = Reader { source: &source, diagnostics: &mut self.diagnostics };
        match named_at {
            None => self.settings = reader.settings(&table),
            Some(_) => {
                let policy = self.stack[0].1.display().to_string();
                reader.no_settings(&table, &policy);
            }
        }
        let document = reader.document(&table);
        let patterns = document.include.clone();
        self.documents.push(document);
        for pattern in &patterns {
            self.include(pattern);
        }
    }

    /// Reads the files of one pattern.
    fn include(&mut self, pattern: &Text) {
        let wild = pattern::is_wild(&pattern.value);
        let path = relative(&pattern.place, &pattern.value);
        if self.options.warn_unseen {
            unseen::warn(pattern, &path, &mut self.diagnostics);
        }
        let paths = if wild { self.matches(pattern) } else { vec![path] };
        for path in paths {
            self.inputs.insert(Input { path: path.clone(), kind: InputKind::Policy });
            let truth = true_path(&path);
            if let Some(start) = self.stack.iter().position(|(open, _)| *open == truth) {
                let diagnostic = self.include_loop(pattern, start, &path, wild);
                self.diagnostics.push(diagnostic);
                continue;
            }
            if self.stack.len() > DEEPEST {
                let message = format!("files include one another over {DEEPEST} levels");
                let label = pattern.place.label();
                self.gaps.lost_file = true;
                let diagnostic = Diagnostic::error("include-loop", label, message);
                let hint = "include the files from the policy file itself";
                self.diagnostics.push(diagnostic.hint(hint.to_owned()));
                return;
            }
            if !self.seen.insert(truth.clone()) {
                continue;
            }
            let opened = self.open(&path);
            let is_secret = opened.as_ref().is_ok_and(|opened| self.is_secret(opened, &truth));
            match opened.and_then(|opened| self.read(opened)) {
                Ok(bytes) => {
                    let name = Arc::new(path);
                    if is_secret {
                        self.sources.conceal(name.clone());
                    }
                    self.stack.push((truth, name.clone()));
                    self.content(&name, bytes, Some(&pattern.place));
                    self.stack.pop();
                }
                Err(error) => self.unread(pattern, &error),
            }
        }
    }

    /// Opens a file that nobody is writing.
    pub(crate) fn open(&mut self, path: &Path) -> Result<Opened, FileError> {
        let opened = file::open(path, self.options.check_permissions)?;
        let stamp = Stamp::of(&opened.metadata);
        let again = self.again.as_mut();
        match again.is_some_and(|again| again.is_moving(path, opened.file(), &stamp)) {
            true => Err(FileError::BeingWritten(path.into())),
            false => Ok(opened),
        }
    }

    /// Whether nobody applies what comes of it.
    pub(crate) fn only_shows(&self) -> bool {
        self.again.as_ref().is_some_and(|again| again.taking == Taking::Shown)
    }

    /// Reads a file whole, unless somebody writes it meanwhile.
    pub(crate) fn read(&mut self, opened: Opened) -> Result<Vec<u8>, FileError> {
        let (path, witness) = (opened.path().to_owned(), self.witness(&opened));
        let bytes = opened.read()?;
        self.is_as_it_was(&path, witness).map(|()| bytes)
    }

    /// What shows later whether a file was written meanwhile.
    pub(crate) fn witness(&self, opened: &Opened) -> Option<(File, Stamp)> {
        self.again.as_ref()?;
        Some((opened.file().try_clone().ok()?, Stamp::of(&opened.metadata)))
    }

    /// An error if somebody has written a file since, or does so.
    pub(crate) fn is_as_it_was(
        &mut self,
        path: &Path,
        witness: Option<(File, Stamp)>,
    ) -> Result<(), FileError> {
        let both = self.again.as_mut().zip(witness);
        match both.is_some_and(|(again, (file, stamp))| again.has_moved(path, &file, &stamp)) {
            true => Err(FileError::BeingWritten(path.into())),
            false => Ok(()),
        }
    }

    /// Whether a file is one that not everybody may read, and that somebody keeps elsewhere than the
    /// policy: it may be the wrong one, and its lines are nobody's business.
    pub(crate) fn is_secret(&self, opened: &Opened, truth: &Path) -> bool {
        !opened.is_readable_by_all() && !truth.starts_with(&self.home)
    }

    fn unread(&mut self, pattern: &Text, error: &FileError) {
        self.gaps.lost_file = true;
        let hint = match error {
            FileError::Missing(_) => relative_hint(&pattern.place, &pattern.value),
            FileError::Directory(_) => {
                Some(format!("to include its files write \"{}/*.toml\"", pattern.value))
            }
            error => error.hint(),
        };
        let label = pattern.place.label();
        let diagnostic = Diagnostic::error(error.code(), label, error.to_string());
        self.diagnostics.push(diagnostic.hint(hint));
    }

    fn include_loop(&self, pattern: &Text, start: usize, path: &Path, wild: bool) -> Diagnostic {
        let names = self.stack[start..].iter().map(|(_, name)| name.as_path()).chain([path]);
        let names: Vec<String> = names.map(|name| name.display().to_string()).collect();
        let is_itself = names.len() == 2;
        let message = match is_itself {
            true => format!("{} includes itself", names[0]),
            false => format!("these files include each other: {}", names.join(" → ")),
        };
        let hint = match is_itself && wild {
            true => "keep included files in a directory of their own, such as conf.d/*.toml",
            false => "remove this include",
        };
        Diagnostic::error("include-loop", pattern.place.label(), message).hint(hint.to_owned())
    }

    /// The files that match a pattern, sorted; none is fine.
    fn matches(&mut self, pattern: &Text) -> Vec<PathBuf> {
        let base = directory(&pattern.place);
        match pattern::search(base, &pattern.value, &mut self.names) {
            Ok(Matches { files, inputs, unread }) => {
                self.inputs.extend(inputs);
                unread.iter().for_each(|error| self.unread(pattern, error));
                files.into_iter().collect()
            }
            Err(error) => {
                let message =
                    format!("the pattern {} can't be used: {error}", quote(&pattern.value));
                let diagnostic = Diagnostic::error("bad-pattern", pattern.place.label(), message);
                self.gaps.lost_file = true;
                self.diagnostics.push(diagnostic.hint(error.hint().to_owned()));
                Vec::new()
            }
        }
    }
}

/// The directory of the file that a place is in.
fn directory(place: &Place) -> &Path {
    place.source.name().parent().unwrap_or(Path::new(""))
}

/// A path that is relative to the file that names it.
pub(crate) fn relative(place: &Place, path: &str) -> PathBuf {
    directory(place).join(path)
}

/// The hint on a file that is not there.
pub(crate) fn relative_hint(place: &Place, path: &str) -> Option<String> {
    let file = place.source.name().display();
    (!Path::new(path).is_absolute())
        .then(|| format!("file names are relative to the directory of {file}"))
}
