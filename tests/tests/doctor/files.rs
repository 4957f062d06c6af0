//! The policy, its files, and the state directory.

use super::*;
use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, SystemTime};

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_bad_policy_is_told_with_its_first_problems() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, &POLICY.replace("from    = \"web\"", "from    = \"wbe\""));
    assert_eq!(found(&server), ["error policy-bad", "note daemon-away", "note spoofing-ipv6"]);
    let problem = finding(&server, "policy-bad")["details"][0].clone();
    assert!(problem.as_str().unwrap().contains("tierwall.toml:7: "), "{problem}");
    let extra = POLICY.replace("app = [", "old = [\"10.9.9.9\"]\napp = [");
    server.write("tierwall.toml", extra).unwrap();
    assert_eq!(found(&server), ["warning policy-warnings", "note daemon-away"]);
}

#[test]
fn a_role_that_has_no_address_here_leaves_the_rest_to_be_judged() {
    let (_network, host) = host(&["192.0.2.99"]);
    host.namespace.sysctl("net.ipv4.ip_forward", "1").unwrap();
    let links = "link add docker0 type bridge\nlink set docker0 up\n";
    host.namespace.command_with_input("ip", &["-batch", "-"], links).unwrap();
    let server = server(&host, &POLICY.replace("role = \"app\"\n", ""));
    assert_eq!(
        found(&server),
        ["warning policy-warnings", "warning forwarding", "note daemon-away"]
    );
}

#[test]
fn what_others_may_write_is_an_error() {
    let (_network, host) = host(&["10.10.1.20"]);
    let policy = format!("include = [\"conf.d/*.toml\"]\n{POLICY}");
    let server = server(&host, &policy);
    let included = server.path("etc/conf.d");
    fs::create_dir(&included).unwrap();
    allow(&included, 0o755);
    server.write("conf.d/more.toml", "[tiers]\nold = [\"10.10.1.99\"]\n").unwrap();
    assert_eq!(found(&server), ["warning policy-warnings", "note daemon-away"]);
    // The group root may.
    allow(&included, 0o775);
    assert_eq!(found(&server), ["warning policy-warnings", "note daemon-away"]);
    chown(&included, None, Some(65534)).unwrap();
    let told = finding(&server, "unsafe-path");
    assert_eq!(told["what"], format!("its group may write {}", included.display()));
    assert_eq!(told["advice"], format!("chmod g-w {}", included.display()));
    allow(&included, 0o755);
    allow(&server.path("etc"), 0o777);
    assert!(found(&server).contains(&"error unsafe-path".to_owned()));
    allow(&server.path("etc"), 0o755);
    allow(&server.config(), 0o666);
    assert!(found(&server).contains(&"error policy-bad".to_owned()), "a load refuses that");
    allow(&server.config(), 0o644);

    let members = server.state_directory().join("members.json");
    fs::write(&members, "{}").unwrap();
    chown(&members, Some(65534), None).unwrap();
    let told = finding(&server, "unsafe-state");
    let expected = format!("user 65534, who owns it, may write {}", members.display());
    assert_eq!(told["what"], expected);
}

#[test]
fn a_state_from_the_future_is_told() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let path = server.state_directory().join("role.json");
    fs::write(&path, "{}").unwrap();
    assert_eq!(found(&server), ["note daemon-away"]);
    let later = SystemTime::now() + Duration::from_secs(3 * 3600 + 60);
    File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    let told = finding(&server, "clock-behind");
    assert_eq!(told["what"], format!("the clock is 3 h behind {}", path.display()));
}

#[test]
fn a_clock_that_nobody_keeps_is_told_as_the_kernel_says() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    fs::remove_file(root(&server).join("run/systemd/timesync/synchronized")).unwrap();
    let expected: &[&str] = match netlink::clock_is_synchronised().unwrap() {
        true => &["note daemon-away"],
        false => &["warning clock-unsynchronised", "note daemon-away"],
    };
    assert_eq!(found(&server), expected);
}
