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

fn run() -> Result<()> {
    let json = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [only] if only == "--json" => true,
        [other, ..] => bail!("`{other}` is not an option; --json is the only one"),
    };
    let flow = flow::measure()?;
    let start = start::measure()?;
    let member = member::measure()?;
    let stall = stall::measure()?;
    if json {
        let all = serde_json::json!({
            "flow": flow.as_json(),
            "start": start.as_json(),
            "member": member.as_json(),
            "stall": stall.as_json(),
        });
        println!("{all:#}");
    } else {
        println!("{flow}\n{start}\n{member}\n{stall}");
    }
    Ok(())
}
