//! What is suggested for what was denied, as data: a policy, the server, denials a line each, and
//! the allows.

mod common;

use common::OPTIONS;
use ruleset::Hook;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use tierwall_policy::explain::Server;
use tierwall_policy::suggest::{Count, Denial, OtherEnd};
use tierwall_policy::{Addresses, Fate, HostAddress, Loaded, Mark, Style, load_text, role_of};

const TIERS: &str = r#"
[tiers]
web   = ["10.1.0.0/24", "fd00:1::/64"]
front = ["10.1.0.10-10.1.0.19", "fd00:1::10"]
app   = ["10.2.0.1-10.2.0.9", "fd00:2::1"]
db    = ["10.3.0.1-10.3.0.9"]
all   = ["0.0.0.0/0"]
[services]
ssh = "tcp/22"
web = ["tcp/80", "tcp/443"]
"#;

/// `input would 10.1.0.1 10.2.0.1 tcp/80 user=33 x12`
fn denial(line: &str) -> Denial {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [side, fate, source, destination, wanted, rest @ ..] = &words[..] else { panic!("{line}") };
    let hook = match *side {
        "input" => Hook::Input,
        "output" => Hook::Output,
        _ => Hook::Forward,
    };
    let fate = match *fate {
        "would" => Fate::WouldDeny,
        "invalid" => Fate::Invalid,
        _ => Fate::Denied,
    };
    let number = |prefix: &str| {
        let number = rest.iter().find_map(|word| word.strip_prefix(prefix));
        number.map(|number| number.parse().expect("a number"))
    };
    Denial {
        mark: Mark { hook, fate },
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
        wanted: wanted.replace('_', " ").parse().expect("a service"),
        user: number("user=").map(|uid| uid as u32),
        count: Count { connections: number("x").unwrap_or(1), retries: 1, uncertain: 0 },
        first: 100,
        last: 200,
    }
}

fn load(text: &str) -> Loaded {
    let loaded = load_text(Path::new("tierwall.toml"), text, &OPTIONS);
    assert!(loaded.policy.is_some(), "{}\n{text}", loaded.diagnostics.render(Style::Plain));
    loaded
}

/// A line for each suggestion, and one for each reason.
fn suggested(settings: &str, own: &[&str], denials: &str) -> String {
    let text = format!("{settings}\n{TIERS}");
    let loaded = load(&text);
    let policy = loaded.policy.expect("a policy");
    let own: Vec<IpAddr> = own.iter().map(|address| address.parse().expect("one")).collect();
    let set: Vec<HostAddress> = own.iter().map(|address| (*address).into()).collect();
    let role = role_of(&policy, &set);
    let server = Server { role, addresses: own.into_iter().map(Addresses::single).collect() };
    let denials: Vec<Denial> =
        denials.lines().map(str::trim).filter(|line| !line.is_empty()).map(denial).collect();
    let suggestions = policy.suggest(&server, &BTreeMap::new(), &denials);
    let mut lines = String::new();
    let mut fragment = String::new();
    let mut connections = 0;
    for suggestion in &suggestions.allows {
        let list = |words: Vec<String>| words.join(",");
        let (from, to) = (list(suggestion.from.words()), list(suggestion.to.words()));
        let services = list(suggestion.service.words(&loaded.services));
        let user = suggestion.user.map(|uid| format!(" user {uid}")).unwrap_or_default();
        let evidence = &suggestion.evidence;
        let doubt = match (suggestion.doubt.stranger, suggestion.doubt.scan) {
            (false, false) => "",
            (true, false) => " stranger",
            (false, true) => " scan",
            (true, true) => " stranger scan",
        };
        let other = match suggestion.other_end {
            None => "",
            Some(OtherEnd::Closed) => " closed",
            Some(OtherEnd::Open(_)) => " open",
        };
        let also: Vec<&str> = evidence.also.iter().map(String::as_str).collect();
        let also =
            if also.is_empty() { String::new() } else { format!(" also {}", also.join(",")) };
        writeln!(
            lines,
            "{from} -> {to} {services}{user} x{}{doubt}{other}{also}",
            evidence.connections()
        )
        .expect("a string takes all");
        connections += evidence.connections();
        fragment += &format!("\n{}", suggestion.to_toml(&loaded.services, None));
    }
    for unsayable in &suggestions.unsayable {
        let count = unsayable.evidence.connections();
        writeln!(lines, "{:?} {} x{count}", unsayable.reason, unsayable.wanted).expect("all");
        connections += count;
    }
    if let Some(passing) = &suggestions.passing {
        writeln!(lines, "passing x{}", passing.connections()).expect("a string takes all");
        connections += passing.connections();
    }
    // Nothing is left out, and nothing counted twice.
    let told: u64 = denials.iter().map(|denial| denial.count.connections).sum();
    assert_eq!(connections, told, "{lines}");
    // What is suggested can be pasted, and none of it covers another.
    let with = load(&format!("{text}\n{fragment}"));
    let ours = text.lines().count();
    for diagnostic in &with.diagnostics {
        let line = diagnostic.place.as_ref().and_then(|label| label.position);
        assert!(line.is_none_or(|(line, _)| line <= ours), "{}", diagnostic.render(Style::Plain));
    }
    lines
}

#[track_caller]
fn expect(settings: &str, own: &[&str], denials: &str, wanted: &str) {
    let wanted: String = wanted
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|l| format!("{l}\n"))
        .collect();
    assert_eq!(suggested(settings, own, denials), wanted);
}

#[test]
fn addresses_become_the_narrowest_tier_and_services_their_names() {
    expect(
        "role = \"app\"",
        &["10.2.0.1"],
        "input would 10.1.0.1 10.2.0.1 tcp/80 x3
         input would 10.1.0.2 10.2.0.1 tcp/443 x2
         input denied 10.1.0.10 10.2.0.1 tcp/22 x9
         input denied fd00:1::7 fd00:2::1 tcp/8080",
        "front -> app ssh x9 closed also web
         web -> app web,tcp/8080 x6 closed",
    );
}

#[test]
fn what_a_wider_tier_needs_too_is_one_allow() {
    expect(
        "role = \"app\"",
        &["10.2.0.1"],
        "input would 10.1.0.1 10.2.0.1 tcp/22
         input would 10.1.0.10 10.2.0.1 tcp/22
         input would 10.1.0.10 10.2.0.1 tcp/80",
        "web -> app ssh x2 closed
         front -> app tcp/80 x1 closed also web",
    );
}

#[test]
fn addresses_in_no_tier_are_a_list_and_never_widened() {
    expect(
        "role = \"app\"",
        &["10.2.0.1"],
        "output denied 10.2.0.1 198.51.100.2 tcp/443 user=33 x2
         output denied 10.2.0.1 198.51.100.1 tcp/443 user=33
         output denied 10.2.0.1 198.51.100.3 tcp/443 user=33
         output denied 10.2.0.1 198.51.100.3 tcp/80 user=33
         output denied 10.2.0.1 198.51.100.1 tcp/443 user=0 x7",
        "app -> 198.51.100.1 tcp/443 user 0 x7
         app -> 198.51.100.1,198.51.100.2 tcp/443 user 33 x3
         app -> 198.51.100.3 web user 33 x2",
    );
}

#[test]
fn who_is_in_no_tier_is_a_stranger() {
    expect(
        "role = \"app\"",
        &["10.2.0.1"],
        "input denied 203.0.113.9 10.2.0.1 tcp/22 x50
         input denied 203.0.113.7 10.2.0.1 tcp/22 x50
         input denied 2001:db8::1 fd00:2::1 tcp/22 x50
         input denied 10.1.0.1 10.2.0.1 tcp/22",
        "web -> app ssh x1 closed
         203.0.113.7,203.0.113.9,2001:db8::1 -> app ssh x150 stranger",
    );
}

#[test]
fn one_packet_without_a_user_makes_it_everybodys() {
    expect(
        "role = \"app\"",
        &["10.2.0.1"],
        "output denied 10.2.0.1 10.3.0.1 tcp/5432 user=33 x5
         output denied 10.2.0.1 10.3.0.1 tcp/5432 user=34 x5
         output denied 10.2.0.1 10.3.0.2 tcp/5433 user=33
         output denied 10.2.0.1 10.3.0.2 tcp/5432",
        "app -> db tcp/5432 x11 closed
         app -> db tcp/5433 user 33 x1 closed",
    );
}

/// Between servers of one tier both sides are seen, and one allow is about both.
#[test]
fn what_comes_in_needs_no_other_allow_than_what_goes_out() {
    expect(
        "role = \"app\"",
        &["10.2.0.1"],
        "input denied 10.2.0.2 10.2.0.1 tcp/7000 x5
         output denied 10.2.0.1 10.2.0.2 tcp/7000 user=33
         input denied 10.2.0.2 10.2.0.1 tcp/7001 x5",
        "app -> app tcp/7000 user 33 x6 closed
         app -> app tcp/7001 x5 closed",
    );
}

#[test]
fn the_other_end_may_be_open_already() {
    let allows = r#"
        role = "app"
        [[allow]]
        from = "web"
        to = "any"
        service = "tcp/8000-8999"
        user = "nginx"
        [[allow]]
        from = "10.2.0.0/24"
        to = "db"
        service = "tcp"
    "#;
    expect(
        allows,
        &["10.2.0.1"],
        "input denied 10.1.0.1 10.2.0.1 tcp/8080 x2
         output denied 10.2.0.1 10.3.0.2 tcp/5432 user=33
         output denied 10.2.0.1 10.3.0.2 udp/5432 user=34",
        "web -> app tcp/8080 x2 open
         app -> db tcp/5432 user 33 x1 open
         app -> db udp/5432 user 34 x1 closed",
    );
}

#[test]
fn what_passes_by_now_is_not_suggested() {
    let allows = r#"
        role = "app"
        mode = "observe"
        [[allow]]
        from = ["web", "198.51.100.0/24"]
        to = "app"
        service = "tcp/22"
        [[allow]]
        from = "app"
        to = "db"
        service = "icmp"
    "#;
    expect(
        allows,
        &["10.2.0.1"],
        "input would 10.1.0.1 10.2.0.1 tcp/22 x2
         input would 198.51.100.9 10.2.0.1 tcp/22 x4
         output would 10.2.0.1 10.3.0.1 icmp_type_13 x8
         output invalid 10.2.0.1 10.1.0.1 tcp/22
         input would 10.1.0.1 10.2.0.1 tcp/23",
        "web -> app tcp/23 x1 closed
         Invalid tcp/22 x1
         passing x14",
    );
}

#[test]
fn what_no_allow_can_say_is_told_with_the_reason() {
    expect(
        "role = \"auto\"",
        &["10.2.0.1"],
        "forward denied 10.1.0.1 10.3.0.1 tcp/22 x9
         input denied 10.1.0.1 10.2.0.1 icmp_type_13 x8
         input denied 10.1.0.1 224.0.0.251 udp/5353 x7
         input denied 10.2.0.1 224.0.0.251 udp/5353 x6
         input denied 10.1.0.1 10.2.0.1 53 x5
         input denied 10.1.0.1 10.2.0.1 tcp/0 x4
         input denied 10.1.0.1 10.2.0.1 tcp x3
         input denied 10.1.0.1 10.2.0.1 gre x2
         output denied 10.2.0.1 ::ffff:10.1.0.1 tcp/9",
        "web -> app gre x2 closed
         Forwarded tcp/22 x9
         IcmpType icmp type 13 x8
         NoTier udp/5353 x7
         Own udp/5353 x6
         NoWord 53 x5
         NoPort tcp/0 x4
         NoPort tcp x3
         Mapped tcp/9 x1",
    );
}

/// Under `role = "auto"` a tier is an address, under a role of the file it is the server.
#[test]
fn a_server_of_several_tiers_goes_by_the_one_that_was_meant() {
    let denials = "input denied 10.3.0.1 10.1.0.1 tcp/22
                   input denied 10.3.0.1 10.1.0.11 tcp/23
                   input denied 10.3.0.1 10.2.0.1 tcp/24
                   input denied 10.3.0.1 192.0.2.1 tcp/25
                   output denied 192.0.2.1 10.3.0.1 tcp/26";
    let own = ["10.1.0.1", "10.1.0.11", "10.2.0.1", "192.0.2.1"];
    expect(
        "role = [\"web\", \"app\", \"front\"]",
        &own,
        denials,
        "db -> app tcp/24-25 x2 closed
         app -> db tcp/26 x1 closed
         db -> front tcp/23 x1 closed
         db -> web ssh x1 closed",
    );
    expect(
        "role = \"auto\"",
        &own,
        denials,
        "app -> db tcp/26 x1 closed
         db -> app tcp/24 x1 closed
         db -> front tcp/23 x1 closed
         db -> web ssh x1 closed
         NoTier tcp/25 x1",
    );
}

#[test]
fn who_tries_a_great_many_services_is_doubted() {
    let scan: String =
        (1..=17).map(|port| format!("input denied 10.1.0.1 10.2.0.1 tcp/{port}\n")).collect();
    let others = "input denied 10.1.0.2 10.2.0.1 tcp/3
                  input denied 10.1.0.2 10.2.0.1 tcp/99";
    expect(
        "role = \"app\"",
        &["10.2.0.1"],
        &format!("{scan}{others}"),
        "web -> app tcp/3,tcp/99 x3 closed
         web -> app tcp/1-2,tcp/4-17 x16 scan closed",
    );
    let few: String =
        (1..=16).map(|port| format!("input denied 10.1.0.1 10.2.0.1 tcp/{port}\n")).collect();
    expect("role = \"app\"", &["10.2.0.1"], &few, "web -> app tcp/1-16 x16 closed");
}

#[test]
fn a_server_in_no_tier_gets_no_allow() {
    expect(
        "role = \"auto\"",
        &["fd00:9::1"],
        "input denied fd00:1::1 fd00:9::1 tcp/22
         output denied fd00:9::1 fd00:1::1 tcp/22 user=0",
        "NoTier tcp/22 x2",
    );
}
