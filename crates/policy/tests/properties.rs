//! Whatever a file holds: no panic, an error for what is no policy, and places that exist.

mod common;

use common::OPTIONS;
use proptest::prelude::*;
use ruleset::AddressRange;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use tierwall_policy::{Loaded, Member, Style, load_text};

/// Words that the grammar knows, so that random text comes near to it.
const WORDS: &[&str] = &[
    "role",
    "mode",
    "deny",
    "watch",
    "boot",
    "forward",
    "from",
    "to",
    "service",
    "user",
    "name",
    "tiers",
    "services",
    "allow",
    "web",
    "app",
    "any",
    "*",
    "auto",
    "tcp/22",
    "tcp/0-70000",
    "gre",
    "10.0.0.1",
    "10.0.0.0/8",
    "10.0.0.9-10.0.0.1",
    "2001:db8::/32",
    "::ffff:1.2.3.4",
    "enforce",
    "input",
    "output",
    "file",
    "x",
    "é",
    "\u{202e}",
    "\\u0000",
    "22/tcp",
    "a-b",
    "1-",
];
const MARKS: &[&str] = &[
    "\n", "\n", "\n", " = ", " = ", "\"", "\"", "'", "[", "]", "[[", "]]", "{", "}", ",", "#", ".",
    " ", "\t", "\r\n", "\"\"\"", "0x10", "-1", "1e9", "true", "\0", "\u{feff}",
];

fn near_text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(WORDS);
    let quoted = word.clone().prop_map(|word| format!("\"{word}\""));
    let line = (word.clone(), prop::collection::vec(quoted, 0..4))
        .prop_map(|(key, values)| format!("{key} = [{}]\n", values.join(", ")));
    let header = prop::sample::select(&["[tiers]\n", "[services]\n", "[[allow]]\n"][..]);
    let piece = prop_oneof![
        3 => line,
        2 => header.prop_map(str::to_owned),
        1 => word.prop_map(str::to_owned),
        1 => prop::sample::select(MARKS).prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A good policy with a few bytes changed.
fn broken_policy() -> impl Strategy<Value = Vec<u8>> {
    let good = include_bytes!("good/everything.toml");
    let edit = (0..good.len(), 0usize..8, prop::collection::vec(any::<u8>(), 0..4));
    prop::collection::vec(edit, 1..4).prop_map(|edits| {
        let mut text = good.to_vec();
        for (at, removed, added) in edits {
            let start = at.min(text.len());
            let end = (start + removed).min(text.len());
            text.splice(start..end, added);
        }
        text
    })
}

/// What must hold of any load.
fn judge(text: &[u8]) -> Result<Loaded, TestCaseError> {
    let loaded = load_text(Path::new("x.toml"), text, &OPTIONS);
    prop_assert_eq!(loaded.policy.is_none(), loaded.diagnostics.has_errors());
    let lines = String::from_utf8_lossy(text).split('\n').count();
    for diagnostic in &loaded.diagnostics {
        prop_assert!(!diagnostic.message.is_empty() && !diagnostic.message.contains('\n'));
        for label in diagnostic.place.iter().chain(&diagnostic.related) {
            if let Some((line, column)) = label.position {
                prop_assert!(line >= 1 && line <= lines && column >= 1, "{diagnostic}");
                prop_assert!(label.excerpt.is_some(), "{diagnostic}");
            }
        }
        let printed = diagnostic.render(Style::Plain);
        let is_plain = |c: char| c == '\n' || !c.is_control();
        prop_assert!(printed.chars().all(is_plain), "{printed:?}");
        prop_assert!(diagnostic.to_string().chars().all(is_plain), "{diagnostic:?}");
    }
    Ok(loaded)
}

fn range<A: ruleset::Address>(a: A, b: A) -> AddressRange<A> {
    AddressRange { first: a.min(b), last: a.max(b) }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        judge(&bytes)?;
    }

    #[test]
    fn any_text_near_the_grammar_is_judged(text in near_text()) {
        judge(text.as_bytes())?;
    }

    #[test]
    fn any_edit_of_a_good_policy_is_judged(text in broken_policy()) {
        judge(&text)?;
    }

    #[test]
    fn members_parse_back_to_themselves(a in any::<u32>(), b in any::<u32>(), c in any::<u128>(), d in any::<u128>(), length in 0u8..=32) {
        let (a, b) = (Ipv4Addr::from_bits(a), Ipv4Addr::from_bits(b));
        let (c, d) = (Ipv6Addr::from_bits(c), Ipv6Addr::from_bits(d));
        let members = [
            Member::V4(AddressRange::single(a)),
            Member::V4(range(a, b)),
            Member::V4(AddressRange::prefix(a, length).expect("a prefix")),
            Member::V6(AddressRange::single(c)),
            Member::V6(range(c, d)),
            Member::V6(AddressRange::prefix(c, 4 * length).expect("a prefix")),
        ];
        for member in members {
            prop_assert_eq!(member.to_string().parse(), Ok(member));
        }
    }

    #[test]
    fn any_text_is_a_member_or_an_error_that_says_so(text in "[0-9a-f.:/%\\- \\[\\]*,x]{0,40}") {
        match text.parse::<Member>() {
            Ok(member) => prop_assert_eq!(member.to_string().parse(), Ok(member)),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
