//! The evaluator against the kernel: random packets under random policies, each with the verdict
//! and the counters that the evaluator predicts.
//!
//! - [`world`]: random policies
//! - [`exchange`]: random packets, alone or in answer to each other; [`aim`]: such as an allow names
//! - [`tracking`]: what connection tracking calls them, an input of the evaluator
//! - [`prediction`]: what the evaluator says of them, and who would notice
//! - [`wire`]: sends them, and says what became of them
//! - [`walk`]: what no policy compiles to, and the evaluator knows all the same
//!
//! The packets of a policy are sent at once, and their counts compared in sum; where that differs,
//! each exchange is repeated alone, so that the one that the evaluator is wrong about is named.

#![allow(clippy::unwrap_used)]

#[path = "../kernel/mod.rs"]
mod kernel;
#[allow(dead_code, reason = "the tests of built-in traffic send other kinds of packets")]
#[path = "../traffic/packet.rs"]
mod packet;
#[path = "../world/mod.rs"]
mod world;

mod aim;
mod exchange;
mod prediction;
mod tracking;
mod walk;
mod wire;

use exchange::{Exchange, Exchanges, Sending};
use packet::Path;
use policy::judge::{By, Judge};
use policy::{Labels, Policy, Role};
use prediction::{Fate, Prediction};
use ruleset::{AddressRange, AddressSet, Lifetime, Reject, Ruleset, States, TimedSet};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};
use tracking::Tracking;
use wire::Wire;
use world::random::Random;
use world::{World, compiled, parse};

/// Each policy has a seed of its own, from this one on. `TIERWALL_SEED` begins elsewhere; a soak
/// does by itself.
const SEED: u64 = 20_261_121;
const POLICIES: u64 = 200;
const SOAK_POLICIES: u64 = 20_000;

/// Of one packet or a few.
const EXCHANGES: usize = 85;

/// Edits between the small policy that a world begins with and the one that is tested.
const EDITS: usize = 25;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn the_evaluator_agrees_with_the_kernel() {
    let soak = std::env::var_os("TIERWALL_SOAK").is_some();
    let given = std::env::var("TIERWALL_SEED").ok().map(|seed| seed.parse().unwrap());
    let first: u64 = given.unwrap_or(if soak { now() << 20 } else { SEED });
    println!("TIERWALL_SEED={first}");
    let mut wire = Wire::new();
    let mut tally = Tally::default();
    for seed in first..first + if soak { SOAK_POLICIES } else { POLICIES } {
        let mut random = Random(seed);
        let scene = Scene::random(&mut random, seed);
        let ruleset = scene.commit(&mut wire);
        let mut exchanges = Exchanges::new(&mut random, &scene.policy, &scene.role);
        let exchanges: Vec<Exchange> = (0..EXCHANGES).map(|_| exchanges.exchange()).collect();
        let stage = Stage { scene: &scene, judge: Judge::new(&scene.policy, &ruleset) };
        if let Err(disagreement) = stage.play(&mut wire, &exchanges, &mut tally) {
            let alone = exchanges.iter().find_map(|exchange| {
                stage.play(&mut wire, std::slice::from_ref(exchange), &mut Tally::default()).err()
            });
            let disagreement = alone.unwrap_or(format!("only together: {disagreement}"));
            panic!("{disagreement}\n\n{}\n{ruleset}", scene.context);
        }
    }
    println!("{tally:?}");
    tally.check();
}

/// A policy and the server it is for.
struct Scene {
    policy: Policy,
    role: Role,
    text: String,
    context: String,
}

impl Scene {
    fn random(random: &mut Random, seed: u64) -> Self {
        let mut world = World::new(random);
        for _ in 0..EDITS {
            world.step(random);
        }
        let text = world.text(random);
        let context = format!("TIERWALL_SEED={seed} for {:?}\n{text}", world.role());
        let mut policy = parse(&text, &context);
        if random.percent(15) {
            add_timed_member(&mut policy, random);
        }
        if random.percent(2) {
            add_many_members(&mut policy, random);
        }
        Self { policy, role: world.role().clone(), text, context }
    }

    /// Brings it to the kernel as the daemon does.
    fn commit(&self, wire: &mut Wire) -> Ruleset {
        let wanted = |found: &Ruleset| compiled(&self.policy, &self.role, Some(found));
        let changed = wire.kernel.change(wanted);
        let (found, ..) = changed.unwrap_or_else(|error| panic!("{error}\n{}", self.context));
        wanted(&found.ruleset)
    }
}

fn random_tier<'p>(policy: &'p mut Policy, random: &mut Random) -> &'p mut policy::model::Tier {
    let names: Vec<String> = policy.tiers.keys().cloned().collect();
    policy.tiers.get_mut(&names[random.below(names.len())]).unwrap()
}

/// One that ends after this test has.
fn add_timed_member(policy: &mut Policy, random: &mut Random) {
    let first = Ipv4Addr::new(10, 0, 0, random.below(80) as u8);
    let range = AddressRange { first, last: Ipv4Addr::from_bits(first.to_bits() + 7) };
    let lifetime = Lifetime { until: now() + 86_400, timeout: 86_400 };
    random_tier(policy, random).timed.v4 = TimedSet::new(vec![(range, lifetime)]);
}

/// So many that single addresses get a set of their own.
fn add_many_members(policy: &mut Policy, random: &mut Random) {
    let single = |index: u32| Ipv4Addr::from_bits(0x0a00_0000 + 2 * index);
    let many = (0..12_000).map(|index| AddressRange { first: single(index), last: single(index) });
    let tier = random_tier(policy, random);
    tier.v4 = tier.v4.union(&AddressSet::new(many.collect()));
}

/// A scene that is in the kernel, and what the evaluator knows of it.
struct Stage<'a> {
    scene: &'a Scene,
    judge: Judge<'a>,
}

impl Stage<'_> {
    /// Plays the exchanges side by side: the first packet of each, then the second, then the third.
    fn play(
        &self,
        wire: &mut Wire,
        exchanges: &[Exchange],
        tally: &mut Tally,
    ) -> Result<(), String> {
        wire.forget_connections();
        let mut tracking = Tracking::default();
        let before = wire.kernel.connection.counters().unwrap();
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        let mut story = Vec::new();
        for round in 0.. {
            let mut sendings: Vec<&Sending> =
                exchanges.iter().filter_map(|exchange| exchange.get(round)).collect();
            if sendings.is_empty() {
                break;
            }
            // In the order in which they are sent.
            sendings.sort_by_key(|s| (matches!(s.packet.path, Path::Out | Path::Within), s.socket));
            let predictions: Vec<Prediction<'_>> = sendings
                .iter()
                .map(|sending| Prediction::of(&self.judge, &mut tracking, sending))
                .collect();
            let fates = wire.round(&sendings);
            for ((sending, prediction), fate) in sendings.iter().zip(&predictions).zip(fates) {
                for counter in prediction.counters() {
                    *expected.entry(counter.to_owned()).or_default() += 1;
                }
                self.check_reason(prediction);
                tally.count(sending, prediction);
                let line = told(sending, prediction, fate);
                if fate != prediction.fate {
                    return Err(format!("{}\n{line}", story.join("\n")));
                }
                if exchanges.len() == 1 {
                    story.push(line);
                }
            }
        }
        let after = wire.kernel.connection.counters().unwrap();
        // What is logged depends on rates, which the evaluator doesn't know.
        for (name, (packets, _)) in after.into_iter().filter(|(n, _)| !n.starts_with("logged.")) {
            let counted = packets - before[&name].0;
            let expected = expected.get(&name).copied().unwrap_or_default();
            if counted != expected {
                let story = story.join("\n");
                return Err(format!("{story}\n{name} counted {counted} and not {expected}"));
            }
        }
        Ok(())
    }

    /// What is named as the reason is what counted; an allow stands where the ruling says.
    fn check_reason(&self, prediction: &Prediction<'_>) {
        let (scene, labels) = (self.scene, Labels::of(&self.scene.policy.allows));
        for ruling in &prediction.rulings {
            let counted = |kinds: &[&str]| {
                let [counter] = ruling.counters[..] else { return false };
                kinds.iter().any(|kind| counter.starts_with(kind))
            };
            let is_right = match ruling.by {
                By::Allow(allow) => {
                    let line = scene.text.lines().nth(allow.location.line - 1);
                    let index = scene.policy.allows.iter().position(|other| other == allow);
                    // An established flow that is asked for its user was counted when it began.
                    let is_asked = prediction.state == States::ESTABLISHED;
                    let is_counted = match is_asked {
                        true => ruling.counters.is_empty(),
                        false => counted(&[&labels.counter(index.unwrap())]),
                    };
                    line == Some("[[allow]]") && is_counted
                }
                By::Closing => counted(&["denied.", "would-deny."]),
                By::BuiltIn(name) => match ruling.is_denied() || ruling.would_be_denied() {
                    true if name == "invalid" => counted(&["invalid."]),
                    true => name.starts_with("no ") && counted(&["denied.", "would-deny."]),
                    false => ruling.counters.is_empty(),
                },
                By::Unfiltered => ruling.counters.is_empty(),
            };
            assert!(is_right, "{ruling}\n{}", scene.context);
        }
    }
}

fn told(sending: &Sending, prediction: &Prediction<'_>, fate: Fate) -> String {
    let Sending { packet, user, socket, about } = sending;
    let by = if *socket { "a socket" } else { "a raw socket" };
    let rulings: Vec<String> = prediction.rulings.iter().map(ToString::to_string).collect();
    let about = about.as_ref().map(|about| format!(" about [{about}]")).unwrap_or_default();
    format!(
        "[{packet}]{about}, sent by {by} of user {user}, is {}: {}\n    predicted {:?}, met {fate:?}",
        prediction.state,
        rulings.join("; "),
        prediction.fate
    )
}

/// Whether an allow is told of that names the port the packet comes from and not that it goes to.
fn is_again(sending: &Sending, ruling: &policy::judge::Ruling<'_>) -> bool {
    let By::Allow(allow) = ruling.by else { return false };
    let names = |port: u16| {
        let transport = ruleset::Transport::of_protocol(sending.packet.protocol());
        let ranges = transport.and_then(|transport| allow.service.ports.get(&transport));
        ranges.is_some_and(|ranges| ranges.iter().any(|range| range.contains(&port)))
    };
    sending.packet.ports().is_some_and(|(from, to)| names(from) && !names(to))
}

/// How often something was there to be seen: a test of nothing would pass too.
#[derive(Debug, Default)]
struct Tally {
    packets: usize,
    /// By what gave the last verdict.
    by_allow: usize,
    by_allow_of_users: usize,
    /// On output, of flows that were established.
    asked: usize,
    asked_in_vain: usize,
    /// What goes against the direction of the allow that lets it through.
    again: usize,
    by_built_in: usize,
    by_closing: usize,
    unfiltered: usize,
    /// By what was seen of them.
    reset: usize,
    prohibited: usize,
    silence: usize,
    observed: usize,
    /// By what connection tracking calls them.
    established: usize,
    related: usize,
    invalid: usize,
    untracked: usize,
    /// By the way they took.
    ipv6: usize,
    outward: usize,
    within: usize,
    through: usize,
    by_socket: usize,
}

impl Tally {
    fn count(&mut self, sending: &Sending, prediction: &Prediction<'_>) {
        let Some(ruling) = prediction.rulings.last() else { return };
        self.packets += 1;
        match ruling.by {
            By::Allow(allow) => {
                self.by_allow += 1;
                self.by_allow_of_users +=
                    usize::from(sending.packet.path == Path::Out && !allow.users.is_empty());
            }
            By::BuiltIn(_) => self.by_built_in += 1,
            By::Closing => self.by_closing += 1,
            By::Unfiltered => self.unfiltered += 1,
        }
        let is_established = prediction.state == States::ESTABLISHED;
        self.asked += usize::from(is_established && matches!(ruling.by, By::Allow(_)));
        self.asked_in_vain += usize::from(is_established && ruling.is_denied());
        self.again += usize::from(is_again(sending, ruling));
        match prediction.fate {
            Fate::Delivered => self.observed += usize::from(ruling.would_be_denied()),
            Fate::Refused(Reject::TcpReset) => self.reset += 1,
            Fate::Refused(Reject::AdminProhibited) => self.prohibited += 1,
            Fate::Silence => self.silence += 1,
        }
        match prediction.state {
            States::ESTABLISHED => self.established += 1,
            States::RELATED => self.related += 1,
            States::INVALID => self.invalid += 1,
            States::UNTRACKED => self.untracked += 1,
            _ => {}
        }
        self.ipv6 += usize::from(matches!(sending.packet.source, IpAddr::V6(_)));
        self.by_socket += usize::from(sending.socket);
        match sending.packet.path {
            Path::In => {}
            Path::Out => self.outward += 1,
            Path::Within => self.within += 1,
            Path::Through => self.through += 1,
        }
    }

    fn check(&self) {
        let counts = [
            self.by_allow / 10,
            self.by_allow_of_users,
            self.asked,
            5 * self.asked_in_vain,
            2 * self.again,
            self.by_built_in / 10,
            self.by_closing / 10,
            self.unfiltered,
            self.reset,
            self.prohibited,
            self.silence / 10,
            self.observed,
            self.established,
            self.related,
            self.invalid,
            self.untracked,
            self.ipv6 / 10,
            self.outward / 10,
            self.within,
            self.through,
            self.by_socket,
        ];
        assert!(self.packets >= 20_000 && counts.iter().all(|count| *count >= 100), "{self:?}");
    }
}
