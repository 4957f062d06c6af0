//! Observing this host: everything that the checks know is read here, and nothing is changed.
//!
//! What belongs to the network namespace is asked of the kernel or read from `/proc`, which answer
//! for the namespace of who asks; `/sys` doesn't. Programs of this host are never run.

mod kernel;
mod paths;
mod policy;
mod process;
mod unit;

use super::facts::{Clock, Daemon, Facts, Services, Sysctls};
use super::sysctl::shipped;
use crate::error::Error;
use crate::options::{Common, Doctor};
use control::{Client, ClientError, FailureKind, Request, Response, socket_path};
use netlink::Connection;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// Observes everything.
///
/// # Errors
/// Without CAP_NET_ADMIN. Whatever else can't be read is noted as not judged.
pub(super) fn observe(common: &Common, options: &Doctor) -> Result<Facts, Error> {
    let mut facts = Facts { kernel: kernel::observe(&options.root)?, ..Facts::default() };
    if facts.kernel.nf_tables.is_none() {
        let survey = Connection::open().and_then(|mut connection| connection.survey());
        match survey {
            Ok(survey) => facts.survey = Some(survey),
            Err(error) => not_judged(&mut facts, "what others filter here", &error),
        }
    }
    match netlink::links() {
        Ok(links) => facts.links = links,
        Err(error) => not_judged(&mut facts, "interfaces", &error),
    }
    facts.sysctls = sysctls();
    let processes = process::processes();
    let root = &options.root;
    facts.services = Services {
        processes: processes.iter().map(|process| process.name.clone()).collect(),
        enabled: unit::enabled(root),
        active: unit::active(root),
        ufw_enabled: unit::ufw_is_enabled(root),
        legacy: Vec::new(),
    };
    match netlink::legacy_tables() {
        Ok(tables) => facts.services.legacy = tables,
        Err(error) => not_judged(&mut facts, "tables of the old iptables", &error),
    }
    let inputs;
    (facts.policy, inputs) = policy::observe(common, root);
    if !common.insecure_permissions {
        facts.paths = paths::observe(&common.config, &inputs, &options.state_directory);
    }
    facts.clock = clock(&options.state_directory, root);
    if facts.clock.synchronised.is_none() {
        facts.not_judged.push("whether the clock is right: the kernel doesn't say".to_owned());
    }
    facts.daemon = daemon(common);
    let own = match &facts.daemon {
        Daemon::Status(status) => Some(status.pid),
        Daemon::Away | Daemon::Unreachable(_) | Daemon::Refuses(_) => None,
    };
    match process::listeners(&processes, own) {
        Ok(listeners) => facts.listeners = listeners,
        Err(error) => not_judged(&mut facts, "who listens to changes of nf_tables", &error),
    }
    Ok(facts)
}

fn not_judged(facts: &mut Facts, what: &str, error: &dyn std::error::Error) {
    facts.not_judged.push(format!("{what}: {}", crate::error::in_full(error)));
}

/// The settings that the shipped file names and those of forwarding, for every interface.
fn sysctls() -> Sysctls {
    let mut paths =
        ["net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"].map(str::to_owned).to_vec();
    let keys = shipped().into_iter().map(|setting| setting.name.replace('.', "/"));
    let forwarding = ["ipv4", "ipv6"].map(|protocol| format!("net/{protocol}/conf/*/forwarding"));
    for key in keys.chain(forwarding) {
        let Some((directory, name)) = key.split_once("/*/") else {
            paths.push(key);
            continue;
        };
        let interfaces = fs::read_dir(Path::new("/proc/sys").join(directory));
        // Without IPv6 there is no such directory.
        for interface in interfaces.into_iter().flatten().flatten() {
            paths.push(format!("{directory}/{}/{name}", interface.file_name().to_string_lossy()));
        }
    }
    let read = |path: String| {
        let text = fs::read_to_string(Path::new("/proc/sys").join(&path)).ok()?;
        Some((path, text.trim().to_owned()))
    };
    paths.into_iter().filter_map(read).collect()
}

fn clock(state_directory: &Path, root: &Path) -> Clock {
    // systemd-timesyncd touches it; the kernel is told by chrony and others.
    let marker = root.join("run/systemd/timesync/synchronized").exists();
    let synchronised = if marker { Some(true) } else { netlink::clock_is_synchronised().ok() };
    let files = fs::read_dir(state_directory).into_iter().flatten().flatten();
    let times =
        files.filter_map(|file| Some((file.path(), file.metadata().ok()?.modified().ok()?)));
    let last_state = times.max_by_key(|(_, time)| *time);
    Clock { synchronised, now: Some(SystemTime::now()), last_state }
}

fn daemon(common: &Common) -> Daemon {
    let socket = socket_path(&common.runtime_directory);
    match Client::connect(&socket).and_then(|client| client.ask(&Request::Status)) {
        Ok(Response::Status(status)) => Daemon::Status(status),
        Ok(Response::Failed(failure)) => match failure.kind {
            FailureKind::BadRequest => Daemon::Unreachable(failure.message),
            _ => Daemon::Refuses(failure.message),
        },
        Ok(_) => Daemon::Unreachable("it answered another question".to_owned()),
        Err(ClientError::NotRunning { .. }) => Daemon::Away,
        Err(error) => Daemon::Unreachable(crate::error::in_full(&error)),
    }
}
