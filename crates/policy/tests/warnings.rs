//! Lints: each policy in `warn/` loads, with the warnings in `snapshots/`; `--strict` refuses it.

mod common;

use common::{OPTIONS, fixtures};
use tierwall_policy::{Options, Severity, Style, load, load_text};

#[test]
fn lints_are_warnings_and_errors_where_strict() {
    for (name, path) in fixtures("tests/warn") {
        let loaded = load(&path, &OPTIONS);
        assert!(loaded.policy.is_some(), "{}", loaded.diagnostics.render(Style::Plain));
        assert!(loaded.diagnostics.iter().all(|lint| lint.severity == Severity::Warning));
        insta::assert_snapshot!(name.as_str(), loaded.diagnostics.render(Style::Plain));

        let strict = load(&path, &Options { strict: true, ..OPTIONS });
        assert!(strict.policy.is_none(), "{name} passes as strict");
        assert_eq!(strict.diagnostics.len(), loaded.diagnostics.len());
        assert!(strict.diagnostics.iter().all(|lint| lint.is_error()));
    }
}

#[test]
fn an_allow_that_is_there_twice_is_there_once() {
    let path = std::path::Path::new("tests/warn/covered-allow.toml");
    let policy = load(path, &OPTIONS).policy.expect("warnings only");
    let keys: Vec<String> = policy.allows.iter().map(|allow| allow.key.to_string()).collect();
    let same = keys.iter().filter(|key| *key == "web -> app tcp/9090").count();
    assert_eq!((same, keys.len()), (1, 9));
}

#[test]
fn what_the_service_cannot_see_is_told_unless_the_policy_is_there_too() {
    let text = r#"include = ["/root/none/*.toml", "conf.d/*.toml"]

[tiers]
cdn = { file = "/var/tmp/none.list" }
"#;
    let unseen = |policy: &str| -> Vec<String> {
        let loaded = load_text(std::path::Path::new(policy), text, &OPTIONS);
        let found = loaded.diagnostics.iter().filter(|found| found.code == "unseen-file");
        found.map(|found| format!("{found} {}", found.hint.clone().unwrap_or_default())).collect()
    };
    insta::assert_snapshot!(unseen("/none/tierwall.toml").join("\n"));
    assert_eq!(unseen("/tmp/none/tierwall.toml"), Vec::<String>::new());
}
