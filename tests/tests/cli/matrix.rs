//! `matrix`

use super::{POLICY, app_server, assert_keys, assert_text, fails, json, run, server, stdout};
use serde_json::json as value;

#[test]
fn is_a_table_that_fits_a_terminal() {
    let server = app_server();
    let table = run(&server, &["matrix"], 0);
    assert_text!("matrix", server, table);
    assert!(table.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn is_a_list_where_a_table_is_too_wide() {
    let mut policy = String::from("role = \"tier-0\"\n[tiers]\n");
    for number in 0..9 {
        policy += &format!("tier-{number} = [\"10.0.{number}.0/24\"]\n");
    }
    policy += "[[allow]]\nfrom = \"tier-0\"\nto = \"*\"\nservice = \"tcp/22\"\n";
    policy += "[[allow]]\nfrom = \"10.0.1.7\"\nto = \"tier-2\"\nservice = \"tcp/80\"\n";
    policy += "[[allow]]\nfrom = \"tier-1\"\nto = \"any\"\nservice = \"tcp/80\"\n";
    let server = server(&policy);
    let list = run(&server, &["matrix"], 0);
    assert_text!("matrix-list", server, list);
    assert!(list.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn tells_programs_the_allows_behind_each_pair() {
    let server = app_server();
    let matrix = json(&server, &["matrix"], 0);
    assert_keys(&matrix, &["diagnostics", "mode", "notes", "pairs", "parties", "policy_file"]);
    assert_eq!(matrix["mode"], value!({ "input": "enforce", "output": "enforce" }));
    assert_eq!(matrix["parties"][4], value!({ "name": "any", "kind": "any", "addresses": null }));
    let pair = |from: &str, to: &str| {
        let pairs = matrix["pairs"].as_array().unwrap();
        pairs.iter().find(|pair| pair["from"] == from && pair["to"] == to).cloned()
    };
    let reports = pair("app", "db").unwrap();
    assert_keys(&reports, &["from", "passages", "services", "services_in_part", "to"]);
    assert_eq!(reports["services_in_part"], value!(["tcp/3306", "tcp/5432"]));
    let passage = &reports["passages"][0];
    assert_eq!(passage["users"], value!(["daemon"]));
    let place = format!("{}:14", server.config().display());
    assert_eq!(passage["opened_by"], value!({ "allow": "reports", "place": place }));
    assert!(pair("web", "db").is_none());
}

#[test]
fn draws_the_graph() {
    let server = app_server();
    let dot = run(&server, &["matrix", "--format", "dot"], 0);
    assert_text!("matrix-dot", server, dot);
    let svg = run(&server, &["matrix", "--format", "svg"], 0);
    assert!(svg.starts_with("<?xml") && svg.ends_with("</svg>\n"));
    for name in ["admin", "web", "app", "db", "every server", "anywhere"] {
        assert!(svg.contains(&format!(">{name}</text>")), "{name}");
    }
}

/// Every tag that is opened is closed again, in its order, and nothing is loaded from anywhere.
fn assert_sound(html: &str) {
    const VOID: [&str; 5] = ["!DOCTYPE", "meta", "br", "input", "?xml"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed));
        } else if !VOID.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
        if ["style", "script"].contains(&name) && !tag.starts_with('/') {
            // Their text is no markup.
            let close = format!("</{name}>");
            rest = &rest[rest.find(&close).unwrap()..];
        }
        for loading in [" src=", " href=\"http", "@import", "url("] {
            assert!(!tag.contains(loading), "{tag}");
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn is_a_page_for_a_review() {
    let server = app_server();
    let html = run(&server, &["matrix", "--format", "html"], 0);
    assert_sound(&html);
    for section in ["matrix", "graph", "who", "lints", "allows"] {
        assert!(html.contains(&format!("<section id=\"{section}\">")), "{section}");
    }
    assert!(html.contains("web (12 addresses) can reach app on tcp/8080"), "{html}");
    let place = format!("{}:14", server.config().display());
    assert!(html.contains(&place));
}

#[test]
fn nothing_of_a_policy_is_markup() {
    let nasty = "</script><script>alert(1)</script>\\\" onload='x' &amp;";
    let policy = POLICY.replace("\"reports\"", &format!("\"{nasty}\""));
    let server = server(&policy);
    for format in ["html", "svg"] {
        let text = run(&server, &["matrix", "--format", format], 0);
        assert_sound(&text);
        assert!(!text.contains("<script>alert") && !text.contains("onload='"), "{format}");
        assert!(text.contains("&lt;script&gt;alert(1)"), "{format}");
    }
    let dot = run(&server, &["matrix", "--format", "dot"], 0);
    assert!(dot.contains(r#"</script>\" onload"#), "{dot}");
}

#[test]
fn is_written_where_it_is_told_to() {
    let server = app_server();
    let file = server.path("matrix.txt");
    let path = file.to_str().unwrap();
    for colors in ["never", "always"] {
        let output = server.tierwall(&["matrix", "--color", colors, "--output", path]).unwrap();
        assert_eq!((output.status.code(), stdout(&output)), (Some(0), ""));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), run(&server, &["matrix"], 0));
    }
    let message = fails(&server, &["matrix", "-o", "/nowhere/matrix.txt"], 1);
    assert!(message.contains("can't write /nowhere/matrix.txt: No such file"), "{message}");
}

#[test]
fn a_part_of_it_is_asked_for_by_words_or_options() {
    let server = app_server();
    let pairs = |arguments: &[&str]| -> Vec<String> {
        let matrix = json(&server, &[&["matrix"], arguments].concat(), 0);
        let pairs = matrix["pairs"].as_array().unwrap().iter();
        pairs.map(|pair| format!("{} > {}", pair["from"], pair["to"]).replace('"', "")).collect()
    };
    assert_eq!(pairs(&["web", "app"]), ["web > app"]);
    assert_eq!(pairs(&["--from", "web", "--to", "app"]), ["web > app"]);
    assert_eq!(pairs(&["web", "db"]), [""; 0]);
    assert_eq!(pairs(&["--to", "app", "--service", "tcp/22"]), ["admin > app"]);
    assert_eq!(pairs(&["10.10.1.10", "app"]), ["10.10.1.10 > app"]);
    let table = run(&server, &["matrix", "web"], 0);
    assert!(table.contains("tcp/8080") && !table.contains("tcp/22"), "{table}");
    let message = fails(&server, &["matrix", "wbe"], 1);
    assert!(message.contains("did you mean `web`?"), "{message}");
    let message = fails(&server, &["matrix", "web", "--format", "html"], 1);
    assert!(message.contains("shows the whole policy"), "{message}");
}
