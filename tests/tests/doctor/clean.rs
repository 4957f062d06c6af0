//! A host where nothing stands in the way, and what it takes to look at it.

use super::*;
use tierwall_tests::kernel::Kernel;

#[test]
fn a_clean_host_gives_notes_at_most() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    assert_eq!(found(&server), ["note daemon-away"]);
    let daemon = server.start(&[]).unwrap();
    assert_eq!(found(&server), [""; 0]);
    assert_eq!(run(&server, &[]).status.code(), Some(0));
    assert_text!("clean", server);
    daemon.stop().unwrap();
}

#[test]
fn without_a_policy_it_says_what_it_could_not_judge() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    fs::remove_file(server.config()).unwrap();
    assert_eq!(found(&server), ["note policy-missing", "note daemon-away", "note spoofing-ipv6"]);
    assert_text!("without-policy", server);
    let answer: Value = serde_json::from_slice(&run(&server, &["--json"]).stdout).unwrap();
    let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["errors", "findings", "not_judged", "notes", "warnings"]);
    assert_eq!(answer["not_judged"].as_array().unwrap().len(), 1);
    let finding: Vec<&String> = answer["findings"][0].as_object().unwrap().keys().collect();
    assert_eq!(finding, ["advice", "details", "id", "severity", "what"]);
}

#[test]
fn looking_changes_nothing() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let before = Kernel::of(&host).unwrap();
    run(&server, &[]);
    assert_eq!(Kernel::of(&host).unwrap(), before);
    let daemon = server.start(&[]).unwrap();
    let before = Kernel::of(&host).unwrap();
    run(&server, &[]);
    assert_eq!(Kernel::of(&host).unwrap(), before);
    daemon.stop().unwrap();
}

#[test]
fn the_settings_that_it_prints_are_the_shipped_file() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/sysctl/60-tierwall.conf");
    assert_eq!(run(&server, &["--sysctl"]).stdout, fs::read(file).unwrap());
}

#[test]
fn without_the_right_it_is_one_sentence() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let tierwall = server.tierwall_command().unwrap();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
    command.arg(tierwall.get_program()).args(tierwall.get_args()).arg("doctor");
    let output = server.run(&mut command).unwrap();
    assert_eq!(output.status.code(), Some(4));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("run as root, or with CAP_NET_ADMIN"), "{told}");
    assert_eq!((told.trim().lines().count(), output.stdout.len()), (1, 0));
}
