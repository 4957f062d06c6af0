//! From files to a policy, or to all that is wrong with them.
//!
//! Every file is read and shaped first, since an allow may name a tier of any file; then tiers,
//! services and allows are resolved, in this order. Nothing stops at the first problem.

use crate::allow::Resolver;
use crate::diagnostic::{Diagnostic, Diagnostics, Label};
use crate::document::Document;
use crate::held::{Again, HeldList};
use crate::include::Reading;
use crate::input::Input;
use crate::lint;
use crate::load_options::Options;
use crate::metrics_table;
use crate::misplaced;
use crate::model::{Policy, Service};
use crate::role_setting;
use crate::service::Services;
use crate::source::Sources;
use crate::tier;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a load gives.
#[derive(Debug)]
pub struct Loaded {
    /// The policy; none where there is an error.
    pub policy: Option<Policy>,
    /// Where there is an error and the file says `boot = "closed"`, as far as it can be read: what
    /// then holds at a boot if no policy ever was good.
    pub closed: Option<Policy>,
    /// Lists that aren't taken as their files are, by their paths.
    pub held: Vec<HeldList>,
    /// What is wrong, in the order of the files.
    pub diagnostics: Diagnostics,
    /// What of the file system this depends on, also where it failed.
    pub inputs: BTreeSet<Input>,
    /// The texts, for [`Sources::illustrate`].
    pub sources: Sources,
    /// What `[services]` names, which a policy holds resolved only.
    pub services: BTreeMap<String, Service>,
}

/// Loads the policy file and all that it names.
pub fn load(path: &Path, options: &Options) -> Loaded {
    let mut reading = Reading::new(options, None);
    reading.policy_file(path);
    finish(reading)
}

/// The same, without parsing a large list file again that is as it was in the load before. What comes
/// of it is the same, but for files that somebody is writing, and lists that look emptied by accident:
/// what they held in the load before stays ([`HeldList`]).
pub fn load_again(path: &Path, options: &Options, again: Again<'_>) -> Loaded {
    again.lists.begin(again.now);
    let mut reading = Reading::new(options, Some(again));
    reading.policy_file(path);
    finish(reading)
}

/// As [`load_again`], with the content of the policy file given.
pub fn load_text_again(
    path: &Path,
    text: impl Into<Vec<u8>>,
    options: &Options,
    again: Again<'_>,
) -> Loaded {
    again.lists.begin(again.now);
    let mut reading = Reading::new(options, Some(again));
    reading.policy_bytes(path, text.into());
    finish(reading)
}

/// As [`load`], with the content of the policy file given. Files that it names are relative to `path`
/// and read from disk.
pub fn load_text(path: &Path, text: impl Into<Vec<u8>>, options: &Options) -> Loaded {
    let mut reading = Reading::new(options, None);
    reading.policy_bytes(path, text.into());
    finish(reading)
}

fn finish(mut reading: Reading<'_>) -> Loaded {
    let documents = std::mem::take(&mut reading.documents);
    let (mut policy, services) = resolve(&documents, &mut reading);
    let (again, held) = (reading.again.take(), std::mem::take(&mut reading.held));
    let exporting = std::mem::take(&mut reading.settings.metrics);
    let Reading { mut diagnostics, syntax, trust, gaps, sources, inputs, options, .. } = reading;
    let is_empty =
        documents.iter().all(|document| document.tiers.is_empty() && document.allows.is_empty());
    let is_empty = is_empty && gaps.is_empty() && !diagnostics.has_errors();
    if let (true, Some(root)) = (is_empty, sources.files().first()) {
        let message = match root.text().trim().is_empty() {
            true => "the policy is empty",
            false => "the policy holds no tier and no allow",
        };
        let label = Label::file(root.name().clone(), "");
        let hint = "it would deny everything: define [tiers], and at least one [[allow]]";
        diagnostics.push(Diagnostic::error("empty-policy", label, message).hint(hint.to_owned()));
    }
    // What the parser made of a broken line says nothing about what was meant.
    diagnostics.retain(|diagnostic| {
        let place = diagnostic.place.as_ref();
        let line = place.and_then(|label| Some((trust.get(&label.file)?, label.position?.0)));
        line.is_none_or(|(trust, line)| trust.covers(line))
    });
    diagnostics.extend(syntax);
    if !diagnostics.has_errors() && gaps.is_empty() {
        let mut lints = lint::lint(&policy);
        lints.extend(metrics_table::lint(&exporting, &policy));
        sources.illustrate(&mut lints);
        diagnostics.extend(lints);
    }
    if options.strict {
        diagnostics.deny_warnings();
    }
    let files = sources.files().iter().map(|source| source.name().clone());
    let order: BTreeMap<Arc<PathBuf>, usize> = files.zip(0..).collect();
    diagnostics.sort(&order);
    diagnostics.cut();
    diagnostics.conceal(sources.secret());
    policy.allows.shrink_to_fit();
    let has_errors = diagnostics.has_errors();
    let closed = policy.closed().filter(|_| has_errors);
    let policy = Some(policy).filter(|_| !has_errors);
    if let Some(again) = again {
        again.lists.end(!has_errors);
    }
    Loaded { policy, held: held.into_lists(), closed, diagnostics, inputs, sources, services }
}

fn resolve(
    documents: &[Document],
    reading: &mut Reading<'_>,
) -> (Policy, BTreeMap<String, Service>) {
    let tiers = tier::resolve(documents, reading);
    let (role, role_names) = role_setting::resolve(reading, &tiers);
    let settings = &reading.settings;
    let guarded = settings.guarded.as_ref();
    misplaced::check(documents, &role_names, guarded, &mut reading.diagnostics);
    let (watch, boot, deny) = (settings.watch, settings.boot, settings.deny);
    let (mode, forward, ownership) = (settings.mode, settings.forward, settings.ownership);
    let (kernel_log, confirm) = (settings.kernel_log, settings.confirm);
    let metrics = settings.metrics.metrics.clone();
    let services = documents.iter().flat_map(|document| &document.services);
    let mut services = Services::new(services, &reading.gaps, &mut reading.diagnostics);
    let guarded =
        services.guarded(settings.guarded.as_ref(), &reading.gaps, &mut reading.diagnostics);
    let rollback_on_denials = settings.rollback_on_denials;
    let named = services.by_name();
    let resolver = Resolver {
        tiers: &tiers,
        services,
        gaps: &reading.gaps,
        diagnostics: &mut reading.diagnostics,
    };
    let allows = resolver.allows(documents.iter().flat_map(|document| &document.allows));
    let policy = Policy {
        role,
        watch,
        boot,
        deny,
        mode,
        forward,
        ownership,
        kernel_log,
        guarded,
        rollback_on_denials,
        confirm,
        metrics,
        tiers,
        allows,
    };
    (policy, named)
}
