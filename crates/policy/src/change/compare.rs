//! What one direction of two reaches differs in: for each service and each scope of this server, the
//! addresses that one has and the other hasn't.
//!
//! Openings of the same tier on both sides are the same opening, although its members differ. What
//! these members alone make different is told as "web gains 10.0.0.1", once and not for each
//! service; everything else is told as what is open now and wasn't. Members are told only if a
//! difference comes of them: an address that had it all by another allow gains nothing.

use super::group::{blocks, rectangles};
use super::peers::{Names, Peers};
use super::services::Axis;
use super::{Members, Scopes, Step};
use crate::addresses::Addresses;
use crate::reach::{Direction, EVERY, Opening, Peer, Reach, Scope};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// A part of this server that openings tell apart; none for all that isn't named by any.
pub(super) type Atom = Option<Part>;

/// A part of this server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The address that a tier holds.
    Tier(String),
    /// The programs of a user.
    User(u32),
}

/// Who may do what an opening says, apart from the service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Source {
    scope: Scope,
    tier: Option<String>,
    addresses: Addresses,
}

impl Source {
    fn holds(&self, atom: &Atom) -> bool {
        match (&self.scope, atom) {
            (Scope::Server, _) => true,
            (Scope::Tiers(own), Some(Part::Tier(tier))) => own.contains(tier),
            (Scope::Users(users), Some(Part::User(user))) => users.contains(user),
            _ => false,
        }
    }

    fn parts(&self) -> Vec<Part> {
        match &self.scope {
            Scope::Server => Vec::new(),
            Scope::Tiers(tiers) => tiers.iter().cloned().map(Part::Tier).collect(),
            Scope::Users(users) => users.iter().copied().map(Part::User).collect(),
        }
    }
}

/// Sources by number.
type Sources = BTreeSet<usize>;

/// Both reaches in one direction.
pub(super) struct Comparison<'r> {
    direction: Direction,
    axis: Axis,
    sources: Vec<Source>,
    /// For each piece of the services, who has it before and after.
    cells: Vec<[Sources; 2]>,
    /// By whose allows after.
    comments: Vec<Vec<(usize, &'r str)>>,
    /// Openings of a tier whose members change: the source before, and the same after.
    twins: HashMap<usize, usize>,
}

/// What differs at one piece, for one part of the server.
struct Difference {
    atom: Atom,
    gained: Addresses,
    lost: Addresses,
}

/// What became of the members of tiers.
pub(super) type AllMembers = BTreeMap<String, Members>;

impl<'r> Comparison<'r> {
    #[expect(clippy::mutable_key_type, reason = "what an address set caches isn't in its hash")]
    pub(super) fn of(direction: Direction, before: &'r Reach, after: &'r Reach) -> Self {
        let of = |reach: &'r Reach| {
            let openings = reach.openings.iter();
            openings.filter(move |opening| opening.direction == direction)
        };
        let axis = Axis::of(of(before).chain(of(after)).map(|opening| &opening.service));
        let mut numbers: HashMap<Source, usize> = HashMap::new();
        let mut cells = vec![[Sources::new(), Sources::new()]; axis.len()];
        let mut comments = vec![Vec::new(); axis.len()];
        for (side, reach) in [before, after].into_iter().enumerate() {
            for opening in of(reach) {
                let source = source(reach, opening);
                let next = numbers.len();
                let number = *numbers.entry(source).or_insert(next);
                for piece in axis.pieces(&opening.service) {
                    cells[piece][side].insert(number);
                    if side == 1 {
                        comments[piece].push((number, opening.comment.as_str()));
                    }
                }
            }
        }
        let mut sources: Vec<(Source, usize)> = numbers.into_iter().collect();
        sources.sort_by_key(|(_, number)| *number);
        let sources: Vec<Source> = sources.into_iter().map(|(source, _)| source).collect();
        let twins = twins(&sources, &cells);
        Self { direction, axis, sources, cells, comments, twins }
    }

    /// Notes in `told` which members make a difference.
    pub(super) fn tell_members(&self, told: &mut AllMembers) {
        let mut kept: BTreeMap<&str, Addresses> = BTreeMap::new();
        let mut found: BTreeMap<&str, Members> = BTreeMap::new();
        let mut known: HashMap<&[Sources; 2], ()> = HashMap::new();
        for cell in self.cells.iter().filter(|[before, after]| before != after) {
            if self.twins.is_empty() || known.insert(cell, ()).is_some() {
                continue;
            }
            let [before, after] = cell;
            let twins: Vec<(&Source, &Source)> = self.twins_of(cell).collect();
            let others = after.iter().filter(|number| {
                !before.contains(number)
                    && !self.twins_of(cell).any(|(_, twin)| *twin == self.sources[**number])
            });
            let others: Vec<&Source> = others.map(|number| &self.sources[*number]).collect();
            for Difference { atom, gained, lost } in self.differences(cell, &BTreeMap::new()) {
                for (was, is) in twins.iter().filter(|(was, _)| was.holds(&atom)) {
                    let tier = was.tier.as_deref().unwrap_or_default();
                    let members = found.entry(tier).or_default();
                    let (more, less) =
                        (is.addresses.minus(&was.addresses), was.addresses.minus(&is.addresses));
                    members.gained = members.gained.union(&gained.meet(&more));
                    members.lost = members.lost.union(&lost.meet(&less));
                }
            }
            // Who keeps something by another allow doesn't simply lose what the tier has.
            for (was, is) in &twins {
                let tier = was.tier.as_deref().unwrap_or_default();
                let less = was.addresses.minus(&is.addresses);
                let still = others.iter().map(|other| other.addresses.meet(&less)).collect();
                let kept = kept.entry(tier).or_default();
                *kept = kept.union(&still);
            }
        }
        for (tier, Members { gained, lost }) in found {
            let lost = lost.minus(kept.get(tier).unwrap_or(&Addresses::default()));
            let members = told.entry(tier.to_owned()).or_default();
            members.gained = members.gained.union(&gained);
            members.lost = members.lost.union(&lost);
        }
    }

    fn twins_of(&self, [before, after]: &[Sources; 2]) -> impl Iterator<Item = (&Source, &Source)> {
        let twins = before.iter().filter_map(|number| {
            let twin = self.twins.get(number).filter(|twin| after.contains(twin))?;
            Some((&self.sources[*number], &self.sources[*twin]))
        });
        twins.collect::<Vec<_>>().into_iter()
    }

    /// What each part of the server has before and not after, and the other way round, once `told` is
    /// known of the members.
    fn differences(&self, cell: &[Sources; 2], told: &AllMembers) -> Vec<Difference> {
        let [before, after] = cell;
        let addresses_before = |number: &usize| {
            let source = &self.sources[*number];
            let twin = self.twins.get(number).filter(|twin| after.contains(twin));
            let (Some(twin), Some(tier)) = (twin, &source.tier) else {
                return source.addresses.clone();
            };
            let (was, is) = (&source.addresses, &self.sources[*twin].addresses);
            told_of(tier, told).fold(was.clone(), |all, Members { gained, lost }| {
                all.minus(&lost.minus(is)).union(&gained.meet(is))
            })
        };
        let addresses_after = |number: &usize| self.sources[*number].addresses.clone();
        let differences = self.atoms(before.union(after)).into_iter().map(|atom| {
            let holds = |number: &&usize| self.sources[**number].holds(&atom);
            let was = || before.iter().filter(holds);
            let is = || after.iter().filter(holds);
            let added: Addresses =
                is().filter(|number| !before.contains(number)).map(addresses_after).collect();
            let removed: Addresses =
                was().filter(|number| !after.contains(number)).map(addresses_before).collect();
            let gained = match added.is_empty() {
                true => added,
                false => added.minus(&was().map(addresses_before).collect()),
            };
            let lost = match removed.is_empty() {
                true => removed,
                false => removed.minus(&is().map(addresses_after).collect()),
            };
            Difference { atom, gained, lost }
        });
        differences.collect()
    }

    /// The parts of the server that any of `sources` tells apart, and the rest of it.
    fn atoms<'s>(&self, sources: impl IntoIterator<Item = &'s usize>) -> BTreeSet<Atom> {
        let parts = sources.into_iter().flat_map(|number| self.sources[*number].parts());
        std::iter::once(None).chain(parts.map(Some)).collect()
    }

    /// What is open after and wasn't before, and what was and isn't, but for what `told` says.
    pub(super) fn steps(
        &self,
        told: &AllMembers,
        names: [&Names<'_>; 2],
    ) -> (Vec<Step>, Vec<Step>) {
        let mut known: HashMap<&[Sources; 2], Rc<Vec<Difference>>> = HashMap::new();
        let mut gained: BTreeMap<Scopes, BTreeMap<usize, Addresses>> = BTreeMap::new();
        let mut lost = gained.clone();
        for (piece, cell) in self.cells.iter().enumerate() {
            if cell[0] == cell[1] {
                continue;
            }
            let differences =
                known.entry(cell).or_insert_with(|| Rc::new(self.differences(cell, told)));
            let all = self.atoms(cell[0].union(&cell[1]));
            let add = |to: &mut BTreeMap<Scopes, BTreeMap<usize, Addresses>>,
                       of: fn(&Difference) -> &Addresses,
                       scopes: &dyn Fn(&BTreeSet<Atom>) -> Scopes| {
                let of_atom = |d: &Difference| (BTreeSet::from([d.atom.clone()]), of(d).clone());
                for (atoms, addresses) in blocks(differences.iter().map(of_atom)) {
                    let at = to.entry(scopes(&atoms)).or_default().entry(piece).or_default();
                    *at = at.union(&addresses);
                }
            };
            // What the others gain, a part that isn't with them had already.
            add(&mut gained, |d| &d.gained, &|atoms| match atoms.contains(&None) {
                true => Scopes::AllBut(BTreeSet::new()),
                false => Scopes::Only(atoms.iter().flatten().cloned().collect()),
            });
            add(&mut lost, |d| &d.lost, &|atoms| match atoms.contains(&None) {
                true => Scopes::AllBut(all.difference(atoms).flatten().cloned().collect()),
                false => Scopes::Only(atoms.iter().flatten().cloned().collect()),
            });
        }
        let [before, after] = names;
        let gained = self.put_together(gained, true, [after, before]);
        (gained, self.put_together(lost, false, [before, after]))
    }

    fn put_together(
        &self,
        cells: BTreeMap<Scopes, BTreeMap<usize, Addresses>>,
        is_gain: bool,
        names: [&Names<'_>; 2],
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for (scopes, cells) in cells {
            for (addresses, pieces) in rectangles(cells) {
                steps.push(self.step(scopes.clone(), &addresses, &pieces, is_gain, names));
            }
        }
        steps
    }

    fn step(
        &self,
        scopes: Scopes,
        addresses: &Addresses,
        pieces: &BTreeSet<usize>,
        is_gain: bool,
        names: [&Names<'_>; 2],
    ) -> Step {
        // What may be named as well: of a gain all that is open after, though it was before.
        let known: RefCell<HashMap<&[Sources; 2], Rc<Vec<Addresses>>>> = RefCell::default();
        let free = |piece: usize| {
            let cell = &self.cells[piece];
            let open = |sources: &Sources, atom: &Atom| -> Addresses {
                let holding = sources.iter().filter(|number| self.sources[**number].holds(atom));
                holding.map(|number| self.sources[*number].addresses.clone()).collect()
            };
            let of_atom = |atom: Atom| match is_gain {
                true => open(&cell[1], &atom),
                false => open(&cell[0], &atom).minus(&open(&cell[1], &atom)),
            };
            let of_all = || match &scopes {
                Scopes::Only(parts) => parts.iter().cloned().map(Some).map(of_atom).collect(),
                Scopes::AllBut(parts) => {
                    let others = self.atoms(cell[0].union(&cell[1])).into_iter();
                    let others = others.filter(|a| a.as_ref().is_none_or(|p| !parts.contains(p)));
                    others.map(of_atom).collect()
                }
            };
            Rc::clone(known.borrow_mut().entry(cell).or_insert_with(|| Rc::new(of_all())))
        };
        let meet = |may: Addresses, piece: &usize| free(*piece).iter().fold(may, |a, b| a.meet(b));
        let may = pieces.iter().fold(Addresses::every(), meet).union(addresses);
        let (peers, named) = Peers::of(addresses, &may, names);
        let fits = |piece| free(piece).iter().all(|free| free.covers(&named));
        let services = self.axis.words(pieces, fits);
        let comments = pieces.iter().filter(|_| is_gain).flat_map(|piece| {
            let [before, _] = &self.cells[*piece];
            let gives = |(number, _): &&(usize, &str)| {
                let source = &self.sources[*number];
                !before.contains(number) && source.addresses.intersects(addresses)
            };
            self.comments[*piece].iter().filter(gives).map(|(_, comment)| (*comment).to_owned())
        });
        let comments = comments.collect();
        Step { direction: self.direction, scopes, peers, services, comments }
    }
}

/// What is told of a tier's members; what is told of any is told of every server's too.
fn told_of<'t>(tier: &str, told: &'t AllMembers) -> impl Iterator<Item = &'t Members> {
    let of_all = tier == EVERY;
    told.iter().filter(move |(name, _)| of_all || *name == tier).map(|(_, members)| members)
}

fn source(reach: &Reach, opening: &Opening) -> Source {
    let tier = match &opening.peer {
        Peer::Tier(name) => Some(name.clone()),
        Peer::Addresses(_) => None,
    };
    Source { scope: opening.scope.clone(), tier, addresses: reach.addresses(&opening.peer) }
}

/// The sources of one tier for the same scope that differ in its members alone.
fn twins(sources: &[Source], cells: &[[Sources; 2]]) -> HashMap<usize, usize> {
    let mut by_tier: BTreeMap<(&Scope, &str), [Option<usize>; 2]> = BTreeMap::new();
    for [before, after] in cells {
        for (side, numbers) in [before, after].into_iter().enumerate() {
            for number in numbers {
                let Source { scope, tier, .. } = &sources[*number];
                if let Some(tier) = tier {
                    by_tier.entry((scope, tier)).or_default()[side] = Some(*number);
                }
            }
        }
    }
    let twins = by_tier.into_values().filter_map(|pair| match pair {
        [Some(before), Some(after)] if before != after => Some((before, after)),
        _ => None,
    });
    twins.collect()
}
