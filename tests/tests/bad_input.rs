//! A policy with a mistake in it: both programs say the same of it, with exit code 3, and neither
//! touches the kernel. A daemon that runs says so too, and what it enforced stays.
//!
//! The wording of every message is in the snapshots of the policy crate; here it is enough that
//! the right one gets to the right place.

#![allow(clippy::unwrap_used)]

use nix::sys::stat::Mode;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};
use tierwall_tests::kernel::Kernel;
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;

/// An application server's policy, to which each case adds its mistake.
const TIERS: &str = r#"role = "app"
[tiers]
web = ["10.10.1.10"]
app = ["10.10.1.20"]
"#;

const ALLOW: &str = r#"[[allow]]
from = "web"
to = "app"
service = "tcp/80"
"#;

fn bad(output: &Output) -> String {
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{told}");
    told
}

fn server_with(files: &[(&str, &[u8])]) -> Server {
    let host = Host::alone("app1", ["10.10.1.20".parse().unwrap()]).unwrap();
    let server = Server::new(&host, "").unwrap();
    for (name, content) in files {
        server.write(name, content).unwrap();
    }
    server
}

/// Starts the daemon and runs the check on the same files; returns what both say.
fn refused(server: &Server) -> String {
    let before = Kernel::of(server.host()).unwrap();
    let by_daemon = bad(&server.tierwalld(&[]).unwrap());
    let after = Kernel::of(server.host()).unwrap();
    assert_eq!(after, before, "{by_daemon}");
    assert_eq!(after.listing, "");
    assert!(!server.runtime_directory().join("control.sock").exists(), "{by_daemon}");

    let by_check = bad(&server.tierwall(&["check"]).unwrap());
    let of_daemon = by_daemon.strip_prefix("tierwalld: ").expect(&by_daemon);
    assert_eq!(of_daemon.trim_end(), by_check.trim_end());
    let path = server.config();
    assert!(by_check.contains(path.parent().unwrap().to_str().unwrap()), "no place:\n{by_check}");
    by_check
}

/// Does this to the files of a server whose daemon runs; returns what `status` then says is wrong.
/// Nothing whatever is committed, also not when the files are good again.
fn refused_while_running(spoil: impl FnOnce(&Server)) -> String {
    let good = format!("{TIERS}{ALLOW}");
    let server = server_with(&[("tierwall.toml", good.as_bytes())]);
    let daemon = server.start(&[]).unwrap();
    let (before, status) = (Kernel::of(server.host()).unwrap(), status(&server));
    assert_eq!(status["problem"], serde_json::Value::Null, "{status}");

    spoil(&server);
    let problem = status_when(&server, |status| status["problem"].is_string());
    let told = problem["problem"].as_str().unwrap().to_owned();
    for field in ["generation", "role", "tiers", "last_commit", "enforcement"] {
        assert_eq!(problem[field], status[field], "{field}");
    }
    let by_reload = bad(&server.tierwall(&["reload"]).unwrap());
    assert!(by_reload.contains(told.trim_end()), "{by_reload}\nbut status says\n{told}");
    assert!(!by_reload.contains("error: error"), "{by_reload}");
    assert!(daemon.log().contains(told.trim_end()), "{}", daemon.log());
    assert_eq!(Kernel::of(server.host()).unwrap(), before);

    let _ = fs::remove_dir(server.config());
    server.replace("tierwall.toml", &good).unwrap();
    status_when(&server, |status| status["problem"].is_null());
    assert_eq!(Kernel::of(server.host()).unwrap(), before);
    daemon.stop().unwrap();
    told
}

fn status(server: &Server) -> serde_json::Value {
    let output = server.tierwall(&["status", "--json"]).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until `tierwall status` says so; fails long after it should have.
fn status_when(server: &Server, holds: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let start = Instant::now();
    loop {
        let status = status(server);
        if holds(&status) {
            return status;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{status}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A server with these files is refused, and each text is told; at a start and at an edit.
fn case(files: &[(&str, &[u8])], told: &[&str]) {
    let server = server_with(files);
    let refusal = refused(&server);
    let while_running = refused_while_running(|server| {
        // The policy last: it names the others.
        for (name, content) in files.iter().rev() {
            server.replace(name, content).unwrap();
        }
    });
    for text in told {
        assert!(refusal.contains(text), "{text:?} isn't in:\n{refusal}");
        assert!(while_running.contains(text), "{text:?} isn't in:\n{while_running}");
    }

    // For programs: the same, on standard output.
    let output = server.tierwall(&["check", "--json"]).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["good"], false);
    let errors = json["diagnostics"].as_array().unwrap().iter();
    let errors = errors.filter(|diagnostic| diagnostic["severity"] == "error").count();
    let lines = refusal.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, lines, "{refusal}");
}

/// The same with one file: the tiers above and `more`.
fn policy(more: &str, told: &[&str]) {
    case(&[("tierwall.toml", format!("{TIERS}{more}").as_bytes())], told);
}

/// The same with an allow, from line 5 on.
fn allow(from: &str, to: &str, service: &str, told: &[&str]) {
    let allow = format!("[[allow]]\nfrom = \"{from}\"\nto = \"{to}\"\nservice = \"{service}\"\n");
    policy(&allow, told);
}

#[test]
fn unknown_tier() {
    let told = ["tierwall.toml:6:8", "`wbe`", "did you mean `web`?", "^^^^^"];
    allow("wbe", "app", "tcp/80", &told);
}

#[test]
fn a_tier_in_two_files() {
    let first = format!("include = [\"more.toml\"]\n{TIERS}");
    let files: [(&str, &[u8]); 2] =
        [("tierwall.toml", first.as_bytes()), ("more.toml", b"[tiers]\nweb = [\"10.10.1.11\"]\n")];
    case(&files, &["more.toml:2:1", "tierwall.toml:4:1", "`web`"]);
}

#[test]
fn a_key_twice() {
    policy(r#"web = ["10.10.1.11"]"#, &["tierwall.toml:5:1", "`web`"]);
}

#[test]
fn bad_addresses() {
    for address in ["10.10.1.300", "2001:db8::g", "10.10.1", "10.10.1.10/33", "web1.example", ""] {
        policy(&format!("db = [\"{address}\"]"), &["tierwall.toml:5:7", address]);
    }
}

#[test]
fn inverted_range() {
    policy(r#"db = ["10.10.1.39-10.10.1.30"]"#, &["tierwall.toml:5:7", "10.10.1.39-10.10.1.30"]);
}

#[test]
fn prefix_with_host_bits() {
    policy(r#"db = ["10.10.1.30/24"]"#, &["tierwall.toml:5:7", "10.10.1.0/24"]);
}

#[test]
fn ports_that_are_none() {
    for service in ["tcp/0", "tcp/65536", "udp/99999999999999999999", "tcp/90-80", "tcp/-1"] {
        allow("web", "app", service, &["tierwall.toml:8:11", service]);
    }
}

#[test]
fn unknown_protocol() {
    allow("web", "app", "tpc/80", &["tierwall.toml:8:11", "`tpc`", "did you mean `tcp`?"]);
}

#[test]
fn an_allow_for_no_server() {
    allow("any", "203.0.113.7", "tcp/80", &["tierwall.toml:5:1", "no server"]);
}

#[test]
fn missing_list() {
    let told = ["tierwall.toml:5:", "there is no file", "cdn.list"];
    policy(r#"cdn = { file = "cdn.list" }"#, &told);
}

#[test]
fn a_bad_line_in_a_list() {
    let first = format!("{TIERS}cdn = {{ file = \"cdn.list\" }}\n");
    let files: [(&str, &[u8]); 2] =
        [("tierwall.toml", first.as_bytes()), ("cdn.list", b"# ours\n10.0.0.1\n10.0.0.x # ?\n")];
    case(&files, &["cdn.list:3:1", "10.0.0.x"]);
}

#[test]
fn not_utf8() {
    let text = b"[tiers]\nweb = [\"10.10.1.10\"] # caf\xe9\n";
    case(&[("tierwall.toml", text)], &["tierwall.toml:2:", "UTF-8"]);
}

#[test]
fn nul_bytes() {
    let text = b"[tiers]\nweb = [\"10.10.1.10\"]\0\n";
    case(&[("tierwall.toml", text)], &["tierwall.toml:2:", "NUL"]);
}

#[test]
fn an_include_loop() {
    let files: [(&str, &[u8]); 3] = [
        ("tierwall.toml", b"include = [\"a.toml\"]\n"),
        ("a.toml", b"include = [\"b.toml\"]\n"),
        ("b.toml", b"include = [\"a.toml\"]\n"),
    ];
    case(&files, &["b.toml:1:12", "a.toml"]);
}

#[test]
fn an_empty_file() {
    case(&[("tierwall.toml", b"")], &["tierwall.toml", "is empty"]);
}

#[test]
fn all_mistakes_at_once() {
    let more = r#"db = ["10.10.1.300"]
[[allow]]
from = "wbe"
to = "ap"
service = "tcp/0"
"#;
    let places = ["5:7", "7:8", "8:6", "9:11"].map(|place| format!("tierwall.toml:{place}"));
    policy(more, &places.each_ref().map(String::as_str));
}

#[test]
fn a_missing_file() {
    let server = server_with(&[]);
    fs::remove_file(server.config()).unwrap();
    for told in [
        refused(&server),
        refused_while_running(|server| fs::remove_file(server.config()).unwrap()),
    ] {
        assert!(told.contains("there is no file") && told.contains("tierwall.toml"), "{told}");
    }
}

#[test]
fn a_directory() {
    let spoil = |server: &Server| {
        fs::remove_file(server.config()).unwrap();
        fs::create_dir(server.config()).unwrap();
    };
    let server = server_with(&[]);
    spoil(&server);
    for told in [refused(&server), refused_while_running(spoil)] {
        assert!(told.contains("directory"), "{told}");
    }
}

#[test]
fn files_that_others_may_write() {
    let policy =
        format!("{TIERS}cdn = {{ file = \"cdn.list\" }}\n{}{}", ALLOW, ALLOW.replace("web", "cdn"));
    for (name, mode) in [("tierwall.toml", 0o664), ("tierwall.toml", 0o646), ("cdn.list", 0o660)] {
        let files = [("tierwall.toml", policy.as_bytes()), ("cdn.list", b"10.0.0.1\n")];
        let server = server_with(&files);
        let path = server.path("etc").join(name);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let told = refused(&server);
        assert!(told.contains(name) && told.contains("write"), "{told}");
        assert!(told.contains("chmod"), "no way out:\n{told}");
        let told = refused_while_running(|server| {
            server.write("cdn.list", "10.0.0.1\n").unwrap();
            let path = server.path("etc").join(name);
            server.replace("beside.toml", &policy).unwrap();
            let spoilt = if name == "cdn.list" { path } else { server.path("etc/beside.toml") };
            fs::set_permissions(spoilt, Permissions::from_mode(mode)).unwrap();
            fs::rename(server.path("etc/beside.toml"), server.config()).unwrap();
        });
        assert!(told.contains(name) && told.contains("chmod"), "{told}");

        // What is wrong is that alone.
        let daemon = server.start(&["--insecure-permissions"]).unwrap();
        daemon.stop().unwrap();
        let output = server.tierwall(&["--insecure-permissions", "check"]).unwrap();
        assert!(output.status.success());
    }
}

#[test]
fn a_file_of_somebody_else() {
    let spoil =
        |server: &Server| std::os::unix::fs::chown(server.config(), Some(65534), None).unwrap();
    let server = server_with(&[("tierwall.toml", TIERS.as_bytes())]);
    spoil(&server);
    for told in [refused(&server), refused_while_running(spoil)] {
        assert!(told.contains("root"), "{told}");
    }
}

/// A policy whose list is in a directory of its own.
fn with_list() -> String {
    format!(
        "{TIERS}cdn = {{ file = \"lists/cdn.list\" }}\n{}{}",
        ALLOW,
        ALLOW.replace("web", "cdn")
    )
}

/// That list, put there by `make`.
fn put_list(server: &Server, make: impl FnOnce(&Path)) {
    let lists = server.path("etc/lists");
    fs::create_dir_all(&lists).unwrap();
    fs::set_permissions(&lists, Permissions::from_mode(0o755)).unwrap();
    let list = lists.join("cdn.list");
    let _ = fs::remove_file(&list);
    make(&list);
    server.replace("tierwall.toml", with_list()).unwrap();
}

#[test]
fn a_list_that_is_no_file() {
    let pipe = |list: &Path| nix::unistd::mkfifo(list, Mode::S_IRUSR).unwrap();
    no_file(pipe, "is a pipe");
    no_file(|list| symlink("/proc/self/comm", list).unwrap(), "it is in /proc");
    no_file(|list| symlink("/dev/zero", list).unwrap(), "is a device");
}

fn no_file(make: impl Fn(&Path), text: &str) {
    let server = server_with(&[]);
    put_list(&server, &make);
    for told in [refused(&server), refused_while_running(|server| put_list(server, &make))] {
        assert!(told.contains(text) && told.contains("cdn.list"), "{told}");
    }
}

#[test]
fn a_way_that_others_may_change() {
    let fine = |list: &Path| fs::write(list, "10.0.0.1\n").unwrap();
    let spoil = |server: &Server| {
        put_list(server, fine);
        std::os::unix::fs::chown(server.path("etc/lists"), Some(65534), None).unwrap();
    };
    let server = server_with(&[]);
    spoil(&server);
    for told in [refused(&server), refused_while_running(spoil)] {
        assert!(told.contains("lists belongs to user 65534") && told.contains("chown"), "{told}");
    }
}

#[test]
fn the_group_is_told_where_the_errors_are_and_no_more() {
    let good = format!("{TIERS}{ALLOW}");
    let server = server_with(&[("tierwall.toml", good.as_bytes())]);
    let daemon = server.start(&["--group", "daemon"]).unwrap();
    server.replace("tierwall.toml", format!("{good}name = 7 # sesame\n")).unwrap();
    let by_root = status_when(&server, |status| status["problem"].is_string());
    assert!(by_root["problem"].as_str().unwrap().contains("sesame"), "{by_root}");
    for arguments in [&["status"][..], &["status", "--json"], &["watch", "--polls", "1", "--json"]]
    {
        let output = server.tierwall_in_group("daemon", arguments).unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!told.contains("sesame"), "{told}");
    }
    let output = server.tierwall_in_group("daemon", &["status"]).unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let place = format!("{}:9:8: error: wrong-type", server.config().display());
    assert!(told.contains(&place) && told.contains("`tierwall check`"), "{told}");
    daemon.stop().unwrap();
}

#[test]
fn no_role_and_no_address_in_a_tier() {
    let allow = "[[allow]]\nfrom = \"db\"\nto = \"web\"\nservice = \"tcp/22\"\n";
    let policy = format!("[tiers]\nweb = [\"10.10.1.10\"]\ndb = [\"10.10.1.30\"]\n{allow}");
    let server = server_with(&[("tierwall.toml", policy.as_bytes())]);
    // A state and no error, but said by whoever is asked.
    let check = server.tierwall(&["check"]).unwrap();
    let told = String::from_utf8([check.stdout, check.stderr].concat()).unwrap();
    assert_eq!(check.status.code(), Some(0), "{told}");
    assert!(told.contains("this server is in no tier") && told.contains("10.10.1.20"), "{told}");
    assert!(told.contains("role = "), "no way out:\n{told}");
    let strict = bad(&server.tierwall(&["check", "--strict"]).unwrap());
    assert!(strict.contains("error: this server is in no tier"), "{strict}");
    // The policy is good for others.
    assert!(server.tierwall(&["check", "--strict", "--as", "web"]).unwrap().status.success());
}

#[test]
fn a_warning_under_strict() {
    let policy = format!("{TIERS}unused = [\"10.10.9.9\"]\n{ALLOW}");
    let server = server_with(&[("tierwall.toml", policy.as_bytes())]);
    assert!(server.tierwall(&["check"]).unwrap().status.success());
    let before = Kernel::of(server.host()).unwrap();
    let by_daemon = bad(&server.tierwalld(&["--strict"]).unwrap());
    assert_eq!(Kernel::of(server.host()).unwrap(), before);
    let by_check = bad(&server.tierwall(&["check", "--strict"]).unwrap());
    assert_eq!(by_daemon.strip_prefix("tierwalld: ").unwrap().trim_end(), by_check.trim_end());
    assert!(by_check.contains("tierwall.toml:5:1") && by_check.contains("unused"), "{by_check}");
}

#[test]
fn after_a_good_policy_a_bad_one_leaves_it_standing() {
    let good = format!("ownership = \"report\"\n{TIERS}{ALLOW}");
    let server = server_with(&[("tierwall.toml", good.as_bytes())]);
    server.start(&[]).unwrap().stop().unwrap();
    let before = Kernel::of(server.host()).unwrap();
    assert!(before.listing.contains("allow web -> app tcp/80"));
    server.write("tierwall.toml", format!("{TIERS}{}", ALLOW.replace("web", "wbe"))).unwrap();
    // A start enforces the last good policy, and says so.
    let daemon = server.start(&[]).unwrap();
    assert_eq!(Kernel::of(server.host()).unwrap(), before);
    assert!(daemon.log().contains("no tier is named `wbe`"), "{}", daemon.log());
    let status = server.tierwall(&["status"]).unwrap();
    let told = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(told.contains("can't be applied") && told.contains("wbe"), "{told}");
    assert_eq!(server.tierwall(&["reload"]).unwrap().status.code(), Some(3));
    assert_eq!(Kernel::of(server.host()).unwrap(), before);
    daemon.stop().unwrap();
}
