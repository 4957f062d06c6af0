//! From one policy to the next, hundreds of times: what is in the kernel is always what the policy
//! compiles to from nothing, and on the way there nothing was touched that stayed.

#[path = "../kernel/mod.rs"]
mod kernel;
#[path = "../listing/mod.rs"]
mod listing;
#[path = "../world/mod.rs"]
mod world;

mod border;
mod events;

use events::Events;
use kernel::Kernel;
use listing::Listing;
use netlink::KernelTable;
use policy::{Policy, Role};
use ruleset::evaluate::Packet;
use ruleset::{Hook, Plan, Rule};
use rustables::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use world::random::Random;
use world::{Edit, World, compiled, parse};

/// How many steps, from policies that this seed repeats. `TRANSITIONS_SEED` and
/// `TRANSITIONS_STEPS` take others.
const SEED: u64 = 20_261_121;
const STEPS: u64 = 2_000;
const SOAK_STEPS: u64 = 100_000;

/// Where the server's packets come from.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);

fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn what_stays_is_not_touched() {
    let seed = setting("TRANSITIONS_SEED", SEED);
    let mut random = Random(seed);
    let mut world = World::new(&mut random);
    let mut server = Server::new();
    let mut tally = Tally::default();
    let mut history = String::from("nothing");
    let soak = std::env::var_os("TIERWALL_SOAK").is_some();
    for step in 0..setting("TRANSITIONS_STEPS", if soak { SOAK_STEPS } else { STEPS }) {
        let edit = if step == 0 { Edit::Any } else { world.step(&mut random) };
        let text = world.text(&mut random);
        let context = format!(
            "TRANSITIONS_SEED={seed}, step {step} ({edit:?}) for {:?}\nfrom:\n{history}\nto:\n{text}",
            world.role()
        );
        let policy = parse(&text, &context);
        server.change(&policy, world.role(), edit, &context, &mut tally);
        let targets: Vec<(Ipv4Addr, u16)> = (0..4)
            .map(|_| (Ipv4Addr::new(10, 0, 0, random.below(90) as u8), 1 + random.below(6) as u16))
            .collect();
        server.send(&targets, &context);
        history = text;
    }
    tally.check();
}

/// How often something was there to be seen: a test of nothing would pass too.
#[derive(Debug, Default)]
struct Tally {
    empty: usize,
    elements_only: usize,
    rules_kept: usize,
    rules_changed: usize,
    counts_kept: usize,
}

impl Tally {
    fn check(&self) {
        let enough = self.empty > 10
            && self.elements_only > 30
            && self.rules_kept > 1000
            && self.rules_changed > 300
            && self.counts_kept > 200;
        assert!(enough || std::env::var_os("TRANSITIONS_STEPS").is_some(), "{self:?}");
    }
}

/// A server in a namespace of its own, with a way out that leads nowhere.
struct Server {
    kernel: Kernel,
    events: Events,
}

impl Server {
    fn new() -> Self {
        let kernel = Kernel::new();
        let setup = format!(
            "link add out type veth peer name nowhere\n\
             link set out addrgenmode none arp off\nlink set nowhere addrgenmode none arp off\n\
             address add {OWN}/8 dev out\nlink set out up\nlink set nowhere up\n"
        );
        let made = kernel.namespace.command_with_input("ip", &["-batch", "-"], &setup);
        made.expect("a way out");
        let events = kernel.namespace.run(Events::listen);
        Self { kernel, events }
    }

    /// Brings the kernel to the policy and looks at the way there.
    fn change(
        &mut self,
        policy: &Policy,
        role: &Role,
        edit: Edit,
        context: &str,
        tally: &mut Tally,
    ) {
        let counts = self.kernel.connection.counters().expect("counters");
        let changed = self.kernel.change(|found| compiled(policy, role, Some(found)));
        let (before, plan, committed) =
            changed.unwrap_or_else(|error| panic!("{context}\n{error}"));
        let wanted = compiled(policy, role, Some(&before.ruleset));
        assert_eq!(plan.apply(&before.ruleset).as_ref(), Ok(&wanted), "{context}\n{plan}");
        let events = self.events.take();
        let after = self.kernel.dump();

        assert!(after.ruleset == wanted, "{context}\n{plan}\nthe kernel has:\n{}", after.ruleset);
        let from_nothing = compiled(policy, role, None);
        assert!(after.ruleset == from_nothing, "{context}\n{plan}\nanew:\n{from_nothing}");
        let printed = self.kernel.namespace.command("nft", &listing::ARGUMENTS);
        let listed = Listing::parse(&printed.expect("a listing"));
        let differences = Listing::new(&from_nothing.objects()).differences(&listed);
        assert!(differences.is_empty(), "{context}\nnft lists otherwise:\n{differences:#?}");

        let generation = if plan.is_empty() { before.generation } else { before.generation.next() };
        assert_eq!((committed.generation, after.generation), (generation, generation), "{context}");
        check_events(&plan, &events, context);
        match edit {
            Edit::Order => assert!(plan.is_empty(), "{context}\n{plan}"),
            Edit::Members => assert!(plan.is_elements_only(), "{context}\n{plan}"),
            Edit::Any => {}
        }
        tally.empty += usize::from(plan.is_empty());
        tally.elements_only += usize::from(!plan.is_empty() && plan.is_elements_only());
        tally.rules_kept += check_handles(&before, &after, context);
        tally.rules_changed += plan.summary().rules_added;

        for (name, count) in self.kernel.connection.counters().expect("counters") {
            let old = counts.get(&name).copied().unwrap_or_default();
            assert_eq!(count, old, "counter {name}\n{context}\n{plan}");
            tally.counts_kept += usize::from(old != (0, 0));
        }
    }

    /// Sends a datagram each to addresses and ports that the policy may or may not open. The kernel's counters say what became
    /// of them, and so does the evaluation of the table.
    fn send(&mut self, targets: &[(Ipv4Addr, u16)], context: &str) {
        let before = self.kernel.connection.counters().expect("counters");
        let table = self.kernel.dump().ruleset.table.expect("a table");
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        let sources = self.kernel.namespace.run(|| {
            let send = |target: &(Ipv4Addr, u16)| {
                let socket = UdpSocket::bind((OWN, 0)).expect("a socket");
                // Refused or not: the counters say.
                let _ = socket.send_to(b"?", *target);
                socket.local_addr().expect("bound").port()
            };
            targets.iter().map(send).collect::<Vec<u16>>()
        });
        for ((target, port), source) in targets.iter().zip(sources) {
            let packet = Packet {
                ports: Some((source, *port)),
                user: Some(0),
                ..Packet::first(Hook::Output, OWN.into(), IpAddr::V4(*target), 17)
            };
            for counter in table.evaluate(&packet).counters {
                *expected.entry(counter.to_owned()).or_default() += 1;
            }
        }
        let after = self.kernel.connection.counters().expect("counters");
        // What is logged depends on rates, which the evaluator doesn't know.
        for (name, (packets, _)) in after.into_iter().filter(|(n, _)| !n.starts_with("logged.")) {
            let counted = packets - before[&name].0;
            let expected = expected.get(&name).copied().unwrap_or(0);
            assert_eq!(counted, expected, "counter {name} after {context}");
        }
    }
}

/// The kernel tells of the rules and elements that the plan names and of nothing else.
fn check_events(plan: &Plan, events: &BTreeMap<u32, usize>, context: &str) {
    let count = |kind: u32| events.get(&kind).copied().unwrap_or(0);
    let summary = plan.summary();
    assert_eq!(count(sys::NFT_MSG_NEWRULE), summary.rules_added, "{context}\n{plan}");
    assert_eq!(count(sys::NFT_MSG_DELRULE), summary.rules_deleted, "{context}\n{plan}");
    assert_eq!(count(sys::NFT_MSG_NEWGEN), usize::from(!plan.is_empty()), "{context}\n{plan}");
    if plan.is_elements_only() {
        assert!(events::is_elements_only(events), "{events:?}\n{context}\n{plan}");
    }
}

/// Of every chain, as many rules keep their handle as can stay in their order, and a handle never
/// passes to another rule. Returns how many.
fn check_handles(before: &KernelTable, after: &KernelTable, context: &str) -> usize {
    let mut total = 0;
    let (old, new) = (chains(before), chains(after));
    for (name, new) in &new {
        let Some(old) = old.get(name) else { continue };
        for (handle, rule) in new {
            let moved = old.iter().any(|(own, other)| own == handle && other != rule);
            assert!(!moved, "the handle of another rule in chain {name}\n{context}");
        }
        let handles = |rules: &[(u64, &Rule)]| -> BTreeSet<u64> {
            rules.iter().map(|(handle, _)| *handle).collect()
        };
        let kept = handles(old).intersection(&handles(new)).count();
        assert_eq!(kept, longest_common(old, new), "rules kept in chain {name}\n{context}");
        total += kept;
    }
    total
}

type Handled<'a> = Vec<(u64, &'a Rule)>;

fn chains(table: &KernelTable) -> BTreeMap<&String, Handled<'_>> {
    let chains = table.ruleset.table.iter().flat_map(|content| &content.chains);
    let rules = chains.map(|(name, chain)| {
        let handle = |index| table.handles.rule(name, index).expect("every rule has a handle");
        let rules = chain.rules.iter().enumerate();
        (name, rules.map(|(index, rule)| (handle(index), rule)).collect())
    });
    rules.collect()
}

/// The length of a longest common subsequence.
fn longest_common(old: &[(u64, &Rule)], new: &[(u64, &Rule)]) -> usize {
    let mut lengths = vec![0; new.len() + 1];
    for (_, rule) in old {
        let mut diagonal = 0;
        for (index, (_, other)) in new.iter().enumerate() {
            let above = lengths[index + 1];
            let longest = if rule == other { diagonal + 1 } else { above.max(lengths[index]) };
            (diagonal, lengths[index + 1]) = (above, longest);
        }
    }
    lengths[new.len()]
}
