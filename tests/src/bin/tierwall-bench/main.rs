//! The benchmark: tierwall beside what people use today, in the same run on the same machine.
//!
//! A figure is a ratio between two medians of interleaved rounds; absolute times drift with the
//! machine and mean little. Every case runs in network namespaces of its own. A case gives
//! [groups](report::Group) of ways to do the same thing; text, JSON, document and plots are made
//! of these.

mod change;
mod cold;
mod command;
mod denied;
mod document;
mod firewalld;
mod flood;
mod floor;
mod flow;
mod generate;
mod idle;
mod knock;
mod machine;
mod memory;
mod pass;
mod peers;
mod plot;
mod quiet;
mod rate;
mod read;
mod report;
mod restart;
mod rules;
mod scrape;
mod shapes;
mod site;
mod stall;
mod statistics;
mod turns;

use anyhow::{Result, bail};
use report::Group;
use std::process::ExitCode;
use std::time::Duration;
use turns::Rounds;

const USAGE: &str = "\
usage: cargo xtask bench [--json] [--quick] [--write] [CASE…]
       cargo xtask bench micro

  --json   print JSON
  --quick  small sizes and few rounds, to try it out
  --write  write docs/performance.md also where only some cases are run";

/// How a case is measured.
type Measure = fn(&Bench) -> Result<Vec<Group>>;

/// What can be measured; each alone where its name is an argument.
const CASES: [(&str, Measure); 14] = [
    ("cold-start", cold::measure),
    ("shapes", shapes::measure),
    ("list-change", change::measure),
    ("command", command::measure),
    ("restart", restart::measure),
    ("memory", memory::measure),
    ("idle", idle::measure),
    ("read-back", read::measure),
    ("first-packet", pass::measure),
    ("new-flow", flow::measure),
    ("connections", rate::measure),
    ("flood", denied::measure),
    ("scrape", scrape::measure),
    ("stall", stall::measure),
];

/// How much is to be measured.
#[derive(Debug, Clone, Copy)]
struct Bench {
    quick: bool,
}

impl Bench {
    /// The sizes up to 10,000 where it is to be quick.
    fn sizes(&self, all: &[usize]) -> Vec<usize> {
        all.iter().copied().filter(|size| !self.quick || *size <= 10_000).collect()
    }

    /// Up to `most` rounds, or a few where it is to be quick.
    fn rounds(&self, most: usize) -> Rounds {
        match self.quick {
            true => Rounds { most: most.min(3), budget: Duration::from_secs(2) },
            false => Rounds { most, budget: Duration::from_secs(15) },
        }
    }
}

/// A case that was measured.
struct Measured {
    name: &'static str,
    groups: Vec<Group>,
    /// What disturbed it, or why there is nothing.
    warnings: Vec<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, wanted): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with('-'));
    if options.iter().any(|option| ["--help", "-h"].contains(option)) {
        println!("{USAGE}\n\ncases: {}", names());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(other) = options.iter().find(|o| !["--json", "--quick", "--write"].contains(o)) {
        bail!("`{other}` is no option\n{USAGE}");
    }
    if let Some(other) = wanted.iter().find(|name| CASES.iter().all(|(case, _)| case != *name)) {
        bail!("`{other}` is no case; there are {}", names());
    }
    let has = |option| options.contains(&option);
    let bench = Bench { quick: has("--quick") };
    let writes = has("--write") || (wanted.is_empty() && !bench.quick);
    let (machine, load) = (machine::describe()?, quiet::load()?);
    if !has("--json") {
        print!("{}", document::head(&machine));
    }
    let mut all: Vec<Measured> = Vec::new();
    for (name, measure) in CASES {
        if !wanted.is_empty() && !wanted.contains(&name) {
            continue;
        }
        let mut case = measured(name, measure, &bench)?;
        case.warnings.extend(load.clone());
        // At once: a long run that is ended early has told what it had.
        if !has("--json") {
            print!("{}", document::text(&case));
        }
        if writes {
            document::write(&machine, &case)?;
        }
        all.push(case);
    }
    if has("--json") {
        println!("{:#}", document::json(&machine, &all));
    }
    Ok(match all.iter().any(|case| case.groups.is_empty()) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// A case that fails doesn't take the others with it.
fn measured(name: &'static str, measure: Measure, bench: &Bench) -> Result<Measured> {
    eprintln!("{name}:");
    let mut warnings = quiet::disturbances()?;
    let groups = measure(bench).unwrap_or_else(|error| {
        warnings.push(format!("failed: {error:#}"));
        Vec::new()
    });
    for warning in &warnings {
        eprintln!("warning: {name}: {warning}");
    }
    Ok(Measured { name, groups, warnings })
}

fn names() -> String {
    CASES.map(|(name, _)| name).join(", ")
}
