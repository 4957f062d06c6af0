//! `nft` reads the scripts that we write: of a value, and as `tierwall export` prints them.

use crate::cases;
use crate::kernel::Kernel;
use ruleset::TABLE_COMMENT;
use std::path::{Path, PathBuf};
use std::process::Command;
use tierwall_tests::binaries;

#[test]
fn nft_makes_the_same_of_either_script() {
    for case in cases::all() {
        let ours = listed(&Kernel::holding(&case.ruleset));
        let scripted = Kernel::new();
        // The second time it replaces what the first made.
        for _ in 0..2 {
            scripted.nft(&["-f", "-"], &case.ruleset.to_nft_script());
        }
        assert_eq!(listed(&scripted), ours, "{}", case.name);
        scripted.nft(&["-j", "-f", "-"], &case.ruleset.to_nft_json().to_string());
        assert_eq!(listed(&scripted), without_comment(&ours), "{}, as JSON", case.name);
    }
}

#[test]
fn an_export_is_taken_twice_in_a_row() {
    for (case, file, tier) in exported() {
        let ours = listed(&Kernel::holding(&case.ruleset));
        let kernel = Kernel::new();
        let text = export(&kernel, &file, &["--as", &tier]);
        assert_eq!(text, case.ruleset.to_nft_script(), "{}", case.name);
        let json = export(&kernel, &file, &["--as", &tier, "--format", "json"]);
        for _ in 0..2 {
            kernel.nft(&["-f", "-"], &text);
            assert_eq!(listed(&kernel), ours, "{}", case.name);
        }
        for _ in 0..2 {
            kernel.nft(&["-j", "-f", "-"], &json);
            assert_eq!(listed(&kernel), without_comment(&ours), "{}, as JSON", case.name);
        }
    }
}

/// Another server's users can't be looked up: they get numbers that no account has.
#[test]
fn an_export_for_another_server_is_taken_too() {
    let file = example("egress-allow-list.toml");
    let kernel = Kernel::new();
    let text = export(&kernel, &file, &["--as", "servers"]);
    assert!(text.contains("meta skuid"), "{text}");
    let json = export(&kernel, &file, &["--as", "servers", "--format", "json"]);
    kernel.nft(&["-f", "-"], &text);
    let listing = listed(&kernel);
    assert!(listing.contains("meta skuid"), "{listing}");
    kernel.nft(&["-f", "-"], &text);
    assert_eq!(listed(&kernel), listing);
    kernel.nft(&["-j", "-f", "-"], &json);
    assert_eq!(listed(&kernel), without_comment(&listing));
}

/// Minimal systems have no `/etc/protocols`, by which `nft` knows the names of most protocols.
#[test]
fn scripts_need_no_names_of_protocols() {
    for name in ["protocols as server (auto)", "protocols as peer (auto)", "ports as server (auto)"]
    {
        let case = cases::find(name);
        let ours = listed(&Kernel::holding(&case.ruleset));
        let script = case.ruleset.to_nft_script();
        let json = case.ruleset.to_nft_json().to_string();
        for (command, script) in [("nft -f -", &script), ("nft -j -f -", &json)] {
            let kernel = Kernel::new();
            // In a mount namespace of its own, which ends with the command.
            let command = format!("mount --bind /dev/null /etc/protocols && exec {command}");
            let arguments = ["--mount", "--", "sh", "-c", &command];
            let result = kernel.namespace.command_with_input("unshare", &arguments, script);
            result.unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert_eq!(without_comment(&listed(&kernel)), without_comment(&ours), "{name}");
        }
    }
}

fn listed(kernel: &Kernel) -> String {
    kernel.nft(&["list", "ruleset"], "")
}

/// A listing without the comment of the table, which `nft` 1.0.6 doesn't take from JSON.
fn without_comment(listing: &str) -> String {
    listing.replace(&format!("\tcomment \"{TABLE_COMMENT}\"\n"), "")
}

/// Every tier of the examples that name no user: whose ids `export --as` can't know.
fn exported() -> Vec<(&'static cases::Case, PathBuf, String)> {
    let mut exported = Vec::new();
    for name in ["first-steps.toml", "strict-three-tier.toml"] {
        let file = example(name);
        for tier in cases::load(&file).tiers.into_keys() {
            let case = cases::find(&format!("{name} as {tier} (explicit)"));
            exported.push((case, file.clone(), tier));
        }
    }
    assert!(exported.len() >= 9, "there are examples");
    exported
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples").join(name)
}

fn export(kernel: &Kernel, file: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(binaries::find("tierwall").expect("the command line"));
    command.arg("--config").arg(file).arg("--insecure-permissions").arg("export");
    let output = kernel.namespace.run(|| command.args(arguments).output()).expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("an export is text")
}
