//! The ports that sshd listens on by its own configuration: sshd_config(5), or the socket unit that
//! starts it.
//!
//! Files are read, and nothing is run. What can't be read says nothing.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

const CONFIGURATION: &str = "etc/ssh/sshd_config";
/// Where a relative `Include` begins.
const BASE: &str = "etc/ssh";
/// The port without a setting.
const DEFAULT: u16 = 22;
/// As deep as sshd follows `Include`.
const DEEPEST: usize = 16;
/// The most that is read of a file, in bytes.
const LARGEST: u64 = 1 << 20;

/// Socket units by which distributions start sshd.
const UNITS: [&str; 2] = ["ssh.socket", "sshd.socket"];
/// Where units are, the one that goes before others first (systemd.unit(5)).
const UNIT_DIRECTORIES: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "run/systemd/generator",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// The TCP ports that sshd listens on for others than this host, below `root`; none where it isn't
/// configured at all.
pub fn sshd_ports(root: &Path) -> BTreeSet<u16> {
    let by_socket = UNITS.iter().find_map(|unit| by_socket(root, unit));
    by_socket.unwrap_or_else(|| {
        let mut found = Found::default();
        match found.read(root, &root.join(CONFIGURATION), 0) {
            true => found.ports(),
            false => BTreeSet::new(),
        }
    })
}

/// What a configuration says so far.
#[derive(Debug, Default)]
struct Found {
    ports: BTreeSet<u16>,
    /// The port of each address, where it has one of its own. Addresses of this host alone aren't
    /// among them.
    addresses: Vec<Option<u16>>,
    /// Whether it names addresses at all.
    has_addresses: bool,
}

impl Found {
    /// Reads a file and what it includes. Returns whether there is one.
    fn read(&mut self, root: &Path, path: &Path, depth: usize) -> bool {
        let Some(text) = text(path) else { return false };
        for line in text.lines() {
            let mut words = words(line).into_iter();
            let Some(keyword) = words.next().map(|word| word.to_ascii_lowercase()) else {
                continue;
            };
            match keyword.as_str() {
                // What follows is for some connections, and can't set where to listen.
                "match" => break,
                "include" if depth < DEEPEST => {
                    for pattern in words {
                        for file in expand(root, &pattern) {
                            self.read(root, &file, depth + 1);
                        }
                    }
                }
                "port" => self.ports.extend(words.next().and_then(|port| port.parse::<u16>().ok())),
                "listenaddress" => {
                    self.has_addresses = true;
                    self.addresses.extend(words.next().and_then(|address| port_of(&address)));
                }
                _ => {}
            }
        }
        true
    }

    fn ports(self) -> BTreeSet<u16> {
        let Self { mut ports, addresses, has_addresses } = self;
        if ports.is_empty() {
            ports.insert(DEFAULT);
        }
        if !has_addresses {
            return ports;
        }
        let own = addresses.iter().copied().flatten();
        let shared = addresses.iter().any(Option::is_none).then_some(ports);
        own.chain(shared.into_iter().flatten()).collect()
    }
}

/// The port that an address has of its own; none where it is one of this host alone.
fn port_of(text: &str) -> Option<Option<u16>> {
    let (host, port) = match text.parse::<SocketAddr>() {
        Ok(end) => (end.ip().to_string(), Some(end.port())),
        Err(_) => match text.rsplit_once(':') {
            // An IPv6 address has more than one colon.
            Some((host, port)) if !host.contains(':') => (host.to_owned(), port.parse().ok()),
            _ => (text.trim_matches(['[', ']']).to_owned(), None),
        },
    };
    let is_own = match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost",
    };
    (!is_own).then_some(port)
}

/// The words of a line: separated by spaces or one `=`, in quotes or not, up to a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => {
                let end = rest.find(|c: char| c.is_whitespace() || (c == '=' && words.is_empty()));
                rest.split_at(end.unwrap_or(rest.len()))
            }
        };
        words.push(word.to_owned());
        rest = behind.trim_start();
        if words.len() == 1 {
            rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        }
    }
    words
}

/// The files that an `Include` names, in the order of their names. Wildcards stand in file names, as
/// distributions write them.
fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = match pattern.strip_prefix('/') {
        Some(absolute) => root.join(absolute),
        None => root.join(BASE).join(pattern),
    };
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Vec::new();
    };
    if !name.contains(['*', '?']) {
        return vec![path];
    }
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter(|found| !found.starts_with('.') && matches(name, found)).collect();
    names.sort();
    names.into_iter().map(|name| directory.join(name)).collect()
}

/// Whether a name is of a pattern with `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return name.is_empty() };
    let behind = &pattern[first.len_utf8()..];
    let mut rest = name.chars();
    match first {
        '*' => name
            .char_indices()
            .map(|(at, _)| at)
            .chain([name.len()])
            .any(|at| matches(behind, &name[at..])),
        '?' => rest.next().is_some() && matches(behind, rest.as_str()),
        c => rest.next() == Some(c) && matches(behind, rest.as_str()),
    }
}

/// The ports of a socket unit that is started at boot: then sshd's own don't matter.
fn by_socket(root: &Path, unit: &str) -> Option<BTreeSet<u16>> {
    let enabled = root.join("etc/systemd/system/sockets.target.wants").join(unit);
    enabled.symlink_metadata().ok()?;
    let main = UNIT_DIRECTORIES.iter().find_map(|directory| text(&root.join(directory).join(unit)));
    let mut drop_ins: Vec<(String, PathBuf)> = Vec::new();
    for directory in UNIT_DIRECTORIES {
        for file in expand(root, &format!("/{directory}/{unit}.d/*.conf")) {
            let name =
                file.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if !drop_ins.iter().any(|(known, _)| *known == name) {
                drop_ins.push((name, file));
            }
        }
    }
    drop_ins.sort();
    let texts = main.into_iter().chain(drop_ins.iter().filter_map(|(_, file)| text(file)));
    let mut ports = BTreeSet::new();
    for text in texts {
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            match (key.trim(), value.trim()) {
                ("ListenStream", "") => ports.clear(),
                ("ListenStream", value) => match value.parse::<u16>() {
                    Ok(port) => ports.extend([port]),
                    Err(_) => ports.extend(port_of(value).flatten()),
                },
                _ => {}
            }
        }
    }
    Some(ports)
}

/// A file that is one, and not too large.
fn text(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok().filter(|found| found.is_file() && found.len() <= LARGEST);
    found.and_then(|_| fs::read(path).ok()).map(|text| String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ports by these files.
    fn ports(files: &[(&str, &str)]) -> Vec<u16> {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        }
        sshd_ports(root.path()).into_iter().collect()
    }

    #[test]
    fn ports_follow_from_the_configuration_and_what_it_includes() {
        let of = |text: &str| ports(&[(CONFIGURATION, text)]);
        assert_eq!(of("# Port 23\nPermitRootLogin no\n"), [22]);
        assert_eq!(of("Port 2222\nport=2200\n  PORT \"2201\" # too\n"), [2200, 2201, 2222]);
        assert_eq!(of("Match User x\nPort 2222\n"), [22]);
        let text = "Include sshd_config.d/*.conf\nInclude /etc/ssh/own /etc/ssh/none\nPort 1\n";
        let files = [
            (CONFIGURATION, text),
            ("etc/ssh/sshd_config.d/10-a.conf", "Port 2\nMatch all\nPort 9\n"),
            ("etc/ssh/sshd_config.d/20-b.conf", "Include own\n"),
            ("etc/ssh/sshd_config.d/no", "Port 8\n"),
            ("etc/ssh/own", "Port 3\nInclude own\n"),
        ];
        assert_eq!(ports(&files), [1, 2, 3]);
        assert_eq!(ports(&[]), [0; 0]);
    }

    #[test]
    fn addresses_have_ports_of_their_own_and_those_of_this_host_have_none() {
        let of = |text: &str| ports(&[(CONFIGURATION, text)]);
        assert_eq!(of("Port 2222\nListenAddress 10.0.0.1\n"), [2222]);
        assert_eq!(of("Port 2222\nListenAddress 10.0.0.1:2200\n"), [2200]);
        assert_eq!(
            of("ListenAddress [2001:db8::1]:2200\nListenAddress host.example\n"),
            [22, 2200]
        );
        assert_eq!(of("ListenAddress 2001:db8::1\n"), [22]);
        assert_eq!(of("ListenAddress 127.0.0.1\nListenAddress localhost:9\n"), [0; 0]);
    }

    #[test]
    fn a_socket_unit_that_is_enabled_goes_before() {
        let wants = ("etc/systemd/system/sockets.target.wants/ssh.socket", "");
        let unit = ("usr/lib/systemd/system/ssh.socket", "[Socket]\nListenStream=22\n");
        let own =
            ("etc/systemd/system/ssh.socket.d/own.conf", "ListenStream=\nListenStream=[::]:2222\n");
        let configuration = (CONFIGURATION, "Port 2200\n");
        assert_eq!(ports(&[configuration, unit, own]), [2200]);
        assert_eq!(ports(&[configuration, unit, wants]), [22]);
        assert_eq!(ports(&[configuration, unit, own, wants]), [2222]);
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, name, is) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", true),
            ("*.conf", "a.conf.bak", false),
            ("1?-*", "10-é", true),
            ("1?", "1", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }
}
