//! The sandbox as the daemon's own code finds it: another program in the daemon's place tries every way
//! out that root would have, and what the daemon needs.

use crate::Site;
use crate::sandbox::installed;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Writes `open` or `closed` and what was tried, a line each.
const PROBE: &str = r#"
import fcntl, os, pwd, socket
said = open("/var/lib/tierwall/probe", "w")
def tried(what, attempt):
    try:
        attempt()
        answer = "open"
    except (OSError, KeyError):
        answer = "closed"
    said.write(f"{answer} {what}\n")
def read(path):
    text = open(path).read(1) if os.path.isfile(path) else os.listdir(path)
    if not text: raise OSError("nothing there")
def write(path):
    open(path, "w").close()
def connect(path, kind=socket.SOCK_STREAM):
    socket.socket(socket.AF_UNIX, kind).connect(path)
def lease(path):
    file = open(path)
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
for path in READ: tried("read " + path, lambda: read(path))
for path in WRITE: tried("write " + path, lambda: write(path))
for path in CONNECT: tried("connect " + path, lambda: connect(path))
for path in DATAGRAM: tried("connect " + path, lambda: connect(path, socket.SOCK_DGRAM))
for path in LEASE: tried("lease " + path, lambda: lease(path))
for name in USERS: tried("user " + name, lambda: pwd.getpwnam(name))
tried("signal", lambda: os.kill(1, 0))
tried("another user", lambda: os.setuid(33))
tried("device", lambda: os.mknod("/var/lib/tierwall/device", 0o60600, os.makedev(8, 0)))
tried("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
tried("internet", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
"#;

/// In the daemon's place, as its unit would start it.
const IN_ITS_PLACE: &str = "[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\nExecStart=\n\
                            ExecStart=/usr/bin/python3 /etc/tierwall/probe.py\n";

/// What root could read and write, and the sockets of those who would do anything for root.
const CLOSED: [(&str, &[&str]); 3] = [
    (
        "READ",
        &[
            "/etc/shadow",
            "/etc/shadow-",
            "/etc/gshadow",
            "/etc/ssh/ssh_host_ed25519_key",
            "/etc/ssl/private",
            "/root",
            "/home",
            "/var/backups",
            "/var/lib/systemd",
            "/var/lib/sss/db",
            "/proc/1/environ",
            "/proc/1/root/etc/shadow",
        ],
    ),
    ("WRITE", &["/etc/tierwall/conf.d/x.toml", "/usr/sbin/tierwalld", "/run/x", "/root/x", "/x"]),
    (
        "CONNECT",
        &[
            "/run/systemd/private",
            "/run/dbus/system_bus_socket",
            "/run/docker.sock",
            "/run/systemd/userdb/io.systemd.Multiplexer",
            "/var/lib/lxd/unix.socket",
            "/var/lib/sss/pipes/private/pam",
            "/proc/1/root/run/systemd/private",
        ],
    ),
];

/// What it needs: policies wherever they are, who the users are, its state and its log.
const OPEN: [(&str, &[&str]); 6] = [
    (
        "READ",
        &[
            "/etc/passwd",
            "/etc/tierwall/own.list",
            "/srv/feeds/own.list",
            "/etc/ssh/sshd_config",
            "/etc/ssh/sshd_config.d",
            "/run/systemd/sessions",
        ],
    ),
    ("WRITE", &["/var/lib/tierwall/x", "/run/tierwall/x"]),
    (
        "CONNECT",
        &[
            "/run/nscd/socket",
            "/run/nslcd/socket",
            "/var/lib/sss/pipes/nss",
            "/run/systemd/journal/stdout",
            "/run/systemd/userdb/io.systemd.DynamicUser",
        ],
    ),
    ("DATAGRAM", &["/run/systemd/notify", "/run/systemd/journal/socket", "/dev/log"]),
    ("LEASE", &["/srv/feeds/own.list", "/etc/tierwall/own.list"]),
    ("USERS", &["root", "www-data", "made-up"]),
];

/// Sockets of services that aren't installed there.
const STAND_INS: [&str; 6] = [
    "/run/nscd/socket",
    "/run/nslcd/socket",
    "/run/docker.sock",
    "/var/lib/lxd/unix.socket",
    "/var/lib/sss/pipes/nss",
    "/var/lib/sss/pipes/private/pam",
];

fn stand_in(site: &Site) {
    let listen = "import os, signal, socket, sys\nkept = []\nfor path in sys.argv[1:]:\n    \
                  os.makedirs(os.path.dirname(path), exist_ok=True)\n    \
                  kept.append(socket.socket(socket.AF_UNIX))\n    kept[-1].bind(path)\n    \
                  kept[-1].listen()\nsignal.pause()\n";
    site.machine.write("/srv/listen.py", listen).unwrap();
    let all = STAND_INS.join(" ");
    site.ok(&format!("systemd-run --unit=stand-ins /usr/bin/python3 /srv/listen.py {all}"));
    site.ok("systemd-run --unit=made-up -p DynamicUser=yes /usr/bin/sleep infinity");
    for path in STAND_INS {
        site.eventually(path, || site.machine.run(&["test", "-S", path]).unwrap().status.success());
    }
    site.ok("mkdir -p /srv/feeds /var/lib/sss/db /etc/ssl/private");
    site.ok("touch /root/x /var/lib/sss/db/x /var/backups/x /etc/ssl/private/x");
    site.ok("touch /etc/ssh/sshd_config.d/x.conf /run/systemd/sessions/x");
    for list in ["/srv/feeds/own.list", "/etc/tierwall/own.list"] {
        site.machine.write(list, "192.0.2.1\n").unwrap();
        let only_root = fs::Permissions::from_mode(0o600);
        fs::set_permissions(site.machine.path(list), only_root).unwrap();
    }
}

#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn the_daemon_has_no_way_to_another_right() {
    let site = installed();
    stand_in(&site);
    let lists = |kind: &str| -> String {
        let all = CLOSED.iter().chain(&OPEN).filter(|(name, _)| *name == kind);
        let paths: Vec<String> =
            all.flat_map(|(_, paths)| *paths).map(|p| format!("{p:?}")).collect();
        format!("{kind} = [{}]\n", paths.join(", "))
    };
    let kinds = ["READ", "WRITE", "CONNECT", "DATAGRAM", "LEASE", "USERS"].map(lists).concat();
    site.machine.write("/etc/tierwall/probe.py", &(kinds + PROBE)).unwrap();
    let drop_in = site.machine.path("/etc/systemd/system/tierwalld.service.d");
    fs::create_dir_all(&drop_in).unwrap();
    fs::write(drop_in.join("probe.conf"), IN_ITS_PLACE).unwrap();
    site.ok("systemctl daemon-reload");
    site.ok("systemctl start tierwalld");
    let said = fs::read_to_string(site.machine.path("/var/lib/tierwall/probe")).unwrap();

    let verb = |kind: &str| match kind {
        "DATAGRAM" => "connect".to_owned(),
        "USERS" => "user".to_owned(),
        kind => kind.to_lowercase(),
    };
    let expected = |answer: &str, lists: &[(&str, &[&str])]| -> Vec<String> {
        let line = |kind: &str, path: &str| format!("{answer} {} {path}", verb(kind));
        let lines = lists.iter().flat_map(|(kind, all)| all.iter().map(|path| line(kind, path)));
        lines.collect()
    };
    let mut wanted = [expected("closed", &CLOSED), expected("open", &OPEN)].concat();
    for way in ["signal", "another user", "device", "packets", "internet"] {
        wanted.push(format!("closed {way}"));
    }
    let otherwise: Vec<_> =
        wanted.iter().filter(|wanted| !said.lines().any(|line| line == *wanted)).collect();
    assert!(otherwise.is_empty(), "{otherwise:#?}\n{said}");
}

/// A new file has a new place in the kernel, which nothing covers at first.
#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn a_changed_password_stays_hidden() {
    let site = installed();
    site.ok("systemctl start tierwalld");
    let daemon = site.property("tierwalld", "MainPID");
    let seen = |path: &str| site.ok(&format!("nsenter --target {daemon} --mount cat {path}"));
    let keys = "/etc/ssh/ssh_host_ed25519_key";
    for path in ["/etc/shadow", keys] {
        assert!(!site.ok(&format!("cat {path}")).is_empty());
        assert_eq!(seen(path), "", "{path}");
    }
    for round in 0..3 {
        site.ok(&format!("usermod --password x{round} root"));
        assert!(site.ok("cat /etc/shadow").contains(&format!("root:x{round}:")));
        site.eventually("hidden again", || seen("/etc/shadow").is_empty());
    }
    site.ok(&format!("mv {keys} {keys}.new"));
    site.ok(&format!("mv {keys}.new {keys}"));
    site.eventually("hidden again", || seen(keys).is_empty());
    // What people need of it is as it was.
    assert!(seen("/etc/passwd").contains("root:"));
    site.ok("systemctl stop tierwalld");
    site.eventually("it isn't watched any more", || {
        site.property("tierwalld-hide.path", "ActiveState") == "inactive"
    });
}
