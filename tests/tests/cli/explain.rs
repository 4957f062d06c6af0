//! `explain`

use super::{
    POLICY, app_server, assert_keys, assert_text, edited, fails, json, run, server, stdout,
};
use serde_json::{Value, json as value};
use std::process::Command;
use tierwall_tests::server::Server;

/// With the code that it ends with, from text and JSON alike.
fn explain(server: &Server, question: &str, code: i32) -> Value {
    let mut arguments = vec!["explain"];
    arguments.extend(question.split(' '));
    let explained = json(server, &arguments, code);
    assert_keys(&explained, &["ends", "from", "notes", "role", "service", "to", "user", "verdict"]);
    explained
}

fn text(server: &Server, question: &str, code: i32) -> String {
    let mut arguments = vec!["explain"];
    arguments.extend(question.split(' '));
    run(server, &arguments, code)
}

#[test]
fn names_the_allow_and_its_line() {
    let server = app_server();
    let question = "--from web --to self --service tcp/8080";
    assert_text!("explain-allowed", server, text(&server, question, 0));
    let explained = explain(&server, question, 0);
    assert_eq!((&explained["verdict"], &explained["role"]), (&value!("allowed"), &value!(["app"])));
    let [end, other] = &explained["ends"].as_array().unwrap()[..] else { panic!("{explained}") };
    assert_eq!((&end["direction"], &end["here"]), (&value!("input"), &value!(true)));
    let answers = end["answers"].as_array().unwrap();
    for answer in answers {
        assert_keys(
            answer,
            &[
                "allow", "by", "from", "how", "missing", "place", "rule", "services", "to",
                "verdict",
            ],
        );
        assert_eq!(answer["allow"], "web -> app tcp/8080");
        assert_eq!(answer["place"], format!("{}:9", server.config().display()));
    }
    assert_eq!((&other["direction"], &other["here"]), (&value!("output"), &value!(false)));
}

#[test]
fn says_what_is_missing_and_on_which_side() {
    let server = app_server();
    let question = "--from 10.10.0.64 --to self --service tcp/22";
    assert_text!("explain-denied-input", server, text(&server, question, 9));
    let question = "--from self --to db --service tcp/5433";
    assert_text!("explain-denied-output", server, text(&server, question, 9));
    let missing = explain(&server, question, 9)["ends"][0]["answers"][0]["missing"].clone();
    assert_eq!(
        (&missing["nearest"]["allow"], &missing["nearest"]["lacks"]),
        (&value!("reports"), &value!("service"))
    );
    let allow = missing["allow"].as_str().unwrap();
    server.write("tierwall.toml", format!("{POLICY}\n{allow}")).unwrap();
    explain(&server, question, 0);
}

#[test]
fn asks_for_the_user_on_the_senders_side() {
    let server = app_server();
    let question = "--from self --to db --service tcp/5432";
    assert_text!("explain-user", server, text(&server, question, 9));
    explain(&server, &format!("{question} --user root"), 9);
    explain(&server, &format!("{question} --user daemon"), 0);
    explain(&server, &format!("{question} --user 1"), 0);
}

#[test]
fn judges_both_ends_of_what_this_server_has_no_part_in() {
    let server = app_server();
    let question = "--from web --to db --service tcp/5432";
    assert_text!("explain-both-ends", server, text(&server, question, 9));
    let explained = explain(&server, question, 9);
    assert_eq!(explained["ends"].as_array().unwrap().len(), 2);
    assert!(explained["ends"].as_array().unwrap().iter().all(|end| end["here"] == false));
}

#[test]
fn the_other_end_counts_too() {
    // One that a literal names opens it; the server behind that address accepts it from nobody.
    let more = "[[allow]]\nfrom = \"app\"\nto = \"10.10.1.30\"\nservice = \"tcp/9\"\n";
    let server = server(&format!("{POLICY}{more}"));
    let question = "--from self --to db --service tcp/9 --user root";
    let told = text(&server, question, 9);
    assert!(told.starts_with("denied: self to db on tcp/9 by root\n"), "{told}");
    assert!(
        told.contains("opened by the allow") && told.contains("input of db\n  dropped"),
        "{told}"
    );
    assert_eq!(explain(&server, question, 9)["verdict"], "denied");
    // The same asked there.
    explain(&server, "--from app --to self --service tcp/9 --as db", 9);
    // Of what is no server of the policy nobody knows anything.
    explain(&server, "--from self --to 192.0.2.1 --service tcp/443", 0);
}

#[test]
fn takes_words_as_it_takes_options() {
    let server = app_server();
    let options = text(&server, "--from web --to self --service tcp/8080", 0);
    assert_eq!(text(&server, "web self tcp/8080", 0), options);
    assert_eq!(text(&server, "web --to self --service tcp/8080", 0), options);
    for (words, told) in [
        ("web self", "nothing says on what service"),
        ("web --service tcp/1", "nothing says to whom"),
        ("--to self", "nothing says who opens the connection"),
        ("web self tcp/1 root", "unexpected argument"),
        ("web self tcp/1 --from app", "cannot be used with"),
    ] {
        let arguments: Vec<&str> = ["explain"].into_iter().chain(words.split(' ')).collect();
        let message = fails(&server, &arguments, 64);
        assert!(message.contains(told) && message.contains("Usage: "), "{words}: {message}");
    }
}

#[test]
fn tells_members_apart_that_differ() {
    let server = app_server();
    // Half of what is asked about is in the tier.
    let question = "--from 10.10.0.0/25 --to self --service tcp/22";
    assert_text!("explain-in-part", server, text(&server, question, 9));
    assert_eq!(explain(&server, question, 9)["verdict"], "denied-in-part");
    let question = "--from admin --to self --service tcp/20-25";
    let explained = explain(&server, question, 9);
    let services: Vec<&Value> = explained["ends"][0]["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| &answer["services"])
        .collect();
    assert!(services.contains(&&value!(["tcp/22"])), "{services:?}");
}

#[test]
fn built_in_traffic_goes_by_its_rule() {
    let server = app_server();
    let explained = explain(&server, "--from 192.0.2.1 --to self --service icmp", 0);
    let answer = &explained["ends"][0]["answers"][0];
    assert_eq!((&answer["by"], &answer["rule"]), (&value!("built-in"), &value!("ICMP")));
    let explained = explain(&server, "--from self --to self --service tcp/1", 0);
    assert_eq!(explained["ends"][0]["answers"][0]["rule"], "loopback");
}

#[test]
fn a_side_that_only_observes_lets_it_through() {
    let server = server(&format!("mode = {{ input = \"observe\", output = \"off\" }}\n{POLICY}"));
    let question = "--from 192.0.2.1 --to self --service tcp/22";
    assert_text!("explain-observe", server, text(&server, question, 0));
    assert_eq!(explain(&server, question, 0)["verdict"], "would-be-denied");
    let off = explain(&server, "--from self --to 192.0.2.1 --service tcp/25", 0);
    assert_eq!(off["ends"][0]["answers"][0]["by"], "off");
}

#[test]
fn answers_for_another_server() {
    let server = app_server();
    let question = "--from app --to self --service tcp/5432 --user daemon";
    assert_eq!(explain(&server, &format!("{question} --as db"), 0)["role"], value!(["db"]));
    explain(&server, &format!("{question} --as 10.10.1.30"), 0);
    explain(&server, &format!("{question} --as web"), 9);
}

#[test]
fn takes_names_of_services() {
    let server = server(&format!("{POLICY}[services]\npair = [\"tcp/8080\", \"tcp/9\"]\n"));
    let explained = explain(&server, "--from web --to self --service pair", 9);
    assert_eq!(explained["service"], value!(["tcp/9", "tcp/8080"]));
    let message =
        fails(&server, &["explain", "--from", "web", "--to", "app", "--service", "pear"], 1);
    assert!(message.contains("or one of [services]: pair"), "{message}");
}

#[test]
fn says_what_cannot_be_answered_and_the_way_out() {
    let server = app_server();
    for (question, told) in [
        ("--from wbe --to app --service tcp/1", "did you mean `web`?"),
        ("--from any --to app --service tcp/1", "name one"),
        ("--from web,app --to db --service tcp/1", "neither a tier nor a host with an address"),
        ("--from web --to 10.10.1.300 --service tcp/1", "is not an address"),
        ("--from web --to app --service any", "no connection is on every service"),
        ("--from web --to app --service tcp/0", "ports lie between"),
        ("--from 192.0.2.1 --to 192.0.2.2 --service tcp/1", "neither"),
        ("--from 2001:db8:1::10 --to db --service tcp/1", "no address family in common"),
        ("--from web --to app --service tcp/1 --user no-such-user", "no user"),
    ] {
        let mut arguments = vec!["explain"];
        arguments.extend(question.split(' '));
        let message = fails(&server, &arguments, 1);
        assert!(message.contains(told), "{question}: {message}");
        assert!(message.starts_with("error: ") && message.contains("hint: "), "{message}");
    }
}

#[test]
fn says_where_something_else_is_enforced() {
    let server = app_server();
    let question = "--from 192.0.2.9 --to self --service tcp/8080";
    let notes = |code| explain(&server, question, code)["notes"].clone();
    assert!(notes(9)[0].as_str().unwrap().contains("tierwalld is not running"));

    let daemon = server.start(&[]).unwrap();
    assert_eq!(notes(9), value!([]));
    // What was added by command counts.
    run(&server, &["member", "add", "web", "192.0.2.9"], 0);
    assert_eq!(notes(0), value!([]));
    // By another path to the same file, too.
    let words = server.tierwall_command().unwrap();
    let mut there = Command::new(words.get_program());
    there.current_dir(server.path("etc")).args(["--config", "./tierwall.toml"]);
    there.arg("--runtime-directory").arg(server.runtime_directory());
    there.args(["explain", "--json"]).args(question.split(' '));
    let output = server.run(&mut there).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    server.write("tierwall.toml", edited("tcp/8080", "tcp/8081")).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !notes(9)[0].as_str().is_some_and(|note| note.contains("wait for `tierwall reload`")) {
        assert!(std::time::Instant::now() < deadline, "{}", notes(9));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // Rolled back from, they are held back.
    run(&server, &["reload"], 0);
    run(&server, &["rollback"], 0);
    let told = notes(9);
    let first = told[0].as_str().unwrap();
    assert!(first.starts_with("an older policy is enforced: the files are held back: "), "{told}");
    assert!(!told.to_string().contains("tierwall reload"), "{told}");
    run(&server, &["teardown"], 0);
    let told = notes(9).to_string();
    assert!(told.contains("nothing is filtered at the moment"), "{told}");
    daemon.stop().unwrap();
}
