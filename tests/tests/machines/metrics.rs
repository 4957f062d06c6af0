//! Metrics under the sandbox of the service, by the socket unit, which never starts a firewall that
//! was stopped.

use super::{POLICY, Site, made};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) const ADDRESS: &str = "127.0.0.1:29815";
pub(crate) const SOCKET: &str = "tierwalld-metrics.socket";

/// What a scrape gets; none where nobody listens.
pub(crate) fn scrape(site: &Site) -> Option<String> {
    site.host("app1").namespace.run(|| {
        let mut stream = TcpStream::connect(ADDRESS).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    })
}

fn is_served(site: &Site) -> bool {
    scrape(site).is_some_and(|text| text.contains("\ntierwall_enforced 1\n"))
}

/// Scrapes again and again, and the service stays as it is.
fn nobody_listens_and_it_stays(site: &Site, state: &str) {
    site.eventually("nobody listens", || scrape(site).is_none());
    for _ in 0..20 {
        assert!(scrape(site).is_none());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(site.property("tierwalld.service", "ActiveState"), state);
    assert_eq!(site.property(SOCKET, "ActiveState"), "inactive");
}

#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn metrics_come_and_go_with_the_service() {
    let mut site = Site::new(&["10.10.1.20"]);
    site.offer(&made("TIERWALL_DEB"), "tierwall.deb");
    site.ok("apt-get install --yes /root/tierwall.deb");
    let file = "/var/lib/collector/tierwall.prom";
    let listening = format!(
        "{POLICY}[metrics]\nlisten = \"{ADDRESS}\"\ntextfile = \"{file}\"\ninterval = \"1s\"\n"
    );
    site.write_policy(&listening);
    site.ok("mkdir /var/lib/collector");
    site.ok("systemctl enable --now tierwalld.service");

    // The sandbox forbids both ways of the policy; the message says the way out.
    site.eventually("it is told", || site.ok("tierwall status").contains("can't write metrics"));
    let told = site.ok("tierwall status");
    assert!(told.contains(SOCKET) && told.contains("ReadWritePaths="), "{told}");
    assert!(scrape(&site).is_none());
    assert!(site.ok("tierwall metrics").contains("\ntierwall_enforced 1\n"));
    site.ok("mkdir /etc/systemd/system/tierwalld.service.d");
    let drop_in = "/etc/systemd/system/tierwalld.service.d/metrics.conf";
    site.machine.write(drop_in, "[Service]\nReadWritePaths=-/var/lib/collector\n").unwrap();
    site.ok("systemctl daemon-reload");

    // The unit takes effect with a restart, through which the table stays.
    site.ok(&format!("systemctl enable {SOCKET}"));
    let table = site.table();
    site.ok("systemctl restart tierwalld.service");
    assert!(is_served(&site), "{}", site.journal());
    assert_eq!(site.table(), table);
    // The sandbox hides none of them.
    let (served, known) = (scrape(&site).unwrap(), include_str!("../../../docs/metrics.md"));
    for row in known.lines().filter_map(|line| line.strip_prefix("| `")) {
        let name = row.split('`').next().unwrap();
        assert!(served.contains(&format!("\n# TYPE {name} ")), "{name}");
    }
    assert!(!site.ok("tierwall status").contains("metrics"), "{}", site.ok("tierwall status"));
    site.eventually("the file is written", || site.machine.path(file).is_file());
    assert!(site.ok("stat -c %a /var/lib/collector/tierwall.prom").contains("644"));
    for _ in 0..3 {
        site.ok("systemctl restart tierwalld.service");
        assert!(is_served(&site), "{}", site.journal());
    }

    // After a crash, too, and nobody is refused meanwhile.
    let pid = site.property("tierwalld.service", "MainPID");
    site.ok(&format!("kill -9 {pid}"));
    site.eventually("it is served after a crash", || is_served(&site));
    assert_ne!(site.property("tierwalld.service", "MainPID"), pid);
    assert_eq!(site.property(SOCKET, "ActiveState"), "active");

    // Stopped by hand: nobody listens, and a scrape starts nothing; the unit alone neither.
    site.ok("systemctl stop tierwalld.service");
    nobody_listens_and_it_stays(&site, "inactive");
    let _ = site.machine.run(&["systemctl", "start", SOCKET]);
    nobody_listens_and_it_stays(&site, "inactive");
    site.ok("systemctl start tierwalld.service");
    assert!(is_served(&site), "{}", site.journal());

    // A policy that never was good: it doesn't start, by a scrape neither.
    site.ok("systemctl stop tierwalld.service");
    site.ok("rm -rf /var/lib/tierwall");
    site.write_policy("nonsense");
    site.fails("systemctl start tierwalld.service");
    nobody_listens_and_it_stays(&site, "failed");
    site.write_policy(&listening);
    site.ok("systemctl restart tierwalld.service");
    assert!(is_served(&site), "{}", site.journal());

    // From the boot on.
    site.machine.reboot().unwrap();
    site.eventually("it is served after a boot", || is_served(&site));
    let journal = site.ok("journalctl --no-pager -b -o cat");
    assert!(!journal.contains("ordering cycle"), "{journal}");
    // As it does where another machine has processes in the control groups of this one.
    let journal = site.ok("journalctl --no-pager -o cat");
    assert!(!journal.contains("Failed to kill control group"), "{journal}");

    // Gone with the package.
    site.ok("apt-get remove --yes tierwall");
    site.eventually("nobody listens", || scrape(&site).is_none());
}
