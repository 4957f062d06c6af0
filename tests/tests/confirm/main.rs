//! Confirm or go back: a change that has to be confirmed is gone back from by itself, whatever
//! becomes of who made it and of the daemon.

#![allow(clippy::unwrap_used)]

mod deadline;
mod denials;
mod disk;
mod first;
mod held_back;
mod laws;
mod proof;
mod record;
mod rule;
mod way_back;

use serde_json::Value;
use std::time::Duration;
use tierwall_tests::daemon::Daemon;
use tierwall_tests::site::{ADMIN, Site, policy};

/// The shortest time there is, and a long one.
const SHORT: &str = "5s";
const LONG: &str = "10m";

/// A policy that shuts the admin out by its rules: the removal of a member is never refused.
fn without_admin() -> String {
    policy(ADMIN).replacen("from = \"admin\"", "from = \"10.0.0.99\"", 1)
}

/// A policy that lets one more service in.
fn with_more() -> String {
    policy(ADMIN).replace("tcp/80", "tcp/81")
}

/// With a rule that changes have to be confirmed.
fn ruled(text: &str, time: &str) -> String {
    text.replace("[tiers]", &format!("confirm = \"{time}\"\n[tiers]"))
}

/// A site with that rule, where the admin is a member by command of two tiers that are let in: the
/// guard has nothing to say when one is taken away.
fn in_two_tiers(time: &str) -> (Site, Daemon) {
    let both = policy("10.0.0.98")
        .replace("app = [", "other = [\"10.0.0.97\"]\napp = [")
        .replace("from = \"admin\"", "from = [\"admin\", \"other\"]");
    let site = Site::new(&ruled(&both, time));
    let daemon = site.server.start(&[]).unwrap();
    for tier in ["admin", "other"] {
        assert_eq!(site.tierwall(&["member", "add", tier, ADMIN]).0, 0);
    }
    (site, daemon)
}

/// A site with a session of the admin, where the change that shuts them out waits.
fn shut_out(site: &Site, time: &str) {
    site.server.replace("tierwall.toml", without_admin()).unwrap();
    let (code, told) = site.tierwall(&["reload", "--force", "--confirm", time]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("waits to be confirmed"), "{told}");
    assert!(!site.is_let_in("admin"), "the change isn't in force");
}

/// Waits until nothing waits to be confirmed any more.
fn gone_back(site: &Site) -> Value {
    let status = site.status_when(|status| status["pending"].is_null());
    assert_eq!(status["differs"]["kind"], "reverted", "{status}");
    assert!(site.is_let_in("admin"), "{status}");
    assert!(!site.is_let_in("other"));
    status
}

/// Gives an edit time to be applied, where it mustn't be.
fn a_while() {
    std::thread::sleep(Duration::from_millis(400));
}

fn history(site: &Site) -> Vec<Value> {
    let output = site.server.tierwall(&["history", "--json"]).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}
