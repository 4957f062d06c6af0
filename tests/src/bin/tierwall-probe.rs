//! One probe, as the user who runs it: what [`tierwall_tests::probe`] starts for other users than
//! its own.

use tierwall_tests::probe::Probe;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    println!("{}", Probe::from_arguments(&arguments)?.run_here()?);
    Ok(())
}
