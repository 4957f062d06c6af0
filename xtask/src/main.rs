//! What is done with this repository: see [`HELP`].
//!
//! `cargo xtask` is an alias in `.cargo/config.toml`. This program compiles in seconds on a machine
//! that has Rust, a C compiler to link with, and git, and sees to the rest.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod artifacts;
mod ci;
mod dist;
mod kernels;
mod licences;
mod machines;
mod needs;
mod notices;
mod promtool;
mod run;

use anyhow::{Result, bail};
use std::process::{Command, ExitCode};

const HELP: &str = "\
usage: cargo xtask COMMAND

  demo [--json]   build tierwall and watch it at work: a network of servers in namespaces, a real
                  tierwalld on each, and who reaches whom on what; touches nothing outside of it
  test [--all] [ARG…]
                  build and run every test; ARGs go to `cargo test`; kernel tests need root;
                  --all runs `machines` as well; `kernels` is apart
  soak [ARG…]     the tests whose scale grows, at full scale: thousands of edits under load, hundreds
                  of kills, ten million packets from a million sources; takes minutes; ARGs go to the tests, TIERWALL_SEED=N repeats one
  bench [--json] [--quick] [--write] [CASE…]
                  measure tierwall beside its peers, in one run, and write docs/performance.md;
                  takes half an hour, --quick a few minutes
  bench micro [ARG…]
                  the micro-benchmarks: parse, normalise, diff, fingerprint, encode
  dist            make the packages: dist/*.deb and dist/*.rpm
  machines [ARG…] install, upgrade, crash, boot and purge the package on machines with systemd;
                  takes some minutes and 400 MB, and a mirror of Debian
  kernels [--kernel WHICH]… [--filter NAME]… [-- ARG…]
                  the tests that speak with the kernel, on Debian's 6.1 and 6.12 in qemu: WHICH is
                  6.1, 6.12 or a .deb, NAME a test program, ARGs go to these; takes minutes with
                  KVM, an hour and more without, and a mirror of Debian
  ci              what has to pass before a change goes in: format, lints, documentation,
                  licences, tests, demo
  help            this text

Missing system packages are installed with apt-get where there is one; elsewhere their names are
printed.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = arguments.split_first() else {
        eprintln!("{HELP}");
        return Ok(ExitCode::from(64));
    };
    match (command.as_str(), rest) {
        ("demo", _) => demo(rest),
        ("test", _) => test(rest),
        ("soak", _) => soak(rest),
        ("bench", _) => bench(rest),
        ("ci", []) => ci::ci(),
        ("dist", []) => dist::dist().map(|_| ExitCode::SUCCESS),
        ("machines", _) => machines::machines(rest).map(|()| ExitCode::SUCCESS),
        ("kernels", _) => kernels::kernels(rest),
        ("help" | "--help" | "-h", _) => {
            println!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        ("ci" | "dist", [argument, ..]) => {
            bail!("{command} takes no argument, but got `{argument}`")
        }
        _ => bail!("no command is called `{command}`; `cargo xtask help` lists them"),
    }
}

/// Builds, then becomes the demo, so that Ctrl-C is its own business.
fn demo(arguments: &[String]) -> Result<ExitCode> {
    needs::ensure(&[needs::DEMO])?;
    run::succeed(&mut build())?;
    Err(run::replace(demo_run().args(arguments)))
}

/// Every program of the workspace. A debug build: made in half the time of a release build, and
/// shared with the tests, which couldn't make cargo build the programs of other packages.
fn build() -> Command {
    run::cargo(&["build", "--workspace", "--bins"])
}

fn demo_run() -> Command {
    run::cargo(&["run", "--quiet", "--package", "tierwall-tests", "--bin", "tierwall-demo", "--"])
}

/// The micro-benchmarks: of policy, ruleset and netlink.
const MICRO: &[&str] = &["--bench", "parse", "--bench", "addresses", "--bench", "encode"];

/// Builds with optimisation, then becomes the benchmark.
fn bench(arguments: &[String]) -> Result<ExitCode> {
    needs::ensure(&[needs::DEMO])?;
    if let Some((first, rest)) = arguments.split_first()
        && first == "micro"
    {
        run::succeed(run::cargo(&["bench", "--workspace"]).args(MICRO).arg("--").args(rest))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !run::is_root()? {
        bail!("the benchmark needs root, to make network namespaces: run this as root");
    }
    if !arguments.iter().any(|argument| ["--help", "-h"].contains(&argument.as_str())) {
        needs::try_each(needs::PEERS);
        needs::try_each(needs::FIREWALLD);
    }
    run::succeed(&mut run::cargo(&["build", "--workspace", "--bins", "--release"]))?;
    let package = ["--package", "tierwall-tests", "--bin", "tierwall-bench"];
    let mut bench = run::cargo(&["run", "--quiet", "--release"]);
    Err(run::replace(bench.args(package).arg("--").args(arguments)))
}

/// The machines are not among the tests without `--all`: their files come from a mirror of Debian,
/// which whoever runs the tests may not reach. Other kernels never are: without KVM they take hours.
fn test(arguments: &[String]) -> Result<ExitCode> {
    // Behind `--` it is the tests' own.
    let mut own = arguments.iter().take_while(|argument| *argument != "--");
    if let Some(all) = own.position(|argument| argument == "--all") {
        machines::check_right()?;
        test(&[&arguments[..all], &arguments[all + 1..]].concat())?;
        machines::machines(&[])?;
        return Ok(ExitCode::SUCCESS);
    }
    needs::ensure(&[needs::DEMO, needs::TEST, needs::FIREWALLD])?;
    promtool::ensure()?;
    let mut tests = test_run()?;
    run::succeed(&mut build())?;
    run::succeed(tests.args(arguments))?;
    Ok(ExitCode::SUCCESS)
}

/// The test programs that do more in a soak.
const SOAKED: &[&str] =
    &["--test", "continuity", "--test", "transitions", "--test", "evaluator", "--test", "denied"];

/// One test at a time: what they measure is printed, and the machine is theirs.
fn soak(arguments: &[String]) -> Result<ExitCode> {
    needs::ensure(&[needs::DEMO, needs::TEST])?;
    let mut tests = as_root(run::cargo(&["test", "--package", "tierwall-tests"]))?;
    run::succeed(&mut build())?;
    tests.args(SOAKED).args(["--", "--nocapture", "--test-threads=1"]).args(arguments);
    run::succeed(tests.env("TIERWALL_SOAK", "1"))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the tests.
fn test_run() -> Result<Command> {
    as_root(run::cargo(&["test", "--workspace"]))
}

/// What cargo builds runs as root: this user, or through sudo.
fn as_root(mut command: Command) -> Result<Command> {
    if !run::is_root()? {
        if !needs::has_program("sudo") {
            bail!("kernel tests need root, to make network namespaces: run this as root");
        }
        eprintln!("kernel tests need root, to make network namespaces: running them with sudo");
        // Only the test programs: what cargo builds stays this user's.
        command.env(run::runner_variable()?, "sudo --preserve-env");
    }
    Ok(command)
}
