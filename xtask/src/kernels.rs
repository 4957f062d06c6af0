//! `cargo xtask kernels`: the tests that speak with the kernel, on other kernels.
//!
//! A kernel of Debian is booted in qemu, with this machine's own files below it, read-only: the
//! programs that were built here run there as they do here, and so do `nft` and `ip`. What the
//! machine writes stays in its memory, but for what the tests said, in `target/kernels`. It has no
//! network.

mod archive;
mod initrd;
mod machine;
mod options;
mod programs;
mod report;

use crate::{artifacts, needs, run};
use anyhow::{Result, ensure};
use archive::Kernel;
use options::Options;
use std::fs;
use std::process::ExitCode;

/// What `cargo xtask kernels` runs on unless it is told otherwise.
const DEFAULT: &[&str] = &["6.1", "6.12"];

/// Boots each kernel and runs the tests there.
pub(crate) fn kernels(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::parse(arguments)?;
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "kernels are booted on x86-64 only, and this machine is {}",
        std::env::consts::ARCH
    );
    ensure!(
        run::is_root()?,
        "the files of this machine are mounted in the other one, with all rights: run this as root"
    );
    needs::ensure(&[needs::DEMO, needs::TEST, needs::FIREWALLD, needs::KERNELS])?;
    let directory = artifacts::target()?.join("kernels");
    fs::create_dir_all(&directory)?;
    // First what may fail for want of a network.
    let kernels: Vec<Kernel> = options
        .kernels
        .iter()
        .map(|which| archive::fetch(which, &directory))
        .collect::<Result<_>>()?;
    let accelerator = machine::Accelerator::of_this_machine();
    eprintln!("{accelerator}");
    let programs = programs::build(accelerator.profile(), &options.filters)?;
    let mut outcomes = Vec::new();
    for kernel in &kernels {
        outcomes.push(machine::run(kernel, &programs, accelerator, &options.arguments)?);
    }
    print!("{}", report::table(&programs, &outcomes));
    match outcomes.iter().all(report::Outcome::passed) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}
