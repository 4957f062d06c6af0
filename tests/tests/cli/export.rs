//! `export`: whether `nft` takes it, in both languages. What is in it is compared elsewhere.

use super::{app_server, kernel, run, server};
use std::collections::BTreeSet;
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;

/// What the kernel holds once `nft` has loaded `export`.
fn loaded(arguments: &[&str], export: &str) -> BTreeSet<String> {
    let server = Server::new(&Host::alone("other", []).unwrap(), "").unwrap();
    let load = || server.host().namespace.command_with_input("nft", arguments, export).unwrap();
    load();
    let meaning = kernel(&server).meaning();
    // It replaces itself.
    load();
    assert_eq!(kernel(&server).meaning(), meaning);
    meaning
}

#[test]
fn nft_loads_what_the_daemon_commits() {
    let server = app_server();
    let nft = run(&server, &["export"], 0);
    assert_eq!(run(&server, &["export", "--format", "nft"], 0), nft);
    let json = run(&server, &["export", "--format", "json"], 0);
    assert_eq!(run(&server, &["export", "--json"], 0), json);
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
    assert_eq!(kernel(&server).listing, "", "an export changes nothing");

    server.start(&[]).unwrap().stop().unwrap();
    let committed = kernel(&server).meaning();
    assert_eq!(loaded(&["-f", "-"], &nft), committed);
    // nft 1.0.6 doesn't read the comment of a table in JSON.
    let mut without_comment = committed;
    without_comment.retain(|object| !object.contains("comment \"managed by tierwalld\""));
    let mut loaded = loaded(&["-j", "-f", "-"], &json);
    loaded.retain(|object| !object.contains("comment \"managed by tierwalld\""));
    assert_eq!(loaded, without_comment);
}

#[test]
fn another_server_gets_another_table() {
    let server = app_server();
    let db = run(&server, &["export", "--as", "10.10.1.30"], 0);
    assert!(db.contains("chain in.reports") && !db.contains("8080"), "{db}");
    loaded(&["-f", "-"], &db);
}

#[test]
fn warnings_stand_beside_it() {
    let server = server(&super::edited("\"daemon\"", "\"no-such-user\""));
    for format in ["nft", "json"] {
        let output = server.tierwall(&["export", "--format", format]).unwrap();
        assert!(output.status.success());
        assert!(super::stderr(&output).contains("this server has no user `no-such-user`"));
    }
}
