//! Suggestions in the policy, and the evaluator's word on every flow and its neighbours.

use super::spec::{Flow, Spec};
use super::week;
use super::world::random::Random;
use super::world::{World, compiled, parse};
use policy::explain::Server;
use policy::judge::Judge;
use policy::model::{Mode, Modes, Policy, Service};
use policy::suggest::{Count, Denial, Suggestions};
use policy::{Addresses, Fate, Mark, Wanted};
use ruleset::evaluate::Packet;
use ruleset::{Hook, Ruleset};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Each policy has a seed of its own, from this one on. `TIERWALL_SEED` begins elsewhere.
const SEED: u64 = 20_261_122;
const POLICIES: u64 = 150;
const EDITS: usize = 20;

/// Flows that begin a sample, and how many grow out of each.
const SEEDS: usize = 12;
const GROWN: usize = 5;

const USERS: [Option<u32>; 5] = [None, Some(0), Some(33), Some(1000), Some(65534)];

/// Protocols of every kind: with ports, without, ICMP, and one whose number is a port.
const PROTOCOLS: [(u8, bool); 9] = [
    (6, true),
    (6, true),
    (17, true),
    (132, true),
    (47, false),
    (53, false),
    (1, true),
    (58, true),
    (6, false),
];

#[test]
fn the_same_passes_and_nothing_else_under_random_policies() {
    let given = std::env::var("TIERWALL_SEED").ok().map(|seed| seed.parse().unwrap());
    let first: u64 = given.unwrap_or(SEED);
    let mut tally = Tally::default();
    for seed in first..first + POLICIES {
        let mut random = Random(seed);
        let mut world = World::new(&mut random);
        for _ in 0..EDITS {
            world.step(&mut random);
        }
        let text = world.text(&mut random);
        let context = format!("TIERWALL_SEED={seed} for {:?}\n{text}", world.role());
        let policy = parse(&text, &context);
        let own: Vec<IpAddr> = (0..=random.below(3)).map(|_| address(&mut random)).collect();
        let addresses = own.iter().copied().map(Addresses::single).collect();
        let server = Server { role: world.role().clone(), addresses };
        let sample = sample(&mut random, &own);
        let stage = Stage { text, policy, server, services: BTreeMap::new(), context };
        stage.prove(&mut random, &sample, &mut tally);
    }
    println!("{tally:?}");
    tally.check();
}

#[test]
fn the_same_passes_and_nothing_else_after_a_week() {
    for (seed, role) in [(1, "auto"), (2, "app"), (3, "auto")] {
        let mut random = Random(seed);
        let text = week::policy(role, "observe");
        let (policy, services) = week::load(&text);
        let server = week::server(&policy);
        let sample = week::sample(&mut random, 3_000);
        let context = format!("a week of seed {seed}, role {role}");
        let stage = Stage { text, policy, server, services, context };
        let mut tally = Tally::default();
        stage.prove(&mut random, &sample, &mut tally);
        println!("{tally:?}");
        assert!(tally.asked > 500 && tally.opened > 1000 && tally.shut > 10_000, "{tally:?}");
        assert!(tally.doubtful > 10 && tally.unsayable > 10 && tally.passing > 20, "{tally:?}");
    }
}

/// A server with its policy.
struct Stage {
    text: String,
    policy: Policy,
    server: Server,
    services: BTreeMap<String, Service>,
    context: String,
}

impl Stage {
    /// Both statements of this file, without what is doubtful and with it.
    fn prove(&self, random: &mut Random, sample: &[Denial], tally: &mut Tally) {
        let observing = Policy { mode: both(Mode::Observe), ..self.policy.clone() };
        let users = BTreeMap::from([("root".to_owned(), 0), ("nobody".to_owned(), 65534)]);
        let suggestions = observing.suggest(&self.server, &users, sample);
        self.nothing_is_left_out(sample, &suggestions, tally);
        let before = self.enforced(&self.text);
        let judge = Judge::new(&before.0, &before.1);
        let (denied, passing): (Vec<Denial>, Vec<Denial>) =
            sample.iter().cloned().partition(|denial| !passes(&judge, &denial.into()));
        tally.passing += passing.len();
        let neighbours = neighbours(random, sample, &self.policy);
        for with_doubtful in [false, true] {
            let chosen =
                suggestions.allows.iter().filter(|allow| with_doubtful || allow.doubt.is_none());
            let text: String =
                chosen.map(|allow| format!("\n{}", allow.to_toml(&self.services, None))).collect();
            let after = self.enforced(&format!("{}{text}", self.text));
            let judge_after = Judge::new(&after.0, &after.1);
            let spec = Spec::new(&self.policy, &self.server, &denied, with_doubtful);
            for denial in &denied {
                let flow = Flow::from(denial);
                if spec.asks_for(&flow) {
                    tally.asked += 1;
                    assert!(
                        passes(&judge_after, &flow),
                        "{flow:?} is to pass\n{}\n{text}",
                        self.context
                    );
                }
            }
            for flow in &neighbours {
                let wanted = passes(&judge, flow) || spec.opens(flow);
                let met = passes(&judge_after, flow);
                tally.opened += usize::from(met && !passes(&judge, flow));
                tally.shut += usize::from(!met);
                assert_eq!(met, wanted, "{flow:?} passes: {met}\n{}\n{text}", self.context);
            }
        }
    }

    /// Every connection is told once: as an allow, as what can't be one, or as what passes.
    fn nothing_is_left_out(
        &self,
        sample: &[Denial],
        suggestions: &Suggestions<'_>,
        tally: &mut Tally,
    ) {
        let sum = |denials: &[Denial]| denials.iter().map(|d| d.count.connections).sum::<u64>();
        let Suggestions { allows, unsayable, passing } = suggestions;
        let told = allows.iter().map(|allow| &allow.evidence);
        let told = told.chain(unsayable.iter().map(|other| &other.evidence)).chain(passing);
        let told: u64 = told.map(policy::suggest::Evidence::connections).sum();
        assert_eq!(told, sum(sample), "{}", self.context);
        tally.unsayable += unsayable.len();
        tally.doubtful += allows.iter().filter(|allow| !allow.doubt.is_none()).count();
        let order = |allow: &policy::suggest::Suggestion<'_>| {
            (allow.doubt, std::cmp::Reverse(allow.evidence.connections()))
        };
        assert!(allows.is_sorted_by_key(order), "the most first: {allows:#?}");
    }

    /// A policy as it would be enforced, and its table here.
    fn enforced(&self, text: &str) -> (Policy, Ruleset) {
        let mut policy = parse(text, &self.context);
        policy.mode = both(Mode::Enforce);
        let table = compiled(&policy, &self.server.role, None);
        (policy, table)
    }
}

fn both(mode: Mode) -> Modes {
    Modes { input: mode, output: mode }
}

/// What the evaluator says of a new connection.
fn passes(judge: &Judge<'_>, flow: &Flow) -> bool {
    let Flow { hook, source, destination, wanted, user } = *flow;
    if source.is_ipv4() != destination.is_ipv4() || hook == Hook::Forward {
        return false;
    }
    let Wanted { protocol, detail } = wanted;
    let has_ports = [6, 17, 33, 132, 136].contains(&protocol);
    let packet = Packet {
        ports: detail.filter(|_| has_ports).map(|port| (50_000, port)),
        icmp_type: detail.filter(|_| !has_ports).map(|kind| kind as u8),
        user: user.filter(|_| hook == Hook::Output),
        ..Packet::first(hook, source, destination, protocol)
    };
    !judge.rule_on(&packet).is_denied()
}

/// From the space of the random policies, and around it.
fn address(random: &mut Random) -> IpAddr {
    let host = random.below(90) as u32;
    match random.below(10) {
        0 => Ipv4Addr::new(203, 0, 113, host as u8).into(),
        1 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host as u16).into(),
        2..=6 => Ipv4Addr::from_bits(0x0a00_0000 + host).into(),
        _ => Ipv6Addr::from_bits((0xfd << 120) + u128::from(host)).into(),
    }
}

fn wanted(random: &mut Random) -> Wanted {
    let (protocol, has_detail) = random.pick(&PROTOCOLS);
    let ports = [0, 1, 2, 3, 4, 5, 6, 7, 8, 65535];
    let port = if random.percent(95) { random.pick(&ports[1..]) } else { random.pick(&ports) };
    Wanted { protocol, detail: has_detail.then_some(port) }
}

/// Some flows, and others like them: from another address, to another, on another service.
fn sample(random: &mut Random, own: &[IpAddr]) -> Vec<Denial> {
    let mut flows = Vec::new();
    for _ in 0..SEEDS {
        let hook = random.pick(&[Hook::Input, Hook::Output]);
        let mine = random.pick(own);
        let peer = loop {
            let peer = address(random);
            if peer.is_ipv4() == mine.is_ipv4() {
                break peer;
            }
        };
        let (source, destination) = if hook == Hook::Input { (peer, mine) } else { (mine, peer) };
        let user = random.pick(&USERS).filter(|_| hook == Hook::Output);
        let seed = Flow { hook, source, destination, wanted: wanted(random), user };
        flows.push(seed);
        for _ in 0..random.below(GROWN) {
            flows.extend(mutated(random, &seed).filter(|flow| flow.wanted.detail != Some(0)));
        }
        // Sometimes a whole range of ports.
        if random.percent(8) {
            let ports = 0..random.below(30) as u16;
            let ports = ports.map(|port| Wanted { protocol: 6, detail: Some(100 + port) });
            flows.extend(ports.map(|wanted| Flow { wanted, ..seed }));
        }
    }
    flows.sort_unstable();
    flows.dedup();
    flows.iter().map(|flow| denial(random, flow)).collect()
}

pub(crate) fn denial(random: &mut Random, flow: &Flow) -> Denial {
    let Flow { hook, source, destination, wanted, user } = *flow;
    let fate = random.pick(&[Fate::WouldDeny, Fate::WouldDeny, Fate::WouldDeny, Fate::Denied]);
    let first = 1_800_000_000 + random.below(600_000) as u64;
    Denial {
        mark: Mark { hook, fate },
        source,
        destination,
        wanted,
        user,
        count: Count {
            connections: 1 + random.below(500) as u64,
            retries: random.below(20) as u64,
            uncertain: 0,
        },
        first,
        last: first + random.below(90_000) as u64,
    }
}

/// The same flow but for one thing.
fn mutated(random: &mut Random, flow: &Flow) -> impl Iterator<Item = Flow> + use<> {
    let other = address(random);
    let mut changed = *flow;
    match random.below(7) {
        0 => changed.source = other,
        1 => changed.destination = other,
        2 => changed.wanted.detail = flow.wanted.detail.map(|port| port.saturating_add(1)),
        3 => changed.wanted.detail = flow.wanted.detail.map(|port| port.saturating_sub(1)),
        4 => changed.user = random.pick(&USERS).filter(|_| flow.hook == Hook::Output),
        5 => changed.wanted = wanted(random),
        _ => {
            // The other direction, between the same two.
            changed.hook = if flow.hook == Hook::Input { Hook::Output } else { Hook::Input };
            (changed.source, changed.destination) = (flow.destination, flow.source);
            changed.user = random.pick(&USERS).filter(|_| changed.hook == Hook::Output);
        }
    }
    let fits = changed.source.is_ipv4() == changed.destination.is_ipv4();
    fits.then_some(changed).into_iter()
}

/// Flows beside those of the sample.
fn neighbours(random: &mut Random, sample: &[Denial], policy: &Policy) -> Vec<Flow> {
    let mut flows: Vec<Flow> = Vec::new();
    for denial in sample.iter().filter(|denial| denial.mark.hook != Hook::Forward) {
        let flow = Flow::from(denial);
        for _ in 0..8 {
            flows.extend(mutated(random, &flow));
        }
        // As another member of the tiers, and at their borders.
        for tier in policy.tiers.values() {
            let borders = tier.v4.ranges().take(3).flat_map(|range| {
                let (first, last) = (range.first.to_bits(), range.last.to_bits());
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
            });
            let v4 = borders.map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)));
            let borders = tier.v6.ranges().take(3).flat_map(|range| {
                let (first, last) = (range.first.to_bits(), range.last.to_bits());
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
            });
            let v6 = borders.map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)));
            for address in v4.chain(v6).filter(|a| a.is_ipv4() == flow.source.is_ipv4()) {
                match random.percent(50) {
                    true => flows.push(Flow { source: address, ..flow }),
                    false => flows.push(Flow { destination: address, ..flow }),
                }
            }
        }
    }
    flows.sort_unstable();
    flows.dedup();
    flows
}

/// How often something was there to be seen: a test of nothing would pass too.
#[derive(Debug, Default)]
struct Tally {
    /// Flows of samples that had to pass.
    asked: usize,
    /// Neighbours that pass since.
    opened: usize,
    /// Neighbours that don't.
    shut: usize,
    /// Allows that look like attacks.
    doubtful: usize,
    unsayable: usize,
    passing: usize,
}

impl Tally {
    fn check(&self) {
        let Self { asked, opened, shut, doubtful, unsayable, passing } = *self;
        let counts = [asked / 10, opened / 10, shut / 100, doubtful, unsayable, passing];
        assert!(counts.iter().all(|count| *count >= 200), "{self:?}");
    }
}
