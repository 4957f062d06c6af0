//! Where sshd listens, by the processes that hold the sockets.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What servers of SSH are called in `/proc/PID/comm`.
const NAMES: [&str; 2] = ["sshd", "dropbear"];

/// The ports that sshd listens on for others than this host, in this network namespace. Only root
/// sees whose a socket is. One that the service manager holds for sshd is nobody's here.
pub(crate) fn listening() -> BTreeSet<u16> {
    let listening = netlink::tcp_listening().unwrap_or_default();
    let outside = listening.iter().filter(|listener| !listener.local.ip().is_loopback());
    let mut inodes: BTreeSet<String> = BTreeSet::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes.map(|process| process.path()).filter(|process| is_server(process)) {
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        inodes.extend(links.filter_map(|link| link.to_str().map(str::to_owned)));
    }
    let is_its = |inode: u32| inodes.contains(&format!("socket:[{inode}]"));
    outside
        .filter(|listener| is_its(listener.inode))
        .map(|listener| listener.local.port())
        .collect()
}

fn is_server(process: &Path) -> bool {
    let name = fs::read_to_string(process.join("comm"));
    name.is_ok_and(|name| NAMES.contains(&name.trim_end()))
}
