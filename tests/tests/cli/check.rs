//! `check`

use super::{
    POLICY, app_server, assert_keys, assert_text, edited, fails, json, run, server, stderr,
};
use serde_json::json as value;

#[test]
fn says_what_this_server_accepts_and_opens() {
    let server = app_server();
    assert_text!("check", server, run(&server, &["check"], 0));
}

#[test]
fn says_what_modes_and_forwarding_make_of_it() {
    for (name, settings) in [
        ("check-observe", "mode = \"observe\"\nforward = \"accept\"\n"),
        ("check-off", "mode = { input = \"off\", output = \"observe\" }\n"),
        ("check-reject", "deny = \"reject\"\nforward = \"unmanaged\"\n"),
    ] {
        let server = server(&format!("{settings}{POLICY}"));
        let text = run(&server, &["check"], 0);
        match name {
            "check-observe" => assert_text!("check-observe", server, text),
            "check-off" => assert_text!("check-off", server, text),
            _ => assert_text!("check-reject", server, text),
        }
    }
}

#[test]
fn judges_as_another_server() {
    let server = app_server();
    let role = |who: &str| json(&server, &["check", "--as", who], 0)["role"].clone();
    assert_eq!(role("db"), value!(["db"]));
    assert_eq!(role("web,db"), value!(["db", "web"]));
    assert_eq!(role("10.10.1.30"), value!(["db"]));
    assert_eq!(role("2001:db8:1::10"), value!(["web"]));
    // A host by its name.
    assert_eq!(role("localhost"), value!(["web"]));
    assert_text!("check-as-db", server, run(&server, &["check", "--as", "db"], 0));
    // Users of another server needn't be known here.
    server.write("tierwall.toml", edited("\"daemon\"", "\"no-such-user\"")).unwrap();
    let opens = json(&server, &["check", "--as", "app"], 0)["opens"].to_string();
    assert!(opens.contains("reports") && opens.contains("[\"no-such-user\"]"), "{opens}");
}

#[test]
fn says_who_nobody_is() {
    let server = app_server();
    for (who, told) in [
        ("wbe", "did you mean `web`?"),
        ("web,bd", "did you mean `db`?"),
        ("10.9.9.9", "no tier holds 10.9.9.9"),
        ("2001:db8::9", "no tier holds 2001:db8::9"),
        ("", "name a tier"),
        ("host.invalid", "neither a tier nor a host"),
    ] {
        let message = fails(&server, &["check", "--as", who], 1);
        assert!(message.contains(told), "{who}: {message}");
        assert!(message.starts_with("error: ") && message.contains("hint: "), "{who}: {message}");
    }
}

#[test]
fn warns_and_with_strict_fails() {
    let server = server(&edited("\"daemon\"", "\"no-such-user\""));
    server.write("tierwall.toml", edited("\"daemon\"", "\"no-such-user\"")).unwrap();
    let output = server.tierwall(&["check"]).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_text!("check-warning", server, stderr(&output));

    let message = fails(&server, &["check", "--strict"], 3);
    assert_eq!(message, stderr(&output).replace("warning: ", "error: "));

    let judged = json(&server, &["check"], 0);
    assert_eq!(judged["good"], true);
    let [diagnostic] = &judged["diagnostics"].as_array().unwrap()[..] else { panic!("{judged}") };
    assert_keys(
        diagnostic,
        &["code", "column", "file", "hint", "line", "message", "related", "severity"],
    );
    assert_eq!(diagnostic["severity"], "warning");
    let judged = json(&server, &["check", "--strict"], 3);
    assert_keys(&judged, &["diagnostics", "good"]);
    assert_eq!(judged["good"], false);
    assert_eq!(judged["diagnostics"][0]["severity"], "error");
}

#[test]
fn tells_programs_the_same() {
    let server = app_server();
    let judged = json(&server, &["check"], 0);
    assert_keys(
        &judged,
        &["accepts", "allows", "diagnostics", "good", "opens", "role", "role_auto", "tiers"],
    );
    assert_eq!(judged["tiers"], 4);
    assert_eq!(judged["allows"], 4);
    assert_eq!(judged["role_auto"], false);
    let place = |line: usize| format!("{}:{line}", server.config().display());
    assert_eq!(
        judged["accepts"],
        value!([
            { "allow": "admin -> * tcp/22", "peers": ["admin"], "place": place(21),
              "services": ["tcp/22"], "users": [] },
            { "allow": "web -> app tcp/8080", "peers": ["web"], "place": place(9),
              "services": ["tcp/8080"], "users": [] },
        ])
    );
    assert_eq!(
        judged["opens"],
        value!([
            { "allow": "* -> any udp/53,tcp/443", "peers": ["any"], "place": place(26),
              "services": ["tcp/443", "udp/53"], "users": [] },
            { "allow": "reports", "peers": ["db"], "place": place(14),
              "services": ["tcp/3306", "tcp/5432"], "users": ["daemon"] },
        ])
    );
}

#[test]
fn follows_the_addresses_where_the_role_is_auto() {
    let server = server(&edited("role = \"app\"", "role = \"auto\""));
    let judged = json(&server, &["check"], 0);
    assert_eq!((&judged["role"], &judged["role_auto"]), (&value!(["app"]), &value!(true)));
    server.host().namespace.command("ip", &["address", "add", "10.10.1.30", "dev", "lo"]).unwrap();
    assert_eq!(json(&server, &["check"], 0)["role"], value!(["app", "db"]));
}
