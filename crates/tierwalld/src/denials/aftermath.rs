//! Denials since a change: how many there were before and since, for each generation, and what of
//! those since the last change was let through before.
//!
//! A change is told as having made it worse where what it denies was let through before, which is
//! exact, or where denials multiplied: of known senders only, since strangers come and go as they
//! like, and from a floor on, since three after none are nothing.

use super::compare::Compared;
use super::flow::Service;
use super::recent::{Recent, WINDOW};
use super::report::direction;
use crate::before::Before;
use control::{AfterChange, DenialRates, DeniedKind};
use policy::model::Tier;
use policy::{Fate, Mark};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Connections let through before and denied since, from which on that is told by itself.
const NEWLY: u64 = 5;

/// Denials multiplied where they are so many times as many as before, and at least so many; a time
/// before that was shorter than this, in seconds, says nothing.
const TIMES: u64 = 4;
const LEAST: u64 = 10;
const MEASURED: u64 = 30;

/// Generations whose denials are remembered.
const GENERATIONS: usize = 50;

/// Kinds of denials told apart, and told.
const KINDS: usize = 256;
const MOST: usize = 5;

/// All of it.
#[derive(Debug)]
pub(super) struct Aftermath {
    recent: Recent,
    /// By number, the oldest first; of the last one the present counts.
    generations: VecDeque<Generation>,
    change: Option<Change>,
    /// What holds now.
    pub(super) tiers: Arc<BTreeMap<String, Tier>>,
    /// After how many denials of what was let through before it is gone back.
    limit: Option<NonZeroU32>,
}

#[derive(Debug)]
struct Generation {
    number: u64,
    rates: DenialRates,
    /// When it began, by the clock of the packets.
    began: u32,
    /// When it ended, or the time to count in did.
    ended: Option<u32>,
}

/// The last change.
#[derive(Debug)]
struct Change {
    before: Arc<Before>,
    rates: DenialRates,
    began: u32,
    newly_denied: u64,
    newly_would_deny: u64,
    not_compared: u64,
    last: Option<u64>,
    /// What was let through before, and other denials of known senders.
    newly: BTreeMap<Kind, u64>,
    others: BTreeMap<Kind, u64>,
    alarm: bool,
    /// Denied connections that speak for going back, and whether it was asked for.
    against: u64,
    goes_back: bool,
}

/// What denials have in common that are told as one.
type Kind = (Mark, Service, String, String);

/// What has to be said or done at once.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) alarm: Option<AfterChange>,
    pub(super) goes_back: Option<AfterChange>,
}

/// What holds from now on.
#[derive(Debug)]
pub(crate) struct Present {
    pub(crate) generation: u64,
    pub(crate) before: Option<Arc<Before>>,
    pub(crate) limit: Option<NonZeroU32>,
    pub(crate) tiers: Arc<BTreeMap<String, Tier>>,
}

impl Aftermath {
    pub(super) fn new() -> Self {
        Self {
            recent: Recent::new(),
            generations: VecDeque::new(),
            change: None,
            tiers: Arc::default(),
            limit: None,
        }
    }

    /// Packets are read from now on, or no longer.
    pub(super) fn reads(&mut self, seconds: Option<u32>) {
        self.recent.reads(seconds);
    }

    /// What held before the last change.
    pub(super) fn before(&self) -> Option<Arc<Before>> {
        self.change.as_ref().map(|change| Arc::clone(&change.before))
    }

    /// Whether denials may still bring a change back.
    pub(super) fn may_go_back(&self) -> bool {
        self.limit.is_some() && self.change.as_ref().is_some_and(|change| !change.goes_back)
    }

    /// Takes note of what holds from now on. `seconds` is of a clock that goes forward only.
    pub(super) fn note(&mut self, present: Present, seconds: u32) {
        let Present { generation, before, limit, tiers } = present;
        (self.tiers, self.limit) = (tiers, limit);
        if self.generations.back().is_none_or(|last| last.number != generation) {
            if let Some(last) = self.generations.back_mut() {
                last.end(seconds);
            }
            let rates = DenialRates { before: self.recent.rate(seconds), ..Default::default() };
            let began = seconds;
            self.generations.push_back(Generation {
                number: generation,
                rates,
                began,
                ended: None,
            });
            if self.generations.len() > GENERATIONS {
                self.generations.pop_front();
            }
        }
        match (before, &mut self.change) {
            // The same change, beside what became of the way back since.
            (Some(before), Some(change)) if change.before.change == before.change => {
                change.before = before;
            }
            (Some(before), _) => {
                let rates = DenialRates { before: self.recent.rate(seconds), ..Default::default() };
                self.change = Some(Change::new(before, rates, seconds));
            }
            (None, _) => self.change = None,
        }
    }

    /// Counts connections that were compared, and so many that were too many for it.
    pub(super) fn count(
        &mut self,
        compared: &[Compared],
        not_compared: u64,
        seconds: u32,
        now: u64,
    ) -> Outcome {
        for one in compared {
            self.recent.count(seconds, one.is_known);
            if let Some(generation) = self.generations.back_mut() {
                generation.count(one.is_known, seconds);
            }
            if let Some(change) = &mut self.change {
                change.count(one, seconds, now);
            }
        }
        let Some(change) = &mut self.change else { return Outcome::default() };
        change.not_compared += not_compared;
        let alarm = !change.alarm && change.is_worse(seconds);
        change.alarm |= alarm;
        let limit = self.limit.map(|limit| u64::from(limit.get()));
        let goes_back = !change.goes_back && limit.is_some_and(|limit| change.against >= limit);
        change.goes_back |= goes_back;
        let change = &*change;
        Outcome {
            alarm: alarm.then(|| change.told(seconds)),
            goes_back: goes_back.then(|| change.told(seconds)),
        }
    }

    /// For `status`.
    pub(super) fn told(&self, seconds: u32) -> Option<AfterChange> {
        self.change.as_ref().map(|change| change.told(seconds))
    }

    /// For `history`.
    pub(super) fn rates(&self, generation: u64, seconds: u32) -> Option<DenialRates> {
        let known = self.generations.iter().find(|known| known.number == generation)?;
        let mut rates = known.rates;
        rates.after.seconds = known.seconds(seconds);
        Some(rates)
    }
}

impl Generation {
    fn count(&mut self, is_known: bool, seconds: u32) {
        if seconds.saturating_sub(self.began) < WINDOW {
            add(&mut self.rates, is_known);
        }
    }

    fn end(&mut self, seconds: u32) {
        self.ended.get_or_insert(seconds);
    }

    fn seconds(&self, now: u32) -> u64 {
        self.ended.unwrap_or(now).saturating_sub(self.began).min(WINDOW).into()
    }
}

fn add(rates: &mut DenialRates, is_known: bool) {
    match is_known {
        true => rates.after.connections += 1,
        false => rates.after.strangers += 1,
    }
}

impl Change {
    fn new(before: Arc<Before>, rates: DenialRates, began: u32) -> Self {
        Self {
            before,
            rates,
            began,
            newly_denied: 0,
            newly_would_deny: 0,
            not_compared: 0,
            last: None,
            newly: BTreeMap::new(),
            others: BTreeMap::new(),
            alarm: false,
            against: 0,
            goes_back: false,
        }
    }

    fn count(&mut self, one: &Compared, seconds: u32, now: u64) {
        if seconds.saturating_sub(self.began) < WINDOW {
            add(&mut self.rates, one.is_known);
        }
        if one.was_let_through {
            let is_denied = one.flow.mark.fate == Fate::Denied;
            match is_denied {
                true => self.newly_denied += 1,
                false => self.newly_would_deny += 1,
            }
            // Who takes a host out of its tier means it, and whoever forges an address decides nothing.
            self.against += u64::from(is_denied && !one.has_left && one.is_attested);
            self.last = Some(now);
        }
        let kinds = if one.was_let_through { &mut self.newly } else { &mut self.others };
        let Some((from, to)) = &one.ends else { return };
        let kind = (one.flow.mark, one.flow.service, from.clone(), to.clone());
        if kinds.len() < KINDS || kinds.contains_key(&kind) {
            *kinds.entry(kind).or_default() += 1;
        }
    }

    /// Whether it denies clearly more than before.
    fn is_worse(&self, seconds: u32) -> bool {
        self.newly_denied + self.newly_would_deny >= NEWLY || self.is_multiplied(seconds)
    }

    fn is_multiplied(&self, seconds: u32) -> bool {
        let DenialRates { before, after } = self.rates;
        if self.before.is_first_look || before.seconds < MEASURED {
            return false;
        }
        // What it would be by now, if nothing had changed.
        let passed = u64::from(seconds.saturating_sub(self.began).clamp(60, WINDOW));
        let usual = (before.connections * passed).div_ceil(before.seconds.max(60));
        after.connections >= LEAST.max(TIMES * usual)
    }

    fn told(&self, seconds: u32) -> AfterChange {
        let Before { generation, before, reason, time, .. } = &*self.before;
        let mut rates = self.rates;
        rates.after.seconds = seconds.saturating_sub(self.began).min(WINDOW).into();
        let kinds = if self.newly.is_empty() { &self.others } else { &self.newly };
        let mut most: Vec<(&Kind, u64)> =
            kinds.iter().map(|(kind, connections)| (kind, *connections)).collect();
        most.sort_by_key(|(_, connections)| std::cmp::Reverse(*connections));
        let most = most.into_iter().take(MOST).map(|((mark, service, from, to), connections)| {
            let (from, to) = (from.clone(), to.clone());
            let (direction, service) = (direction(mark.hook), service.to_string());
            DeniedKind { direction, service, from, to, connections }
        });
        AfterChange {
            generation: *generation,
            before: *before,
            time: *time,
            reason: reason.clone(),
            rates,
            newly_denied: self.newly_denied,
            newly_would_deny: self.newly_would_deny,
            not_compared: self.not_compared,
            last: self.last,
            most: most.collect(),
            alarm: self.alarm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::flow::Flow;
    use super::*;
    use crate::before::Part;
    use policy::{Options, load_text};
    use ruleset::Hook;
    use std::path::Path;
    use std::time::Instant;

    fn before(change: u64, before: u64) -> Arc<Before> {
        let text = "role = \"a\"\n[tiers]\na = [\"10.0.0.1\"]\n[[allow]]\nfrom = \"any\"\nto = \"a\"\nservice = \"tcp/1\"\n";
        let policy = load_text(Path::new("t.toml"), text, &Options::default()).policy;
        Arc::new(Before {
            change,
            generation: before + 1,
            before,
            reason: "reload".into(),
            time: 0,
            at: Instant::now(),
            policy: policy.expect("a good policy"),
            part: Part::default(),
            is_first_look: false,
        })
    }

    fn present(generation: u64, before: Option<Arc<Before>>, limit: u32) -> Present {
        let limit = NonZeroU32::new(limit);
        Present { generation, before, limit, tiers: Arc::default() }
    }

    fn connection(is_known: bool, was_let_through: bool) -> Compared {
        let flow = Flow {
            mark: Mark { hook: Hook::Input, fate: Fate::Denied },
            source: [10, 0, 0, 2].into(),
            destination: [10, 0, 0, 1].into(),
            service: Service { protocol: 6, detail: Some(22) },
            user: None,
            interface: 2,
        };
        let ends = Some(("web".to_owned(), "app".to_owned()));
        Compared { flow, is_known, was_let_through, has_left: false, is_attested: true, ends }
    }

    fn count(aftermath: &mut Aftermath, one: &Compared, times: usize, seconds: u32) -> Outcome {
        let all = vec![one.clone(); times];
        aftermath.count(&all, 0, seconds, 7)
    }

    /// Read from second 0 on, `usual` denials of known senders in ten minutes, then a change.
    fn changed(usual: usize) -> Aftermath {
        let mut aftermath = Aftermath::new();
        aftermath.reads(Some(0));
        aftermath.note(present(1, None, 0), 0);
        count(&mut aftermath, &connection(true, false), usual, 300);
        aftermath.note(present(2, Some(before(1, 1)), 0), 600);
        aftermath
    }

    #[test]
    fn denials_that_multiply_are_told_once() {
        let mut aftermath = changed(20);
        let other = connection(true, false);
        assert!(count(&mut aftermath, &other, 9, 610).alarm.is_none());
        let alarm = count(&mut aftermath, &other, 1, 620).alarm.expect("ten where two were usual");
        assert_eq!(
            alarm.sentence(),
            "denied connections went from 2 to 10 a minute since generation 2; generation 1 would \
             have denied them too, all tcp/22 from web to app"
        );
        assert!(count(&mut aftermath, &other, 100, 630).alarm.is_none(), "once");
        assert!(aftermath.told(640).expect("a change").alarm);
    }

    #[test]
    fn what_was_usual_or_little_or_of_strangers_is_not_told() {
        let mut aftermath = changed(0);
        assert!(count(&mut aftermath, &connection(true, false), 9, 610).alarm.is_none());
        assert!(count(&mut aftermath, &connection(false, false), 5000, 610).alarm.is_none());
        let mut aftermath = changed(100);
        assert!(count(&mut aftermath, &connection(true, false), 39, 610).alarm.is_none());
        // Over a longer time it is no more than usual.
        assert!(count(&mut aftermath, &connection(true, false), 60, 1100).alarm.is_none());
        // Much later it isn't the change.
        assert!(count(&mut aftermath, &connection(true, false), 5000, 1300).alarm.is_none());
        // Nobody knows what was usual.
        let mut aftermath = Aftermath::new();
        aftermath.reads(Some(590));
        aftermath.note(present(2, Some(before(1, 1)), 0), 600);
        assert!(count(&mut aftermath, &connection(true, false), 50, 610).alarm.is_none());
    }

    #[test]
    fn what_was_let_through_is_told_whenever_it_is_denied() {
        let mut aftermath = changed(100);
        let newly = connection(true, true);
        assert!(count(&mut aftermath, &newly, 4, 80_000).alarm.is_none());
        let alarm = count(&mut aftermath, &newly, 1, 80_001).alarm.expect("five");
        assert_eq!((alarm.newly_denied, alarm.most[0].connections), (5, 5));
        // Another change begins anew; the same one with another way back doesn't.
        aftermath.note(present(2, Some(before(1, 1)), 0), 80_002);
        assert_eq!(aftermath.told(80_003).expect("a change").newly_denied, 5);
        aftermath.note(present(3, Some(before(2, 2)), 0), 80_004);
        assert_eq!(aftermath.told(80_005).expect("a change").newly_denied, 0);
    }

    #[test]
    fn it_is_gone_back_once_at_the_limit_by_those_that_count() {
        let mut aftermath = changed(0);
        aftermath.note(present(2, Some(before(1, 1)), 3), 600);
        let (newly, noise) = (connection(true, true), connection(true, false));
        let left = Compared { has_left: true, ..newly.clone() };
        let forged = Compared { is_attested: false, ..newly.clone() };
        assert!(count(&mut aftermath, &noise, 50, 601).goes_back.is_none());
        assert!(count(&mut aftermath, &left, 50, 601).goes_back.is_none());
        assert!(count(&mut aftermath, &forged, 50, 601).goes_back.is_none());
        assert!(aftermath.may_go_back());
        assert!(count(&mut aftermath, &newly, 2, 601).goes_back.is_none());
        assert!(count(&mut aftermath, &newly, 1, 601).goes_back.is_some());
        assert!(count(&mut aftermath, &newly, 1, 601).goes_back.is_none(), "once");
        assert!(!aftermath.may_go_back());
    }

    #[test]
    fn each_generation_has_its_first_ten_minutes() {
        let mut aftermath = changed(20);
        count(&mut aftermath, &connection(true, false), 3, 700);
        count(&mut aftermath, &connection(false, false), 2, 700);
        aftermath.note(present(3, Some(before(2, 2)), 0), 720);
        count(&mut aftermath, &connection(true, false), 1, 1400);
        let rates = |number| aftermath.rates(number, 2000).expect("remembered");
        let (first, second, third) = (rates(1), rates(2), rates(3));
        assert_eq!((first.before.seconds, first.after.connections), (0, 20));
        assert_eq!((second.before.connections, second.before.per_minute()), (20, 2));
        let after = second.after;
        assert_eq!((after.connections, after.strangers, after.seconds), (3, 2, 120));
        assert_eq!((third.before.connections, third.after.connections), (23, 0));
        assert_eq!(third.after.seconds, 600);
        assert!(aftermath.rates(4, 2000).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let mut aftermath = changed(0);
        for number in 0..10_000u32 {
            let ends = Some((number.to_string(), "app".to_owned()));
            let one = Compared { ends, ..connection(true, number % 2 == 0) };
            count(&mut aftermath, &one, 1, 601);
            aftermath.note(present(2 + u64::from(number), Some(before(1, 1)), 0), 601);
        }
        let change = aftermath.change.as_ref().expect("a change");
        assert_eq!((change.newly.len(), change.others.len()), (KINDS, KINDS));
        assert_eq!(aftermath.generations.len(), GENERATIONS);
        assert_eq!(aftermath.told(602).expect("a change").newly_denied, 5000);
    }
}
