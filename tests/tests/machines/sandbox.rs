//! The unit: nothing comes up before the table, every feature works in the sandbox, and a full
//! disk keeps nobody from enforcing.

use crate::metrics::{ADDRESS, SOCKET, scrape};
use crate::{POLICY, Site, made};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

pub(crate) fn installed() -> Site {
    let site = Site::new(&["10.10.1.20"]);
    site.offer(&made("TIERWALL_DEB"), "tierwall.deb");
    site.ok("apt-get install --yes /root/tierwall.deb");
    site.write_policy(POLICY);
    site
}

fn reaches(site: &Site, from: &str, port: u16) -> bool {
    let address = SocketAddr::from(([10, 10, 1, 20], port));
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok();
    site.host(from).namespace.run(connect)
}

/// What brings interfaces up is ordered after `network-pre.target`, and so is this unit, which looks
/// whether the table is there as soon as it may.
const EAGER: &str = "[Unit]\nDefaultDependencies=no\nWants=network-pre.target\n\
                     After=network-pre.target\nBefore=network.target systemd-networkd.service\n\
                     [Service]\nType=oneshot\n\
                     ExecStart=/bin/sh -c 'nft list table inet filter >/var/eager 2>&1; \
                     systemctl is-active systemd-networkd >>/var/eager; true'\n\
                     [Install]\nWantedBy=sysinit.target\n";

#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn no_interface_comes_up_before_the_table_also_with_a_bad_file() {
    let mut site = installed();
    site.machine.write("/etc/systemd/system/eager.service", EAGER).unwrap();
    site.ok("systemctl enable tierwalld eager systemd-networkd");
    site.ok("systemctl start tierwalld");
    for policy in [POLICY, "role = \n"] {
        site.write_policy(policy);
        let seen = site.machine.path("/var/eager");
        let _ = fs::remove_file(&seen);
        site.machine.reboot().unwrap();
        let seen = fs::read_to_string(seen).unwrap();
        for part in ["policy drop", "set web_v4", "10.10.1.10"] {
            assert!(seen.contains(part), "{part}: {seen}");
        }
        // It did look that early.
        assert!(seen.ends_with("\ninactive\n"), "{seen}");
        assert_eq!(site.property("systemd-networkd", "ActiveState"), "active");
    }
}

/// A policy that uses all there is.
const EVERYTHING: &str = r#"role = "auto"
watch = "members"
boot = "closed"
kernel_log = true
confirm = "60s"
deny = { input = "reject", output = "reject" }
include = ["conf.d/*.toml"]

[guard]
services = ["tcp/22"]
rollback_on_denials = 3

[metrics]
listen = "ADDRESS"
textfile = "/var/lib/tierwall/tierwall.prom"
interval = "1s"

[tiers]
admin = ["10.10.0.1"]
web   = ["10.10.1.10", "2001:db8::10"]
app   = ["10.10.1.20"]
cdn   = { file = "cdn.list" }

[[allow]]
from    = "admin"
to      = "*"
service = "tcp/22"

[[allow]]
from    = ["web", "cdn"]
to      = "app"
service = ["tcp/8080", "tcp/9000-9010"]

[[allow]]
from    = "app"
to      = "web"
service = "tcp/443"
user    = "www-data"
"#;

/// A call that the filter denies kills the daemon here, and isn't merely answered with an error
/// that it might live with.
const STRICTER: &str = "[Service]\nSystemCallErrorNumber=kill\n";

#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn every_feature_works_in_the_sandbox() {
    let site = installed();
    let drop_in = site.machine.path("/etc/systemd/system/tierwalld.service.d");
    fs::create_dir_all(&drop_in).unwrap();
    fs::write(drop_in.join("stricter.conf"), STRICTER).unwrap();
    site.machine.write("/etc/tierwall/cdn.list", "192.0.2.0/24 # the net\n").unwrap();
    let everything = EVERYTHING.replace("ADDRESS", ADDRESS);
    site.write_policy(&everything);
    site.ok("systemctl daemon-reload");
    site.ok("tierwall check --strict");
    site.ok(&format!("systemctl enable {SOCKET}"));
    site.ok("systemctl enable --now tierwalld");
    assert!(site.ok("systemctl show -p SystemCallFilter tierwalld").contains("sendmsg"));
    let units = "tierwalld.service tierwalld-hide.path tierwalld-metrics.socket";
    assert_eq!(site.ok(&format!("systemd-analyze verify --man=no {units}")), "");

    // Who the users are, and which tier this server is in.
    let www_data = site.ok("id -u www-data").trim().to_owned();
    assert!(site.table().contains(&format!("skuid {www_data}")), "{}", site.table());
    assert!(site.property("tierwalld", "StatusText").contains("app"), "{}", site.journal());

    // Denials, both ways, by NFLOG and to the kernel log.
    let app = site.host("app1").namespace.clone();
    let _listener = app.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    assert!(reaches(&site, "web1", 8080));
    assert!(!reaches(&site, "web1", 9999));
    site.fails(
        "runuser -u www-data -- python3 -c \
                __import__('socket').create_connection(('10.10.1.10',444),1)",
    );
    for (what, by) in [("tcp/9999", "service"), ("www-data", "user")] {
        site.eventually(what, || site.ok(&format!("tierwall denied --by {by}")).contains(what));
    }
    assert!(site.table().contains("log prefix \"tierwall input denied: \""), "{}", site.table());

    let counted = |text: &str| {
        let is_it = |line: &str| line.contains("_denied_connections_total{direction=\"input\"");
        text.lines().any(is_it)
    };
    site.eventually("metrics", || scrape(&site).is_some_and(|text| counted(&text)));
    site.eventually("the file of metrics", || {
        let file = site.machine.path("/var/lib/tierwall/tierwall.prom");
        fs::read_to_string(file).is_ok_and(|text| counted(&text))
    });
    assert!(counted(&site.ok("tierwall metrics")));
    assert!(site.ok("tierwall suggest").contains("www-data"), "{}", site.ok("tierwall suggest"));

    // The watched files: a list, and an included file with a tier that an allow takes up.
    site.machine.write("/etc/tierwall/cdn.list", "192.0.2.0/24\n198.51.100.7\n").unwrap();
    site.eventually("the list", || site.table().contains("198.51.100.7"));
    let more = "[tiers]\nops = [\"10.10.0.9\"]\n[[allow]]\nfrom = \"ops\"\nto = \"app\"\n\
                service = \"tcp/9100\"\n";
    site.machine.write("/etc/tierwall/conf.d/ops.toml", more).unwrap();
    site.eventually("the edit waits", || site.ok("tierwall status").contains("reload"));

    // Confirmed; and gone back from; by systemctl, which takes the policy's own rule.
    site.ok("systemctl reload tierwalld");
    assert!(site.table().contains("9100"));
    site.ok("tierwall confirm --force");
    fs::remove_file(site.machine.path("/etc/tierwall/conf.d/ops.toml")).unwrap();
    site.ok("tierwall reload --confirm 5s");
    assert!(!site.table().contains("9100"));
    site.eventually("it is gone back", || site.table().contains("9100"));
    site.ok("tierwall reload --force --confirm 60s");
    site.ok("tierwall confirm --force");
    for command in ["history", "history --json", "diff 1", "denied --json", "plan", "matrix"] {
        site.ok(&format!("tierwall {command}"));
    }
    // The sandbox hides who asks: its name, and who logged in, is by its own word.
    site.ok("useradd --no-create-home alice");
    let as_alice = "echo $(id -u alice) >/proc/self/loginuid && exec tierwall rollback 2";
    site.machine.succeed(&["sh", "-c", as_alice]).unwrap();
    let past = site.ok("tierwall history");
    for by in ["by root (tierwall, as it says)", "by alice as root (tierwall, as it says)"] {
        assert!(past.contains(by), "{past}");
    }
    site.ok("tierwall confirm --force");
    assert!(site.table().contains("9100"));
    site.ok("tierwall reload --force");
    site.ok("tierwall confirm --force");

    // Gone back from, since it denies what was allowed.
    let without = everything.replace("\"tcp/8080\", ", "");
    site.write_policy(&without);
    // Denials count of whom a connection shows to be who they say.
    let web = SocketAddr::from(([10, 10, 1, 20], 8080));
    let _known = site.host("web1").namespace.run(|| TcpStream::connect(web).unwrap());
    site.ok("tierwall reload --force --confirm 60m");
    (0..3).for_each(|_| assert!(!reaches(&site, "web1", 8080)));
    site.eventually("it is gone back", || reaches(&site, "web1", 8080));
    site.write_policy(&everything);
    site.ok("tierwall reload");

    // Members by command, one with a time; the guard over a session that is open.
    site.ok("tierwall member add web 10.10.1.30-10.10.1.40 --for 1h");
    site.ok("tierwall member add web 2001:db8::11");
    site.ok("tierwall member promote web 2001:db8::11");
    site.ok("tierwall member remove web 10.10.1.30-10.10.1.40");
    let session = SocketAddr::from(([10, 10, 1, 20], 22));
    let _session = site.host("router").namespace.run(|| TcpStream::connect(session).unwrap());
    let edited = fs::read_to_string(site.machine.path("/etc/tierwall/tierwall.toml")).unwrap();
    // By a rule: a member may be taken out by a file, whoever is in by it.
    let rule = edited.replace("from    = \"admin\"", "from    = \"10.10.0.2\"");
    site.write_policy(&rule);
    site.eventually("the guard", || {
        site.fails("systemctl reload tierwalld");
        site.journal().contains("the session from 10.10.0.1 to port 22 could not reconnect")
    });
    site.write_policy(&edited);
    site.eventually("the files say what holds", || {
        site.machine.run(&["tierwall", "reload"]).unwrap().status.success()
    });

    // Addresses that come; then another daemon, and none.
    let address = ["address", "add", "10.10.1.21", "dev", "eth0"];
    site.host("app1").namespace.command("ip", &address).unwrap();
    site.ok("tierwall member add app 10.10.1.21");
    site.ok("systemctl restart tierwalld");
    site.ok("tierwall teardown");
    site.fails("nft list table inet filter");
    site.ok("systemctl reload tierwalld");
    site.ok("nft list table inet filter");
    site.ok("systemctl stop tierwalld");
    site.ok("systemctl start tierwalld");

    assert_eq!(site.property("tierwalld", "NRestarts"), "0", "{}", site.journal());
    let journal = site.ok("journalctl --no-pager -o cat -b");
    for sign in ["SIGSYS", "status=31", "core-dump", "audit", "seccomp"] {
        let is_of_ours = |line: &&str| line.contains(sign) && line.contains("tierwall");
        assert_eq!(journal.lines().find(is_of_ours), None, "{sign}");
    }
}

/// As the login manager writes of somebody who came by SSH from the router.
const LOGIN: &str = "UID=0\\nSTATE=active\\nREMOTE=1\\nCLASS=user\\nREMOTE_HOST=10.10.0.1\\n";

/// What the guard goes by lies where the sandbox hides nearly everything, and is made after the daemon
/// of a boot has started.
#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn who_is_in_where_sshd_listens_and_who_writes_a_list_is_seen() {
    let mut site = installed();
    let policy = format!("watch = \"all\"\n{POLICY}")
        .replace("[tiers]", "[tiers]\ncdn = { file = \"cdn.list\" }")
        .replace("\"web\"\nto", "[\"web\", \"cdn\"]\nto");
    site.machine.write("/etc/tierwall/cdn.list", "192.0.2.1\n").unwrap();
    site.write_policy(&policy);
    site.ok("systemctl enable tierwalld");
    site.machine.reboot().unwrap();

    // sshd's configuration, with what it includes.
    site.machine.write("/etc/ssh/sshd_config.d/port.conf", "Port 2222\n").unwrap();
    site.ok("systemctl reload tierwalld");
    let status = site.ok("tierwall status");
    assert!(status.contains("sshd listens on tcp/2222"), "{status}");

    // Somebody writes a list and takes their time.
    let write = "exec 3>>/etc/tierwall/cdn.list; echo 192.0.2.2 >&3; exec sleep infinity";
    site.machine.succeed(&["systemd-run", "--unit=writer", "sh", "-c", write]).unwrap();
    site.eventually("it is open", || site.ok("cat /etc/tierwall/cdn.list").contains("192.0.2.2"));
    site.ok("systemctl reload tierwalld");
    let status = site.ok("tierwall status");
    assert!(status.contains("cdn.list (cdn) is open for writing"), "{status}");
    assert!(!site.table().contains("192.0.2.2"), "{}", site.table());
    site.ok("systemctl stop writer");
    site.eventually("the list is taken", || site.table().contains("192.0.2.2"));

    // A connection has no say until somebody has logged in from there.
    let session = SocketAddr::from(([10, 10, 1, 20], 22));
    let _session = site.host("router").namespace.run(|| TcpStream::connect(session).unwrap());
    let edited = policy.replace("from    = \"admin\"", "from    = \"10.10.0.2\"");
    site.write_policy(&edited);
    let lost = "the session from 10.10.0.1 to port 22 could not reconnect";
    site.eventually("the edit is made", || site.table().contains("ip saddr 10.10.0.2"));
    assert!(site.journal().contains(lost) && !site.journal().contains("refused: "));
    site.write_policy(&policy);
    site.eventually("the edit is taken back", || !site.table().contains("ip saddr 10.10.0.2"));
    let log_in = format!("printf '{LOGIN}' >/run/systemd/sessions/c7");
    site.machine.succeed(&["sh", "-c", &log_in]).unwrap();
    site.write_policy(&edited);
    site.eventually("it is refused", || site.journal().contains(&format!("refused: {lost}")));
    assert!(!site.table().contains("ip saddr 10.10.0.2"), "{}", site.table());
}

/// The state directory on a file system of its own, without room.
#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn a_full_disk_keeps_nobody_from_enforcing() {
    let site = installed();
    site.ok("mkdir -p /var/lib/tierwall");
    site.ok("mount -t tmpfs -o size=256k tmpfs /var/lib/tierwall");
    site.ok("systemctl enable --now tierwalld");
    let fill = site.machine.path("/root/fill");
    let fill_up = "#!/bin/sh\ndd if=/dev/zero of=/var/lib/tierwall/fill bs=1k 2>/dev/null\ntrue\n";
    fs::write(&fill, fill_up).unwrap();
    site.ok("sh /root/fill");
    let app = site.host("app1").namespace.clone();
    let _listeners =
        [8080, 9100].map(|port| app.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap()));

    // An edit is enforced, and told.
    let more = "\n[[allow]]\nfrom = \"web\"\nto = \"app\"\nservice = \"tcp/9100\"\n";
    assert!(reaches(&site, "web1", 8080) && !reaches(&site, "web1", 9100));
    site.write_policy(&format!("{POLICY}{more}"));
    site.ok("systemctl reload tierwalld");
    assert!(reaches(&site, "web1", 8080) && reaches(&site, "web1", 9100));
    site.eventually("it is told", || site.ok(TOLD).contains("state directory"));
    // What was promised to survive a restart can't be, so it is refused, and nothing is changed.
    let table = site.table();
    let said = site.fails("tierwall member add web 10.10.1.99");
    assert!(said.contains("can't record the member in the state directory"), "{said}");
    assert_eq!(site.table(), table);

    // Another daemon, with a disk that was never any use to it.
    site.ok("sh /root/fill");
    site.ok("systemctl kill --kill-who=main --signal=KILL tierwalld");
    site.eventually("the next daemon", || {
        site.property("tierwalld", "NRestarts") == "1"
            && site.property("tierwalld", "ActiveState") == "active"
    });
    assert!(reaches(&site, "web1", 8080) && reaches(&site, "web1", 9100));
    site.write_policy(POLICY);
    site.ok("systemctl reload tierwalld");
    assert!(reaches(&site, "web1", 8080) && !reaches(&site, "web1", 9100));

    // With room again all is as ever.
    fs::remove_file(site.machine.path("/var/lib/tierwall/fill")).unwrap_or_else(|_| {
        // It is in a mount of the machine's own.
        site.ok("rm /var/lib/tierwall/fill");
    });
    site.ok("tierwall member add web 10.10.1.99");
    site.ok("systemctl restart tierwalld");
    assert!(site.ok("tierwall member list").contains("10.10.1.99"));
}

const TOLD: &str = "journalctl --no-pager -o cat -p warning TIERWALL_EVENT=not-recorded";
