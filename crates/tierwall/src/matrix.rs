//! `tierwall matrix`: who reaches whom on what, under the policy as a whole.

mod dot;
mod graph;
mod html;
mod layout;
mod svg;
mod table;

use crate::error::Error;
use crate::explain::daemon;
use crate::judge::{Whole, tell_diagnostics, whole};
use crate::options::{Common, Matrix, MatrixFormat};
use crate::output::print;
use crate::who_can::passage_json;
use policy::model::{Mode, Service};
use policy::relation::{Party, PartyKind, Passage, Relation};
use policy::{Diagnostics, Policy};
use serde_json::{Value, json};

/// All that a matrix is drawn from.
pub(crate) struct View<'p> {
    policy: &'p Policy,
    relation: Relation<'p>,
    warnings: &'p Diagnostics,
    /// How what is enforced differs from the files.
    notes: Vec<String>,
    /// The policy file.
    file: String,
}

pub(crate) fn run(common: &Common, options: &Matrix) -> Result<u8, Error> {
    let Whole { mut policy, warnings, .. } = whole(common)?;
    let notes = daemon::compare_if_running(common, &mut policy);
    let format = match common.json {
        true => MatrixFormat::Json,
        false => options.format.unwrap_or(MatrixFormat::Table),
    };
    // The page has them itself, and the JSON too.
    if !matches!(format, MatrixFormat::Json | MatrixFormat::Html) {
        tell_diagnostics(&warnings);
    }
    let relation = Relation::of(&policy);
    let file = common.config.display().to_string();
    let view = View { policy: &policy, relation, warnings: &warnings, notes, file };
    let text = match format {
        MatrixFormat::Table => table::render(&view),
        MatrixFormat::Json => format!("{:#}\n", view.as_json()),
        MatrixFormat::Dot => dot::render(&graph::Graph::of(&policy)),
        MatrixFormat::Svg => svg::standalone(&graph::Graph::of(&policy)),
        MatrixFormat::Html => html::render(&view),
    };
    match &options.output {
        None => print(&text)?,
        Some(file) => {
            let plain = anstream::adapter::strip_str(&text).to_string();
            std::fs::write(file, plain).map_err(|error| {
                Error::Question(format!("can't write {}: {error}", file.display()), None)
            })?;
        }
    }
    Ok(control::exit::OK)
}

/// What gets through, as it reads: each part, and whether for some only.
pub(crate) fn summary(passages: &[Passage<'_>]) -> Vec<(String, bool)> {
    let add = |all: Service, passage: &Passage<'_>| all.union(&passage.service);
    let (whole, parts): (Vec<&Passage<'_>>, Vec<&Passage<'_>>) =
        passages.iter().partition(|passage| passage.is_for_all());
    let whole = whole.into_iter().fold(Service::default(), add);
    let parts = parts.into_iter().filter(|passage| !whole.covers(&passage.service));
    let parts = parts.fold(Service::default(), add);
    let names = |service: &Service, in_part| -> Vec<(String, bool)> {
        service.names().into_iter().map(|name| (name, in_part)).collect()
    };
    [names(&whole, false), names(&parts, true)].concat()
}

impl View<'_> {
    /// The places of parties that send or receive anything: every tier, and of the others those
    /// that have a part.
    fn shown(&self) -> (Vec<usize>, Vec<usize>) {
        let relation = &self.relation;
        let (senders, receivers) = (0..relation.senders.len(), 0..relation.receivers.len());
        let is_tier = |party: &Party| party.kind == PartyKind::Tier;
        let sends = |from: &usize| {
            is_tier(&relation.senders[*from])
                || receivers.clone().any(|to| !relation.passages(*from, to).is_empty())
        };
        let receives = |to: &usize| {
            is_tier(&relation.receivers[*to])
                || senders.clone().any(|from| !relation.passages(from, *to).is_empty())
        };
        (senders.clone().filter(sends).collect(), receivers.clone().filter(receives).collect())
    }

    /// What the modes make of it, a sentence each.
    fn mode_notes(&self) -> Vec<&'static str> {
        let mode = self.policy.mode;
        let input = match mode.input {
            Mode::Enforce => None,
            Mode::Observe => Some("Input only observes: nothing that comes in is denied yet."),
            Mode::Off => Some("Input is off: servers accept everything."),
        };
        let output = match mode.output {
            Mode::Enforce => None,
            Mode::Observe => Some("Output only observes: nothing that goes out is denied yet."),
            Mode::Off => Some("Output is off: servers open everything."),
        };
        input.into_iter().chain(output).collect()
    }

    fn as_json(&self) -> Value {
        let party = |party: &Party| {
            json!({
                "name": party.name,
                "kind": match party.kind {
                    PartyKind::Tier => "tier",
                    PartyKind::Addresses => "addresses",
                    PartyKind::Any => "any",
                },
                "addresses": party.addresses.as_ref().and_then(policy::Addresses::count),
            })
        };
        let pairs = self.relation.pairs().map(|(from, to, passages)| {
            let (part, whole): (Vec<_>, Vec<_>) =
                summary(passages).into_iter().partition(|(_, in_part)| *in_part);
            let names = |names: Vec<(String, bool)>| -> Vec<String> {
                names.into_iter().map(|(name, _)| name).collect()
            };
            json!({
                "from": from.name,
                "to": to.name,
                "services": names(whole),
                "services_in_part": names(part),
                "passages": passages.iter().map(passage_json).collect::<Vec<_>>(),
            })
        });
        let mode = |mode: Mode| match mode {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
            Mode::Off => "off",
        };
        json!({
            "policy_file": self.file,
            "mode": { "input": mode(self.policy.mode.input), "output": mode(self.policy.mode.output) },
            "parties": self.relation.senders.iter().map(party).collect::<Vec<_>>(),
            "pairs": pairs.collect::<Vec<_>>(),
            "notes": self.notes,
            "diagnostics": self.warnings,
        })
    }
}
