//! Files that a repository can't hold as fixtures: bytes that are no text, permissions, devices.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use tempfile::TempDir;
use tierwall_policy::{Loaded, Options, Style, load, load_text};

const GOOD: &str = "[tiers]\nweb = [\"10.0.0.1\"]\n\
                    [[allow]]\nfrom = \"any\"\nto = \"web\"\nservice = \"tcp/443\"\n";
const WITH_LIST: &str = "[tiers]\nweb = { file = \"web.list\" }\n\
                         [[allow]]\nfrom = \"any\"\nto = \"web\"\nservice = \"tcp/443\"\n";
const UNCHECKED: Options = Options { check_permissions: false, strict: false, warn_unseen: true };
const CHECKED: Options = Options { check_permissions: true, strict: false, warn_unseen: true };

/// A directory with these files, each for root alone to write.
fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("its mode");
    }
    directory
}

fn load_in(directory: &TempDir, options: &Options) -> Loaded {
    load(&directory.path().join("tierwall.toml"), options)
}

/// What is printed, with the directory's random name cut out.
fn messages(directory: &TempDir, options: &Options) -> String {
    let loaded = load_in(directory, options);
    assert!(loaded.policy.is_none());
    let path = directory.path().to_str().expect("a plain name");
    loaded.diagnostics.render(Style::Plain).replace(path, "/etc/tierwall")
}

#[test]
fn bytes_that_are_no_text() {
    let utf16: Vec<u8> =
        std::iter::once(0xfeffu16).chain(GOOD.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let cases: [(&str, &[u8]); 4] = [
        ("nul-bytes", b"role = \"app\"\n[tiers]\nweb = [\"10.0.0.1\"]\0\0\0\n"),
        ("not-utf8", b"[tiers]\n# \xe4dmins\nadmin = [\"10.0.0.1\"]\n"),
        ("utf16", &utf16),
        ("only-nul-bytes", &[0; 4096]),
    ];
    for (name, content) in cases {
        let policy = directory(&[("tierwall.toml", content)]);
        insta::assert_snapshot!(name, messages(&policy, &UNCHECKED));
    }
}

#[test]
fn bytes_that_are_no_text_in_files_that_the_policy_names() {
    let policy = format!("include = \"more.toml\"\n{WITH_LIST}");
    let directory = directory(&[
        ("tierwall.toml", policy.as_bytes()),
        ("more.toml", b"[services]\nssh = \"\0\"\n"),
        ("web.list", b"10.0.0.1\n10.0.0.2 # \xff\n10.0.0.300\n"),
    ]);
    insta::assert_snapshot!("no-text-in-named-files", messages(&directory, &UNCHECKED));
}

#[test]
fn files_that_are_not_there_or_no_files() {
    let nothing = directory(&[]);
    insta::assert_snapshot!("missing-policy", messages(&nothing, &CHECKED));

    let loaded = load(Path::new("tests"), &UNCHECKED);
    insta::assert_snapshot!("directory-as-policy", loaded.diagnostics.render(Style::Plain));

    let policy = WITH_LIST.replace("web.list", "/dev/null");
    let device = directory(&[("tierwall.toml", policy.as_bytes())]);
    insta::assert_snapshot!("device-as-list", messages(&device, &UNCHECKED));
}

#[test]
fn files_that_others_may_write_are_refused() {
    for (name, mode) in [("group-writable", 0o664), ("world-writable", 0o646)] {
        let directory = directory(&[("tierwall.toml", GOOD.as_bytes())]);
        let path = directory.path().join("tierwall.toml");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode");
        insta::assert_snapshot!(name, messages(&directory, &CHECKED));
        assert!(load_in(&directory, &UNCHECKED).policy.is_some(), "the flag turns it off");
    }
}

#[test]
fn included_and_list_files_that_others_may_write_are_refused() {
    let policy = format!("include = \"conf.toml\"\n{WITH_LIST}").replace("any", "elsewhere");
    let directory = directory(&[
        ("tierwall.toml", policy.as_bytes()),
        ("conf.toml", b"[tiers]\nelsewhere = [\"10.0.0.9\"]\n"),
        ("web.list", b"10.0.0.1\n"),
    ]);
    for name in ["conf.toml", "web.list"] {
        let path = directory.path().join(name);
        fs::set_permissions(path, Permissions::from_mode(0o666)).expect("its mode");
    }
    let unowned = |line: &str| !line.contains("belongs to user");
    let messages = messages(&directory, &CHECKED);
    let is_root = fs::metadata(directory.path()).expect("metadata").uid() == 0;
    // Where the tests aren't run by root, the policy file itself is refused before.
    if is_root {
        insta::assert_snapshot!("unsafe-named-files", messages);
    } else {
        assert!(!messages.lines().all(unowned));
    }
    assert!(load_in(&directory, &UNCHECKED).policy.is_some());
}

#[test]
fn files_of_other_owners_are_refused() {
    let directory = directory(&[("tierwall.toml", GOOD.as_bytes())]);
    let path = directory.path().join("tierwall.toml");
    let owner = fs::metadata(&path).expect("metadata").uid();
    if owner == 0 {
        assert!(load_in(&directory, &CHECKED).policy.is_some(), "root's own is accepted");
        chown(&path, Some(4242), None).expect("root may");
    }
    let owner = fs::metadata(&path).expect("metadata").uid().to_string();
    let messages = messages(&directory, &CHECKED).replace(&owner, "4242");
    insta::assert_snapshot!("not-owned-by-root", messages);
    assert!(load_in(&directory, &UNCHECKED).policy.is_some(), "the flag turns it off");
}

#[test]
fn windows_line_ends_and_byte_order_marks_are_fine() {
    let text = format!("\u{feff}{}", WITH_LIST.replace('\n', "\r\n"));
    let list = "\u{feff}10.0.0.1\r\n\r\n# more\r\n10.0.0.2\r\n";
    let directory = directory(&[("tierwall.toml", text.as_bytes()), ("web.list", list.as_bytes())]);
    let loaded = load_in(&directory, &UNCHECKED);
    assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics);
    assert_eq!(
        loaded.policy.expect("a policy").tiers["web"].v4.to_string(),
        "{ 10.0.0.1-10.0.0.2 }"
    );
}

#[test]
fn a_list_that_two_tiers_share_is_judged_once() {
    let text = "[tiers]\nweb = { file = \"l\" }\napp = { file = \"l\" }\n\
                [[allow]]\nfrom = \"*\"\nto = [\"web\", \"app\"]\nservice = \"any\"\n";
    let bad = directory(&[("tierwall.toml", text.as_bytes()), ("l", b"10.0.0.1\n10.0.0.300\n")]);
    assert_eq!(load_in(&bad, &UNCHECKED).diagnostics.len(), 1);
    let good = directory(&[("tierwall.toml", text.as_bytes()), ("l", b"10.0.0.1\n10.0.0.3\n")]);
    let policy = load_in(&good, &UNCHECKED).policy.expect("a policy");
    assert_eq!(policy.tiers["web"].v4.len(), 2);
    assert_eq!(policy.tiers["web"].v4, policy.tiers["app"].v4);
}

#[test]
fn a_mistake_in_a_very_long_line_is_shown_with_its_surroundings() {
    let members = vec!["\"10.0.0.1\""; 100_000].join(", ");
    let text = GOOD.replace("\"10.0.0.1\"", &format!("{members}, \"10.0.0.300\", {members}"));
    let loaded = load_text(Path::new("long.toml"), text, &UNCHECKED);
    insta::assert_snapshot!("long-line", loaded.diagnostics.render(Style::Plain));
}

#[test]
fn includes_end_somewhere() {
    let files: Vec<(String, String)> = (0..40)
        .map(|n| (format!("{n}.toml"), format!("include = \"{}.toml\"\n", n + 1)))
        .chain([("tierwall.toml".to_owned(), format!("include = \"0.toml\"\n{GOOD}"))])
        .collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    insta::assert_snapshot!("includes-too-deep", messages(&directory(&files), &UNCHECKED));
}

#[test]
fn a_directory_with_wildcards_in_its_name_is_no_pattern() {
    let outer = tempfile::tempdir().expect("a directory");
    let inner = outer.path().join("a[b]*");
    fs::create_dir(&inner).expect("a directory");
    fs::write(inner.join("tierwall.toml"), "include = \"*.conf\"\n").expect("a file");
    fs::write(inner.join("more.conf"), GOOD).expect("a file");
    let loaded = load(&inner.join("tierwall.toml"), &UNCHECKED);
    assert!(loaded.policy.is_some(), "{}", loaded.diagnostics);
}

/// Every place at which a text of the file is quoted, with a very long text there.
#[test]
fn what_a_message_quotes_fits_on_a_screen() {
    const LONGEST: usize = 160;
    let long = "1".repeat(200_000);
    let members =
        ["LONG", "LONG/8", "10.0.0.0/LONG", "10.0.0.1-LONG", "LONG-10.0.0.1", "10.0.0.LONG"];
    let services =
        ["LONG", "tcp/LONG", "tcp/LONG-2", "tcp/2-LONG", "LONG/22", "tcp / LONG", "tcp/LONG-"];
    let values = [
        "role = \"LONG\"",
        "role = LONG",
        "mode = \"LONG\"",
        "LONG = 1",
        "confirm = \"LONG\"",
        "role = [LONG",
        "role = \"LONG",
        "guard.services = [\"LONG\"]",
        "LONG",
    ];
    let members = members.map(|text| GOOD.replace("10.0.0.1", text));
    let services = services.map(|text| GOOD.replace("tcp/443", text));
    let values = values.map(|text| format!("{text}\n{GOOD}"));
    let others = [
        GOOD.replace("any", "LONG"),
        GOOD.replace("web =", "LONG ="),
        GOOD.replace("from", "LONG"),
        format!("{GOOD}name = \"LONG\"\n"),
        format!("{GOOD}user = \"LONG\"\n"),
        format!("{GOOD}user = LONG\n"),
    ];
    for text in members.iter().chain(&services).chain(&values).chain(&others) {
        let shown = text.clone();
        let loaded = load_text(Path::new("t.toml"), text.replace("LONG", &long), &UNCHECKED);
        assert!(loaded.policy.is_none(), "{shown}");
        let told = loaded.diagnostics.render(Style::Plain);
        let widest = told.lines().map(|line| line.chars().count()).max().unwrap_or_default();
        assert!(widest <= LONGEST, "{widest} characters in a line of\n{told}\nfor\n{shown}");
    }
    let list = directory(&[("tierwall.toml", WITH_LIST.as_bytes()), ("web.list", long.as_bytes())]);
    let told = messages(&list, &UNCHECKED);
    assert!(told.lines().all(|line| line.chars().count() <= LONGEST), "{told}");
}

#[test]
fn files_in_conf_d_that_nothing_includes_are_named() {
    let with = |include: &str| {
        let text = format!("{include}{GOOD}");
        let directory = directory(&[("tierwall.toml", text.as_bytes())]);
        let conf = directory.path().join("conf.d");
        fs::create_dir_all(conf.join("dir.toml")).expect("a directory");
        for name in ["a.toml", "b.toml", "c.toml", "d.toml", "e.list", ".f.toml"] {
            fs::write(conf.join(name), "[services]\n").expect("a file");
        }
        let loaded = load_in(&directory, &UNCHECKED);
        assert!(loaded.policy.is_some(), "{}", loaded.diagnostics);
        let told = loaded.diagnostics.render(Style::Plain);
        told.replace(directory.path().to_str().expect("a plain name"), "/etc/tierwall")
    };
    insta::assert_snapshot!("unincluded", with(""));
    let some = with("include = [\"conf.d/[a-c].toml\"]\n");
    assert!(some.contains("nothing includes `d.toml` in conf.d"), "{some}");
    assert_eq!(with("include = [\"conf.d/[a-d].toml\"]\n"), "");
    assert_eq!(with("include = [\"./conf.d/../conf.d/?.toml\"]\n"), "");
}

#[test]
fn of_a_file_that_cannot_be_read_nobody_knows_what_it_includes() {
    let text = format!("include = [\"all.toml\"]\n{GOOD}");
    let directory = directory(&[("tierwall.toml", text.as_bytes())]);
    fs::create_dir(directory.path().join("conf.d")).expect("a directory");
    fs::write(directory.path().join("conf.d/a.toml"), "[services]\n").expect("a file");
    let found = load_in(&directory, &UNCHECKED).diagnostics;
    let codes: Vec<&str> = found.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["missing-file"]);
}
