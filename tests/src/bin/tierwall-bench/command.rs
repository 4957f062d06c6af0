//! One member by command, from the start of the process to its end. The process that takes it
//! away again is not measured.

use crate::Bench;
use crate::firewalld::{Firewalld, LARGEST};
use crate::floor::Prebuilt;
use crate::generate::{List, Shape, another};
use crate::peers;
use crate::report::{Group, Kind, Unit};
use crate::site::{self, LIST, Size};
use crate::turns::{Way, interleave};
use anyhow::{Result, ensure};
use ruleset::{Family, Ruleset};
use std::fs;
use tierwall_tests::daemon::Daemon;
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;

/// The second is one interval set, the third is beyond the border to a hash set: at the border
/// itself one member more makes the daemon exchange one for the other.
const ADDRESSES: [usize; 5] = [10, 8_000, 12_000, 100_000, 1_000_000];
const RANGES: [usize; 2] = [8_000, 100_000];
const ROUNDS: usize = 30;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    for (shape, sizes, plot) in
        [(Shape::Addresses, &ADDRESSES[..], "command-addresses"), (Shape::Ranges, &RANGES, "")]
    {
        for count in bench.sizes(sizes) {
            let group = group(bench, &List::generate(Family::V4, shape, count))?;
            groups.push(match plot {
                "" => group,
                plot => group.at(plot, "members", count),
            });
        }
    }
    Ok(groups)
}

fn group(bench: &Bench, list: &List) -> Result<Group> {
    let member = another(list.shape);
    let text = list.text();
    let (server, _daemon) = running(&text)?;
    let floor = Floor::new(&text, member)?;
    let by_hand = site::host()?;
    load(&by_hand, "nft", &["-f"], site::by_hand(list, Size::Declared))?;
    let element = format!("{{ {member} }}");
    let mut ways = vec![
        Way::new(Kind::Floor, "floor: the same batch, prebuilt, no process", || floor.turn()),
        Way::new(Kind::Tierwall, "tierwall member add", || {
            let add = member_command(&server, "add", member)?;
            member_command(&server, "remove", member)?;
            Ok(add)
        }),
        Way::new(Kind::Other, "nft add element", || {
            let nft = |verb| {
                let arguments = [verb, "element", "inet", "filter", "peers", &element];
                Ok::<_, anyhow::Error>(peers::run(&by_hand, "nft", &arguments)?.milliseconds)
            };
            let add = nft("add")?;
            nft("delete")?;
            Ok(add)
        }),
    ];
    if list.shape == Shape::Addresses && peers::is_here("ipset") {
        let host = site::host()?;
        load(&host, "ipset", &["restore", "-file"], site::ipset(list))?;
        ways.push(Way::new(Kind::Other, "ipset add", move || {
            let add = peers::run(&host, "ipset", &["add", "peers", member])?;
            peers::run(&host, "ipset", &["del", "peers", member])?;
            Ok(add.milliseconds)
        }));
    }
    if list.shape == Shape::Addresses && list.members.len() <= LARGEST && Firewalld::is_here() {
        let firewalld = Firewalld::start(list)?;
        firewalld.reload()?;
        ways.push(Way::new(Kind::Other, "firewall-cmd --add-entry", move || {
            let entry =
                |verb| firewalld.command(&["--ipset=peers", &format!("--{verb}-entry={member}")]);
            let add = entry("add")?;
            entry("remove")?;
            Ok(add.milliseconds)
        }));
    }
    let title = format!("one member by command into {list}");
    let rows = interleave(&title, bench.rounds(ROUNDS), ways)?;
    Ok(Group::new(title, Unit::Milliseconds, rows))
}

/// A server with a list, and its daemon.
pub(crate) fn running(list: &str) -> Result<(Server, Daemon)> {
    let server = site::server(list)?;
    let daemon = server.start(&[])?;
    Ok((server, daemon))
}

/// Runs `program` with a file of `text` as its last argument.
fn load(host: &Host, program: &str, arguments: &[&str], text: String) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(&file, text)?;
    let path = file.path().display().to_string();
    peers::run(host, program, &[arguments, &[path.as_str()]].concat()).map(drop)
}

/// Milliseconds of `tierwall member`.
fn member_command(server: &Server, verb: &str, member: &str) -> Result<f64> {
    let mut tierwall = server.tierwall_command()?;
    tierwall.args(["member", verb, "peers", member]);
    Ok(peers::run_command(server.host(), &mut tierwall)?.milliseconds)
}

/// The batches of both commands, prebuilt, and a namespace for them.
struct Floor {
    host: Host,
    add: Prebuilt,
    remove: Prebuilt,
}

impl Floor {
    fn new(text: &str, member: &str) -> Result<Self> {
        let server = site::server(text)?;
        let without = site::compiled(&server)?;
        server.write(LIST, format!("{text}{member}\n"))?;
        let with = site::compiled(&server)?;
        let floor = Self {
            host: site::host()?,
            add: Prebuilt::between(&without, &with)?,
            remove: Prebuilt::between(&with, &without)?,
        };
        let small = floor.add.length().max(floor.remove.length());
        ensure!(small < 4096, "one member more needs a batch of {small} bytes");
        Prebuilt::between(&Ruleset::default(), &without)?.commit(&floor.host.namespace)?;
        Ok(floor)
    }

    fn turn(&self) -> Result<f64> {
        let add = self.add.commit(&self.host.namespace)?;
        self.remove.commit(&self.host.namespace)?;
        Ok(add)
    }
}
