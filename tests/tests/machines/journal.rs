//! What the journal of a machine has: fields, message ids, the catalog, levels; and who may read
//! what the daemon knows.

use crate::{POLICY, Site, made, words};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Entries of the journal. A field that an entry has several times is a list.
fn entries(site: &Site, matches: &str) -> Vec<BTreeMap<String, Value>> {
    // Whatever was sent before this is in it.
    site.ok("journalctl --sync");
    let output = site.machine.run(&words(&format!("journalctl -o json {matches}"))).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(site: &Site, event: &str) -> Vec<BTreeMap<String, Value>> {
    entries(site, &format!("TIERWALL_EVENT={event}"))
}

fn running() -> Site {
    let site = Site::new(&["10.10.1.20"]);
    site.offer(&made("TIERWALL_DEB"), "tierwall.deb");
    site.ok("apt-get install --yes /root/tierwall.deb");
    site.write_policy(POLICY);
    site.ok("systemctl enable --now tierwalld");
    site
}

#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn the_journal_tells_what_happened_and_what_to_do() {
    let site = running();
    let more = "\n[[allow]]\nfrom = \"admin\"\nto = \"app\"\nservice = \"tcp/9100\"\n";
    site.write_policy(&format!("{POLICY}{more}"));
    site.ok("systemctl reload tierwalld");
    site.ok("tierwall member add web 10.10.1.11 --reason spare");
    site.ok("tierwall member add web 10.10.1.12 --for 1s");
    site.eventually("the member is over", || !events(&site, "member-expired").is_empty());
    site.ok("systemctl restart tierwalld");

    // Nothing of this is to worry about.
    assert_eq!(entries(&site, "_SYSTEMD_UNIT=tierwalld.service -p warning"), []);

    // One batch made the second generation, by its fields.
    let second = entries(&site, "TIERWALL_GENERATION=2 TIERWALL_EVENT=committed");
    let reload = &second[0];
    for (field, value) in [
        ("TIERWALL_REASON", "reload"),
        ("TIERWALL_GENERATION", "2"),
        ("TIERWALL_RULES_ADDED", "2"),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "tierwalld"),
        ("_SYSTEMD_UNIT", "tierwalld.service"),
    ] {
        assert_eq!(reload.get(field), Some(&value.into()), "{field}: {reload:?}");
    }
    let reloads = |generation: u32| {
        let all = entries(&site, &format!("TIERWALL_GENERATION={generation}"));
        let expected = Some(&Value::from(generation.to_string()));
        assert!(all.iter().all(|entry| entry.get("TIERWALL_GENERATION") == expected), "{all:?}");
        let is_reload = |entry: &&BTreeMap<String, Value>| {
            entry.get("TIERWALL_REASON") == Some(&Value::from("reload"))
        };
        all.iter().filter(is_reload).count()
    };
    assert_eq!((reloads(1), reloads(2)), (0, 1));

    // Members, by whom and why; a batch by the sets that it changed.
    let added = events(&site, "member-added");
    let [first, _] = &added[..] else { panic!("{added:?}") };
    assert_eq!(
        (&first["TIERWALL_TIER"], &first["TIERWALL_COMMENT"]),
        (&"web".into(), &"spare".into())
    );
    assert!(first["TIERWALL_BY"].as_str().unwrap().starts_with("uid 0 ("), "{first:?}");
    let changed = entries(&site, "TIERWALL_SET=web_v4");
    let of_members: Vec<_> =
        changed.iter().filter(|entry| entry["TIERWALL_REASON"] == "member added").collect();
    assert_eq!(of_members.len(), 1, "{changed:?}");
    assert!(of_members[0]["TIERWALL_SETS"].as_str().unwrap().contains("web_v4 +1"));

    // A denied connection.
    let address = SocketAddr::from(([10, 10, 1, 20], 9999));
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok();
    assert!(!site.host("web1").namespace.run(connect));
    site.eventually("the denial", || !events(&site, "denied").is_empty());
    let denied = &events(&site, "denied")[0];
    for (field, value) in [
        ("TIERWALL_SIDE", "input"),
        ("TIERWALL_SOURCE", "10.10.1.10"),
        ("TIERWALL_DESTINATION", "10.10.1.20"),
        ("TIERWALL_SERVICE", "tcp/9999"),
        ("TIERWALL_INTERFACE", "eth0"),
        ("PRIORITY", "6"),
    ] {
        assert_eq!(denied.get(field), Some(&value.into()), "{denied:?}");
    }

    // A mistake is an error, and the catalog says what to do, also of a daemon that can't start.
    site.write_policy(&format!("{POLICY}\n[[allow]]\nfrom = \"wbe\"\nto = \"app\"\n"));
    site.fails("systemctl reload tierwalld");
    let wrong = entries(&site, "_SYSTEMD_UNIT=tierwalld.service -p warning");
    assert!(!wrong.is_empty() && wrong.iter().all(|entry| entry["TIERWALL_EVENT"] == "bad-policy"));
    assert_eq!(wrong[0]["PRIORITY"], "3");
    let told = site.ok("journalctl -x -n 1 TIERWALL_EVENT=bad-policy");
    for text in ["wbe", "Subject: The policy files have errors", "man:tierwall.toml(5)"] {
        assert!(told.contains(text), "{text}: {told}");
    }
    let told = site.ok("journalctl -x -n 1 TIERWALL_EVENT=denied");
    let hint = "tierwall explain --from 10.10.1.10 --to 10.10.1.20 --service tcp/9999";
    assert!(told.contains(hint), "{told}");
    site.ok("systemctl stop tierwalld");
    fs::remove_dir_all(site.machine.path("/var/lib/tierwall")).unwrap();
    site.fails("systemctl start tierwalld");
    let failed = entries(&site, "-n 1 TIERWALL_EVENT=bad-policy");
    assert_eq!(
        (&failed[0]["PRIORITY"], &failed[0]["TIERWALL_EXIT_CODE"]),
        (&"3".into(), &"3".into())
    );
    documented(&site);
}

/// Whatever the daemon sent has a kind, which the catalog explains, and documented fields.
fn documented(site: &Site) {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/journal.md");
    let document = fs::read_to_string(document).unwrap();
    let catalog = site.ok("journalctl --list-catalog");
    let sent = entries(site, "_SYSTEMD_UNIT=tierwalld.service _TRANSPORT=journal");
    let mut kinds = BTreeSet::new();
    for entry in &sent {
        let id = entry["MESSAGE_ID"].as_str().unwrap();
        assert!(catalog.lines().any(|line| line.starts_with(id)), "{entry:?}");
        kinds.insert(entry["TIERWALL_EVENT"].as_str().unwrap().to_owned());
        for field in entry.keys().filter(|field| field.starts_with("TIERWALL_")) {
            assert!(document.contains(&format!("| `{field}` |")), "{field}: {entry:?}");
        }
    }
    let expected =
        ["ready", "committed", "ended", "member-added", "member-expired", "denied", "bad-policy"];
    assert!(expected.iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
    // Nothing went another way.
    let other = entries(site, "_SYSTEMD_UNIT=tierwalld.service _TRANSPORT=stdout _COMM=tierwalld");
    assert_eq!(other, []);
}

#[test]
#[ignore = "boots machines: cargo xtask machines"]
fn the_group_may_read_and_nobody_else_but_root() {
    let site = running();
    site.ok("useradd --no-create-home --groups tierwall reader");
    site.ok("useradd --no-create-home stranger");
    let table = site.table();
    let reading = [
        "status",
        "status --json",
        "denied",
        "denied --json",
        "history",
        "member list",
        "explain --from web --to app --service tcp/8080",
        "matrix",
        "who-can app",
    ];
    for command in reading {
        site.ok(&format!("runuser -u reader -- tierwall {command}"));
    }
    let changing = [
        "reload",
        "reload --force",
        "reload --confirm 30s",
        "confirm",
        "confirm --force",
        "rollback",
        "member add web 10.10.1.99",
        "member remove web 10.10.1.10",
    ];
    for command in changing {
        let said = site.fails(&format!("runuser -u reader -- tierwall {command}"));
        assert!(said.contains("only root may change anything"), "{command}: {said}");
        let said = site.fails(&format!("runuser -u stranger -- tierwall {command}"));
        assert!(said.contains("no right to talk to tierwalld"), "{command}: {said}");
    }
    for command in ["status", "denied", "history", "member list"] {
        let said = site.fails(&format!("runuser -u stranger -- tierwall {command}"));
        let way_out = "run as root; members of its group may ask for what changes nothing";
        assert!(said.contains("no right to talk to tierwalld") && said.contains(way_out), "{said}");
    }
    for user in ["reader", "stranger"] {
        let said = site.fails(&format!("runuser -u {user} -- tierwall teardown"));
        assert!(said.contains("root"), "{said}");
    }
    assert_eq!(site.table(), table);
    assert_eq!(site.ok("tierwall member list --json").trim(), "[]");
}
