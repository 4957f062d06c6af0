//! Every kind of mistake with the message that it gets: a policy in `bad/` (a file, or a directory
//! with `tierwall.toml`), what is printed for it in `snapshots/`.

mod common;

use common::{OPTIONS, fixtures};
use tierwall_policy::{Style, load};

#[test]
fn every_mistake_has_its_message() {
    for (name, path) in fixtures("tests/bad") {
        let loaded = load(&path, &OPTIONS);
        assert!(loaded.policy.is_none(), "{name} gives a policy");
        assert!(loaded.diagnostics.has_errors(), "{name} has no error");
        insta::assert_snapshot!(name, loaded.diagnostics.render(Style::Plain));
    }
}

#[test]
fn one_problem_is_one_line_for_editors_and_one_object_for_programs() {
    let path = std::path::Path::new("tests/bad/duplicate-in-two-files/tierwall.toml");
    let diagnostics = load(path, &OPTIONS).diagnostics;
    insta::assert_snapshot!("one-line", diagnostics.to_string());
    let json = serde_json::to_string_pretty(&diagnostics).expect("JSON");
    insta::assert_snapshot!("json", json);
}

#[test]
fn colours_change_nothing_but_colours() {
    for (name, path) in fixtures("tests/bad") {
        let diagnostics = load(&path, &OPTIONS).diagnostics;
        let colored = diagnostics.render(Style::Colored);
        assert!(colored.contains("\u{1b}["), "{name} has no colour");
        let mut plain = String::new();
        for (index, part) in colored.split("\u{1b}[").enumerate() {
            plain.push_str(if index == 0 { part } else { part.split_once('m').expect("an end").1 });
        }
        assert_eq!(plain, diagnostics.render(Style::Plain), "{name}");
    }
}
