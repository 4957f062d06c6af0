//! The benchmark: tierwall beside what people use today, in the same run on the same machine.
//!
//! A figure is a ratio between two medians of interleaved rounds; absolute times drift with the
//! machine and mean little. Every case runs in network namespaces of its own.

mod flood;
mod flow;
mod knock;
mod member;
mod stall;
mod start;
mod statistics;

use anyhow::{Result, bail};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What can be measured; each alone where its name is an argument.
const CASES: [&str; 4] = ["flow", "start", "member", "stall"];

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, wanted): (Vec<String>, Vec<String>) =
        arguments.into_iter().partition(|argument| argument == "--json");
    if let Some(other) = wanted.iter().find(|name| !CASES.contains(&name.as_str())) {
        let cases = CASES.join(", ");
        bail!("`{other}` is no case; there are {cases}, and the option --json");
    }
    let json = !options.is_empty();
    let mut report = serde_json::Map::new();
    for case in CASES {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == case) {
            continue;
        }
        let (text, value) = match case {
            "flow" => flow::measure().map(|flow| (flow.to_string(), flow.as_json())),
            "start" => start::measure().map(|start| (start.to_string(), start.as_json())),
            "member" => member::measure().map(|member| (member.to_string(), member.as_json())),
            _ => stall::measure().map(|stall| (stall.to_string(), stall.as_json())),
        }?;
        if !json {
            println!("{text}");
        }
        report.insert(case.to_owned(), value);
    }
    if json {
        println!("{:#}", serde_json::Value::from(report));
    }
    Ok(())
}
