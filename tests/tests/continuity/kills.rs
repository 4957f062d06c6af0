//! kill -9 at random instants during a storm of edits: the kernel holds one whole policy of those
//! that were written, and a restart makes it that of the files.

use crate::kernel;
use crate::random::Random;
use crate::scaled;
use control::{Client, Request, Response, socket_path};
use netlink::Connection;
use policy::{Host, Options, Role, compile, load_text};
use ruleset::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tierwall_tests::network::Network;
use tierwall_tests::server::Server;

/// Members added and removed by command.
const BY_COMMAND: [&str; 2] = ["10.0.7.1", "10.0.7.2"];

/// The allows, in versions.
const RULES: [&str; 4] = [
    "[[allow]]\nfrom = \"web\"\nto = \"app\"\nservice = \"tcp/8080\"\n",
    "[[allow]]\nfrom = \"web\"\nto = \"app\"\nservice = [\"tcp/8080\", \"tcp/9000-9100\"]\n\
     [[allow]]\nfrom = \"app\"\nto = \"web\"\nservice = \"any\"\n",
    "[[allow]]\nname = \"other\"\nfrom = [\"web\", \"app\"]\nto = \"app\"\nservice = \"udp/53\"\n",
    "[[allow]]\nfrom = \"web\"\nto = \"app\"\nservice = \"esp\"\n\
     [[allow]]\nfrom = \"app\"\nto = [\"web\", \"198.51.100.7\"]\nservice = \"tcp/9090\"\n",
];

/// What the policy file says of the members.
const LIST_FILE: &str = "{ file = \"web.list\" }";

/// The list file, in versions.
const LISTS: [&str; 4] = [
    "10.0.1.10\n2001:db8:1::10\n",
    "10.0.1.0/24\n10.0.1.10\n",
    "10.0.1.8-10.0.1.40\n10.0.3.0/25\n2001:db8:1::/64\n",
    "10.0.6.255\n10.0.7.0/31\n",
];

/// A state of the files and of the members by command: which of [`RULES`] and [`LISTS`], and for
/// each of [`BY_COMMAND`] whether it is in, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    rules: usize,
    list: usize,
    members: usize,
}

fn policy(rules: usize, members: &str) -> String {
    format!(
        "role = \"app\"\nwatch = \"all\"\n[tiers]\nweb = {members}\napp = [\"10.0.1.20\"]\n{}",
        RULES[rules]
    )
}

/// The table of a version, compiled without files from the members written out.
fn table(version: Version) -> Table {
    let by_command = BY_COMMAND.iter().enumerate();
    let by_command = by_command.filter(|(bit, _)| version.members & 1 << bit != 0);
    let members = LISTS[version.list].lines().chain(by_command.map(|(_, member)| *member));
    let members: Vec<String> = members.map(|member| format!("{member:?}")).collect();
    let text = policy(version.rules, &format!("[{}]", members.join(", ")));
    let loaded = load_text(Path::new("tierwall.toml"), text, &Options::default());
    let policy = loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let role = Role { tiers: BTreeSet::from(["app".to_owned()]), auto: false };
    let host = Host { role: &role, users: &BTreeMap::new(), previous: None };
    let mut table = compile(&policy, host).table.unwrap();
    table.state = Some(table.fingerprint());
    table
}

/// Every version with its table, no two alike.
fn tables() -> Vec<(Version, Table)> {
    let mut tables = Vec::<(Version, Table)>::new();
    for rules in 0..RULES.len() {
        for list in 0..LISTS.len() {
            for members in 0..1 << BY_COMMAND.len() {
                let version = Version { rules, list, members };
                tables.push((version, table(version)));
            }
        }
    }
    tables
}

/// Which versions of the three parts may be in the kernel: those that were written, or may have
/// been, since the daemon started. The last ones are those that the files hold now.
#[derive(Debug, Clone)]
struct Written {
    rules: Vec<usize>,
    lists: Vec<usize>,
    /// The members that were acknowledged last, and those that a command under way is for.
    members: Vec<usize>,
}

impl Written {
    fn holds(&self, version: Version) -> bool {
        let Version { rules, list, members } = version;
        self.rules.contains(&rules) && self.lists.contains(&list) && self.members.contains(&members)
    }
}

/// Edits both files, one after the other, until told to stop.
fn edit_files(server: &Server, written: &Mutex<Written>, stop: &AtomicBool, mut random: Random) {
    while !stop.load(Ordering::Relaxed) {
        // Noted before it is written: it may be in the kernel before the rename returns.
        if random.below(3) == 0 {
            let rules = random.below(RULES.len());
            written.lock().unwrap().rules.push(rules);
            server.replace("tierwall.toml", policy(rules, LIST_FILE)).unwrap();
        } else {
            let list = random.below(LISTS.len());
            written.lock().unwrap().lists.push(list);
            server.replace("web.list", LISTS[list]).unwrap();
        }
        thread::sleep(Duration::from_micros(random.below(3000) as u64));
    }
}

/// Adds and removes members by command, until the daemon is gone.
fn command_members(server: &Server, written: &Mutex<Written>, mut random: Random) {
    let socket = socket_path(&server.runtime_directory());
    loop {
        let bit = random.below(BY_COMMAND.len());
        let held = *written.lock().unwrap().members.last().unwrap();
        let wanted = held ^ 1 << bit;
        let (tier, member) = ("web".to_owned(), BY_COMMAND[bit].to_owned());
        let request = match wanted > held {
            true => Request::AddMember { tier, member, seconds: None, reason: None },
            false => Request::RemoveMember { tier, member, force: false },
        };
        written.lock().unwrap().members = vec![wanted, held];
        let answer = Client::connect(&socket).and_then(|client| client.ask(&request));
        match answer {
            Ok(Response::Done(_)) => written.lock().unwrap().members = vec![wanted],
            // One of the lists holds these members already.
            Ok(Response::Failed(failure)) => {
                assert!(failure.message.contains("already"), "{}", failure.message);
                written.lock().unwrap().members = vec![held];
            }
            Ok(other) => panic!("{other:?}"),
            // Killed: it holds or it doesn't.
            Err(_) => return,
        }
        thread::sleep(Duration::from_micros(random.below(3000) as u64));
    }
}

/// The members by command that a daemon knows.
fn members(server: &Server) -> usize {
    let client = Client::connect(&socket_path(&server.runtime_directory())).unwrap();
    let Response::Members(members) = client.ask(&Request::Members { tier: None }).unwrap() else {
        panic!("no members");
    };
    let bits = BY_COMMAND.iter().enumerate();
    let held = bits.filter(|(_, name)| members.iter().any(|member| member.member == **name));
    held.map(|(bit, _)| 1 << bit).sum()
}

#[test]
fn the_kernel_holds_one_written_policy_after_every_kill() {
    let mut random = Random::new();
    let tables = tables();
    let network = Network::new([("app", vec!["10.0.1.20".parse().unwrap()])]).unwrap();
    let host = network.host("app");
    let server = Server::new(host, &policy(0, LIST_FILE)).unwrap();
    server.write("web.list", LISTS[0]).unwrap();
    let mut written = Written { rules: vec![0], lists: vec![0], members: vec![0] };
    let mut generations = 0;
    for round in 0..scaled(20, 200) {
        let daemon = server.start(&[]).unwrap();
        // Converged: the kernel holds the last version of each file, and the members that the
        // daemon knows, which are those that were acknowledged.
        let known = members(&server);
        assert!(written.members.contains(&known), "round {round}: {known} of {written:?}");
        let last = |versions: &[usize]| vec![*versions.last().unwrap()];
        let (rules, lists) = (last(&written.rules), last(&written.lists));
        written = Written { rules, lists, members: vec![known] };
        let version = Version { rules: written.rules[0], list: written.lists[0], members: known };
        let held = kernel::dump(host);
        assert!(
            held.ruleset.table == Some(table(version)),
            "round {round}: after a restart the kernel doesn't hold {version:?}, but {:?}\n{}",
            found(&tables, &held.ruleset),
            daemon.log()
        );

        let (stop, shared) = (AtomicBool::new(false), Mutex::new(written));
        let edits = (random.fork(), random.fork());
        let after = Duration::from_micros(random.below(60_000) as u64);
        thread::scope(|scope| {
            scope.spawn(|| edit_files(&server, &shared, &stop, edits.0));
            scope.spawn(|| command_members(&server, &shared, edits.1));
            thread::sleep(after);
            daemon.kill().unwrap();
            stop.store(true, Ordering::Relaxed);
        });
        written = shared.into_inner().unwrap();
        let dumped = kernel::dump(host);
        generations += dumped.generation.0 - held.generation.0;
        let matching: Vec<Version> = found(&tables, &dumped.ruleset);
        assert!(
            matching.iter().any(|version| written.holds(*version)),
            "round {round}, killed after {after:?}: the kernel holds {matching:?}, of {written:?}"
        );
    }
    let generation = host.namespace.run(|| Connection::open().unwrap().generation().unwrap());
    println!("{generations} commits before a kill, generation {generation} in the end");
}

/// The versions whose table this is: more than one where a list holds a member by command.
fn found(tables: &[(Version, Table)], ruleset: &ruleset::Ruleset) -> Vec<Version> {
    let same = tables.iter().filter(|(_, table)| ruleset.table.as_ref() == Some(table));
    same.map(|(version, _)| *version).collect()
}
