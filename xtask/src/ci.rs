//! What has to pass before a change goes in.

use crate::{build, demo_run, licences, needs, promtool, run, test_run};
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Steps that ran, and what of their output belongs into the summary.
#[derive(Default)]
struct Report {
    steps: Vec<(&'static str, Duration, bool)>,
    test_results: Vec<String>,
}

/// Runs every step, also after one that failed, and sums up.
pub(crate) fn ci() -> Result<ExitCode> {
    let mut report = Report::default();
    report.step("system packages", |_| {
        needs::ensure(&[needs::DEMO, needs::TEST, needs::FIREWALLD])?;
        promtool::ensure()
    });
    report.step("toolchain", |_| toolchain());
    report.step("format", |_| run::succeed(&mut run::cargo(&["fmt", "--all", "--check"])));
    report.step("lints", |_| {
        let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-Dwarnings"];
        run::succeed(&mut run::cargo(&clippy))
    });
    report.step("documentation", |_| {
        let mut doc = run::cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
        run::succeed(doc.env("RUSTDOCFLAGS", "-Dwarnings"))
    });
    report.step("licences", |_| licences::check());
    report.step("tests", |results| {
        run::succeed(&mut build())?;
        tests(&mut test_run()?, results)
    });
    report.step("demo", |_| run::succeed(&mut demo_run()));
    Ok(report.finish())
}

impl Report {
    fn step(&mut self, name: &'static str, body: impl FnOnce(&mut Vec<String>) -> Result<()>) {
        println!("\n──── {name} {}", "─".repeat(70 - name.len()));
        let _ = std::io::stdout().flush();
        let start = Instant::now();
        let result = body(&mut self.test_results);
        if let Err(error) = &result {
            println!("failed: {error:#}");
        }
        let duration = start.elapsed();
        println!("{name}: {:.1} s", duration.as_secs_f64());
        self.steps.push((name, duration, result.is_ok()));
    }

    fn finish(&self) -> ExitCode {
        println!("\n──── summary {}", "─".repeat(63));
        for (name, duration, passed) in &self.steps {
            let mark = if *passed { "ok" } else { "FAILED" };
            println!("{name:<16} {:>7.1} s  {mark}", duration.as_secs_f64());
        }
        println!("advisories       not checked: that takes a database from the network");
        println!();
        for line in &self.test_results {
            println!("{line}");
        }
        match self.steps.iter().all(|(_, _, passed)| *passed) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }
}

/// rustfmt and clippy are not in rustup's minimal profile.
fn toolchain() -> Result<()> {
    run::succeed(run::cargo(&["--version"]).arg("--verbose"))?;
    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if run::output(&mut run::cargo(&[tool, "--version"])).is_err() {
            run::succeed(run::program("rustup").args(["component", "add", component]))
                .with_context(|| format!("{component} is missing"))?;
        }
    }
    Ok(())
}

/// Runs the tests, keeping the result lines of programs that have any.
fn tests(command: &mut Command, results: &mut Vec<String>) -> Result<()> {
    if std::io::stdout().is_terminal() {
        command.arg("--color=always");
    }
    // Every test program is run, also after one that failed.
    let mut child = command.args(["--locked", "--no-fail-fast"]).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("no standard output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        if line.starts_with("test result:") && !line.contains("0 passed; 0 failed; 0 ignored") {
            results.push(line);
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "cargo test failed ({status})");
    ensure!(!results.is_empty(), "cargo test ran no test");
    Ok(())
}
