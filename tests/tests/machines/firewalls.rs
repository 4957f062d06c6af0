//! Other firewalls on the same machine, each as its own package has it: both rule, neither touches
//! the other's tables.

use crate::{POLICY, Site, made, words};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// One that people come from, and how it is told to do things.
struct Firewall {
    /// Its unit, and its finding of the doctor.
    name: &'static str,
    enable: &'static [&'static str],
    /// Opens a port, as it is afterwards.
    open: fn(u16) -> String,
    /// What makes it load everything again.
    reload: &'static [&'static str],
    disable: &'static [&'static str],
}

const FIREWALLD: Firewall = Firewall {
    name: "firewalld",
    enable: &["systemctl enable --now firewalld"],
    open: |port| format!("firewall-cmd --permanent --add-port={port}/tcp"),
    reload: &[
        "firewall-cmd --reload",
        "firewall-cmd --complete-reload",
        "systemctl restart firewalld",
        // Answered once it has loaded its rules.
        "firewall-cmd --state",
    ],
    disable: &["systemctl disable --now firewalld"],
};

const UFW: Firewall = Firewall {
    name: "ufw",
    enable: &["systemctl enable ufw", "ufw allow 22/tcp", "ufw --force enable"],
    open: |port| format!("ufw allow {port}/tcp"),
    reload: &["ufw reload", "systemctl restart ufw"],
    disable: &["ufw --force disable", "systemctl disable --now ufw"],
};

#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn firewalld_and_ufw_stand_beside_it() {
    let mut site = Site::new(&["10.10.1.20"]);
    site.offer(&made("TIERWALL_DEB"), "tierwall.deb");
    site.ok("apt-get install --yes /root/tierwall.deb");
    site.write_policy(POLICY);
    site.ok("systemctl enable --now tierwalld");
    let app = site.host("app1").namespace.clone();
    let _listeners =
        [8080, 8081, 9100].map(|port| app.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap()));
    // The policy allows one of the ports.
    assert_eq!([8080, 8081, 9100].map(|port| reaches(&site, "web1", port)), [true, false, false]);
    for firewall in [FIREWALLD, UFW] {
        stands_beside(&mut site, &firewall);
        assert!(reaches(&site, "web1", 8080), "{} is gone", firewall.name);
    }
}

fn reaches(site: &Site, from: &str, port: u16) -> bool {
    let address = SocketAddr::from(([10, 10, 1, 20], port));
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(700)).is_ok();
    site.host(from).namespace.run(connect)
}

fn stands_beside(site: &mut Site, firewall: &Firewall) {
    let name = firewall.name;
    let table = site.table();
    firewall.enable.iter().for_each(|command| drop(site.ok(command)));
    assert_eq!(site.table(), table, "{name} is enabled");

    // Both come at the boot.
    site.machine.reboot().unwrap();
    for unit in [name, "tierwalld"] {
        assert_eq!(site.property(unit, "ActiveState"), "active", "{unit}: {}", site.journal());
    }
    assert_eq!(site.table(), table, "booted with {name}");

    // What either denies is denied: the policy allows 8080 only, the other one nothing yet, once it
    // has loaded that; firewalld is active before.
    let open = |site: &Site| [8080, 8081, 9100].map(|port| reaches(site, "web1", port));
    site.eventually(&format!("{name} denies"), || open(site) == [false; 3]);
    assert_eq!(site.table(), table, "{name} has loaded its rules");
    assert_eq!(findings(site), [name], "the doctor");
    for port in [8080, 8081] {
        site.ok(&(firewall.open)(port));
    }
    for command in firewall.reload {
        site.ok(command);
        assert_eq!(site.table(), table, "{command}");
        assert_eq!(open(site), [true, false, false], "{command}");
        assert!(reaches(site, "router", 22) && !reaches(site, "web1", 22), "{command}");
    }

    // And ours leaves the other one as it is.
    let before = others(site);
    site.write_policy(&format!(
        "{POLICY}\n[[allow]]\nfrom = \"web\"\nto = \"app\"\nservice = \"tcp/8081\"\n"
    ));
    site.ok("systemctl reload tierwalld");
    assert_eq!(open(site), [true, true, false], "both allow it now");
    site.ok("systemctl restart tierwalld");
    assert_eq!(others(site), before, "{name}'s tables");
    site.write_policy(POLICY);
    site.ok("systemctl reload tierwalld");
    assert_eq!(site.table(), table);

    firewall.disable.iter().for_each(|command| drop(site.ok(command)));
    assert_eq!(site.table(), table, "{name} is disabled");
    site.machine.reboot().unwrap();
    assert_eq!(site.table(), table);
    assert_eq!(findings(site), [""; 0]);
}

/// Which of these firewalls the doctor finds.
fn findings(site: &Site) -> Vec<String> {
    let output = site.machine.run(&words("tierwall doctor --json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let ids = findings.iter().map(|finding| finding["id"].as_str().unwrap().to_owned());
    ids.filter(|id| [FIREWALLD.name, UFW.name].contains(&id.as_str())).collect()
}

/// The tables that aren't ours, without what counts.
fn others(site: &Site) -> String {
    let tables = site.ok("nft --stateless list ruleset");
    let mut is_ours = false;
    let lines = tables.lines().filter(|line| {
        if line.starts_with("table ") {
            is_ours = line.starts_with("table inet filter ");
        }
        !is_ours && !line.starts_with('#')
    });
    lines.collect::<Vec<_>>().join("\n")
}
