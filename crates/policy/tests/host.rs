//! What a policy means for one server: its role, its users, and what is wrong with them.

mod common;

use common::OPTIONS;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use tierwall_policy::{
    AsError, Diagnostics, HostAddress, Input, InputKind, Loaded, Origin, Policy, Role, Style,
    check_size, load_text, resolve_users, role_of, roles_by_network,
};

const TIERS: &str = r#"
[tiers]
web  = ["10.0.0.1-10.0.0.9", "2001:db8::1"]
app  = ["10.0.1.0/24"]
both = ["10.0.0.5"]

[[allow]]
from    = "*"
to      = "any"
service = "udp/53"
user    = ["resolver", 53]

[[allow]]
from    = "web"
to      = "app"
service = "tcp/80"
user    = "webuser"

[[allow]]
from    = "app"
to      = "198.51.100.1"
service = "tcp/443"
user    = ["appuser", "webuser"]
"#;

fn policy(settings: &str) -> Loaded {
    let loaded = load_text(Path::new("tierwall.toml"), format!("{settings}{TIERS}"), &OPTIONS);
    assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics);
    loaded
}

/// Addresses that were set, but for those behind a word for their origin: `advertised 2001:db8::1`.
fn addresses(texts: &[&str]) -> Vec<HostAddress> {
    let address = |text: &&str| {
        let (origin, address) = match text.split_once(' ') {
            None => (Origin::Set, *text),
            Some(("leased", address)) => (Origin::Leased, address),
            Some((_, address)) => (Origin::Advertised, address),
        };
        HostAddress { address: address.parse().expect("an address"), origin }
    };
    texts.iter().map(address).collect()
}

fn plain(texts: &[&str]) -> Vec<IpAddr> {
    addresses(texts).iter().map(|address| address.address).collect()
}

fn check_role(policy: &Policy, addresses: &[HostAddress]) -> Diagnostics {
    tierwall_policy::check_role(policy, &role_of(policy, addresses), addresses)
}

fn shown(loaded: &Loaded, mut diagnostics: Diagnostics) -> String {
    loaded.sources.illustrate(&mut diagnostics);
    diagnostics.render(Style::Plain)
}

fn role(tiers: &[&str], auto: bool) -> Role {
    Role { tiers: tiers.iter().map(|tier| (*tier).to_owned()).collect(), auto }
}

#[test]
fn auto_is_every_tier_that_holds_an_address() {
    let loaded = policy("");
    let policy = loaded.policy.as_ref().expect("a policy");
    let of = |texts: &[&str]| role_of(policy, &addresses(texts));
    assert_eq!(of(&["10.0.0.5"]), role(&["both", "web"], true));
    assert_eq!(of(&["192.0.2.1", "2001:db8::1"]), role(&["web"], true));
    assert_eq!(of(&["::ffff:10.0.1.9"]), role(&["app"], true));
    assert_eq!(of(&["10.9.9.9"]), role(&[], true));
    assert!(check_role(policy, &addresses(&["10.0.1.1"])).is_empty());
    let none = check_role(policy, &addresses(&["10.9.9.9", "2001:db8::9"]));
    assert!(!none.has_errors(), "a state, and no error");
    insta::assert_snapshot!("no-role", shown(&loaded, none));
    insta::assert_snapshot!("no-address-yet", shown(&loaded, check_role(policy, &[])));
}

#[test]
fn a_neighbour_who_announces_a_prefix_chooses_no_role() {
    const TIERS: &str = r#"
        [tiers]
        prefix = ["2001:db8:1::/64"]
        range  = ["2001:db8:1::1:0-2001:db8:1::2:0"]
        single = ["2001:db8:1::a"]
        pair   = ["2001:db8:1::b0", "2001:db8:1::b1"]
        v4     = ["10.0.0.0/8"]
        [[allow]]
        from    = "any"
        to      = ["prefix", "range", "single", "pair", "v4"]
        service = "tcp/80"
    "#;
    let load =
        |role: &str| load_text(Path::new("tierwall.toml"), format!("{role}{TIERS}"), &OPTIONS);
    let loaded = load("");
    let policy = loaded.policy.as_ref().expect("a policy");
    let of = |texts: &[&str]| {
        let role = role_of(policy, &addresses(texts));
        assert!(role.auto);
        role.to_string()
    };
    // It chooses the first half of an address, and not the second.
    assert_eq!(of(&["advertised 2001:db8:1::a"]), "single");
    assert_eq!(of(&["advertised 2001:db8:1::b1"]), "pair");
    assert_eq!(of(&["advertised 2001:db8:1::1:5"]), "no tier");
    assert_eq!(of(&["advertised 2001:db8:1::77"]), "no tier");
    for origin in ["", "leased "] {
        let of = |address: &str| of(&[&format!("{origin}{address}")]);
        assert_eq!(of("2001:db8:1::a"), "prefix,single");
        assert_eq!(of("2001:db8:1::1:5"), "prefix,range");
        assert_eq!(of("10.1.1.1"), "v4");
    }
    let told = check_role(policy, &addresses(&["advertised 2001:db8:1::77"]));
    insta::assert_snapshot!("advertised-address", shown(&loaded, told));
    // Another address that lies there doesn't bring it in, but nothing has to be said.
    assert!(
        check_role(policy, &addresses(&["advertised 2001:db8:1::77", "2001:db8:1::78"])).is_empty()
    );

    let any = load("role = { auto = \"any\" }").policy.expect("a policy");
    let role = role_of(&any, &addresses(&["advertised 2001:db8:1::77"]));
    assert_eq!((role.to_string().as_str(), role.auto), ("prefix", true));
    assert!(check_role(&any, &addresses(&["advertised 2001:db8:1::77"])).is_empty());
}

#[test]
fn a_tier_that_only_the_network_gave_is_told_with_its_address() {
    let told = |settings: &str, texts: &[&str]| -> Vec<String> {
        let policy = policy(settings).policy.expect("a policy");
        let given = roles_by_network(&policy, &addresses(texts));
        given.iter().map(|(tier, address)| format!("{tier} by {address}")).collect()
    };
    let given = ["leased 10.0.0.5", "leased 10.0.1.9"];
    assert_eq!(told("", &given), ["app by 10.0.1.9", "both by 10.0.0.5", "web by 10.0.0.5"]);
    assert_eq!(told("", &["advertised 2001:db8::1"]), ["web by 2001:db8::1"]);
    // Somebody set another address that puts the server there, or the role itself.
    assert_eq!(told("", &["leased 10.0.1.9", "10.0.1.10"]), [""; 0]);
    assert_eq!(told("role = \"app\"\n", &given), [""; 0]);
}

#[test]
fn who_chose_an_address() {
    let of = |address: &str, length, permanent, shows| {
        Origin::of(address.parse().expect("an address"), length, permanent, shows)
    };
    assert_eq!(of("2001:db8::1", 64, true, false), Origin::Set);
    assert_eq!(of("2001:db8::1", 64, true, true), Origin::Advertised);
    assert_eq!(of("2001:db8::1", 64, false, false), Origin::Advertised);
    assert_eq!(of("2001:db8::1", 128, true, true), Origin::Set);
    assert_eq!(of("2001:db8::1", 128, false, true), Origin::Leased);
    assert_eq!(of("10.0.0.1", 24, true, false), Origin::Set);
    assert_eq!(of("10.0.0.1", 24, false, false), Origin::Leased);
}

#[test]
fn an_explicit_role_holds_whatever_the_addresses() {
    let loaded = policy("role = [\"web\", \"app\"]");
    let policy = loaded.policy.as_ref().expect("a policy");
    assert_eq!(role_of(policy, &addresses(&["10.9.9.9"])), role(&["app", "web"], false));
    assert!(check_role(policy, &addresses(&["10.0.0.1", "10.0.1.1"])).is_empty());
    assert!(check_role(policy, &[]).is_empty());
    let mut foreign = check_role(policy, &addresses(&["10.0.0.1"]));
    assert!(!foreign.has_errors());
    insta::assert_snapshot!("foreign-role", shown(&loaded, foreign.clone()));
    foreign.deny_warnings();
    assert!(foreign.has_errors());
}

#[test]
fn users_are_looked_up_once_and_only_by_their_sender() {
    let loaded = policy("");
    let policy = loaded.policy.as_ref().expect("a policy");
    let resolve = |tiers: &[&str]| {
        let asked = RefCell::new(Vec::new());
        let known = BTreeMap::from([("appuser", 1000), ("resolver", 5353)]);
        let (uids, diagnostics) = resolve_users(policy, &role(tiers, false), |name| {
            asked.borrow_mut().push(name.to_owned());
            known.get(name).copied()
        });
        (asked.into_inner(), uids, diagnostics)
    };
    let uids = |pairs: &[(&str, u32)]| -> BTreeMap<String, u32> {
        pairs.iter().map(|(name, uid)| ((*name).to_owned(), *uid)).collect()
    };

    let (asked, found, diagnostics) = resolve(&[]);
    assert_eq!(asked, ["resolver"]);
    assert_eq!(found, uids(&[("resolver", 5353)]));
    assert!(diagnostics.is_empty());

    let (asked, found, diagnostics) = resolve(&["web", "app"]);
    assert_eq!(asked, ["resolver", "webuser", "appuser"]);
    assert_eq!(found, uids(&[("resolver", 5353), ("appuser", 1000)]));
    assert!(!diagnostics.has_errors());
    insta::assert_snapshot!("unknown-user", shown(&loaded, diagnostics));
}

#[test]
fn no_user_is_looked_up_where_output_is_off() {
    let loaded = policy("mode = { output = \"off\" }");
    let policy = loaded.policy.as_ref().expect("a policy");
    let (uids, diagnostics) = resolve_users(policy, &role(&["app"], true), |name| panic!("{name}"));
    assert!(uids.is_empty() && diagnostics.is_empty());
}

#[test]
fn a_server_may_be_named_by_tier_address_or_host() {
    let loaded = policy("role = \"app\"");
    let policy = loaded.policy.as_ref().expect("a policy");
    let resolve = |host: &str| match host {
        "web1" => plain(&["2001:db8::1", "10.0.0.5"]),
        "stray" => plain(&["192.0.2.7"]),
        _ => Vec::new(),
    };
    let parse = |text: &str| Role::parse_as(policy, text, resolve);
    assert_eq!(parse("web"), Ok(role(&["web"], false)));
    assert_eq!(parse("web, app"), Ok(role(&["app", "web"], false)));
    assert_eq!(parse("10.0.0.5"), Ok(role(&["both", "web"], true)));
    assert_eq!(parse("web1"), Ok(role(&["both", "web"], true)));
    let told = |text: &str| {
        let error = parse(text).expect_err("no server");
        format!("{error}; {}", error.hint().expect("a hint"))
    };
    assert_eq!(parse("stray"), Err(AsError::InNoTier { addresses: plain(&["192.0.2.7"]) }));
    assert_eq!(
        told("192.0.2.7"),
        "no tier holds 192.0.2.7; add the address to a tier, or name a tier"
    );
    assert_eq!(
        told("wbe"),
        "`wbe` is neither a tier nor a host with an address; did you mean `web`?"
    );
    assert_eq!(told("web,ap"), "no tier is named `ap`; did you mean `app`?");
    assert_eq!(
        told(""),
        "`` is neither a tier nor a host with an address; \
         name a tier, several joined by commas, an address or a host"
    );
}

#[test]
fn a_role_of_a_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let text = format!("role = {{ file = \"role\" }}\n{TIERS}");
    let load = || {
        let path = directory.path().join("tierwall.toml");
        let loaded = load_text(&path, text.as_str(), &OPTIONS);
        let named = |input: &Input| input.kind == InputKind::Role && input.path.ends_with("role");
        assert!(
            loaded.inputs.iter().any(named),
            "an edit of it is noticed, also where it is missing"
        );
        loaded
    };
    assert_eq!(load().diagnostics.iter().next().map(|found| found.code), Some("missing-file"));
    for (content, tiers) in [
        ("web", &["web"][..]),
        ("\u{feff}# of this server\r\n\r\n  app # and\r\nweb\r\n", &["app", "web"]),
    ] {
        std::fs::write(directory.path().join("role"), content).expect("a file");
        let policy = load().policy.expect("a good policy");
        assert_eq!(role_of(&policy, &[]), role(tiers, false), "{content:?}");
        assert!(policy.is_sound());
    }
    // A place in it is shown.
    let policy = load().policy.expect("a good policy");
    let told = check_role(&policy, &addresses(&["10.9.9.9"]));
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert!(told[0].contains("role:1:1: warning: the tier `app` holds no address"), "{told:?}");
}

/// So many allows from and to all of 400 tiers, of which the server is in each.
fn wide(allows: usize) -> Loaded {
    let names: Vec<String> = (0..400).map(|index| format!("\"t{index}\"")).collect();
    let mut text = String::from("[tiers]\n");
    for (index, name) in names.iter().enumerate() {
        text +=
            &format!("{name} = [\"10.0.0.1\", \"10.{}.{}.0/24\"]\n", 1 + index / 250, index % 250);
    }
    let names = names.join(", ");
    text += "[[allow]]\nfrom = \"t0\"\nto = \"t1\"\nservice = \"tcp/22\"\n";
    for index in 0..allows {
        text += &format!(
            "[[allow]]\nname = \"all {index}\"\nfrom = [{names}]\nto = [{names}]\nservice = \"tcp/{}\"\n",
            80 + index
        );
    }
    load_text(Path::new("tierwall.toml"), text, &OPTIONS)
}

#[test]
fn more_rules_than_a_table_can_have_are_an_error_at_the_widest_allow() {
    let loaded = wide(60);
    let policy = loaded.policy.as_ref().expect("a policy");
    let all = role_of(policy, &addresses(&["10.0.0.1"]));
    let found = check_size(policy, &all);
    assert!(found.has_errors());
    let shown = shown(&loaded, found);
    // The line itself is long.
    let lines: Vec<&str> = shown.lines().filter(|line| !line.contains("= [")).collect();
    insta::assert_snapshot!("too-many-rules", lines.join("\n"));
    // A server in one of the tiers has few.
    let one = role_of(policy, &addresses(&["10.1.3.1"]));
    assert!(check_size(policy, &one).is_empty());

    let loaded = wide(40);
    let policy = loaded.policy.as_ref().expect("a policy");
    assert!(check_size(policy, &role_of(policy, &addresses(&["10.0.0.1"]))).is_empty());
}
