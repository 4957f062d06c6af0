//! What a start sends to a kernel that holds something already.

use super::{POLICY, app_server, edited, kernel, nft, server, status};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use tierwall_tests::kernel::Kernel;

/// What two listings don't have in common: gone, come.
fn difference<'a>(before: &'a Kernel, after: &'a Kernel) -> (Vec<&'a str>, Vec<&'a str>) {
    let (before, after) = (before.handles().unwrap(), after.handles().unwrap());
    let before: BTreeSet<_> = before.into_iter().collect();
    let after: BTreeSet<_> = after.into_iter().collect();
    let only = |these: &BTreeSet<((&'a str, u64), &'a str)>, others: &BTreeSet<_>| {
        these.difference(others).map(|(_, line)| *line).collect::<Vec<_>>()
    };
    (only(&before, &after), only(&after, &before))
}

#[test]
fn an_unchanged_state_is_sent_nothing() {
    let server = app_server();
    server.start(&[]).unwrap().stop().unwrap();
    let before = kernel(&server);
    let daemon = server.start(&[]).unwrap();
    assert_eq!(kernel(&server), before);
    let log = daemon.log();
    assert_eq!(log.matches(" committed ").count(), 2, "{log}");
    assert!(log.contains("nothing was sent"), "{log}");
    let status = status(&server);
    assert_eq!(status["kernel_generation"], before.generation);
    assert!(status["last_commit"].is_null(), "{status}");
    daemon.kill().unwrap();

    // Moved text is no change.
    let mut moved = String::from("# Written anew.\n\n");
    let (settings, allows) = POLICY.split_once("[[allow]]").unwrap();
    moved += &settings.replace("\n", "\n# ~\n\n");
    let mut allows: Vec<&str> = allows.split("[[allow]]").collect();
    allows.reverse();
    allows.iter().for_each(|allow| write!(moved, "\n\n[[allow]]{allow}").unwrap());
    server.write("tierwall.toml", &moved).unwrap();
    let daemon = server.start(&[]).unwrap();
    assert_eq!(kernel(&server), before, "{moved}");
    daemon.stop().unwrap();
}

#[test]
fn a_change_of_members_sends_only_elements() {
    let server = app_server();
    server.start(&[]).unwrap().stop().unwrap();
    let before = kernel(&server);
    let policy = edited("10.10.1.10-10.10.1.19", "10.10.1.11-10.10.1.18\", \"10.10.9.0/24");
    server.write("tierwall.toml", &policy).unwrap();
    let daemon = server.start(&[]).unwrap();
    let after = kernel(&server);
    assert_eq!(after.generation, before.generation + 1);
    assert_eq!(difference(&before, &after), (vec![], vec![]));
    assert!(after.listing.contains("10.10.1.11-10.10.1.18, 10.10.9.0/24"), "{}", after.listing);
    let commit = &status(&server)["last_commit"];
    assert_eq!((&commit["rules_added"], &commit["rules_deleted"]), (&0.into(), &0.into()));
    assert_eq!(commit["sets"], serde_json::json!({ "web_v4": { "added": 2, "deleted": 1 } }));
    daemon.stop().unwrap();
}

#[test]
fn a_changed_allow_leaves_the_others_alone() {
    let server = app_server();
    server.start(&[]).unwrap().stop().unwrap();
    let before = kernel(&server);
    // One allow comes, one goes.
    let added = "\n[[allow]]\nfrom = \"db\"\nto = \"app\"\nservice = \"tcp/9000\"\n";
    let policy = edited("service = \"tcp/5432\"", "service = \"tcp/6432\"") + added;
    server.write("tierwall.toml", &policy).unwrap();
    let daemon = server.start(&[]).unwrap();
    let after = kernel(&server);
    assert_eq!(after.generation, before.generation + 1);
    let (gone, come) = difference(&before, &after);
    for line in gone.iter().chain(&come) {
        let own = ["5432", "6432", "9000"].iter().any(|port| line.contains(port));
        assert!(own, "{line}: not of a changed allow\n{gone:#?}\n{come:#?}");
    }
    assert!(gone.iter().any(|line| line.contains("allow app -> db tcp/5432")), "{gone:#?}");
    assert!(come.iter().any(|line| line.contains("allow db -> app tcp/9000")), "{come:#?}");
    daemon.stop().unwrap();

    // And back: as if nothing had been.
    server.write("tierwall.toml", POLICY).unwrap();
    server.start(&[]).unwrap().stop().unwrap();
    assert_eq!(kernel(&server).meaning(), before.meaning());
}

#[test]
fn what_others_did_to_the_table_is_undone_and_no_more() {
    let server = app_server();
    server.start(&[]).unwrap().stop().unwrap();
    let before = kernel(&server);
    nft(
        &server,
        "add element inet filter web_v4 { 203.0.113.66 }
         insert rule inet filter input ip saddr 203.0.113.66 accept
         chain inet filter output { policy accept; }",
    );
    let daemon = server.start(&[]).unwrap();
    let after = kernel(&server);
    assert_eq!(difference(&before, &after), (vec![], vec![]));
    assert_eq!(after.meaning(), before.meaning());
    assert_eq!(after.generation, before.generation + 2);
    daemon.stop().unwrap();
}

/// Where somebody may have changed it, a set that would take long to read is filled anew.
#[test]
fn a_large_set_of_which_nothing_is_known_is_filled_anew_and_nothing_else() {
    let policy = edited("db    =", "cdn = { file = \"cdn.list\" }\ndb    =")
        .replace("from    = \"web\"", "from    = [\"web\", \"cdn\"]");
    let server = server(&["10.10.1.20"], &policy);
    let list = |singles: u32, ranges: u32| -> String {
        let address = |first: u32, n: u32| Ipv4Addr::from_bits(first + n * 16);
        let singles = (0..singles).map(|n| format!("{}\n", address(0x0b00_0000, n)));
        let ranges = (0..ranges)
            .map(|n| format!("{}-{}\n", address(0x1b00_0000, n), address(0x1b00_0009, n)));
        singles.chain(ranges).collect()
    };
    server.write("cdn.list", list(60_000, 60_000)).unwrap();
    server.start(&[]).unwrap().stop().unwrap();
    let before = kernel(&server);
    nft(
        &server,
        "add element inet filter cdn_v4 { 203.0.113.0/24 }
         delete element inet filter cdn_v4_hosts { 11.0.0.16 }",
    );
    let daemon = server.start(&[]).unwrap();
    let after = kernel(&server);
    assert!(difference(&before, &after) == (vec![], vec![]), "something was made anew");
    assert!(after.meaning() == before.meaning(), "the kernel holds something else");
    assert_eq!(after.generation, before.generation + 2);
    let commit = &status(&server)["last_commit"];
    assert_eq!((&commit["rules_added"], &commit["rules_deleted"]), (&0.into(), &0.into()));
    daemon.stop().unwrap();
    // Nobody has changed it since: it is known, also when it has grown within its declared size.
    for singles in [60_000, 66_000] {
        server.write("cdn.list", list(singles, 60_000)).unwrap();
        server.start(&[]).unwrap().stop().unwrap();
        let before = kernel(&server);
        let daemon = server.start(&[]).unwrap();
        assert!(kernel(&server) == before, "with {singles}, something was sent");
        daemon.stop().unwrap();
    }
}

#[test]
fn killed_at_any_moment_it_leaves_all_or_nothing() {
    // The first of the two batches of a first enforcement observes.
    let observing = server(&["10.10.1.20"], &format!("mode = \"observe\"\n{POLICY}"));
    let server = app_server();
    let mut members = String::new();
    for number in 0..4000 {
        writeln!(members, "10.{}.{}.1", 20 + number / 250, number % 250).unwrap();
    }
    server.write("many.list", members).unwrap();
    let many = r#"{ file = "many.list" }"#;
    server.write("tierwall.toml", POLICY.replace(r#"["10.10.0.0/26"]"#, many)).unwrap();
    let daemon = server.start(&[]).unwrap();
    let whole = kernel(&server).meaning();
    observing
        .write(
            "many.list",
            fs::read_to_string(server.config().with_file_name("many.list")).unwrap(),
        )
        .unwrap();
    let policy = format!("mode = \"observe\"\n{POLICY}").replace(r#"["10.10.0.0/26"]"#, many);
    observing.write("tierwall.toml", policy).unwrap();
    observing.start(&[]).unwrap().kill().unwrap();
    let observed = kernel(&observing).meaning();
    let time = daemon.ready_after;
    daemon.kill().unwrap();
    assert_eq!(kernel(&server).meaning(), whole);

    const MOMENTS: u32 = 10;
    for moment in 0..MOMENTS {
        nft(&server, "delete table inet filter");
        let mut command = server.tierwalld_command().unwrap();
        let mut daemon = server.spawn(command.stderr(Stdio::null())).unwrap();
        thread::sleep(time * moment / MOMENTS + Duration::from_millis(1));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        let left = kernel(&server).meaning();
        let known = left.is_empty() || left == whole || left == observed;
        assert!(known, "a part of the table:\n{left:#?}");
        let next = server.start(&[]).unwrap();
        assert_eq!(kernel(&server).meaning(), whole);
        next.kill().unwrap();
    }
}
