//! `who-can`

use super::{POLICY, app_server, assert_keys, assert_text, fails, json, run, server};
use serde_json::{Value, json as value};

fn sentences(answer: &Value) -> Vec<&str> {
    let access = answer["access"].as_array().unwrap();
    access.iter().map(|access| access["sentence"].as_str().unwrap()).collect()
}

#[test]
fn answers_in_sentences() {
    let server = app_server();
    assert_text!("who-can-db", server, run(&server, &["who-can", "db"], 0));
    let answer = json(&server, &["who-can", "app"], 0);
    assert_keys(&answer, &["access", "notes", "tiers", "whom"]);
    assert_eq!(
        sentences(&answer),
        [
            "admin (64 addresses) can reach app on tcp/22",
            "web (12 addresses) can reach app on tcp/8080"
        ]
    );
    assert_keys(&answer["access"][0], &["but", "everybody", "sentence", "services", "who"]);
}

#[test]
fn everybody_is_everybody_but_servers_that_open_nothing() {
    let more = "[[allow]]\nfrom = \"any\"\nto = \"web\"\nservice = [\"tcp/443\", \"tcp/80\"]\n";
    let server = server(&format!("{POLICY}{more}"));
    let answer = json(&server, &["who-can", "web"], 0);
    assert_eq!(
        sentences(&answer),
        [
            "admin (64 addresses) can reach web on tcp/22",
            "everybody (but admin, app, db and web, whose own servers don't open it) can reach web on tcp/80",
            "everybody can reach web on tcp/443",
        ]
    );
    assert_eq!(answer["access"][1]["but"], value!(["admin", "app", "db", "web"]));
}

#[test]
fn answers_for_one_service_and_for_an_address() {
    let server = app_server();
    let answer = json(&server, &["who-can", "10.10.1.30", "--on", "tcp/22"], 0);
    assert_eq!(sentences(&answer), ["admin (64 addresses) can reach 10.10.1.30 on tcp/22"]);
    assert_eq!(answer["tiers"], value!(["db"]));
    let text = run(&server, &["who-can", "db", "--on", "tcp/23"], 0);
    for words in
        [&["who-can", "db", "tcp/23"][..], &["who-can", "--to", "db", "--service", "tcp/23"]]
    {
        assert_eq!(run(&server, words, 0), text);
    }
    assert!(text.starts_with("no allow lets anybody reach db on tcp/23\n"), "{text}");
    let text = run(&server, &["who-can", "192.0.2.1"], 0);
    assert!(text.contains("192.0.2.1 is in no tier"), "{text}");
}

#[test]
fn members_by_command_count() {
    let server = app_server();
    let who = "can reach app on tcp/8080";
    let daemon = server.start(&[]).unwrap();
    let quiet = run(&server, &["who-can", "app", "--on", "tcp/8080"], 0);
    assert!(quiet.contains(&format!("web (12 addresses) {who}")), "{quiet}");
    run(&server, &["member", "add", "web", "192.0.2.9"], 0);
    run(&server, &["member", "add", "web", "2001:db8:9::9", "--for", "1h"], 0);
    let told = "with members added by command on this server: web";
    let text = run(&server, &["who-can", "app", "--on", "tcp/8080"], 0);
    assert!(text.contains(&format!("web (14 addresses) {who}")), "{text}");
    assert_eq!(text.lines().last(), Some(told));
    assert!(!quiet.contains("by command"), "{quiet}");
    let matrix = json(&server, &["matrix"], 0);
    assert_eq!(matrix["notes"], value!([told]));
    assert_eq!(matrix["parties"][3]["addresses"], 14, "{}", matrix["parties"]);
    assert!(run(&server, &["matrix"], 0).contains(told));
    let page = run(&server, &["matrix", "--format", "html"], 0);
    assert!(page.contains(&format!("<p class=\"notice\">{told}</p>")), "{page}");
    daemon.stop().unwrap();
    // The files answer as well.
    assert_eq!(run(&server, &["who-can", "app", "--on", "tcp/8080"], 0), quiet);
}

#[test]
fn everything_is_a_sentence_of_its_own() {
    let more = "[[allow]]\nfrom = \"db\"\nto = \"app\"\nservice = \"any\"\n";
    let server = server(&format!("{POLICY}{more}"));
    let answer = json(&server, &["who-can", "app"], 0);
    assert_eq!(sentences(&answer)[0], "db (1 address) can reach app on every service");
    assert_eq!(sentences(&answer).len(), 3);
}

#[test]
fn says_who_nobody_is() {
    let server = app_server();
    let message = fails(&server, &["who-can", "wbe"], 1);
    assert!(message.contains("did you mean `web`?"), "{message}");
    for nobody in ["web,app", "localhost", "10.10.1.0/24"] {
        let message = fails(&server, &["who-can", nobody], 1);
        let told = format!("error: `{nobody}` is neither a tier nor an address\n");
        assert!(message.starts_with(&told), "{message}");
        assert!(message.contains("one at a time; tiers: admin, app, db, web"), "{message}");
    }
}

#[test]
fn tells_what_is_accepted_although_nobody_opens_it() {
    let more = "[[allow]]\nfrom = \"10.10.1.30\"\nto = \"app\"\nservice = \"tcp/993\"\n";
    let server = server(&format!("{POLICY}{more}"));
    let text = run(&server, &["who-can", "app", "--on", "tcp/993"], 0);
    let told = "app accepts tcp/993 from db (1 address), whose own servers don't open it\n";
    assert!(text.contains(told), "{text}");
    assert!(text.starts_with("no allow lets anybody reach app on tcp/993\n"), "{text}");
}
