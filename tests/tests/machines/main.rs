//! The Debian package on a machine with systemd, as people use it: from its installation to its
//! purge, with connections from other hosts that go on all the time.
//!
//! `cargo xtask machines` makes the package and the machine's files, and runs this.

#![allow(clippy::unwrap_used)]

mod ansible;
mod closed;
mod firewalls;
mod journal;
#[allow(dead_code, reason = "how long a step took is told elsewhere")]
#[path = "../continuity/load.rs"]
mod load;
mod metrics;
mod rpm;
mod sandbox;

use load::Load;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::machine::Machine;
use tierwall_tests::network::{Host, Network};

const LIMIT: Duration = Duration::from_secs(60);

const POLICY: &str = r#"role = "app"

[tiers]
admin = ["10.10.0.1"]
web   = ["10.10.1.10"]
app   = ["10.10.1.20"]

[[allow]]
from    = "admin"
to      = "*"
service = "tcp/22"

[[allow]]
from    = "web"
to      = "app"
service = "tcp/8080"
"#;

/// What `cargo xtask machines` has made.
fn made(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} isn't set: run `cargo xtask machines`"))
        .into()
}

struct Site {
    network: Network,
    machine: Machine,
}

impl Site {
    /// A machine with the addresses, beside a web server and a router.
    fn new(addresses: &[&str]) -> Self {
        let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let hosts: [(&str, Vec<IpAddr>); 3] = [
            ("web1", parsed(&["10.10.1.10"])),
            ("app1", parsed(addresses)),
            ("router", parsed(&["10.10.0.1"])),
        ];
        let network = Network::new(hosts).unwrap();
        let app = network.host("app1");
        let machine = Machine::boot(&made("TIERWALL_MACHINE"), &app.namespace).unwrap();
        Self { network, machine }
    }

    fn host(&self, name: &str) -> &Host {
        self.network.host(name)
    }

    /// Puts a package where the machine finds it.
    fn offer(&self, package: &PathBuf, name: &str) {
        fs::copy(package, self.machine.path(&format!("/root/{name}"))).unwrap();
    }

    fn ok(&self, command: &str) -> String {
        let journal = ["journalctl", "--no-pager", "--lines", "60", "-u", "tierwalld.service"];
        self.machine.succeed(&words(command)).unwrap_or_else(|error| {
            // What the service has to say of it.
            panic!("{error:#}\n{}", self.machine.succeed(&journal).unwrap_or_default())
        })
    }

    fn fails(&self, command: &str) -> String {
        self.machine.fail(&words(command)).unwrap()
    }

    fn property(&self, unit: &str, name: &str) -> String {
        self.ok(&format!("systemctl show --value -p {name} {unit}")).trim().to_owned()
    }

    fn journal(&self) -> String {
        self.ok("journalctl --no-pager -o cat -u tierwalld.service")
    }

    fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}: {what}\n{}", self.journal());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The table as it is, without what counts, whose it is, and who was logged lately.
    fn table(&self) -> String {
        let listing = self.ok("nft --stateless list table inet filter");
        let mut block = "";
        let lines = listing.lines().skip_while(|line| !line.contains("comment")).filter(|line| {
            if line.ends_with(" {") {
                block = line;
            }
            !(block.contains(".logged_") && line.contains("limit rate over"))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn write_policy(&self, text: &str) {
        self.machine.write("/etc/tierwall/tierwall.toml", text).unwrap();
    }
}

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

/// The package once more, as a later version.
fn newer(package: &PathBuf) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (tree, newer) = (directory.path().join("tree"), directory.path().join("newer.deb"));
    let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(package).arg(&tree));
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let version = text.lines().find(|line| line.starts_with("Version: ")).unwrap();
    fs::write(&control, text.replace(version, &format!("{version}+1"))).unwrap();
    run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&newer));
    (directory, newer)
}

#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn the_package_from_its_installation_to_its_purge() {
    let package = made("TIERWALL_DEB");
    let mut site = Site::new(&["10.10.1.20"]);

    // Installed, and nothing happens until somebody has written a policy.
    site.offer(&package, "tierwall.deb");
    let said = site.ok("apt-get install --yes /root/tierwall.deb");
    assert!(said.contains("nothing is filtered yet"), "{said}");
    assert!(site.fails("systemctl is-enabled tierwalld").contains("disabled"));
    site.fails("systemctl start tierwalld");
    assert!(site.journal().contains("the policy holds no tier and no allow"), "{}", site.journal());
    site.fails("nft list table inet filter");
    site.ok("systemctl reset-failed tierwalld");
    for page in ["1/tierwall.1", "8/tierwalld.8", "5/tierwall.toml.5"] {
        assert!(site.machine.path(&format!("/usr/share/man/man{page}.gz")).is_file(), "{page}");
    }
    for document in ["CHANGELOG.md", "NOTICES.gz", "docs/doctor.md", "docs/suggest.md"] {
        let path = site.machine.path(&format!("/usr/share/doc/tierwall/{document}"));
        assert!(path.is_file(), "{document}");
    }

    // From here on a long connection and new ones, all the time.
    let mut load = Load::new();
    load.serve(site.host("app1"), 8080);
    load.keep_connected(site.host("web1"), site.host("app1"), 8080);
    load.keep_connecting(site.host("web1"), site.host("app1"), 8080);

    site.write_policy(POLICY);
    site.ok("systemctl enable --now tierwalld");
    let status = site.property("tierwalld", "StatusText");
    assert!(status.contains("enforce, app, 3 tiers, 3 members"), "{status}");
    let score = site.ok("systemd-analyze security --no-pager tierwalld");
    let score = score.split("exposure level for tierwalld.service: ").nth(1).unwrap();
    let score: f64 = score.split(' ').next().unwrap().parse().unwrap();
    assert!(score <= 1.5, "the sandbox: {score}");

    reloads(&site);
    crash(&site);
    stands_still(&site);
    others(&site);
    upgrade(&site, &package);

    // Stopped, the policy stays, and is nobody's.
    let table = site.table();
    site.ok("systemctl stop tierwalld");
    assert_eq!(site.table(), table);
    site.ok("systemctl start tierwalld");
    assert_eq!(site.table(), table);
    load.assert_unbroken();
    let traffic = load.since_last();
    assert!(traffic.exchanges > 100 && traffic.opened > 100, "{traffic:?}");

    boots(&mut site);
    load.assert_unbroken();
    drop(load);
    goes(&site);
    leaves_the_table_of_others(&site);
}

/// `systemctl reload` applies an edit, or fails with what is wrong with it.
fn reloads(site: &Site) {
    let more = "\n[[allow]]\nfrom = \"admin\"\nto = \"app\"\nservice = \"tcp/9100\"\n";
    site.write_policy(&format!("{POLICY}{more}"));
    site.ok("systemctl reload tierwalld");
    assert!(site.table().contains("9100"));
    let entry =
        site.ok("journalctl --no-pager -o verbose -n 1 -u tierwalld TIERWALL_REASON=reload");
    for field in ["TIERWALL_GENERATION=", "TIERWALL_RULES_ADDED=2\n", "PRIORITY=6\n"] {
        assert!(entry.contains(field), "{entry}");
    }
    let good = site.table();
    site.write_policy(&format!("{POLICY}\n[[allow]]\nfrom = \"wbe\"\nto = \"app\"\n"));
    site.fails("systemctl reload tierwalld");
    let entry = site.ok("journalctl --no-pager -o cat -n 1 -u tierwalld --priority=err --grep wbe");
    assert!(entry.contains("the policy files have errors"), "{entry}");
    let journal = site.journal();
    assert!(journal.contains("wbe") && journal.contains("tierwall.toml:"), "{journal}");
    assert_eq!(site.table(), good);
    assert_eq!(site.property("tierwalld", "ActiveState"), "active");
    site.write_policy(POLICY);
    site.ok("systemctl reload tierwalld");
    assert!(!site.table().contains("9100"));
}

/// Killed, and at no moment can anybody else take the table away.
fn crash(site: &Site) {
    let table = site.table();
    for round in 1..=3 {
        site.ok("systemctl kill --kill-who=main --signal=KILL tierwalld");
        let error = site.fails("nft delete table inet filter");
        assert!(error.contains("Operation not permitted"), "{error}");
        site.eventually("the next daemon", || {
            site.property("tierwalld", "NRestarts") == round.to_string()
                && site.property("tierwalld", "ActiveState") == "active"
        });
        let error = site.fails("nft delete table inet filter");
        assert!(error.contains("Operation not permitted"), "{error}");
    }
    assert_eq!(site.table(), table);
}

/// A daemon that doesn't go on is killed and started again by the service manager.
fn stands_still(site: &Site) {
    let directory = site.machine.path("/etc/systemd/system/tierwalld.service.d");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("watchdog.conf"), "[Service]\nWatchdogSec=2s\n").unwrap();
    site.ok("systemctl daemon-reload");
    site.ok("systemctl restart tierwalld");
    let (table, before) = (site.table(), site.property("tierwalld", "MainPID"));
    // It is fed as long as it goes on.
    thread::sleep(Duration::from_secs(5));
    assert_eq!(site.property("tierwalld", "MainPID"), before);
    site.ok("systemctl kill --kill-who=main --signal=STOP tierwalld");
    site.eventually("the next daemon", || {
        site.property("tierwalld", "MainPID") != before
            && site.property("tierwalld", "ActiveState") == "active"
    });
    assert_eq!(site.table(), table);
    fs::remove_dir_all(&directory).unwrap();
    site.ok("systemctl daemon-reload");
}

/// What the distribution's own firewall service does to everybody's tables.
fn others(site: &Site) {
    let table = site.table();
    site.ok("nft flush ruleset");
    assert_eq!(site.table(), table);
    // Debian's own rules are a table of our name: refused as a whole.
    site.fails("systemctl restart nftables");
    assert_eq!(site.table(), table);
    site.machine.write("/etc/nftables.conf", "flush ruleset\ntable ip other {\n}\n").unwrap();
    site.ok("systemctl restart nftables");
    assert_eq!(site.table(), table);
    site.ok("nft list table ip other");
}

fn upgrade(site: &Site, package: &PathBuf) {
    let (_directory, newer) = newer(package);
    site.offer(&newer, "newer.deb");
    let (table, before) = (site.table(), site.property("tierwalld", "MainPID"));
    site.ok("apt-get install --yes /root/newer.deb");
    assert_eq!(site.property("tierwalld", "ActiveState"), "active");
    assert_ne!(site.property("tierwalld", "MainPID"), before, "the old program still runs");
    assert_eq!(site.table(), table);
    let error = site.fails("nft delete table inet filter");
    assert!(error.contains("Operation not permitted"), "{error}");
    // What was edited is kept.
    let kept = fs::read_to_string(site.machine.path("/etc/tierwall/tierwall.toml")).unwrap();
    assert_eq!(kept, POLICY);
}

/// After a boot it is there before any interface may come up; with a bad file, too.
fn boots(site: &mut Site) {
    for policy in [POLICY, "role = \n"] {
        site.write_policy(policy);
        site.machine.reboot().unwrap();
        assert_eq!(site.property("tierwalld", "ActiveState"), "active", "{}", site.journal());
        assert!(site.table().contains("policy drop"));
        let at = |unit: &str| -> u64 {
            site.property(unit, "ActiveEnterTimestampMonotonic").parse().unwrap()
        };
        assert!(at("tierwalld.service") <= at("network-pre.target"));
    }
    assert!(site.journal().contains("the last good one is enforced"), "{}", site.journal());
    site.write_policy(POLICY);
    site.ok("systemctl reload tierwalld");
}

/// Removed, the policy stays, also where the service was stopped before; purged, it goes.
fn goes(site: &Site) {
    let table = site.table();
    site.ok("systemctl stop tierwalld");
    let said = site.ok("apt-get remove --yes tierwall");
    assert!(said.contains("the policy stays in the kernel"), "{said}");
    assert_eq!(site.table(), table);
    assert!(site.machine.path("/etc/tierwall/tierwall.toml").is_file());
    site.ok("apt-get purge --yes tierwall");
    site.fails("nft list table inet filter");
    let left = site.ok("find /etc /usr /var/lib /var/cache /run -name *tierwall*");
    assert_eq!(left, "", "it is still there");
    assert!(!site.ok("journalctl --list-catalog").contains("tierwall:"));
}

/// Purged where the service never came to be, since another's table was in its way.
fn leaves_the_table_of_others(site: &Site) {
    let own = "table inet filter {\nchain own {\ntype filter hook input priority 0\nudp dport 9 drop\n}\n}\n";
    site.machine.write("/root/own.nft", own).unwrap();
    site.ok("nft -f /root/own.nft");
    site.ok("apt-get install --yes /root/tierwall.deb");
    site.write_policy(POLICY);
    site.fails("systemctl start tierwalld");
    let said = site.ok("apt-get purge --yes tierwall");
    assert!(!said.contains("nft delete") && !said.contains("the policy stays"), "{said}");
    assert!(site.ok("nft list table inet filter").contains("chain own"));
}

/// Gives the address of the application server to whoever asks, until it is dropped.
struct Dhcp(Child);

impl Dhcp {
    fn start(router: &Host, directory: &std::path::Path) -> Self {
        let mut dnsmasq = Command::new("dnsmasq");
        dnsmasq.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping"]);
        dnsmasq.args(["--interface=eth0", "--dhcp-range=10.10.1.20,10.10.1.20,255.255.0.0,1h"]);
        dnsmasq.args(["--user=root", "--pid-file="]);
        dnsmasq.arg(format!("--dhcp-leasefile={}", directory.join("leases").display()));
        dnsmasq.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(router.namespace.run(|| dnsmasq.spawn()).unwrap())
    }
}

impl Drop for Dhcp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The role follows addresses that come long after the boot.
#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn an_address_that_comes_late() {
    let mut site = Site::new(&[]);
    site.offer(&made("TIERWALL_DEB"), "tierwall.deb");
    site.ok("apt-get install --yes /root/tierwall.deb");
    site.write_policy(&POLICY.replace("role = \"app\"", "role = \"auto\""));
    let network = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n";
    site.machine.write("/etc/systemd/network/eth0.network", network).unwrap();
    site.ok("systemctl enable tierwalld systemd-networkd");
    let routes = ["address", "add", "10.10.0.1/16", "dev", "eth0"];
    site.host("router").namespace.command("ip", &routes).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let role = |site: &Site| -> Vec<String> {
        let status = site.ok("tierwall status --json");
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        serde_json::from_value(status["role"].clone()).unwrap()
    };
    let passes = |site: &Site| {
        let address = SocketAddr::from(([10, 10, 1, 20], 8080));
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok();
        site.host("web1").namespace.run(connect)
    };
    let _listener = site.host("app1").namespace.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());

    // No address, and none known: closed, and running.
    site.machine.reboot().unwrap();
    assert_eq!(role(&site), Vec::<String>::new());
    assert!(site.table().contains("policy drop"));
    {
        let _dhcp = Dhcp::start(site.host("router"), directory.path());
        site.eventually("the address", || passes(&site));
        assert_eq!(role(&site), ["app"]);
    }
    // Before the network is up the role of the last time holds.
    site.machine.reboot().unwrap();
    assert_eq!(role(&site), ["app"], "{}", site.journal());
    assert!(!passes(&site), "there is no address yet");
    let _dhcp = Dhcp::start(site.host("router"), directory.path());
    site.eventually("the address again", || passes(&site));
}
