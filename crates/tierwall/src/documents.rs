//! `tierwall completions` and the manual pages: made of the same description of the command line
//! as `--help`, so that none of them can differ.

use crate::error::Error;
use crate::options::{Completions, Manual, Options};
use crate::output::print;
use clap::CommandFactory;

/// Prints the completions for a shell.
pub(crate) fn completions(wanted: &Completions) -> Result<u8, Error> {
    let mut script = Vec::new();
    clap_complete::generate(wanted.shell, &mut Options::command(), "tierwall", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(control::exit::OK)
}

/// Writes tierwall(1) and a page for each command into a directory.
pub(crate) fn manual(wanted: &Manual) -> Result<u8, Error> {
    let directory = &wanted.directory;
    clap_mangen::generate_to(Options::command(), directory).map_err(|error| {
        Error::Edit(format!("can't write manual pages into {}: {error}", directory.display()))
    })?;
    Ok(control::exit::OK)
}
