//! What is written about the metrics, against what there is: the document, the dashboard and the
//! alert rules name the same ones, and promtool takes all of it.

use super::scrape::Scrape;
use super::{POLICY, network, repository, server};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn read(path: &str) -> String {
    let path = repository(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The output of a daemon that denied something.
fn scrape() -> Scrape {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    network.host("peer").namespace.run(|| {
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", "10.0.0.1:1").unwrap();
    });
    let denied = |scrape: &Scrape| scrape.sum("tierwall_denied_connections_total", &[]) == 1;
    let scrape = super::wait_for(&server, denied);
    daemon.stop().unwrap();
    scrape
}

/// Every word in `text` that looks like one of our metrics.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("tierwall_")).map(str::to_owned).collect()
}

/// Those with the suffixes that a histogram has.
fn with_parts(scrape: &Scrape) -> BTreeSet<String> {
    let parts = |(name, metric): (&String, &super::scrape::Metric)| -> Vec<String> {
        let suffixes: &[&str] = match metric.kind.as_str() {
            "histogram" => &["", "_bucket", "_sum", "_count"],
            _ => &[""],
        };
        suffixes.iter().map(|suffix| format!("{name}{suffix}")).collect()
    };
    scrape.metrics.iter().flat_map(parts).collect()
}

#[test]
fn the_document_has_every_metric_and_no_other() {
    let scrape = scrape();
    let text = read("docs/metrics.md");
    // A row for each: name, kind, labels, meaning.
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        (cells.len() == 6).then(|| {
            let labels = cells[3].split(", ").filter(|label| !label.is_empty());
            let labels = labels.map(|label| label.trim_matches('`').to_owned());
            (name.to_owned(), (cells[2].to_owned(), labels.collect::<BTreeSet<String>>()))
        })
    });
    let rows: BTreeMap<String, (String, BTreeSet<String>)> = rows.collect();
    let documented: BTreeSet<&String> = rows.keys().collect();
    assert_eq!(documented, scrape.metrics.keys().collect::<BTreeSet<_>>());
    for (name, metric) in &scrape.metrics {
        assert_eq!(rows[name].0, metric.kind, "{name}");
        for (_, (labels, _)) in &metric.samples {
            // The bound of a bucket is the format's own.
            let labels = labels.keys().filter(|label| *label != "le");
            let labels: BTreeSet<String> = labels.cloned().collect();
            assert_eq!(rows[name].1, labels, "{name}");
        }
    }
}

#[test]
fn dashboard_and_rules_name_only_what_there_is() {
    let known = with_parts(&scrape());
    let rules = read("config/prometheus/tierwall.rules.yml");
    let dashboard = read("config/grafana/tierwall.json");
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(parsed["panels"].as_array().unwrap().len() >= 10);
    for (file, text) in [("rules", rules), ("dashboard", dashboard)] {
        let named = names(&text);
        assert!(named.len() >= 10, "{file}: {named:?}");
        let unknown: BTreeSet<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    // Each panel asks the datasource and the instance that were chosen.
    for panel in parsed["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            assert!(expression.contains("instance=~\"$instance\""), "{expression}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{expression}");
        }
    }
}

/// Where `cargo xtask test` puts it, unless it is installed.
fn promtool() -> PathBuf {
    // The target directory is one of those that the running program is in.
    let own = std::env::current_exe().unwrap();
    let fetched = own.ancestors().map(|directory| directory.join("tools/promtool"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|directory| directory.join("promtool"));
    let found = installed.chain(fetched).find(|path| path.is_file());
    found.expect("there is no promtool: run `cargo xtask test`, which fetches it")
}

/// Runs promtool with `input`; what it says.
fn run(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(promtool())
        .args(arguments)
        .current_dir(repository("config/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8(told).unwrap();
    assert!(output.status.success(), "{arguments:?}: {told}");
    told
}

#[test]
fn promtool_takes_the_metrics_without_a_word() {
    assert_eq!(run(&["check", "metrics"], &scrape().text), "");
}

#[test]
fn promtool_takes_the_rules_and_their_tests_hold() {
    let told = run(&["check", "rules", "tierwall.rules.yml"], "");
    assert!(told.contains("SUCCESS"), "{told}");
    let told = run(&["test", "rules", "tierwall.rules.test.yml"], "");
    assert!(told.contains("SUCCESS"), "{told}");
    // Every alert has a test.
    let rules = read("config/prometheus/tierwall.rules.yml");
    let tests = read("config/prometheus/tierwall.rules.test.yml");
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let tested = format!("alertname: {alert}");
        assert!(tests.contains(&tested), "no test of {alert}");
    }
}
