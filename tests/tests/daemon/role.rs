//! The role, from the file, from the addresses, or from the last time.

use super::{POLICY, edited, kernel, server, status, status_when, stderr, text};
use serde_json::json;
use std::fs;
use tierwall_tests::server::Server;

fn auto_policy() -> String {
    edited("role = \"app\"", "role = \"auto\"")
}

fn forget_addresses(server: &Server) {
    for family in ["-4", "-6"] {
        let flush = [family, "address", "flush", "dev", "lo", "scope", "global"];
        server.host().namespace.command("ip", &flush).unwrap();
    }
}

#[test]
fn auto_follows_from_the_addresses() {
    let server = server(&["10.10.1.20", "10.10.1.30"], &auto_policy());
    let daemon = server.start(&[]).unwrap();
    assert_eq!(status(&server)["role"], json!(["app", "db"]));
    assert_eq!(status(&server)["role_auto"], true);
    daemon.stop().unwrap();
}

#[test]
fn without_an_address_the_last_role_holds() {
    let server = server(&["10.10.1.20"], &auto_policy());
    server.start(&[]).unwrap().stop().unwrap();
    let before = kernel(&server);
    forget_addresses(&server);
    let daemon = server.start(&[]).unwrap();
    assert_eq!(status(&server)["role"], json!(["app"]));
    assert_eq!(kernel(&server), before);
    daemon.stop().unwrap();

    // A policy without that tier, once, doesn't make it forgotten.
    let without = "[tiers]\nweb = [\"10.10.1.10\"]\n[[allow]]\nfrom = \"any\"\nto = \"web\"\nservice = \"tcp/80\"\n";
    server.write("tierwall.toml", without).unwrap();
    let daemon = server.start(&[]).unwrap();
    assert_eq!(status(&server)["role"], json!([]));
    daemon.stop().unwrap();
    server.write("tierwall.toml", auto_policy()).unwrap();
    let daemon = server.start(&[]).unwrap();
    assert_eq!(status(&server)["role"], json!(["app"]));
    daemon.stop().unwrap();
}

#[test]
fn without_an_address_and_a_last_role_the_default_drop_holds() {
    for record in [None, Some("{\"tiers\":[\"a"), Some("")] {
        let server = server(&[], &auto_policy());
        if let Some(text) = record {
            fs::write(server.state_directory().join("role.json"), text).unwrap();
        }
        let daemon = server.start(&[]).unwrap();
        assert_eq!(status(&server)["role"], json!([]), "{record:?}");
        let listing = kernel(&server).listing;
        assert_eq!(listing.matches("policy drop").count(), 3);
        // "*" means this server too; no tier does.
        assert!(listing.contains("allow admin -> * tcp/22"), "{listing}");
        assert!(!listing.contains("8080"), "{listing}");
        daemon.stop().unwrap();
    }
}

/// Whatever `boot` says, and whether or not warnings are errors.
#[test]
fn a_server_in_no_tier_has_the_default_drop_until_its_address_comes() {
    for (settings, arguments) in [("", &["--strict"][..]), ("boot = \"closed\"\n", &[])] {
        let policy = format!("{settings}{}", auto_policy());
        let server = server(&["10.10.7.7", "2001:db8::7"], &policy);
        let daemon = server.start(arguments).unwrap();
        let listing = kernel(&server).listing;
        assert_eq!(listing.matches("policy drop").count(), 3);
        assert!(listing.contains("allow admin -> * tcp/22"), "{listing}");
        assert!(!listing.contains("8080"), "{listing}");
        let before = status(&server);
        assert_eq!((&before["role"], &before["problem"]), (&json!([]), &json!(null)));
        let told = text(&server.tierwall(&["status"]).unwrap().stdout);
        for told in [told, daemon.log()] {
            assert!(told.contains("this server is in no tier"), "{told}");
            assert!(told.contains("10.10.7.7, 2001:db8::7"), "{told}");
        }
        let is_loud = |line: &str| line.contains("ERROR") && line.contains("is in no tier");
        assert!(daemon.log().lines().any(is_loud), "{}", daemon.log());
        assert!(daemon.log().contains("IN NO TIER"), "the line for the service manager");
        // Whoever reloads is told as well.
        let reload = server.tierwall(&["reload"]).unwrap();
        assert!(reload.status.success(), "{}", stderr(&reload));
        let told = text(&[reload.stdout, reload.stderr].concat());
        assert!(told.contains("this server is in no tier"), "{told}");

        let add = ["address", "add", "10.10.1.20/32", "dev", "lo"];
        server.host().namespace.command("ip", &add).unwrap();
        let after = status_when(&server, |status| status["role"] == json!(["app"]));
        assert!(!after["warnings"].to_string().contains("in no tier"), "{after}");
        assert!(kernel(&server).listing.contains("allow web -> app tcp/8080"));
        daemon.stop().unwrap();
    }
}

#[test]
fn at_boot_an_address_in_no_tier_may_not_be_the_last_to_come() {
    let server = server(&["10.10.1.20"], &auto_policy());
    server.start(&[]).unwrap().stop().unwrap();
    let before = kernel(&server);
    forget_addresses(&server);
    let address = |address| {
        let add = ["address", "add", address, "dev", "lo"];
        server.host().namespace.command("ip", &add).unwrap();
    };
    address("10.10.7.7/32");
    let daemon = server.start(&[]).unwrap();
    assert_eq!(status(&server)["role"], json!(["app"]));
    assert_eq!(kernel(&server), before);
    assert!(daemon.log().contains("its last role holds for now"), "{}", daemon.log());
    // Nothing is lost by a reload.
    let output = server.tierwall(&["reload"]).unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(status(&server)["role"], json!(["app"]));
    address("10.10.1.20/32");
    assert!(server.tierwall(&["reload"]).unwrap().status.success());
    assert_eq!((status(&server)["role"].clone(), kernel(&server)), (json!(["app"]), before));
    daemon.stop().unwrap();
}

#[test]
fn an_explicit_role_needs_no_address() {
    let server = server(&[], POLICY);
    let daemon = server.start(&[]).unwrap();
    let status = status(&server);
    assert_eq!((&status["role"], &status["role_auto"]), (&json!(["app"]), &json!(false)));
    assert!(kernel(&server).listing.contains("allow web -> app tcp/8080"));
    daemon.stop().unwrap();
}
