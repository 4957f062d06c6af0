//! `tierwall who-can`: who reaches a tier or an address, in sentences.
//!
//! Services are cut so that on all of one piece the same can; pieces that the same can reach are
//! one sentence again.

use crate::error::Error;
use crate::explain::{daemon, nobody, service};
use crate::judge::{Whole, tell_diagnostics, whole};
use crate::options::{Common, WhoCan};
use crate::output::{FAINT, HEADING, print, print_json, styled};
use policy::Policy;
use policy::model::{Mode, Service};
use policy::relation::{Gate, Party, PartyKind, Passage, Portion, Relation};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(crate) fn run(common: &Common, options: &WhoCan) -> Result<u8, Error> {
    let Whole { mut policy, services, warnings } = whole(common)?;
    if !common.json {
        tell_diagnostics(&warnings);
    }
    let enforced = daemon::compare_if_running(common, &mut policy);
    let Some(target) = Party::named(&policy, options.to()) else {
        return Err(nobody(&policy, options.to(), "an address"));
    };
    let on = options.service().map(|text| service(&services, text)).transpose()?;
    let relation = Relation::between(&policy, Party::all(&policy), vec![target]);
    let access = access(&relation, 0, on.as_ref());
    let target = relation.receivers[0].clone();
    let accepted = Relation::accepted(&policy, Party::all(&policy), vec![target.clone()]);
    let mut notes = notes(&policy, &target);
    notes.splice(0..0, unopened(&relation, &accepted, 0, on.as_ref()));
    notes.extend(enforced);
    match common.json {
        true => print_json(&as_json(&relation.receivers[0], &access, &notes))?,
        false => print(&as_text(&relation.receivers[0], &access, &notes, on.as_ref()))?,
    }
    Ok(control::exit::OK)
}

/// The same people on the same services.
pub(crate) struct Access<'r, 'p> {
    pub(crate) services: Service,
    /// Addresses in no tier too.
    pub(crate) everybody: bool,
    pub(crate) who: Vec<Who<'r, 'p>>,
    /// The tiers whose own servers don't open it, where everybody else can.
    pub(crate) but: Vec<&'r Party>,
}

/// One party, and by what it can.
pub(crate) struct Who<'r, 'p> {
    pub(crate) party: &'r Party,
    pub(crate) passages: Vec<&'r Passage<'p>>,
}

/// Who gets to a receiver of `relation`, on what; on the services of `on` only.
pub(crate) fn access<'r, 'p>(
    relation: &'r Relation<'p>,
    to: usize,
    on: Option<&Service>,
) -> Vec<Access<'r, 'p>> {
    let met = |passage: &Passage<'_>| match on {
        Some(on) => passage.service.meet(on),
        None => passage.service.clone(),
    };
    let mut ways: Vec<Way<'r, 'p>> = Vec::new();
    for (from, party) in relation.senders.iter().enumerate() {
        let passages = relation.passages(from, to).iter().map(|passage| (met(passage), passage));
        let passages: Vec<_> = passages.filter(|(service, _)| !service.is_empty()).collect();
        // Whoever may do everything is not named again for a part of it.
        let everything =
            |(service, passage): &(Service, &Passage<'_>)| service.any && passage.is_for_all();
        let may_all = passages.iter().any(everything);
        let ways_of = passages.into_iter().filter(|way| !may_all || everything(way));
        ways.extend(ways_of.map(|(service, passage)| Way { service, party, passage }));
    }
    let mut access: Vec<Access<'r, 'p>> = Vec::new();
    let (every, some): (Vec<Way<'r, 'p>>, Vec<Way<'r, 'p>>) =
        ways.into_iter().partition(|way| way.service.any);
    let may_all: Vec<&Party> = every.iter().map(|way| way.party).collect();
    if !every.is_empty() {
        let services = Service { any: true, ..Service::default() };
        access.push(Access::of(relation, services, every.iter().collect(), &[]));
    }
    let all = some.iter().fold(Service::default(), |all, way| all.union(&way.service));
    for (piece, point) in all.pieces(some.iter().map(|way| &way.service)) {
        let here = some.iter().filter(|way| way.service.holds(point)).collect();
        let more = Access::of(relation, piece, here, &may_all);
        let is_like =
            |other: &&mut Access<'_, '_>| !other.services.any && same(&other.who, &more.who);
        match access.iter_mut().find(is_like) {
            Some(other) => other.services = other.services.union(&more.services),
            None => access.push(more),
        }
    }
    access
}

/// What a receiver accepts although the sender's own server doesn't open it, a sentence for each
/// party. What it accepts from everybody is told with the others.
pub(crate) fn unopened(
    relation: &Relation<'_>,
    accepted: &Relation<'_>,
    to: usize,
    on: Option<&Service>,
) -> Vec<String> {
    let union = |passages: &[Passage<'_>]| {
        passages.iter().fold(Service::default(), |all, passage| all.union(&passage.service))
    };
    let from_all = relation.senders.iter().position(|party| party.kind == PartyKind::Any);
    let from_all = from_all.map(|any| union(relation.passages(any, to))).unwrap_or_default();
    let mut sentences = Vec::new();
    for (from, party) in relation.senders.iter().enumerate().filter(|(_, party)| party.is_server())
    {
        let opened = union(relation.passages(from, to)).union(&from_all);
        let is_asked = |passage: &&Passage<'_>| {
            on.is_none_or(|on| !passage.service.meet(on).is_empty())
                && !opened.covers(&passage.service)
        };
        let passages: Vec<&Passage<'_>> =
            accepted.passages(from, to).iter().filter(is_asked).collect();
        for passage in passages {
            let who = Who { party, passages: vec![passage] }.name();
            let sentence = format!(
                "{} accepts {} from {who}, whose own servers don't open it",
                whom(&relation.receivers[to]),
                services(&passage.service)
            );
            if !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
    }
    sentences
}

/// One passage from one party, and what of it is asked for.
struct Way<'r, 'p> {
    service: Service,
    party: &'r Party,
    passage: &'r Passage<'p>,
}

impl<'r, 'p> Access<'r, 'p> {
    /// Those whose `ways` hold all of `services`. `others` can do so anyway.
    fn of(
        relation: &'r Relation<'p>,
        services: Service,
        ways: Vec<&Way<'r, 'p>>,
        others: &[&Party],
    ) -> Self {
        let mut who: Vec<Who<'r, 'p>> = Vec::new();
        for way in ways {
            match who.last_mut().filter(|last| std::ptr::eq(last.party, way.party)) {
                Some(last) => last.passages.push(way.passage),
                None => who.push(Who { party: way.party, passages: vec![way.passage] }),
            }
        }
        for who in &mut who {
            who.passages = fewest(std::mem::take(&mut who.passages));
        }
        let everybody = who.iter().any(|who| who.party.kind == PartyKind::Any);
        let can = |party: &Party| {
            let who = who.iter().map(|who| who.party);
            who.chain(others.iter().copied()).any(|other| std::ptr::eq(other, party))
        };
        let but = relation
            .senders
            .iter()
            .filter(|party| everybody && party.kind == PartyKind::Tier && !can(party));
        Self { but: but.collect(), services, everybody, who }
    }
}

/// Where all members can by one passage, the narrower ones say nothing more.
fn fewest<'r, 'p>(passages: Vec<&'r Passage<'p>>) -> Vec<&'r Passage<'p>> {
    match passages.iter().any(|passage| passage.is_for_all()) {
        true => passages.into_iter().filter(|passage| passage.is_for_all()).collect(),
        false => passages,
    }
}

/// Whether the same parties can, to the same extent.
fn same(some: &[Who<'_, '_>], others: &[Who<'_, '_>]) -> bool {
    let extent = |who: &Who<'_, '_>| -> BTreeSet<String> {
        let passages = who.passages.iter();
        passages.map(|p| format!("{:?} {:?} {:?}", p.users, p.from, p.to)).collect()
    };
    some.len() == others.len()
        && some.iter().zip(others).all(|(one, other)| {
            std::ptr::eq(one.party, other.party) && extent(one) == extent(other)
        })
}

impl Access<'_, '_> {
    /// `web (10 addresses) and admin (64 addresses) can reach db on tcp/5432`
    pub(crate) fn sentence(&self, target: &Party) -> String {
        let names: Vec<String> = match self.everybody {
            true => {
                let but: Vec<String> = self.but.iter().map(|party| party.name.clone()).collect();
                let but = match but.is_empty() {
                    true => String::new(),
                    false => format!(" (but {}, whose own servers don't open it)", listed(&but)),
                };
                let partial = self.who.iter().filter(|who| {
                    who.passages.iter().all(|p| !p.is_for_all()) && who.party.kind != PartyKind::Any
                });
                let partial: Vec<String> = partial.map(Who::name).collect();
                let partial = match partial.is_empty() {
                    true => String::new(),
                    false => format!(" (of these, only {})", listed(&partial)),
                };
                vec![format!("everybody{but}{partial}")]
            }
            false => self.who.iter().map(Who::name).collect(),
        };
        format!("{} can reach {} on {}", listed(&names), whom(target), services(&self.services))
    }

    /// The allows behind it, each once, with their places.
    pub(crate) fn allows(&self) -> Vec<(String, String)> {
        let gates = self.who.iter().flat_map(|who| &who.passages);
        let gates = gates.flat_map(|passage| [passage.opened_by, passage.accepted_by]);
        let mut allows = Vec::new();
        for gate in gates {
            let Gate::Allow(allow) = gate else { continue };
            let allow = (allow.key.to_string(), allow.location.to_string());
            if !allows.contains(&allow) {
                allows.push(allow);
            }
        }
        allows
    }
}

impl Who<'_, '_> {
    /// `web (10 addresses)`, `10.0.0.1 of web`, `the user appuser of app (10 addresses)`
    fn name(&self) -> String {
        let party = self.party;
        let whole = match (party.kind, party.addresses.as_ref()) {
            (PartyKind::Tier, Some(addresses)) => format!("{} ({})", party.name, size(addresses)),
            _ => party.name.clone(),
        };
        if self.passages.iter().any(|passage| passage.is_for_all()) {
            return whole;
        }
        let mut parts: BTreeSet<String> = BTreeSet::new();
        for passage in &self.passages {
            let mut part = match &passage.from {
                Portion::All => whole.clone(),
                Portion::Some(addresses) => format!("{addresses} of {}", party.name),
            };
            if !passage.users.is_empty() {
                let users: Vec<String> = passage.users.iter().map(ToString::to_string).collect();
                part = format!("the user {} of {part}", users.join(", "));
            }
            if let Portion::Some(addresses) = &passage.to {
                part = format!("{part} (at {addresses} only)");
            }
            parts.insert(part);
        }
        listed(&parts.into_iter().collect::<Vec<_>>())
    }
}

/// A receiver in a sentence.
pub(crate) fn whom(target: &Party) -> String {
    match target.kind {
        PartyKind::Any => "addresses in no tier".into(),
        PartyKind::Tier | PartyKind::Addresses => target.name.clone(),
    }
}

/// `10 addresses`, or how many ranges where nobody counts the addresses.
pub(crate) fn size(addresses: &policy::Addresses) -> String {
    let ranges = addresses.v4.len() + addresses.v6.len();
    match addresses.count() {
        Some(1) => "1 address".into(),
        Some(count) => format!("{count} addresses"),
        None => format!("{ranges} range{}", if ranges == 1 { "" } else { "s" }),
    }
}

pub(crate) fn services(service: &Service) -> String {
    match service.any {
        true => "every service".into(),
        false => listed(&service.names()),
    }
}

/// `a, b and c`
fn listed(items: &[String]) -> String {
    match items {
        [] => "nobody".into(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// What holds beside the allows, a line each.
pub(crate) fn notes(policy: &Policy, target: &Party) -> Vec<String> {
    let mut notes = Vec::new();
    let name = &target.name;
    if target.kind == PartyKind::Addresses && target.is_server() {
        let tiers: Vec<String> = target.tiers().cloned().collect();
        notes.push(format!("{name} is in {}", listed(&tiers)));
    }
    match policy.mode.input {
        _ if !target.is_server() => {
            notes.push(format!("{name} is in no tier: what it accepts itself isn't known here"));
        }
        Mode::Off => notes.push("input is off: servers accept everything".into()),
        Mode::Observe => notes.push("input only observes: everything else passes too".into()),
        Mode::Enforce => {
            let what =
                "on ICMP echo requests, ICMP errors and neighbour discovery, which are built in";
            notes.push(format!("everybody can reach {name} {what}"));
        }
    }
    match policy.mode.output {
        Mode::Off => notes.push("output is off: servers open everything".into()),
        Mode::Observe => {
            notes.push("output only observes: servers may open everything else too".into())
        }
        Mode::Enforce => {}
    }
    notes
}

fn as_text(
    target: &Party,
    access: &[Access<'_, '_>],
    notes: &[String],
    on: Option<&Service>,
) -> String {
    let mut text = String::new();
    for access in access {
        text += &format!("{}\n", styled(HEADING, &access.sentence(target)));
        let allows: Vec<String> = access
            .allows()
            .into_iter()
            .map(|(key, place)| format!("  {key} ({place})\n"))
            .collect();
        text += &styled(FAINT, &allows.concat());
    }
    if access.is_empty() {
        let on = on.map(|on| format!(" on {}", services(on))).unwrap_or_default();
        text += &format!("no allow lets anybody reach {}{on}\n", target.name);
    }
    text += &notes.iter().map(|note| format!("{note}\n")).collect::<String>();
    text
}

fn as_json(target: &Party, access: &[Access<'_, '_>], notes: &[String]) -> Value {
    let access: Vec<Value> = access.iter().map(|access| of_access(access, target)).collect();
    json!({ "whom": target.name, "tiers": target.tiers().collect::<Vec<_>>(), "access": access, "notes": notes })
}

/// One sentence, and what it is made of.
pub(crate) fn of_access(access: &Access<'_, '_>, target: &Party) -> Value {
    let who = access.who.iter().map(|who| {
        let passages = who.passages.iter().map(|passage| passage_json(passage));
        json!({
            "name": who.party.name,
            "addresses": who.party.addresses.as_ref().and_then(policy::Addresses::count),
            "passages": passages.collect::<Vec<_>>(),
        })
    });
    json!({
        "sentence": access.sentence(target),
        "services": access.services.names(),
        "everybody": access.everybody,
        "who": who.collect::<Vec<_>>(),
        "but": access.but.iter().map(|party| &party.name).collect::<Vec<_>>(),
    })
}

/// A passage for programs: parts are null where they are everything.
pub(crate) fn passage_json(passage: &Passage<'_>) -> Value {
    let portion = |portion: &Portion| match portion {
        Portion::All => Value::Null,
        Portion::Some(addresses) => json!(addresses.ranges().collect::<Vec<_>>()),
    };
    let gate = |gate: &Gate<'_>| match gate {
        Gate::Allow(allow) => {
            json!({ "allow": allow.key.to_string(), "place": allow.location.to_string() })
        }
        Gate::Off => json!({ "off": true }),
        Gate::NoServer => json!({ "no_server": true }),
    };
    json!({
        "services": passage.service.names(),
        "users": passage.users.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "from": portion(&passage.from),
        "to": portion(&passage.to),
        "opened_by": gate(&passage.opened_by),
        "accepted_by": gate(&passage.accepted_by),
    })
}
