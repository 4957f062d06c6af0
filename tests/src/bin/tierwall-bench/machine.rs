//! What the figures were measured on and with.

use anyhow::Result;
use std::fs;
use std::process::Command;
use std::time::SystemTime;

/// In place of the version of a peer that can't be had.
pub(crate) const MISSING: &str = "not here, so left out";

/// A line each: what, and which.
pub(crate) fn describe() -> Result<Vec<(&'static str, String)>> {
    let field = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.map_or_else(String::new, |line| line.trim_start_matches([':', ' ', '\t']).to_owned())
    };
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let memory = field(&fs::read_to_string("/proc/meminfo")?, "MemTotal");
    let kibibytes: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    let count = std::thread::available_parallelism()?;
    let mut all = vec![
        ("date", humantime::format_rfc3339_seconds(SystemTime::now()).to_string()),
        ("processor", format!("{count} × {}", field(&processors, "model name"))),
        ("memory", format!("{:.1} GiB", kibibytes / f64::from(1 << 20))),
        ("kernel", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned()),
        ("tierwall", commit()),
    ];
    for (name, program, arguments) in [
        ("rustc", "rustc", &["--version"][..]),
        ("nft", "nft", &["--version"]),
        ("ipset", "ipset", &["--version"]),
        ("firewalld", "firewall-offline-cmd", &["--version"]),
    ] {
        let version = first_line(program, arguments);
        all.push((name, version.unwrap_or_else(|| MISSING.to_owned())));
    }
    Ok(all)
}

/// The commit that was measured, as far as git knows.
fn commit() -> String {
    let Some(commit) = first_line("git", &["rev-parse", "--short=12", "HEAD"]) else {
        return concat!("version ", env!("CARGO_PKG_VERSION")).to_owned();
    };
    let sources = ["status", "--porcelain", "--untracked-files=no", "--", "crates", "tests"];
    match first_line("git", &sources) {
        Some(_) => format!("commit {commit}, with changes"),
        None => format!("commit {commit}"),
    }
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
