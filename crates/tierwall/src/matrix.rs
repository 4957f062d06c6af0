//! `tierwall matrix`: who reaches whom on what, under the policy as a whole.

mod dot;
mod graph;
mod html;
mod layout;
mod svg;
mod table;

use crate::error::Error;
use crate::explain::{daemon, nobody, service};
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
    /// On what alone, where not on everything.
    on: Option<Service>,
    /// How what is enforced differs from the files.
    notes: Vec<String>,
    /// The policy file.
    file: String,
}

pub(crate) fn run(common: &Common, options: &Matrix) -> Result<u8, Error> {
    let Whole { mut policy, services, warnings } = whole(common)?;
    let notes = daemon::compare_if_running(common, &mut policy);
    let format = match common.json {
        true => MatrixFormat::Json,
        false => options.format.unwrap_or(MatrixFormat::Table),
    };
    // The page has them itself, and the JSON too.
    if !matches!(format, MatrixFormat::Json | MatrixFormat::Html) {
        tell_diagnostics(&warnings);
    }
    let between = &options.between;
    let is_part = [between.from(), between.to(), between.service()].iter().any(Option::is_some);
    if is_part && !matches!(format, MatrixFormat::Table | MatrixFormat::Json) {
        let hint = "leave out the words, or take the table or --json";
        let message = "a page or a graph shows the whole policy";
        return Err(Error::Question(message.into(), Some(hint.into())));
    }
    let parties = |name: Option<&str>| match name {
        None => Ok(Party::all(&policy)),
        Some(name) => match Party::named(&policy, name) {
            Some(party) => Ok(vec![party]),
            None => Err(nobody(&policy, name, "an address")),
        },
    };
    let relation = Relation::between(&policy, parties(between.from())?, parties(between.to())?);
    let on = between.service().map(|text| service(&services, text)).transpose()?;
    let file = common.config.display().to_string();
    let view = View { policy: &policy, relation, on, warnings: &warnings, notes, file };
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

/// What gets through, as it reads: each part, and whether for some only. On the services of `on` only.
fn summary(passages: &[Passage<'_>], on: Option<&Service>) -> Vec<(String, bool)> {
    let add = |all: Service, passage: &Passage<'_>| match on {
        Some(on) => all.union(&passage.service.meet(on)),
        None => all.union(&passage.service),
    };
    let (whole, parts): (Vec<&Passage<'_>>, Vec<&Passage<'_>>) =
        passages.iter().partition(|passage| passage.is_for_all());
    let whole = whole.into_iter().fold(Service::default(), add);
    let parts = parts.into_iter().map(|passage| add(Service::default(), passage));
    let parts = parts.filter(|part| !whole.covers(part));
    let parts = parts.fold(Service::default(), |all, part| all.union(&part));
    let names = |service: &Service, in_part| -> Vec<(String, bool)> {
        service.names().into_iter().map(|name| (name, in_part)).collect()
    };
    [names(&whole, false), names(&parts, true)].concat()
}

impl View<'_> {
    /// What gets from one party to another, by their places.
    fn summary(&self, from: usize, to: usize) -> Vec<(String, bool)> {
        summary(self.relation.passages(from, to), self.on.as_ref())
    }

    /// The places of parties that send or receive anything: every tier, and of the others those
    /// that have a part.
    fn shown(&self) -> (Vec<usize>, Vec<usize>) {
        let relation = &self.relation;
        let (senders, receivers) = (0..relation.senders.len(), 0..relation.receivers.len());
        let is_tier = |party: &Party| party.kind == PartyKind::Tier;
        let sends = |from: &usize| {
            is_tier(&relation.senders[*from])
                || receivers.clone().any(|to| !self.summary(*from, to).is_empty())
        };
        let receives = |to: &usize| {
            is_tier(&relation.receivers[*to])
                || senders.clone().any(|from| !self.summary(from, *to).is_empty())
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
        let asked = |passage: &&Passage<'_>| {
            self.on.as_ref().is_none_or(|on| !passage.service.meet(on).is_empty())
        };
        let pairs = self.relation.pairs().filter_map(|(from, to, passages)| {
            let (part, whole): (Vec<_>, Vec<_>) =
                summary(passages, self.on.as_ref()).into_iter().partition(|(_, in_part)| *in_part);
            if part.is_empty() && whole.is_empty() {
                return None;
            }
            let names = |names: Vec<(String, bool)>| -> Vec<String> {
                names.into_iter().map(|(name, _)| name).collect()
            };
            Some(json!({
                "from": from.name,
                "to": to.name,
                "services": names(whole),
                "services_in_part": names(part),
                "passages": passages.iter().filter(asked).map(passage_json).collect::<Vec<_>>(),
            }))
        });
        let receivers = self.relation.receivers.iter();
        let parties = self.relation.senders.iter();
        let parties = parties.chain(receivers.filter(|to| !self.relation.senders.contains(to)));
        let mode = |mode: Mode| match mode {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
            Mode::Off => "off",
        };
        json!({
            "policy_file": self.file,
            "mode": { "input": mode(self.policy.mode.input), "output": mode(self.policy.mode.output) },
            "parties": parties.map(party).collect::<Vec<_>>(),
            "pairs": pairs.collect::<Vec<_>>(),
            "notes": self.notes,
            "diagnostics": self.warnings,
        })
    }
}
