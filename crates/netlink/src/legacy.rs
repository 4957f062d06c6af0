//! Tables of the old iptables, which nf_tables doesn't list: how many rules they have, and what in
//! them denies.
//!
//! They are read by socket options (`linux/netfilter_ipv4/ip_tables.h` and its IPv6 twin): a
//! description of the table, then all its entries in one blob. An entry is a header, matches, and a
//! target; the policy of a hook is the entry at its underflow.

use crate::attribute::Malformed;
use crate::error::Error;
use crate::survey::Family;
use nix::errno::Errno;
use nix::libc;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const WHAT: &str = "tables of the old iptables";
/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES` and `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: libc::c_int = 65;
/// `XT_TABLE_MAXNAMELEN`
const NAME: usize = 32;
const HOOKS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
/// The length of `struct ipt_getinfo`: name, valid hooks, an entry and an underflow for each hook,
/// number and size of the entries.
const INFO: usize = NAME + 4 + 2 * 4 * HOOKS.len() + 4 + 4;
/// The length of `struct ipt_get_entries` before the entries: name, size, alignment.
const ENTRIES: usize = NAME + 8;
/// The length of `struct xt_entry_target`: size, name, revision.
const TARGET: usize = 32;
/// The verdict of a standard target that drops: `-NF_DROP - 1`.
const DROP: i32 = -1;
/// How often a table is read that changes between its description and its entries.
const ATTEMPTS: usize = 4;

/// A table of the old iptables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyTable {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// How many rules it has, policies left out.
    pub rules: usize,
    /// How many of them drop or reject.
    pub denials: usize,
    /// The built-in chains whose policy is to drop.
    pub dropping: Vec<&'static str>,
}

/// Reads all of them, of this network namespace.
///
/// # Errors
/// Without CAP_NET_ADMIN, and when the kernel's answer can't be understood.
pub fn legacy_tables() -> Result<Vec<LegacyTable>, Error> {
    let mut tables = Vec::new();
    for layout in [&V4, &V6] {
        let names = match fs::read_to_string(layout.names) {
            Ok(names) => names,
            // The kernel has none of them.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::NotPermitted);
            }
            Err(source) => return Err(Error::Transport { what: WHAT, source }),
        };
        for name in names.lines() {
            tables.push(read(layout, name)?);
        }
    }
    Ok(tables)
}

/// Where things are in one of both families.
struct Layout {
    family: Family,
    names: &'static str,
    domain: libc::c_int,
    level: libc::c_int,
    /// Where an entry has the offset of its target, and behind it its own length.
    target_offset: usize,
}

const V4: Layout = Layout {
    family: Family::Ip,
    names: "/proc/net/ip_tables_names",
    domain: libc::AF_INET,
    level: libc::IPPROTO_IP,
    // Behind `struct ipt_ip` and a number.
    target_offset: 88,
};

const V6: Layout = Layout {
    family: Family::Ip6,
    names: "/proc/net/ip6_tables_names",
    domain: libc::AF_INET6,
    level: libc::IPPROTO_IPV6,
    // Behind `struct ip6t_ip6` and a number.
    target_offset: 140,
};

fn read(layout: &Layout, name: &str) -> Result<LegacyTable, Error> {
    let transport = |source| Error::Transport { what: WHAT, source };
    let malformed = Error::malformed(WHAT);
    // SAFETY: three numbers.
    let socket = unsafe {
        libc::socket(layout.domain, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW)
    };
    if socket < 0 {
        return Err(Error::Socket(io::Error::last_os_error()));
    }
    // SAFETY: the descriptor was opened just now and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    for _ in 0..ATTEMPTS {
        let mut info = request(name, INFO).map_err(&malformed)?;
        option(&socket, layout.level, GET_INFO, &mut info).map_err(transport)?;
        let size = number(&info, INFO - 4).map_err(&malformed)? as usize;
        let length = ENTRIES.checked_add(size).ok_or(Malformed).map_err(&malformed)?;
        let mut entries = request(name, length).map_err(&malformed)?;
        entries[NAME..NAME + 4].copy_from_slice(&(size as u32).to_ne_bytes());
        match option(&socket, layout.level, GET_ENTRIES, &mut entries) {
            Ok(()) => {}
            // It has another size by now.
            Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => continue,
            Err(error) => return Err(transport(error)),
        }
        return decode(layout, name, &info, &entries[ENTRIES..]).map_err(&malformed);
    }
    Err(Error::Unsteady { what: "a table of iptables", attempts: ATTEMPTS })
}

/// A buffer that begins with the name of a table.
fn request(name: &str, length: usize) -> Result<Vec<u8>, Malformed> {
    let mut buffer = vec![0; length];
    let place = buffer.get_mut(..name.len()).filter(|place| place.len() < NAME).ok_or(Malformed)?;
    place.copy_from_slice(name.as_bytes());
    Ok(buffer)
}

fn option(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    buffer: &mut [u8],
) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, which the buffer has, and the length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            buffer.as_mut_ptr().cast::<libc::c_void>(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn number(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let rest = bytes.get(at..).ok_or(Malformed)?;
    rest.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk)).ok_or(Malformed)
}

fn short(bytes: &[u8], at: usize) -> Result<usize, Malformed> {
    let rest = bytes.get(at..).ok_or(Malformed)?;
    rest.first_chunk().map(|chunk| usize::from(u16::from_ne_bytes(*chunk))).ok_or(Malformed)
}

/// What the target of an entry does.
enum Target {
    Denies,
    Other,
    /// The head of a chain of the user's, or the end of the table.
    Head,
}

fn decode(
    layout: &Layout,
    name: &str,
    info: &[u8],
    entries: &[u8],
) -> Result<LegacyTable, Malformed> {
    let valid = number(info, NAME)?;
    let mut policies = Vec::new();
    for (index, hook) in HOOKS.into_iter().enumerate() {
        if valid & 1 << index != 0 {
            policies.push((number(info, NAME + 4 + 4 * (HOOKS.len() + index))? as usize, hook));
        }
    }
    let (family, name) = (layout.family, name.to_owned());
    let mut table = LegacyTable { family, name, rules: 0, denials: 0, dropping: Vec::new() };
    let mut at = 0;
    while at < entries.len() {
        let entry = &entries[at..];
        let length = short(entry, layout.target_offset + 2)?;
        let target = target(entry, short(entry, layout.target_offset)?)?;
        let policy = policies.iter().find(|(place, _)| *place == at);
        match (target, policy) {
            (Target::Head, _) => {}
            (Target::Denies, Some((_, hook))) => table.dropping.push(hook),
            (Target::Other, Some(_)) => {}
            (Target::Denies, None) => {
                table.rules += 1;
                table.denials += 1;
            }
            (Target::Other, None) => {
                // A chain of the user's ends in a return that nobody wrote.
                let is_end = entries.get(at + length..).is_none_or(|next| is_head(layout, next));
                table.rules += usize::from(!is_end);
            }
        }
        // Less is no entry, and would never end.
        if length < layout.target_offset + 4 {
            return Err(Malformed);
        }
        at += length;
    }
    Ok(table)
}

fn is_head(layout: &Layout, entry: &[u8]) -> bool {
    let target = short(entry, layout.target_offset).and_then(|offset| target(entry, offset));
    matches!(target, Ok(Target::Head))
}

fn target(entry: &[u8], offset: usize) -> Result<Target, Malformed> {
    let target = entry.get(offset..).ok_or(Malformed)?;
    let name = target.get(2..TARGET - 1).ok_or(Malformed)?;
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Ok(match &name[..length] {
        // A standard target has no name.
        b"" if number(target, TARGET)? as i32 == DROP => Target::Denies,
        b"REJECT" => Target::Denies,
        b"ERROR" => Target::Head,
        _ => Target::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry of IPv4 without matches.
    fn entry(name: &str, verdict: i32) -> Vec<u8> {
        let mut bytes = vec![0; 112];
        bytes[88..90].copy_from_slice(&112u16.to_ne_bytes());
        bytes[90..92].copy_from_slice(&152u16.to_ne_bytes());
        let mut target = vec![0; 40];
        target[2..2 + name.len()].copy_from_slice(name.as_bytes());
        target[TARGET..TARGET + 4].copy_from_slice(&verdict.to_ne_bytes());
        bytes.extend(target);
        bytes
    }

    /// A description with hooks INPUT and OUTPUT, whose policies are at these entries.
    fn info(policies: [usize; 2]) -> Vec<u8> {
        let mut bytes = vec![0; INFO];
        bytes[NAME..NAME + 4].copy_from_slice(&0b1010u32.to_ne_bytes());
        for (hook, place) in [1, 3].into_iter().zip(policies) {
            let at = NAME + 4 + 4 * (HOOKS.len() + hook);
            bytes[at..at + 4].copy_from_slice(&(place as u32 * 152).to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn rules_policies_and_chains_are_told_apart() {
        let entries = [
            entry("", DROP),
            entry("REJECT", 0),
            entry("", -2),
            entry("", DROP),
            entry("", -2),
            entry("ERROR", 0),
            entry("LOG", 0),
            entry("", -5),
            entry("ERROR", 0),
        ];
        let table = decode(&V4, "filter", &info([3, 4]), &entries.concat()).expect("well-formed");
        assert_eq!((table.rules, table.denials), (4, 2));
        assert_eq!(table.dropping, ["INPUT"]);
    }

    #[test]
    fn entries_that_lead_nowhere_are_refused() {
        let mut short = entry("", DROP);
        short[90..92].copy_from_slice(&0u16.to_ne_bytes());
        assert_eq!(decode(&V4, "filter", &info([0, 1]), &short), Err(Malformed));
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(
            info in prop::collection::vec(any::<u8>(), 0..100),
            entries in prop::collection::vec(prop::sample::select(vec![0u8, 1, 88, 112, 152]), 0..400),
        ) {
            for layout in [&V4, &V6] {
                let _ = decode(layout, "filter", &info, &entries);
            }
        }
    }
}
