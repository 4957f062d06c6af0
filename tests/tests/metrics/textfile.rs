//! The file for node_exporter.

use super::scrape::Scrape;
use super::{LIMIT, POLICY, network, server};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

/// What is in the file, once that is as wanted.
fn read_when(path: &Path, wanted: impl Fn(&Scrape) -> bool) -> Scrape {
    let start = Instant::now();
    loop {
        if let Ok(text) = fs::read_to_string(path) {
            // Whole at every moment.
            let scrape = Scrape::read(&text);
            assert!(scrape.metrics.contains_key("tierwall_log_reading"), "{text}");
            if wanted(&scrape) {
                return scrape;
            }
        }
        assert!(start.elapsed() < LIMIT, "{}", path.display());
    }
}

#[test]
fn is_there_as_long_as_the_daemon_and_the_policy_want_it() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let directory = server.path("collector");
    fs::create_dir(&directory).unwrap();
    let (one, other) = (directory.join("tierwall.prom"), directory.join("other.prom"));
    let policy = |path: &Path| {
        format!("{POLICY}[metrics]\ntextfile = \"{}\"\ninterval = \"1s\"\n", path.display())
    };
    server.replace_policy(&policy(&one)).unwrap();
    let daemon = server.start(&[]).unwrap();
    let scrape = read_when(&one, |_| true);
    assert_eq!(fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o644);
    // node_exporter has numbers of its own process, and takes no name twice.
    assert!(!scrape.text.contains("process_"), "{}", scrape.text);
    let of_both = Scrape::of(&server);
    let names = of_both.metrics.keys().filter(|name| !name.starts_with("process_"));
    assert!(names.eq(scrape.metrics.keys()));

    // It is written again and again.
    assert!(server.tierwall(&["member", "add", "peers", "10.0.0.99"]).unwrap().status.success());
    let by_command =
        |scrape: &Scrape| scrape.number("tierwall_tier_members_by_command", &[("tier", "peers")]);
    read_when(&one, |scrape| by_command(scrape) == 1);

    server.replace_policy(&policy(&other)).unwrap();
    assert!(server.tierwall(&["reload"]).unwrap().status.success());
    read_when(&other, |_| true);
    assert!(!one.exists());
    daemon.stop().unwrap();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "of a daemon that has ended");

    // Where it can't be written, that is told, and the policy holds all the same.
    fs::remove_dir(&directory).unwrap();
    let daemon = server.start(&[]).unwrap();
    let start = Instant::now();
    while !daemon.log().contains("can't write metrics") {
        assert!(start.elapsed() < LIMIT, "{}", daemon.log());
    }
    assert_eq!(Scrape::of(&server).number("tierwall_enforced", &[]), 1);
    fs::create_dir(&directory).unwrap();
    read_when(&other, |scrape| scrape.number("tierwall_unwatched", &[]) == 0);
    daemon.stop().unwrap();
}
