//! The machine that is booted, and what it says.

use super::archive::Kernel;
use super::initrd;
use super::programs::Program;
use super::report::{Outcome, Result as TestResult};
use crate::run;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test program may take. On an emulated processor the longest takes a quarter of it.
const LIMIT: Duration = Duration::from_secs(3600);

/// Of the 2,000 transitions between policies as many as an emulated processor makes in minutes.
const EMULATED_STEPS: u32 = 250;

const GUEST: &str = include_str!("guest.sh");

/// What runs the machine's processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// The processors of this machine.
    Kvm,
    /// A program.
    Emulation,
}

impl Accelerator {
    pub(super) fn of_this_machine() -> Self {
        let opens = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        match opens && virtualises(&processors) {
            true => Self::Kvm,
            false => Self::Emulation,
        }
    }

    /// What the programs are built with.
    pub(super) fn profile(self) -> &'static str {
        match self {
            Self::Kvm => "dev",
            Self::Emulation => "emulated",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            // Both on one thread: with a thread for each, qemu 7.2 lets a processor run into the
            // breakpoint by which the kernel changes the other one's code (`text_poke_bp`), after
            // the change is done, and the kernel dies of it.
            Self::Emulation => &["-accel", "tcg,thread=single", "-cpu", "max"],
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "the kernels run on this machine's processors (KVM)",
            Self::Emulation => {
                "this machine has no KVM that runs any kernel: its processors are emulated, which \
                 takes many times as long; --filter NAME runs some of the test programs"
            }
        })
    }
}

/// Whether the processors virtualise in hardware. Without, there are modules that offer /dev/kvm
/// all the same, for kernels that were made for them.
fn virtualises(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

/// Boots the kernel and runs the programs there, one after the other.
pub(super) fn run(
    kernel: &Kernel,
    programs: &[Program],
    accelerator: Accelerator,
    arguments: &[String],
) -> Result<Outcome> {
    let results = kernel.directory.join("results");
    if results.exists() {
        fs::remove_dir_all(&results)?;
    }
    fs::create_dir_all(&results)?;
    let order = kernel.directory.join("run");
    prepare(&order, programs, accelerator, arguments)?;
    let initrd = initrd::make(kernel)?;
    println!("──── Linux {} ({})", kernel.name, kernel.release);
    let console = kernel.directory.join("console.log");
    let child = boot(kernel, &initrd, &order, &results, accelerator)
        .spawn()
        .context("can't run qemu-system-x86_64")?;
    let times = follow(child, &console, programs.len(), &results)?;
    let result = |program: &Program| {
        let log = fs::read(results.join(format!("{}.log", program.name))).unwrap_or_default();
        let status = fs::read_to_string(results.join(format!("{}.status", program.name)));
        let status = status.ok().and_then(|status| status.trim().parse().ok());
        let took = times.get(&program.name).copied().unwrap_or_default();
        (program.name.clone(), TestResult::read(&String::from_utf8_lossy(&log), status, took))
    };
    let results: BTreeMap<String, TestResult> = programs.iter().map(result).collect();
    let is_whole = results.values().all(|result| result.status.is_some());
    if !is_whole {
        eprintln!("the machine ended before its time: see {}", shown(&console));
    }
    Ok(Outcome { release: kernel.release.clone(), results, is_whole })
}

/// What `guest.sh` reads.
fn prepare(
    order: &Path,
    programs: &[Program],
    accelerator: Accelerator,
    arguments: &[String],
) -> Result<()> {
    fs::create_dir_all(order)?;
    fs::write(order.join("guest.sh"), GUEST)?;
    let line = |program: &Program| {
        let (directory, path) = (program.directory.display(), program.path.display());
        format!("{}\t{directory}\t{path}\n", program.name)
    };
    fs::write(order.join("list"), programs.iter().map(line).collect::<String>())?;
    let environment = [
        // Snapshots are compared, and nobody there is to ask cargo where they are.
        "export INSTA_UPDATE=no".to_owned(),
        format!("export INSTA_WORKSPACE_ROOT={}", quoted(&run::root().display().to_string())),
        format!("limit={}", LIMIT.as_secs()),
        format!(
            "set -- {}",
            arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
        ),
    ];
    let mut environment = environment.join("\n") + "\n";
    if accelerator == Accelerator::Emulation {
        environment += &format!("export TRANSITIONS_STEPS={EMULATED_STEPS}\n");
    }
    Ok(fs::write(order.join("environment"), environment)?)
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn boot(
    kernel: &Kernel,
    initrd: &Path,
    order: &Path,
    results: &Path,
    accelerator: Accelerator,
) -> Command {
    // A comma in a value is written twice.
    let value = |path: &Path| path.display().to_string().replace(',', ",,");
    let mut qemu = run::program("qemu-system-x86_64");
    qemu.args(accelerator.arguments());
    qemu.args(["-m", "4G", "-smp", "2", "-nodefaults", "-no-reboot", "-nic", "none"]);
    qemu.args(["-display", "none", "-serial", "stdio"]);
    qemu.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(initrd);
    let line = format!("console=ttyS0 panic=-1 quiet tierwall.run={}", order.display());
    qemu.arg("-append").arg(line);
    let files = "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap";
    qemu.args(["-virtfs", files, "-virtfs"]);
    qemu.arg(format!("local,path={},mount_tag=results,security_model=none", value(results)));
    qemu.stdin(Stdio::null()).stdout(Stdio::piped());
    qemu
}

/// Copies the console to a file and shows how far the machine is, until it ends or says nothing for
/// too long. How long each program took.
fn follow(
    mut child: Child,
    console: &Path,
    count: usize,
    results: &Path,
) -> Result<BTreeMap<String, Duration>> {
    let stdout = child.stdout.take().context("no console")?;
    let mut copy = File::create(console)?;
    let (lines, inbox) = channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            // Who no longer listens has ended the machine.
            let _ = lines.send(text);
        }
    });
    let mut times = BTreeMap::new();
    let mut begun = Instant::now();
    loop {
        match inbox.recv_timeout(LIMIT + Duration::from_secs(300)) {
            Ok(line) => {
                writeln!(copy, "{line}")?;
                let Some(said) = line.trim_start_matches('\r').strip_prefix("tierwall: ") else {
                    continue;
                };
                match said.split_once(' ') {
                    Some(("run", name)) => {
                        begun = Instant::now();
                        println!("{:>3}/{count} {name}", times.len() + 1);
                    }
                    Some(("end", name)) => {
                        times.insert(name.to_owned(), begun.elapsed());
                        summary(results, name);
                    }
                    _ => println!("{said}"),
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("the machine says nothing any more; it is ended");
                child.kill()?;
                break;
            }
        }
    }
    child.wait()?;
    Ok(times)
}

/// What a program said last of all, and which of its tests failed.
fn summary(results: &Path, name: &str) {
    let path = results.join(format!("{name}.log"));
    let log = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
    for line in log.lines() {
        if line.starts_with("test ") && line.ends_with(" ... FAILED")
            || line.starts_with("test result:")
        {
            println!("        {line}");
        }
    }
    if !log.contains("test result: ok") {
        println!("        see {}", shown(&path));
    }
}

/// A path as one would type it in the root of the repository.
fn shown(path: &Path) -> String {
    path.strip_prefix(run::root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_says_whether_it_virtualises() {
        assert!(virtualises("processor : 0\nflags\t\t: fpu vmx sse2\n"));
        assert!(virtualises("flags\t\t: fpu svm\n"));
        assert!(!virtualises("flags\t\t: fpu sse2 hypervisor\nbugs\t\t: vmx_sth\n"));
        assert!(!virtualises(""));
    }

    #[test]
    fn words_reach_the_other_shell_as_they_are() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
