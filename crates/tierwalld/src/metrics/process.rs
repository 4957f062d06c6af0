//! The daemon as a process, in the names that every Prometheus client uses.

use super::text::Text;
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Appends what is known of this process.
pub(super) fn write(text: &mut Text) {
    if let Some(seconds) = processor_seconds() {
        text.counter("process_cpu_seconds_total", "Processor time used, user and system.")
            .is(seconds);
    }
    if let Some(seconds) = started() {
        text.gauge("process_start_time_seconds", "When the daemon was started, since 1970.")
            .is(seconds);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (field, name, help) in [
        ("VmRSS:", "process_resident_memory_bytes", "Resident memory."),
        ("VmSize:", "process_virtual_memory_bytes", "Address space."),
    ] {
        if let Some(bytes) = bytes(&status, field) {
            text.gauge(name, help).is(bytes);
        }
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // The one that reads the directory is closed again.
        let open = descriptors.count().saturating_sub(1);
        text.gauge("process_open_fds", "Open file descriptors.").is(open);
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(soft) = most_descriptors(&limits) {
        text.gauge("process_max_fds", "Most file descriptors that may be open.").is(soft);
    }
}

fn processor_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1_000_000.0;
    Some(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// By the clock as it is now: it may have been set since, which at a boot it mostly is.
fn started() -> Option<f64> {
    /// Of a second: the unit of times in `/proc` (USER_HZ), the same on every architecture.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, in parentheses: the state is the third field, the start the 22nd.
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let since_boot: Duration = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?.into();
    let age = since_boot.as_secs_f64() - ticks / TICKS;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    // To what the unit can tell.
    Some(((now - age) * TICKS).round() / TICKS)
}

/// `Max open files            1024                 524288               files`. The call for it may
/// be filtered.
fn most_descriptors(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A field in KiB: `VmRSS:     8012 kB`.
fn bytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_this_process() {
        let mut text = Text::default();
        write(&mut text);
        let text = text.into_string();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.expect(name).parse().expect(name)
        };
        let age = SystemTime::now().duration_since(UNIX_EPOCH).expect("now").as_secs_f64()
            - value("process_start_time_seconds");
        assert!((-1.0..3600.0).contains(&age), "{age}");
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= 3.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
