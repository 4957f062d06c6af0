//! `[guard] rollback_on_denials`: what was let through before and is denied brings a change back
//! before its time is over. Nothing else does.

use super::{LONG, gone_back, history};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;
use tierwall_tests::site::{ADMIN, SERVER, Site, policy};
use tierwall_tests::source_port;

/// So many denials bring a change back.
const LIMIT: u64 = 10;

fn guarded(text: &str) -> String {
    format!("{text}[guard]\nrollback_on_denials = {LIMIT}\n")
}

/// The policy without the allow that lets the admin in; they stay in their tier.
fn without_ssh() -> String {
    policy(ADMIN).replace("service = \"tcp/22\"", "service = \"tcp/2222\"")
}

/// A site where the change to `text` waits, under the policy with the limit. Both hosts have a
/// connection, which shows that they are who they say; and all know each other's link, since of the
/// packets that wait for an answer to ARP only some are kept.
#[must_use = "the connections end with it"]
fn waits(site: &Site, text: &str) -> [TcpStream; 2] {
    let open = ["admin", "other"]
        .map(|host| site.connect(site.network.host(host), 80).expect("anybody is let in"));
    site.server.replace("tierwall.toml", text).unwrap();
    let (code, told) = site.tierwall(&["reload", "--force", "--confirm", LONG]);
    assert!(code == 0 && told.contains("waits to be confirmed"), "{told}");
    open
}

/// Tries to connect so many times, each time anew.
fn try_to_connect(site: &Site, from: &str, port: u16, times: u64) {
    let to = SocketAddr::new(SERVER.parse().unwrap(), port).into();
    site.network.host(from).namespace.run(|| {
        for _ in 0..times {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let source = SocketAddr::from((Ipv4Addr::UNSPECIFIED, source_port::fresh()));
            socket.bind(&source.into()).unwrap();
            let error = socket.connect_timeout(&to, Duration::from_millis(5)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        }
    });
}

fn newly_denied(status: &Value) -> u64 {
    status["after_change"]["newly_denied"].as_u64().unwrap_or_default()
}

/// Waits until so many denials of what was let through before are counted.
fn status_with(site: &Site, newly: u64) -> Value {
    site.status_when(|status| newly_denied(status) >= newly)
}

#[test]
fn denials_of_what_was_let_through_bring_the_change_back() {
    let site = Site::new(&guarded(&policy(ADMIN)));
    let daemon = site.server.start(&[]).unwrap();
    let _open = waits(&site, &guarded(&without_ssh()));
    try_to_connect(&site, "admin", 22, LIMIT - 1);
    let status = status_with(&site, LIMIT - 1);
    assert!(!status["pending"].is_null(), "one too few: {status}");
    let change = &status["after_change"];
    assert_eq!((&change["generation"], &change["before"]), (&2.into(), &1.into()));
    let most = &change["most"][0];
    assert_eq!(
        (&most["service"], &most["from"], &most["to"]),
        (&"tcp/22".into(), &"admin".into(), &"app".into()),
        "{status}"
    );
    try_to_connect(&site, "admin", 22, 1);
    let status = gone_back(&site);
    let why = status["differs"]["why"].as_str().unwrap();
    assert!(why.contains("generation 2 made denied what was let through"), "{why}");
    assert!(why.contains("all tcp/22 from admin to app"), "{why}");
    assert_eq!(status["generation"], 3);
    let log = daemon.log();
    assert_eq!(log.matches("ERROR rolled back to").count(), 1, "{log}");
    let past = history(&site);
    assert_eq!((&past[1]["confirmation"], &past[2]["back_to"]), (&"reverted".into(), &1.into()));

    // The same text isn't applied by itself again.
    site.server.replace("tierwall.toml", guarded(&without_ssh())).unwrap();
    super::a_while();
    assert!(site.is_let_in("admin"));
    daemon.stop().unwrap();
}

#[test]
fn noise_of_strangers_does_not() {
    let site = Site::new(&guarded(&policy(ADMIN)));
    let daemon = site.server.start(&[]).unwrap();
    let _open = waits(&site, &guarded(&without_ssh()));
    try_to_connect(&site, "other", 22, 20 * LIMIT);
    // What was never allowed from the admin, too.
    try_to_connect(&site, "admin", 23, 3 * LIMIT);
    try_to_connect(&site, "admin", 22, 1);
    let status = status_with(&site, 1);
    assert_eq!(newly_denied(&status), 1, "{status}");
    assert!(!status["pending"].is_null() && status["generation"] == 2, "{status}");
    let since = &status["after_change"]["rates"]["after"];
    let counted = (&since["strangers"], &since["connections"]);
    // Beside what the kernel dropped, should one be missing.
    let (_, denied) = site.tierwall(&["denied", "--json"]);
    let dropped = site.network.host("server").namespace.command("nft", &["list", "counters"]);
    let seen = format!("{status}\n{denied}\n{}", dropped.unwrap());
    assert_eq!(counted, (&(20 * LIMIT).into(), &(3 * LIMIT + 1).into()), "{seen}");
    daemon.stop().unwrap();
}

/// Who takes a host out of its tier means it, and the host may try as often as it likes.
#[test]
fn a_host_that_the_change_takes_out_does_not() {
    let site = Site::new(&guarded(&policy(ADMIN)));
    let daemon = site.server.start(&[]).unwrap();
    // Members alone would have changed by themselves.
    let _open = waits(&site, &guarded(&policy("10.0.0.99").replace("admin", "ops")));
    try_to_connect(&site, "admin", 22, 3 * LIMIT);
    let status = status_with(&site, 3 * LIMIT);
    assert!(!status["pending"].is_null(), "{status}");
    assert_eq!(status["after_change"]["alarm"], true, "it is told all the same: {status}");
    daemon.stop().unwrap();
}

/// An address is easily forged: whoever has no connection here now can't bring anything back.
#[test]
fn who_may_not_be_who_they_say_does_not() {
    let site = Site::new(&guarded(&policy(ADMIN)));
    let daemon = site.server.start(&[]).unwrap();
    let [admin, _other] = waits(&site, &guarded(&without_ssh()));
    admin.shutdown(std::net::Shutdown::Both).unwrap();
    drop(admin);
    try_to_connect(&site, "admin", 22, 3 * LIMIT);
    let status = status_with(&site, 3 * LIMIT);
    assert!(!status["pending"].is_null(), "{status}");
    assert_eq!(status["after_change"]["alarm"], true, "it is told all the same: {status}");
    // With one it does, from the first on that comes after it.
    let admin = site.network.host("admin");
    let _open = site.connect(admin, 80).expect("anybody is let in");
    site.status_when(|status| {
        let is_over = status["pending"].is_null();
        if !is_over {
            let _ = site.connect(admin, 22);
        }
        is_over
    });
    daemon.stop().unwrap();
}

/// What this server's own programs may not open any more counts, whoever is connected.
#[test]
fn what_this_server_may_not_open_does() {
    let open = "[[allow]]\nfrom = \"app\"\nto = \"admin\"\nservice = \"tcp/7\"\n";
    let site = Site::new(&guarded(&format!("{}{open}", policy(ADMIN))));
    let daemon = site.server.start(&[]).unwrap();
    drop(waits(&site, &guarded(&policy(ADMIN))));
    site.network.host("server").namespace.run(|| {
        for _ in 0..LIMIT {
            let error = TcpStream::connect((ADMIN, 7)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
    });
    gone_back(&site);
    daemon.stop().unwrap();
}

#[test]
fn without_the_key_it_is_told_and_waits() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let _open = waits(&site, &without_ssh());
    try_to_connect(&site, "admin", 22, 3 * LIMIT);
    let status = status_with(&site, 3 * LIMIT);
    assert!(!status["pending"].is_null() && status["after_change"]["alarm"] == true, "{status}");
    let (_, told) = site.tierwall(&["status"]);
    let wanted = "generation 1 let 30 of them through, all tcp/22 from admin to app";
    assert!(told.contains(wanted) && told.contains("`tierwall rollback`"), "{told}");
    let log = daemon.log();
    let warnings = log.lines().filter(|line| line.contains("newly_denied="));
    assert_eq!(warnings.clone().count(), 1, "once: {log}");
    assert!(warnings.clone().all(|line| line.contains("WARN") && line.contains("generation=2")));
    // Confirmed, it stays, and is still told.
    assert_eq!(site.tierwall(&["confirm"]).0, 0);
    try_to_connect(&site, "admin", 22, 1);
    let status = status_with(&site, 3 * LIMIT + 1);
    assert!(status["pending"].is_null() && status["generation"] == 2, "{status}");
    daemon.stop().unwrap();
}

/// A text without the key waits under it, a daemon that is started again goes on comparing, and
/// members that change meanwhile are compared as they are.
#[test]
fn the_way_back_is_what_counts_until_the_end() {
    let site = Site::new(&guarded(&policy(ADMIN)));
    let daemon = site.server.start(&[]).unwrap();
    let _open = waits(&site, &without_ssh());
    try_to_connect(&site, "admin", 22, LIMIT - 1);
    status_with(&site, LIMIT - 1);
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let status = site.status();
    assert!(!status["pending"].is_null() && newly_denied(&status) == 0, "{status}");
    // One more member by the way: what is gone back to lets it in, too.
    let wider =
        policy("10.0.0.0-10.0.9.9").replace("service = \"tcp/22\"", "service = \"tcp/2222\"");
    site.server.replace("tierwall.toml", wider).unwrap();
    site.status_when(|status| {
        status["tiers"][0]["v4"] == 2314 && status["last_commit"]["reason"] == "members changed"
    });
    try_to_connect(&site, "other", 22, LIMIT - 1);
    let status = status_with(&site, LIMIT - 1);
    assert!(!status["pending"].is_null(), "{status}");
    try_to_connect(&site, "admin", 22, 1);
    let status = site.status_when(|status| status["pending"].is_null());
    assert_eq!(status["differs"]["kind"], "reverted", "{status}");
    assert!(site.is_let_in("admin") && site.is_let_in("other"));
    daemon.stop().unwrap();
}
