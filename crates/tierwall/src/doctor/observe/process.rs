//! Processes of this network namespace, and which of them listen to changes of nf_tables.

use super::super::facts::Listener;
use std::fs;
use std::io;
use std::path::Path;

/// `NETLINK_NETFILTER` of `linux/netlink.h`.
const NETFILTER: &str = "12";
/// The bit of the group `NFNLGRP_NFTABLES` (7).
const NFTABLES: u32 = 1 << 6;

/// A process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) id: u32,
    /// Of `/proc/PID/comm`: at most 15 bytes.
    pub(super) name: String,
}

/// The processes that are in the network namespace of this one, as far as that may be known.
pub(super) fn processes() -> Vec<Process> {
    let namespace = |id: &str| fs::read_link(Path::new("/proc").join(id).join("ns/net")).ok();
    let own = namespace("self");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let processes = ids.filter_map(|name| Some((name.parse::<u32>().ok()?, name)));
    let here = processes.filter(|(_, path)| own.is_some() && namespace(path) == own);
    let named = here.filter_map(|(id, path)| {
        let name = fs::read_to_string(Path::new("/proc").join(path).join("comm")).ok()?;
        Some(Process { id, name: name.trim_end().to_owned() })
    });
    named.collect()
}

/// Who listens to changes of nf_tables, but for tierwalld with the process id `own`.
pub(super) fn listeners(processes: &[Process], own: Option<u32>) -> io::Result<Vec<Listener>> {
    let sockets = sockets(&fs::read_to_string("/proc/net/netlink")?);
    let mut listeners = Vec::new();
    for inode in sockets {
        let process = processes.iter().find(|process| has_socket(process.id, inode));
        if process.is_none_or(|process| Some(process.id) != own) {
            let process = process.map(|process| (process.name.clone(), process.id));
            listeners.push(Listener { process });
        }
    }
    Ok(listeners)
}

/// The inodes of sockets that joined the group of nf_tables: columns are address, protocol, port,
/// the first 32 groups in hexadecimal, and the inode as the last.
fn sockets(table: &str) -> Vec<u64> {
    let inode = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let groups = u32::from_str_radix(columns.get(3)?, 16).ok()?;
        let joined = columns.get(1) == Some(&NETFILTER) && groups & NFTABLES != 0;
        joined.then(|| columns.last()?.parse().ok())?
    };
    table.lines().filter_map(inode).collect()
}

fn has_socket(process: u32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    descriptors.into_iter().any(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|link| link == Path::new(&wanted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_those_of_one_group_of_one_protocol() {
        let table = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                     0000000012345678 12  4711       00000040 0        0        0     2        0        1001\n\
                     0000000012345678 12  4712       00000000 0        0        0     2        0        1002\n\
                     0000000012345678 0   4713       00000040 0        0        0     2        0        1003\n\
                     0000000012345678 12  4714       ffffffff 0        0        0     2        0        1004\n\
                     nonsense\n";
        assert_eq!(sockets(table), [1001, 1004]);
        assert_eq!(sockets(""), [0; 0]);
    }

    #[test]
    fn this_process_is_here() {
        let own = std::process::id();
        assert!(processes().iter().any(|process| process.id == own && !process.name.is_empty()));
    }
}
