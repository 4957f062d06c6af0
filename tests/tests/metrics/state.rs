//! Numbers of what holds, against what was done.

use super::scrape::Scrape;
use super::{POLICY, network, server, wait_for};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};
use tierwall_tests::server::Server;
use tierwall_tests::site::{ADMIN, Site, policy};

fn run(server: &Server, arguments: &[&str]) -> Option<i32> {
    server.tierwall(arguments).unwrap().status.code()
}

/// Elements of a set in the kernel, as `nft` counts them.
fn elements(server: &Server, set: &str) -> u64 {
    let arguments = ["-j", "list", "set", "inet", "filter", set];
    let listing = server.host().namespace.command("nft", &arguments).unwrap();
    let listing: Value = serde_json::from_str(&listing).unwrap();
    let objects = listing["nftables"].as_array().unwrap();
    let set = objects.iter().find_map(|object| object.get("set")).unwrap();
    set["elem"].as_array().map_or(0, Vec::len) as u64
}

fn members(scrape: &Scrape, tier: &str, family: &str) -> u64 {
    scrape.number("tierwall_tier_members", &[("tier", tier), ("family", family)])
}

#[test]
fn sizes_of_tiers_are_those_of_their_sets() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    let is_as_in_the_kernel = |timed: u64| {
        let scrape = Scrape::of(&server);
        assert_eq!(members(&scrape, "peers", "ipv4"), elements(&server, "peers_v4") + timed);
        assert_eq!(members(&scrape, "peers", "ipv6"), elements(&server, "peers_v6"));
        scrape
    };
    let scrape = is_as_in_the_kernel(0);
    assert_eq!((members(&scrape, "peers", "ipv4"), members(&scrape, "peers", "ipv6")), (1, 1));
    assert_eq!(scrape.number("tierwall_tier_in_use", &[("tier", "peers")]), 1);
    assert_eq!(scrape.number("tierwall_tier_in_use", &[("tier", "second")]), 0);
    for member in ["10.0.7.0/24", "10.0.9.1", "fd00::77", "10.0.9.2"] {
        assert_eq!(run(&server, &["member", "add", "peers", member]), Some(0));
    }
    let scrape = is_as_in_the_kernel(0);
    // Two that touch are one range.
    assert_eq!((members(&scrape, "peers", "ipv4"), members(&scrape, "peers", "ipv6")), (3, 2));
    assert_eq!(scrape.number("tierwall_tier_members_by_command", &[("tier", "peers")]), 4);
    assert_eq!(run(&server, &["member", "add", "peers", "10.1.0.1", "--for", "1h"]), Some(0));
    assert_eq!(members(&is_as_in_the_kernel(1), "peers", "ipv4"), 4);
    assert_eq!(run(&server, &["member", "remove", "peers", "10.0.9.1"]), Some(0));
    is_as_in_the_kernel(1);
    daemon.stop().unwrap();
}

#[test]
fn commits_generations_and_reloads_are_counted() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let daemon = server.start(&[]).unwrap();
    let commits =
        |scrape: &Scrape, reason| scrape.number("tierwall_commits_total", &[("reason", reason)]);
    let reloads =
        |scrape: &Scrape, result| scrape.number("tierwall_reloads_total", &[("result", result)]);
    let first = Scrape::of(&server);
    assert_eq!((commits(&first, "start"), commits(&first, "before the first enforcement")), (1, 1));
    assert_eq!(first.number("tierwall_policy_generation", &[]), 1);
    assert!(first.number("tierwall_last_commit_timestamp_seconds", &[]) >= before);
    assert!(first.number("tierwall_policy_generation_timestamp_seconds", &[]) >= before);
    assert_eq!(first.number("tierwall_enforced", &[]), 1);
    for (state, is) in [("ours", 1), ("gone", 0), ("foreign", 0)] {
        assert_eq!(first.number("tierwall_table", &[("state", state)]), is);
    }
    assert_eq!(first.number("tierwall_allows", &[]), 2);
    assert_eq!(first.number("tierwall_role", &[("tier", "server")]), 1);

    // A member, an edit that waits, a reload of it, another that has nothing to do.
    server.replace_policy(&POLICY.replace("[\"10.0.0.3\"]", "[\"10.0.0.4\"]")).unwrap();
    assert_eq!(run(&server, &["member", "add", "peers", "10.0.0.99"]), Some(0));
    let edited = POLICY.replace("tcp/8080", "tcp/8081").replace("role", "mode = \"observe\"\nrole");
    server.replace_policy(&edited).unwrap();
    let waiting = wait_for(&server, |scrape| scrape.number("tierwall_edit_waiting", &[]) == 1);
    assert_eq!(waiting.number("tierwall_policy_generation", &[]), 1);
    assert_eq!(commits(&waiting, "reload"), 0);
    assert_eq!(run(&server, &["reload"]), Some(0));
    assert_eq!(run(&server, &["reload"]), Some(0));
    let scrape = Scrape::of(&server);
    assert_eq!((reloads(&scrape, "done"), commits(&scrape, "reload")), (2, 1));
    assert_eq!(scrape.number("tierwall_policy_generation", &[]), 2);
    assert_eq!(scrape.number("tierwall_edit_waiting", &[]), 0);
    let mode = |mode| scrape.number("tierwall_mode", &[("direction", "input"), ("mode", mode)]);
    assert_eq!((mode("enforce"), mode("observe"), mode("off")), (0, 1, 0));

    // Each commit has a duration, and is in the kernel.
    let all = scrape.sum("tierwall_commits_total", &[]);
    let durations = &scrape.metrics["tierwall_commit_duration_seconds"].samples;
    let of = |suffix: &'static str| durations.iter().filter(move |sample| sample.0 == suffix);
    assert_eq!(of("_count").next().unwrap().1.1 as u64, all);
    let buckets: Vec<f64> = of("_bucket").map(|sample| sample.1.1).collect();
    assert!(buckets.is_sorted() && *buckets.last().unwrap() as u64 == all, "{buckets:?}");
    let sum = of("_sum").next().unwrap().1.1;
    let last = scrape.value("tierwall_last_commit_duration_seconds", &[]);
    assert!(last > 0.0 && sum >= last, "{sum} {last}");
    let status = server.tierwall(&["status", "--json"]).unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(scrape.number("tierwall_kernel_generation", &[]), status["kernel_generation"]);
    // A namespace begins with 1, and nobody else commits here.
    assert_eq!(scrape.number("tierwall_kernel_generation", &[]), 1 + all);

    // A bad file: refused, and told until it is good again.
    server.replace_policy("nonsense").unwrap();
    assert_eq!(run(&server, &["reload"]), Some(3));
    let scrape = Scrape::of(&server);
    assert_eq!((reloads(&scrape, "bad-policy"), reloads(&scrape, "done")), (1, 2));
    assert_eq!(scrape.number("tierwall_policy_files_bad", &[]), 1);
    assert!(scrape.number("tierwall_failed_steps_total", &[("reason", "bad-policy")]) >= 1);
    assert_eq!(scrape.sum("tierwall_kernel_errors_total", &[]), 0);
    server.replace_policy(&edited).unwrap();
    wait_for(&server, |scrape| scrape.number("tierwall_policy_files_bad", &[]) == 0);

    assert_eq!(run(&server, &["teardown"]), Some(0));
    let scrape = Scrape::of(&server);
    assert_eq!((scrape.number("tierwall_enforced", &[]), commits(&scrape, "teardown")), (0, 1));
    assert_eq!(scrape.number("tierwall_table", &[("state", "gone")]), 1);
    assert!(scrape.with("tierwall_allow_packets_total", &[]).is_empty());
    daemon.stop().unwrap();
}

#[test]
fn drift_is_counted_as_what_became_of_it() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    let foreign = |scrape: &Scrape, outcome| {
        scrape.number("tierwall_foreign_changes_total", &[("outcome", outcome)])
    };
    let nft = |command: &str| server.host().namespace.command("nft", &[command]).unwrap();
    for number in 1..=3 {
        nft(&format!("add element inet filter peers_v4 {{ 10.66.{number}.0/24 }}"));
        let scrape = wait_for(&server, |scrape| foreign(scrape, "put-back") == number);
        let repairs = scrape.number("tierwall_commits_total", &[("reason", "repair")]);
        assert_eq!((repairs, elements(&server, "peers_v4")), (number, 1));
    }
    server.replace_policy(&POLICY.replace("\"repair\"", "\"report\"")).unwrap();
    assert_eq!(run(&server, &["reload"]), Some(0));
    nft("add element inet filter peers_v4 { 10.66.0.0/24 }");
    let scrape = wait_for(&server, |scrape| foreign(scrape, "reported") == 1);
    assert_eq!((foreign(&scrape, "put-back"), scrape.number("tierwall_drift", &[])), (3, 1));
    // Whose table it is where another took its place.
    nft(
        "delete table inet filter; add table inet filter; add chain inet filter x; add rule inet filter x accept",
    );
    wait_for(&server, |scrape| scrape.number("tierwall_table", &[("state", "foreign")]) == 1);
    assert_eq!(run(&server, &["reload"]), Some(5));
    let scrape = Scrape::of(&server);
    assert_eq!(scrape.number("tierwall_reloads_total", &[("result", "kernel")]), 1);
    assert!(scrape.number("tierwall_kernel_errors_total", &[("kind", "foreign")]) >= 1);
    assert_eq!(
        (scrape.number("tierwall_enforced", &[]), scrape.number("tierwall_kernel_behind", &[])),
        (0, 1)
    );
    daemon.stop().unwrap();
}

#[test]
fn a_refusal_and_a_change_that_waits_are_told() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let _session = site.session("admin", 22);
    let scrape = || Scrape::of(&site.server);
    let now = |name: &str| scrape().number(&format!("tierwall_{name}"), &[]);
    assert_eq!((now("confirmation_pending"), now("confirmation_left_seconds")), (0, 0));
    // It has rules that let nobody come by SSH: members would apply by themselves.
    site.server.replace_policy(&policy(ADMIN).replace("tcp/22\"", "tcp/23\"")).unwrap();
    assert_eq!(site.tierwall(&["reload"]).0, 6);
    site.status_when(|status| !status["refused"].is_null());
    assert_eq!((now("change_refused"), now("policy_files_held_back")), (1, 1));
    assert_eq!(scrape().number("tierwall_reloads_total", &[("result", "lockout")]), 1);

    let more = policy(ADMIN).replace("tcp/80\"", "tcp/81\"");
    site.server.replace_policy(&more).unwrap();
    assert_eq!(site.tierwall(&["reload", "--confirm", "10m"]).0, 0);
    let left = now("confirmation_left_seconds");
    assert!(now("confirmation_pending") == 1 && (500..=600).contains(&left), "{left}");
    assert_eq!((now("change_refused"), now("policy_files_held_back")), (0, 0));
    assert_eq!(site.tierwall(&["reload"]).0, 7);
    assert_eq!(scrape().number("tierwall_reloads_total", &[("result", "pending")]), 1);
    assert_eq!(site.tierwall(&["rollback"]).0, 0);
    assert_eq!((now("confirmation_pending"), now("policy_files_held_back")), (0, 1));
    daemon.stop().unwrap();
}

#[test]
fn who_may_ask_for_status_may_read_them() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&["--group", "daemon"]).unwrap();
    for (group, may) in [("daemon", true), ("nogroup", false)] {
        let output = server.tierwall_in_group(group, &["metrics"]).unwrap();
        assert_eq!(output.status.success(), may, "{}", String::from_utf8_lossy(&output.stderr));
    }
    daemon.stop().unwrap();
}
