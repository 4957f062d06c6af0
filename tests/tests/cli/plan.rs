//! `plan`

use super::{
    FOREIGN, POLICY, app_server, assert_keys, assert_text, edited, json, kernel, nft, run, server,
};
use serde_json::{Value, json as value};
use tierwall_tests::server::Server;

/// A server whose kernel holds the policy, and a file that says something else by now.
fn changed(policy: &str) -> Server {
    let server = app_server();
    server.start(&[]).unwrap().stop().unwrap();
    server.write("tierwall.toml", policy).unwrap();
    server
}

fn meanings(list: &Value) -> Vec<&str> {
    let meanings = list.as_array().unwrap().iter().map(|opening| {
        let keys = ["allows", "direction", "except", "meaning", "only", "peers", "services"];
        assert_keys(opening, &keys);
        opening["meaning"].as_str().unwrap()
    });
    meanings.collect()
}

#[test]
fn the_first_one_says_what_will_be_open() {
    let server = app_server();
    let before = kernel(&server);
    assert_text!("plan-first", server, run(&server, &["plan"], 0));
    run(&server, &["plan", "--detailed-exitcode"], 2);
    assert_eq!(kernel(&server), before, "a plan changes nothing");
}

#[test]
fn of_what_the_kernel_holds_there_is_none() {
    let server = changed(POLICY);
    let before = kernel(&server);
    assert_text!("plan-none", server, run(&server, &["plan"], 0));
    run(&server, &["plan", "--detailed-exitcode"], 0);
    let plan = json(&server, &["plan", "--detailed-exitcode"], 0);
    assert_keys(
        &plan,
        &[
            "changes",
            "diagnostics",
            "foreign_table",
            "forwards",
            "gained",
            "lost",
            "members",
            "notes",
            "open_after",
            "open_before",
            "operations",
            "refused",
            "shut_out",
        ],
    );
    assert_eq!((&plan["changes"], &plan["operations"]), (&value!(false), &value!([])));
    assert_eq!((&plan["open_before"], &plan["open_after"]), (&value!([]), &value!([])));
    assert_eq!(kernel(&server), before);
}

#[test]
fn a_new_allow_and_one_that_is_gone() {
    let server = changed(&edited("service = \"tcp/8080\"", "service = \"tcp/8443\""));
    assert_text!("plan-allow", server, run(&server, &["plan"], 0));
    let plan = json(&server, &["plan", "--detailed-exitcode"], 2);
    // As the text says it, with the place.
    let place = format!("  ({}:9)", server.config().display());
    let gained = format!("app is now reachable from web on tcp/8443{place}");
    assert_eq!(meanings(&plan["gained"]), [gained.as_str()]);
    assert_eq!(meanings(&plan["lost"]), ["app is no longer reachable from web on tcp/8080"]);
    assert_eq!(plan["gained"][0]["direction"], "input");
    assert_eq!(plan["gained"][0]["allows"], value!(["web -> app tcp/8443"]));
    assert_eq!(plan["gained"][0]["peers"], value!(["web"]));
    assert_eq!(plan["members"], value!({}));
}

#[test]
fn what_this_server_may_open() {
    let server = changed(&edited("[\"tcp/5432\", \"tcp/3306\"]", "\"tcp/5432-5433\""));
    let plan = json(&server, &["plan"], 0);
    let place = format!("  ({}:14)", server.config().display());
    let gained = format!("app may now open tcp/5433 to db by user daemon{place}");
    assert_eq!(meanings(&plan["gained"]), [gained.as_str()]);
    assert_eq!(meanings(&plan["lost"]), ["app may no longer open tcp/3306 to db by user daemon"]);
    assert_eq!(plan["lost"][0]["only"], value!(["user daemon"]));

    // A policy that writes the number gets the number.
    server.write("tierwall.toml", edited("\"daemon\"", "[1, \"root\"]")).unwrap();
    let plan = json(&server, &["plan"], 0);
    assert_eq!(plan["gained"][0]["only"], value!(["user root"]));
    server
        .write(
            "tierwall.toml",
            edited("\"tcp/3306\"]\nuser    = \"daemon\"", "\"tcp/3307\"]\nuser = 1"),
        )
        .unwrap();
    let plan = json(&server, &["plan"], 0);
    assert_eq!(plan["gained"][0]["only"], value!(["user 1"]), "{plan}");
}

#[test]
fn members_come_and_go() {
    let server = changed(
        &edited("\"10.10.1.30\"", "\"10.10.1.31\", \"2001:db8::31\"")
            .replace("10.10.1.10-10.10.1.19", "10.10.1.8-10.10.1.17"),
    );
    assert_text!("plan-members", server, run(&server, &["plan"], 0));
    let plan = json(&server, &["plan"], 0);
    assert_eq!(
        plan["members"],
        value!({
            "db": { "gained": ["10.10.1.31", "2001:db8::31"], "lost": ["10.10.1.30"] },
            "web": { "gained": ["10.10.1.8/31"], "lost": ["10.10.1.18/31"] },
        })
    );
    assert_eq!((&plan["gained"], &plan["lost"]), (&value!([]), &value!([])));
    let operations = plan["operations"].as_array().unwrap();
    let elements = operations.iter().all(|line| line.as_str().unwrap().contains(" element "));
    assert!(elements, "{operations:#?}");
}

#[test]
fn a_side_that_only_observes_is_open() {
    let server = changed(&format!("mode = {{ input = \"observe\" }}\n{POLICY}"));
    assert_text!("plan-observe", server, run(&server, &["plan"], 0));
    let plan = json(&server, &["plan"], 0);
    assert_eq!((&plan["open_before"], &plan["open_after"]), (&value!([]), &value!(["input"])));
    assert_eq!((&plan["gained"], &plan["lost"]), (&value!([]), &value!([])));
    // And the way back.
    server.start(&[]).unwrap().stop().unwrap();
    server.write("tierwall.toml", POLICY).unwrap();
    let plan = json(&server, &["plan"], 0);
    assert_eq!((&plan["open_before"], &plan["open_after"]), (&value!(["input"]), &value!([])));
    assert!(run(&server, &["plan"], 0).contains("input was open to everything"));
}

#[test]
fn a_foreign_table_is_noted() {
    let server = app_server();
    nft(&server, FOREIGN);
    let text = run(&server, &["plan"], 0);
    let note = "the table was not made by tierwall: only `tierwall takeover` replaces it";
    assert!(text.starts_with(note), "{text}");
    assert_eq!(json(&server, &["plan", "--detailed-exitcode"], 2)["foreign_table"], true);

    // One that does nothing is none to speak of.
    nft(
        &server,
        "flush ruleset
         table inet filter {
             chain input { type filter hook input priority filter; }
         }",
    );
    assert_eq!(json(&server, &["plan"], 0)["foreign_table"], false);
}

#[test]
fn operations_are_those_that_the_daemon_sends() {
    let server = changed(&edited("service = \"tcp/8080\"", "service = \"tcp/8443\""));
    let text = run(&server, &["plan", "--operations"], 0);
    assert_text!("plan-operations", server, &text);
    let daemon = server.start(&[]).unwrap();
    let log = daemon.log();
    let last = log.lines().rfind(|line| line.contains(" committed ")).unwrap();
    assert!(
        last.contains(
            "sets=\"again.input_tcp +1 -1, input_tcp +1 -1\" rules_added=4 rules_deleted=4"
        ),
        "{last}"
    );
    assert_eq!(run(&server, &["plan"], 0), "nothing would change: the kernel holds this policy\n");
    daemon.stop().unwrap();
}

#[test]
fn a_bad_policy_has_none() {
    let server = server(&edited("from    = \"web\"", "from    = \"wbe\""));
    for command in ["plan", "export"] {
        let message = super::fails(&server, &[command], 3);
        assert!(message.contains("did you mean `web`?"), "{command}: {message}");
        let judged = json(&server, &[command], 3);
        assert_keys(&judged, &["diagnostics", "good"]);
    }
}

#[test]
fn members_by_command_are_no_difference() {
    let server = app_server();
    let daemon = server.start(&[]).unwrap();
    run(&server, &["member", "add", "web", "10.0.0.9"], 0);
    run(&server, &["member", "add", "web", "10.0.0.12", "--for", "1h"], 0);
    run(&server, &["member", "add", "web", "2001:db8::9", "--for", "1h"], 0);
    let nothing = "nothing would change: the kernel holds this policy\n";
    assert_eq!(run(&server, &["plan", "--detailed-exitcode"], 0), nothing);
    // Beside a real one, which is told alone.
    let text = edited("\"10.10.1.30\"", "\"10.10.1.31\"");
    server.write("other.toml", text).unwrap();
    let other = server.path("etc/other.toml");
    let plan = run(&server, &["plan", "--config", other.to_str().unwrap()], 0);
    assert!(!plan.contains("web") && plan.contains("db loses 10.10.1.30"), "{plan}");
    daemon.stop().unwrap();

    // Nobody knows any more which ones those are.
    let plan = json(&server, &["plan"], 0);
    assert_eq!(plan["members"]["web"]["lost"].as_array().unwrap().len(), 3, "{plan}");
    let note = "members by command aren't known, and may be among those that are lost";
    assert!(plan["notes"][0].as_str().unwrap().starts_with(note), "{plan}");
    assert!(run(&server, &["plan"], 0).contains(&format!("\nnote: {note}: tierwalld is not")));
}

#[test]
fn what_is_written_otherwise_changes_nothing() {
    let server = changed(&edited("[\"tcp/5432\", \"tcp/3306\"]", "[\"tcp/3306\", \"tcp/5432\"]"));
    let text = run(&server, &["plan"], 0);
    assert!(!text.contains("reachable") && !text.contains("may "), "{text}");
    // A port more in a list, under a key that follows its content.
    let server =
        changed(&edited("service = \"tcp/8080\"", "service = [\"tcp/8080\", \"tcp/8081\"]"));
    let plan = json(&server, &["plan"], 0);
    let gained = meanings(&plan["gained"]);
    assert!(gained[0].starts_with("app is now reachable from web on tcp/8081  ("), "{gained:?}");
    assert_eq!(gained.len(), 1);
    assert_eq!(plan["lost"], value!([]));
}
