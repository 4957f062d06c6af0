//! The names of an allow's objects in the kernel, one-to-one with the allow's key.
//!
//! A readable stem can be read back to the key that it came from, so no two keys share one:
//!
//! - a name in words: `payments api` is `payments_api`, and `_` is doubled;
//! - the content of an allow without a name, its fields joined by dots: `web -> app tcp/8080` is
//!   `web.app.tcp/8080`, `"*"` is `all`, and a list is joined by `_`.
//!
//! What can't be read back that way (other characters, or two readings) is escaped: its beginning, a
//! dot, and a hash of all of it. A readable stem has one, three or five fields between dots, an
//! escaped one two. [`assign`] sees to it that even equal hashes get different stems.
//!
//! A stem depends on the key alone, so the objects of an allow stay when others come and go. All
//! other names of the table differ from those with a stem in what stands before the first dot: `in`
//! and `out` (chains, and the sets of their addresses and users), `from` (chains of peers), `allow`
//! (counters). Copies have one of two more words before all of that: `again` and `asked`.

use crate::model::AllowKey;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hasher;

/// The longest readable stem in bytes, which a listing still shows on one line. The kernel takes
/// names of 255 bytes.
const READABLE_MAX: usize = 100;

/// How much of a key stands before its hash, in bytes.
const BEGINNING_MAX: usize = 60;

/// The stem of a key's names, without regard to others.
pub(super) fn stem(key: &AllowKey) -> String {
    let readable = match key {
        AllowKey::Named(text) => words(text),
        AllowKey::Content(text) => fields(text),
    };
    readable
        .filter(|stem| stem.len() <= READABLE_MAX && read(stem).as_ref() == Some(key))
        .unwrap_or_else(|| escaped(key))
}

/// Gives each key a name of its own: what `first` says, and where another key has that already, a
/// numbered one. Which of several gets which follows from their order as values.
pub(super) fn assign(
    keys: &[&AllowKey],
    first: impl Fn(&AllowKey) -> String,
    numbered: impl Fn(&AllowKey, usize) -> String,
) -> Vec<String> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|index| keys[*index]);
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut names = vec![String::new(); keys.len()];
    for index in order {
        let key = keys[index];
        let candidates = std::iter::once(first(key)).chain((2..).map(|n| numbered(key, n)));
        // It ends: the numbers don't.
        names[index] =
            candidates.into_iter().find(|name| taken.insert(name.clone())).unwrap_or_default();
    }
    names
}

/// The stems of all these keys.
pub(super) fn stems(keys: &[&AllowKey]) -> Vec<String> {
    assign(keys, stem, |key, number| format!("{}-{number}", escaped(key)))
}

/// A key's beginning and its hash.
fn escaped(key: &AllowKey) -> String {
    let mut beginning = String::new();
    for c in key.to_string().replace("->", " ").chars() {
        match c {
            _ if beginning.len() >= BEGINNING_MAX => break,
            c if is_plain(c) => beginning.push(c),
            '*' => beginning.push_str("all"),
            _ if beginning.ends_with('_') || beginning.is_empty() => {}
            _ => beginning.push('_'),
        }
    }
    let beginning = match beginning.trim_end_matches('_') {
        "" => "allow",
        some => some,
    };
    format!("{beginning}.{}", Hash::of(key))
}

/// What identifies a key where its text can't stand: 32 hexadecimal digits, the same in every build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash(u128);

impl Hash {
    pub(super) fn of(key: &AllowKey) -> Self {
        let (kind, text) = match key {
            AllowKey::Named(text) => (b'n', text),
            AllowKey::Content(text) => (b'c', text),
        };
        let mut hasher = SipHasher13::new();
        hasher.write(&[kind]);
        hasher.write(text.as_bytes());
        Self(hasher.finish128().as_u128())
    }

    /// Whether `text` is how one is written.
    pub(super) fn is_one(text: &str) -> bool {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        text.len() == 32 && text.bytes().all(is_digit)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What nft takes in a name besides `_` and `.`, which stand for something here.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '/'
}

fn words(text: &str) -> Option<String> {
    let mut stem = String::new();
    for c in text.chars() {
        match c {
            ' ' => stem.push('_'),
            '_' => stem.push_str("__"),
            c if is_plain(c) => stem.push(c),
            _ => return None,
        }
    }
    Some(stem)
}

fn fields(text: &str) -> Option<String> {
    let fields: Vec<&str> = match text.split(' ').collect::<Vec<_>>()[..] {
        [from, "->", to, service] => vec![from, to, service],
        [from, "->", to, service, "user", users] => vec![from, to, service, "user", users],
        _ => return None,
    };
    let fields: Option<Vec<String>> = fields.into_iter().map(field).collect();
    Some(fields?.join("."))
}

fn field(text: &str) -> Option<String> {
    let mut field = String::new();
    for (index, item) in text.split(',').enumerate() {
        if index > 0 {
            field.push('_');
        }
        if item == "*" {
            field.push_str("all");
            continue;
        }
        for c in item.chars() {
            match c {
                '.' => field.push('_'),
                '_' => field.push_str("__"),
                c if is_plain(c) => field.push(c),
                _ => return None,
            }
        }
    }
    Some(field)
}

/// The one key that a readable stem can be of.
fn read(stem: &str) -> Option<AllowKey> {
    let fields: Vec<&str> = stem.split('.').collect();
    if fields.iter().any(|field| field.is_empty()) {
        return None;
    }
    Some(match fields[..] {
        [words] => AllowKey::Named(unescape(words, |_, _| ' ')),
        [from, to, service] => {
            let [from, to, service] = [from, to, service].map(read_field);
            AllowKey::Content(format!("{from} -> {to} {service}"))
        }
        [from, to, service, "user", users] => {
            let [from, to, service, users] = [from, to, service, users].map(read_field);
            AllowKey::Content(format!("{from} -> {to} {service} user {users}"))
        }
        _ => return None,
    })
}

fn read_field(field: &str) -> String {
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    // Between digits a dot: of an address.
    let text = unescape(field, |before, after| match is_digit(before) && is_digit(after) {
        true => '.',
        false => ',',
    });
    let items = text.split(',').map(|item| if item == "all" { "*" } else { item });
    items.collect::<Vec<_>>().join(",")
}

/// `__` as `_`, and a single one as what its neighbours say.
fn unescape(text: &str, single: impl Fn(Option<char>, Option<char>) -> char) -> String {
    let mut plain = String::new();
    let mut rest = text.chars().peekable();
    let mut before = None;
    while let Some(c) = rest.next() {
        plain.push(match c {
            '_' if rest.next_if_eq(&'_').is_some() => '_',
            '_' => single(before, rest.peek().copied()),
            c => c,
        });
        before = Some(c);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(name: &str) -> AllowKey {
        AllowKey::Named(name.into())
    }

    fn content(text: &str) -> AllowKey {
        AllowKey::Content(text.into())
    }

    #[test]
    fn a_stem_is_readable() {
        assert_eq!(stem(&named("payments api")), "payments_api");
        assert_eq!(stem(&named("payments_api")), "payments__api");
        assert_eq!(stem(&content("web -> app tcp/8080")), "web.app.tcp/8080");
        assert_eq!(stem(&content("admin -> * tcp/22")), "admin.all.tcp/22");
        assert_eq!(
            stem(&content("app -> 198.51.100.0/24 https,tcp/1-9 user root")),
            "app.198_51_100_0/24.https_tcp/1-9.user.root"
        );
        assert_eq!(stem(&content("web,db_2 -> app ssh")), "web_db__2.app.ssh");
    }

    #[test]
    fn what_could_be_another_key_is_escaped() {
        let all: [AllowKey; 9] = [
            named("a.b"),
            named("ü"),
            named(&"x".repeat(101)),
            content("all -> app ssh"),
            content("2001:db8::1 -> app ssh"),
            content("10.0.0.1,10.0.0.2 -> app ssh"),
            content("a -> b c d e"),
            content(&format!("{} -> app ssh", vec!["web"; 30].join(","))),
            content("web"),
        ];
        for key in all {
            let stem = stem(&key);
            let (beginning, hash) = stem.split_once('.').expect("two fields");
            assert!(Hash::is_one(hash) && beginning.len() <= BEGINNING_MAX + 2, "{stem}");
        }
        assert!(stem(&content("all -> app ssh")).starts_with("all_app_ssh."));
    }

    /// Text in which `_`, spaces and dots, and whatever reads as one of them, stand side by side.
    fn hostile() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "a", "b", "1", "2", "_", "__", " ", ".", ",", "-", "/", "*", "all", " -> ", " user ",
            "ü", ":", "users", "v4",
        ]);
        prop::collection::vec(part, 0..9).prop_map(|parts| parts.concat())
    }

    fn key() -> impl Strategy<Value = AllowKey> {
        let content = (hostile(), hostile(), hostile())
            .prop_map(|(from, to, service)| format!("{from} -> {to} {service}"));
        prop_oneof![
            hostile().prop_map(AllowKey::Named),
            hostile().prop_map(AllowKey::Content),
            content.prop_map(AllowKey::Content),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_readable_stem_is_of_one_key(key in key()) {
            let stem = stem(&key);
            prop_assert!(!stem.is_empty() && stem.len() <= READABLE_MAX);
            prop_assert!(stem.chars().all(|c| is_plain(c) || c == '_' || c == '.'), "{stem}");
            match stem.split('.').collect::<Vec<_>>()[..] {
                [_, hash] => prop_assert!(Hash::is_one(hash), "{stem}"),
                _ => prop_assert_eq!(read(&stem), Some(key)),
            }
        }
    }

    #[test]
    fn equal_first_names_are_told_apart_by_their_keys() {
        let keys = [named("b"), named("a"), content("a")];
        let keys: Vec<&AllowKey> = keys.iter().collect();
        let names = |keys: &[&AllowKey]| {
            assign(keys, |_| "same".into(), |_, number| format!("same-{number}"))
        };
        assert_eq!(names(&keys), ["same-2", "same", "same-3"]);
        let reversed: Vec<&AllowKey> = keys.iter().rev().copied().collect();
        assert_eq!(names(&reversed), ["same-3", "same", "same-2"]);
    }
}
