//! A policy that changes step by step, as text: from a grammar small enough that members overlap,
//! ports collide and names come back.

pub(crate) mod random;

use policy::{Host, Options, Policy, Role, Style, compile};
use random::Random;
use ruleset::Ruleset;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Tiers there can be. One is called as a chain of ours.
const TIERS: [&str; 6] = ["web", "app", "db", "admin", "a-b", "input_tcp_3"];

const SERVICES: [&str; 22] = [
    "tcp/1",
    "tcp/2",
    "tcp/1-4",
    "tcp/3-6",
    "tcp/5",
    "tcp/4-65535",
    "tcp/65535",
    "udp/1",
    "udp/2",
    "udp/1-3",
    "udp/3-5",
    "udp/4",
    "sctp/2-4",
    "dccp/3",
    "udplite/1-5",
    "gre",
    "esp",
    "udp",
    "6",
    "253",
    "icmp",
    "any",
];

const USERS: [&str; 5] = ["0", "1000", "\"root\"", "\"nobody\"", "4294967294"];

/// Mostly the one in which there is most to see.
const MODES: [&str; 5] = ["enforce", "enforce", "enforce", "observe", "off"];
const DENIES: [&str; 2] = ["drop", "reject"];
const FORWARDS: [&str; 3] = ["drop", "accept", "unmanaged"];

/// The policy and the server it is for.
#[derive(Debug, Clone)]
pub(crate) struct World {
    tiers: BTreeMap<&'static str, Vec<String>>,
    allows: Vec<Allow>,
    /// Input and output.
    modes: [&'static str; 2],
    denies: [&'static str; 2],
    forward: &'static str,
    role: Role,
}

#[derive(Debug, Clone, PartialEq)]
struct Allow {
    name: Option<String>,
    from: Vec<String>,
    to: Vec<String>,
    services: Vec<&'static str>,
    users: Vec<&'static str>,
}

/// What kind of edit a step was, which says what it may change in the kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Edit {
    /// Allows, comments and empty lines moved.
    Order,
    /// Members came and went.
    Members,
    /// Anything.
    Any,
}

impl World {
    /// A small policy.
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut world = Self {
            tiers: BTreeMap::new(),
            allows: Vec::new(),
            modes: [MODES[0]; 2],
            denies: [DENIES[0]; 2],
            forward: FORWARDS[0],
            role: Role {
                tiers: TIERS[..2].iter().map(|tier| (*tier).into()).collect(),
                auto: false,
            },
        };
        for tier in &TIERS[..3] {
            world.tiers.insert(tier, vec![member(random)]);
        }
        for _ in 0..10 {
            world.add_allow(random);
        }
        world
    }

    pub(crate) fn role(&self) -> &Role {
        &self.role
    }

    /// Changes something, and says what kind of thing.
    pub(crate) fn step(&mut self, random: &mut Random) -> Edit {
        let edit = match random.below(10) {
            0 => Edit::Order,
            1..=4 => Edit::Members,
            _ => Edit::Any,
        };
        for _ in 0..=random.below(3) {
            match edit {
                Edit::Order if self.allows.len() > 1 => {
                    let allow = self.allows.remove(random.below(self.allows.len()));
                    self.allows.insert(random.below(self.allows.len() + 1), allow);
                }
                Edit::Order => {}
                Edit::Members => self.change_members(random),
                Edit::Any => self.change_anything(random),
            }
        }
        edit
    }

    fn change_members(&mut self, random: &mut Random) {
        let names: Vec<&str> = self.tiers.keys().copied().collect();
        let members = self.tiers.get_mut(random.pick(&names)).expect("a name of a tier");
        match random.below(5) {
            0 | 1 if !members.is_empty() => drop(members.remove(random.below(members.len()))),
            2 if random.percent(20) => members.clear(),
            _ => members.push(member(random)),
        }
    }

    fn change_anything(&mut self, random: &mut Random) {
        match random.below(16) {
            0..=4 if self.allows.len() < 20 => self.add_allow(random),
            0..=6 if !self.allows.is_empty() => {
                self.allows.remove(random.below(self.allows.len()));
            }
            7 | 8 if !self.allows.is_empty() => {
                let index = random.below(self.allows.len());
                self.allows[index].services = services(random);
                self.drop_repeated();
            }
            9 => self.add_tier(random),
            10 if self.tiers.len() > 2 => self.remove_tier(random),
            11 => self.modes[random.below(2)] = random.pick(&MODES),
            12 => self.denies[random.below(2)] = random.pick(&DENIES),
            13 => self.forward = random.pick(&FORWARDS),
            14 => {
                let tiers = self.tiers.keys().filter(|_| random.percent(70));
                let tiers = tiers.map(|tier| String::from(*tier)).collect();
                self.role = Role { tiers, auto: random.percent(50) };
            }
            _ => self.change_members(random),
        }
    }

    fn add_allow(&mut self, random: &mut Random) {
        let own = self.endpoint(random, 10);
        let share = random.pick(&[75, 75, 20]);
        let peer = self.endpoint(random, share);
        let inward = random.percent(50);
        let (from, to) = if inward { (peer, own) } else { (own, peer) };
        let acts = |side: &[String]| {
            side.iter().any(|word| word == "*" || self.tiers.contains_key(word.as_str()))
        };
        let users = match acts(&from) && random.percent(25) {
            true => (0..=random.below(3)).map(|_| random.pick(&USERS)).collect(),
            false => Vec::new(),
        };
        if !acts(&from) && !acts(&to) {
            return;
        }
        let name = random.percent(50).then(|| format!("allow {}", random.below(40)));
        let allow = Allow { name, from, to, services: services(random), users };
        if allow.name.is_none() || self.allows.iter().all(|other| other.name != allow.name) {
            self.allows.push(allow);
        }
        self.drop_repeated();
    }

    /// Names, addresses, or both; the more literals, the more `share` of 100.
    fn endpoint(&self, random: &mut Random, share: usize) -> Vec<String> {
        let tiers: Vec<&str> = self.tiers.keys().copied().collect();
        (0..=random.below(3))
            .map(|_| match random.below(10) {
                0 => "*".to_owned(),
                1 if share > 50 => "any".to_owned(),
                _ if random.percent(share) => member(random),
                _ => String::from(random.pick(&tiers)),
            })
            .collect()
    }

    /// Two allows without a name that say the same are one.
    fn drop_repeated(&mut self) {
        let mut kept: Vec<Allow> = Vec::new();
        for allow in self.allows.drain(..) {
            if allow.name.is_some() || !kept.contains(&allow) {
                kept.push(allow);
            }
        }
        self.allows = kept;
    }

    fn add_tier(&mut self, random: &mut Random) {
        let members = (0..random.below(4)).map(|_| member(random)).collect();
        self.tiers.entry(random.pick(&TIERS)).or_insert(members);
    }

    /// Removes a tier, and the allows that name it.
    fn remove_tier(&mut self, random: &mut Random) {
        let names: Vec<&str> = self.tiers.keys().copied().collect();
        let gone = random.pick(&names);
        self.tiers.remove(gone);
        self.role.tiers.remove(gone);
        self.allows.retain(|allow| !allow.from.iter().chain(&allow.to).any(|word| word == gone));
    }

    /// The policy file; `random` only moves lines about.
    pub(crate) fn text(&self, random: &mut Random) -> String {
        let mut text = String::new();
        self.write(&mut text, random).expect("a string takes all");
        text
    }

    fn write(&self, text: &mut String, random: &mut Random) -> std::fmt::Result {
        writeln!(text, "{}# a comment", "\n".repeat(random.below(5)))?;
        writeln!(text, "mode = {{ input = {:?}, output = {:?} }}", self.modes[0], self.modes[1])?;
        writeln!(text, "deny = {{ input = {:?}, output = {:?} }}", self.denies[0], self.denies[1])?;
        writeln!(text, "forward = {:?}\n\n[tiers]", self.forward)?;
        for (name, members) in &self.tiers {
            writeln!(text, "{name} = {members:?}")?;
        }
        for allow in &self.allows {
            writeln!(text, "{}[[allow]]", "\n".repeat(random.below(3)))?;
            if let Some(name) = &allow.name {
                writeln!(text, "name = {name:?}")?;
            }
            writeln!(text, "from = {:?}\nto = {:?}", allow.from, allow.to)?;
            writeln!(text, "service = {:?}", allow.services)?;
            if !allow.users.is_empty() {
                writeln!(text, "user = [{}]", allow.users.join(", "))?;
            }
        }
        Ok(())
    }
}

fn services(random: &mut Random) -> Vec<&'static str> {
    let mut services: Vec<&str> = (0..=random.below(3)).map(|_| random.pick(&SERVICES)).collect();
    services.sort_unstable();
    services.dedup();
    services
}

/// An address, prefix or range from a small part of the space, so that they nest, overlap and
/// touch; sometimes at its ends.
fn member(random: &mut Random) -> String {
    let (v4, at) = (random.percent(70), random.below(80));
    let end = at + random.below(8);
    let aligned = at / 4 * 4;
    match (random.below(24), v4) {
        (0..=9, true) => format!("10.0.0.{at}"),
        (0..=9, false) => format!("fd00::{at:x}"),
        (10..=16, true) => format!("10.0.0.{at}-10.0.0.{end}"),
        (10..=16, false) => format!("fd00::{at:x}-fd00::{end:x}"),
        (17..=20, true) => format!("10.0.0.{aligned}/30"),
        (17..=20, false) => format!("fd00::{aligned:x}/126"),
        (21 | 22, true) => {
            String::from(random.pick(&["10.0.0.0/28", "10.0.0.0/27", "10.0.0.16/28"]))
        }
        (21 | 22, false) => String::from(random.pick(&["fd00::/124", "fd00::10/124", "fd00::/16"])),
        (_, true) => String::from(random.pick(&[
            "0.0.0.0/0",
            "0.0.0.0",
            "255.255.255.255",
            "255.255.255.250-255.255.255.255",
            "128.0.0.0/1",
        ])),
        (_, false) => String::from(random.pick(&[
            "::/0",
            "::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "8000::/1",
        ])),
    }
}

/// The policy that a text says, which has no errors.
pub(crate) fn parse(text: &str, context: &str) -> Policy {
    let options = Options { check_permissions: false, ..Options::default() };
    let loaded = policy::load_text(Path::new("tierwall.toml"), text, &options);
    loaded.policy.unwrap_or_else(|| {
        panic!("{}\n{context}", loaded.diagnostics.render(Style::Plain));
    })
}

/// What it compiles to on a server that knows the users of the grammar.
pub(crate) fn compiled(policy: &Policy, role: &Role, previous: Option<&Ruleset>) -> Ruleset {
    let users = BTreeMap::from([("root".to_owned(), 0), ("nobody".to_owned(), 65534)]);
    compile(policy, Host { role, users: &users, previous })
}
