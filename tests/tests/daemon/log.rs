//! What is told: one line a batch, and every warning.

use super::{app_server, edited, kernel, server, status, stderr};
use std::collections::BTreeMap;
use std::fs;

/// The fields of each line with `message` in a log: `key=value` and `key="a value"`.
fn lines(log: &str, message: &str) -> Vec<BTreeMap<String, String>> {
    let lines = log.lines().filter(|line| line.contains(message));
    lines
        .map(|line| {
            let mut rest = line;
            let mut fields = BTreeMap::new();
            while let Some((before, after)) = rest.split_once('=') {
                let key = before.rsplit(' ').next().unwrap();
                let (value, left) = match after.strip_prefix('"') {
                    Some(quoted) => quoted.split_once('"').unwrap(),
                    None => after.split_once(' ').unwrap_or((after, "")),
                };
                fields.insert(key.to_owned(), value.to_owned());
                rest = left;
            }
            fields
        })
        .collect()
}

fn number(fields: &BTreeMap<String, String>, key: &str) -> u64 {
    fields.get(key).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{fields:?}"))
}

#[test]
fn every_batch_is_one_line() {
    let server = app_server();
    let daemon = server.start(&[]).unwrap();
    let first = kernel(&server);
    let rules = first.handles().unwrap().values().filter(|line| line.contains("comment")).count();
    daemon.stop().unwrap();
    server.write("tierwall.toml", edited("\"10.10.1.30\"", "\"10.10.1.31\"")).unwrap();
    let daemon = server.start(&[]).unwrap();
    let second = kernel(&server);
    assert!(server.tierwall(&["teardown"]).unwrap().status.success());
    let third = kernel(&server);

    let log = daemon.log();
    let lines = lines(&log, " committed ");
    let [observing, start, restart, teardown] = &lines[..] else { panic!("{log}") };
    assert_eq!(observing["reason"], "before the first enforcement");
    for (fields, kernel, reason) in
        [(start, &first, "start"), (restart, &second, "start"), (teardown, &third, "teardown")]
    {
        assert_eq!(number(fields, "kernel_generation"), u64::from(kernel.generation), "{log}");
        assert_eq!(fields["reason"], reason, "{log}");
        assert!(number(fields, "bytes") > 0 && number(fields, "duration_us") > 0, "{log}");
    }
    let added = number(observing, "rules_added") + number(start, "rules_added");
    assert_eq!(added - number(start, "rules_deleted"), rules as u64, "{}", first.listing);
    for set in ["admin_v4 +1 -0", "web_v4 +1 -0", "web_v6 +1 -0", "db_v4 +1 -0"] {
        assert!(observing["sets"].contains(set), "{set} isn't in {log}");
    }
    assert_eq!((number(restart, "rules_added"), number(restart, "rules_deleted")), (0, 0));
    assert_eq!(restart["sets"], "db_v4 +1 -1");
    assert_eq!(number(teardown, "rules_deleted"), rules as u64);
    assert!(teardown["sets"].contains("web_v4 +0 -1"), "{log}");
    let commit = &status(&server)["last_commit"];
    assert_eq!(commit["reason"], "teardown");
    assert_eq!(commit["kernel_generation"], third.generation);
    daemon.stop().unwrap();
}

#[test]
fn at_boot_the_last_uid_of_an_unknown_user_holds() {
    let policy =
        edited("service = \"tcp/5432\"", "service = \"tcp/5432\"\nuser = \"no-such-user\"");
    let app = server(&["10.10.1.20"], &policy);
    let record = app.state_directory().join("users.json");
    fs::write(&record, "{\"no-such-user\": 4242, \"gone\": 7}").unwrap();
    let daemon = app.start(&["--strict"]).unwrap();
    assert!(kernel(&app).listing.contains("meta skuid 4242"), "{}", kernel(&app).listing);
    assert!(daemon.log().contains("its last user id holds"), "{}", daemon.log());
    daemon.stop().unwrap();
    // Only what the policy names is remembered.
    let users: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    assert_eq!(users, serde_json::json!({ "no-such-user": 4242 }));
}

#[test]
fn an_unknown_user_is_warned_of_where_this_server_sends() {
    let policy =
        edited("service = \"tcp/5432\"", "service = \"tcp/5432\"\nuser = \"no-such-user\"");
    let app = server(&["10.10.1.20"], &policy);
    let daemon = app.start(&[]).unwrap();
    let warning = "this server has no user `no-such-user`";
    let log = daemon.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(warning)), "{log}");
    let warnings = status(&app)["warnings"].to_string();
    assert!(!warnings.contains("warning:"), "its severity is said beside it: {warnings}");
    assert!(warnings.contains(warning) && warnings.contains("tierwall.toml:19:8:"), "{warnings}");
    let listing = kernel(&app).listing;
    assert!(!listing.contains("app -> db"), "a rule for nobody:\n{listing}");
    assert!(listing.contains("allow web -> app tcp/8080"), "{listing}");
    daemon.stop().unwrap();

    // --strict takes it for an error.
    fs::remove_file(app.state_directory().join("last-good")).unwrap();
    let before = kernel(&app);
    let output = app.tierwalld(&["--strict"]).unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("error: this server has no user"), "{}", stderr(&output));
    assert_eq!(kernel(&app), before);

    // The receiving side has no use for users.
    let db = server(&["10.10.1.30"], &policy.replace("role = \"app\"", "role = \"db\""));
    let daemon = db.start(&[]).unwrap();
    assert!(!daemon.log().contains("no-such-user"), "{}", daemon.log());
    assert_eq!(status(&db)["warnings"], serde_json::json!([]));
    assert!(kernel(&db).listing.contains("tcp/5432"));
    daemon.stop().unwrap();
}

/// The service's sandbox would hide it. A daemon that reads it isn't in that.
#[test]
fn what_the_service_could_not_see_is_no_warning_of_a_daemon_that_sees_it() {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let list = directory.path().join("db.list");
    fs::write(&list, "10.10.1.99\n").unwrap();
    let named = format!("[{{ file = \"{}\" }}, \"10.10.1.30\"]", list.display());
    let app = server(&["10.10.1.20"], &edited("[\"10.10.1.30\"]", &named));
    let (code, told) = {
        let output = app.tierwall(&["check", "--strict"]).unwrap();
        (output.status.code(), stderr(&output))
    };
    assert!(code == Some(3) && told.contains("tierwalld.service can't see"), "{code:?} {told}");
    let daemon = app.start(&["--strict"]).unwrap();
    let status = status(&app);
    assert_eq!(status["warnings"], serde_json::json!([]));
    assert_eq!(status["problem"], serde_json::Value::Null);
    assert!(kernel(&app).listing.contains("10.10.1.99"));
    daemon.stop().unwrap();
}
