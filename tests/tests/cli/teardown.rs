//! `teardown`

use super::{FOREIGN, app_server, fails, json, kernel, nft, run};
use serde_json::json as value;

const GONE: &str = "the table inet filter is gone: nothing is filtered now\n";
const NONE: &str = "there was no table inet filter to take away\n";

#[test]
fn with_a_daemon() {
    let server = app_server();
    let daemon = server.start(&[]).unwrap();
    assert_eq!(run(&server, &["teardown"], 0), GONE);
    assert_eq!(kernel(&server).listing, "");
    assert_eq!(run(&server, &["teardown"], 0), NONE);
    assert_eq!(json(&server, &["teardown"], 0), value!({ "removed": false }));
    assert_eq!(daemon.log().matches("the table was taken away").count(), 1, "{}", daemon.log());
    daemon.stop().unwrap();
    assert_eq!(kernel(&server).listing, "");
    // The next start enforces again.
    let daemon = server.start(&[]).unwrap();
    assert!(kernel(&server).listing.contains("policy drop"));
    assert_eq!(json(&server, &["teardown"], 0), value!({ "removed": true }));
    daemon.stop().unwrap();
}

#[test]
fn without_a_daemon() {
    let server = app_server();
    server.start(&[]).unwrap().stop().unwrap();
    assert_eq!(run(&server, &["teardown"], 0), GONE);
    assert_eq!(kernel(&server).listing, "");
    assert_eq!(run(&server, &["teardown"], 0), NONE);
    assert_eq!(json(&server, &["teardown"], 0), value!({ "removed": false }));
    // It doesn't need the policy.
    server.start(&[]).unwrap().kill().unwrap();
    server.write("tierwall.toml", "nonsense").unwrap();
    assert_eq!(json(&server, &["teardown"], 0), value!({ "removed": true }));
}

#[test]
fn a_foreign_table_stays() {
    let server = app_server();
    nft(&server, FOREIGN);
    let before = kernel(&server);
    let message = fails(&server, &["teardown"], 5);
    assert!(message.contains("not made by tierwall"), "{message}");
    assert_eq!(kernel(&server), before);

    // Somebody put it in the place of ours.
    nft(&server, "delete table inet filter");
    let daemon = server.start(&[]).unwrap();
    nft(&server, &format!("delete table inet filter\n{FOREIGN}"));
    let before = kernel(&server);
    let message = fails(&server, &["teardown"], 5);
    assert!(message.contains("that tierwall did not make"), "{message}");
    assert_eq!(message.trim().lines().count(), 1, "{message}");
    assert_eq!(kernel(&server), before);
    daemon.stop().unwrap();
    assert_eq!(kernel(&server), before);
}
