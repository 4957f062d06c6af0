//! One file as a table of texts with their places: its shape is checked here, its meaning later.
//!
//! After this, every key is a known one in its right place, and every value of the right type;
//! what was not has been reported and left out.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::name;
use crate::quoting::quote;
use crate::source::{Place, Source};
use crate::syntax::Value;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// A string of the file.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) value: String,
    pub(crate) place: Place,
}

/// A list, or a single value in its place.
#[derive(Debug, Clone)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    pub(crate) place: Place,
    /// Whether every element was of the right type; others are reported and left out.
    pub(crate) is_whole: bool,
}

impl<T> List<T> {
    /// Whether the file says so: `[]`.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_whole && self.items.is_empty()
    }
}

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) include: Vec<Text>,
    pub(crate) tiers: Vec<TierText>,
    pub(crate) services: Vec<ServiceText>,
    pub(crate) allows: Vec<AllowText>,
}

/// A key of `[tiers]`.
#[derive(Debug)]
pub(crate) struct TierText {
    pub(crate) name: Text,
    pub(crate) members: Vec<MemberText>,
}

/// An element of a tier.
#[derive(Debug)]
pub(crate) enum MemberText {
    /// An address, prefix or range.
    Member(Text),
    /// `{ file = "…" }`
    File(Text),
}

/// A key of `[services]`.
#[derive(Debug)]
pub(crate) struct ServiceText {
    pub(crate) name: Text,
    pub(crate) parts: List<Text>,
}

/// An `[[allow]]`. None for a key that is missing, which has been reported unless it may be.
#[derive(Debug)]
pub(crate) struct AllowText {
    pub(crate) place: Place,
    pub(crate) name: Option<Text>,
    pub(crate) from: Option<List<Text>>,
    pub(crate) to: Option<List<Text>>,
    pub(crate) service: Option<List<Text>>,
    pub(crate) users: Option<List<UserText>>,
}

/// An element of `user`.
#[derive(Debug)]
pub(crate) enum UserText {
    Name(Text),
    /// A number that fits.
    Uid(u32, Place),
}

impl UserText {
    pub(crate) fn place(&self) -> &Place {
        match self {
            Self::Name(name) => &name.place,
            Self::Uid(_, place) => place,
        }
    }
}

/// Keys that any file may hold.
pub(crate) const SHARED: [&str; 4] = ["include", "tiers", "services", "allow"];
/// Keys of the policy file only.
pub(crate) const SETTINGS: [&str; 11] = [
    "role",
    "watch",
    "boot",
    "deny",
    "mode",
    "forward",
    "ownership",
    "kernel_log",
    "confirm",
    "guard",
    "metrics",
];
/// Keys of the policy file that are to come: names that will mean something else.
const SETTINGS_TO_COME: [&str; 3] = ["ping", "block", "observe"];

/// Whether a word is a key of the policy file, or will be one.
pub fn is_top_level_key(word: &str) -> bool {
    SETTINGS.iter().chain(&SHARED).chain(&SETTINGS_TO_COME).any(|key| *key == word)
}

/// Keys of `[metrics]`.
pub(crate) const METRICS: [&str; 3] = ["listen", "textfile", "interval"];
pub(crate) const ALLOW: [&str; 5] = ["from", "to", "service", "user", "name"];

/// The hint on a setting in another place.
pub(crate) const ABOVE: &str = "settings stand above the first [table] or [[allow]]";

/// What people who come from another firewall write for a key of an allow.
const SYNONYMS: [(&str, &[&str]); 5] = [
    ("from", &["source", "src", "saddr", "sources"]),
    ("to", &["destination", "dest", "dst", "daddr", "destinations"]),
    ("service", &["port", "ports", "services", "proto", "protocol", "dport"]),
    ("user", &["users", "uid", "owner"]),
    ("name", &["comment", "description", "label", "id"]),
];

/// Reads tables of one file, and reports what is not as it must be.
pub(crate) struct Reader<'r> {
    pub(crate) source: &'r Arc<Source>,
    pub(crate) diagnostics: &'r mut Diagnostics,
}

impl Reader<'_> {
    /// Everything of a file but the settings.
    pub(crate) fn document(&mut self, table: &DeTable<'_>) -> Document {
        let mut document = Document::default();
        // The tree is sorted by key; messages and allows are in the order of the text.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            match key.get_ref().as_ref() {
                "include" => document.include = self.texts("include", value).items,
                "tiers" => document.tiers = self.tiers(value),
                "services" => document.services = self.services(value),
                "allow" => document.allows = self.allows(value),
                _ => {}
            }
        }
        document
    }

    pub(crate) fn place(&self, span: std::ops::Range<usize>) -> Place {
        Place { source: self.source.clone(), span }
    }

    pub(crate) fn text_at<T>(&self, text: &str, spanned: &toml::Spanned<T>) -> Text {
        Text { value: text.to_owned(), place: self.place(spanned.span()) }
    }

    /// A value that must be something else. `wanted` may show how to write it.
    pub(crate) fn mistyped(&mut self, what: &str, value: &Value<'_>, wanted: &str, hint: &str) {
        let message = format!("{} must be {wanted}, not {}", quote(what), kind(value));
        let diagnostic = Diagnostic::error("wrong-type", self.place(value.span()).label(), message);
        self.diagnostics.push(diagnostic.hint(Some(hint.to_owned()).filter(|h| !h.is_empty())));
    }

    /// Reports the keys of a table that are none of `known`.
    pub(crate) fn unknown_keys(
        &mut self,
        table: &DeTable<'_>,
        known: &[&str],
        hint: impl Fn(&str) -> Option<String>,
    ) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref();
            let above = || is_top_level_key(name).then(|| ABOVE.to_owned());
            let hint = hint(name)
                .or_else(above)
                .or_else(|| name::suggest(name, known.iter().copied(), "keys"));
            let message = format!("unknown key {}", quote(name));
            let place = self.place(key.span()).label();
            self.diagnostics.push(Diagnostic::error("unknown-key", place, message).hint(hint));
        }
    }

    /// A value, or a list of them. `read` reports an element of the wrong type.
    fn list<T>(
        &mut self,
        value: &Value<'_>,
        mut read: impl FnMut(&mut Self, &Value<'_>) -> Option<T>,
    ) -> List<T> {
        let items: Vec<Option<T>> = match value.get_ref() {
            DeValue::Array(array) => array.iter().map(|element| read(self, element)).collect(),
            _ => vec![read(self, value)],
        };
        let is_whole = items.iter().all(Option::is_some);
        let place = self.place(value.span());
        List { items: items.into_iter().flatten().collect(), place, is_whole }
    }

    /// A string, or a list of them.
    pub(crate) fn texts(&mut self, what: &str, value: &Value<'_>) -> List<Text> {
        self.list(value, |reader, element| match element.get_ref() {
            DeValue::String(text) => Some(reader.text_at(text, element)),
            _ => {
                let wanted = "a text in quotes or a list of them";
                reader.mistyped(what, element, wanted, &quoting_hint(what, element));
                None
            }
        })
    }

    fn tiers(&mut self, value: &Value<'_>) -> Vec<TierText> {
        let DeValue::Table(table) = value.get_ref() else {
            let hint = "write [tiers], and below it a line such as web = [\"10.0.0.1\"]";
            self.mistyped("tiers", value, "a table", hint);
            return Vec::new();
        };
        let mut tiers: Vec<_> = table
            .iter()
            .map(|(key, value)| TierText {
                name: self.text_at(key.get_ref(), key),
                members: self.members(key.get_ref(), value),
            })
            .collect();
        tiers.sort_by_key(|tier| tier.name.place.span.start);
        tiers
    }

    fn members(&mut self, tier: &str, value: &Value<'_>) -> Vec<MemberText> {
        match value.get_ref() {
            DeValue::Array(array) => {
                array.iter().filter_map(|element| self.member(tier, element)).collect()
            }
            _ => self.member(tier, value).into_iter().collect(),
        }
    }

    fn member(&mut self, tier: &str, value: &Value<'_>) -> Option<MemberText> {
        match value.get_ref() {
            DeValue::String(text) => Some(MemberText::Member(self.text_at(text, value))),
            DeValue::Table(table) => {
                self.unknown_keys(table, &["file"], |_| Some("write { file = \"…\" }".into()));
                let Some(file) = table.get("file") else {
                    if table.is_empty() {
                        let hint = "write { file = \"…\" }, or [] for a tier without members";
                        self.mistyped(tier, value, "a list of addresses", hint);
                    }
                    return None;
                };
                let DeValue::String(name) = file.get_ref() else {
                    self.mistyped("file", file, "a file name in quotes", "");
                    return None;
                };
                Some(MemberText::File(self.text_at(name, file)))
            }
            _ => {
                let hint = "write [\"10.0.0.1\", \"10.0.1.0/24\"] or { file = \"…\" }";
                self.mistyped(tier, value, "a list of addresses", hint);
                None
            }
        }
    }

    fn services(&mut self, value: &Value<'_>) -> Vec<ServiceText> {
        let DeValue::Table(table) = value.get_ref() else {
            let hint = "write [services], and below it a line such as ssh = \"tcp/22\"";
            self.mistyped("services", value, "a table", hint);
            return Vec::new();
        };
        let mut services: Vec<_> = table
            .iter()
            .map(|(key, value)| ServiceText {
                name: self.text_at(key.get_ref(), key),
                parts: self.texts(key.get_ref(), value),
            })
            .collect();
        services.sort_by_key(|service| service.name.place.span.start);
        services
    }

    fn allows(&mut self, value: &Value<'_>) -> Vec<AllowText> {
        let hint = "write [[allow]] with two brackets on each side, once for every rule";
        let DeValue::Array(array) = value.get_ref() else {
            self.mistyped("allow", value, "a list of tables", hint);
            return Vec::new();
        };
        let mut allows = Vec::with_capacity(array.len());
        for element in array.iter() {
            match element.get_ref() {
                DeValue::Table(table) => allows.push(self.allow(table, element.span())),
                _ => self.mistyped("allow", element, "a list of tables", hint),
            }
        }
        allows
    }

    fn allow(&mut self, table: &DeTable<'_>, span: std::ops::Range<usize>) -> AllowText {
        self.unknown_keys(table, &ALLOW, |key| {
            let (meant, _) = SYNONYMS.iter().find(|(_, others)| others.contains(&key))?;
            Some(format!("did you mean {}?", quote(meant)))
        });
        let place = self.place(span);
        let name = table.get("name").and_then(|value| self.single("name", value));
        let mut side = |key| match table.get(key) {
            Some(value) => Some(self.texts(key, value)),
            None => {
                self.missing(table, &place, key);
                None
            }
        };
        let (from, to, service) = (side("from"), side("to"), side("service"));
        let users = table.get("user").map(|users| self.list(users, Self::user));
        AllowText { place, name, from, to, service, users }
    }

    fn single(&mut self, what: &str, value: &Value<'_>) -> Option<Text> {
        match value.get_ref() {
            DeValue::String(text) => Some(self.text_at(text, value)),
            _ => {
                self.mistyped(what, value, "a text in quotes", "");
                None
            }
        }
    }

    fn missing(&mut self, table: &DeTable<'_>, place: &Place, key: &str) {
        // A key that is misspelt has been reported as such.
        let names = || table.keys().map(|known| known.get_ref().as_ref());
        let synonyms = SYNONYMS.iter().find(|(meant, _)| *meant == key);
        let is_misspelt = names().any(|other| {
            let is_synonym = synonyms.is_some_and(|(_, others)| others.contains(&other));
            is_synonym || (!ALLOW.contains(&other) && name::closest(other, [key]).is_some())
        });
        if is_misspelt {
            return;
        }
        let hint = match key {
            "service" => "add service = \"tcp/443\", or service = \"any\" for everything",
            "from" => "add from = \"…\": a tier, an address, \"any\" or \"*\"",
            _ => "add to = \"…\": a tier, an address, \"any\" or \"*\"",
        };
        let message = format!("this allow has no {}", quote(key));
        let diagnostic = Diagnostic::error("missing-key", place.label(), message);
        self.diagnostics.push(diagnostic.hint(hint.to_owned()));
    }

    fn user(&mut self, value: &Value<'_>) -> Option<UserText> {
        match value.get_ref() {
            DeValue::String(name) => Some(UserText::Name(self.text_at(name, value))),
            DeValue::Integer(number) => {
                let uid = u32::from_str_radix(number.as_str(), number.radix()).ok();
                // The highest is (uid_t) -1, which the kernel keeps for "no user".
                let uid = uid.filter(|uid| *uid != u32::MAX);
                if uid.is_none() {
                    let place = self.place(value.span()).label();
                    let message = format!("{} is not a user id", quote(&number.to_string()));
                    let hint = format!("user ids lie between 0 and {}", u32::MAX - 1);
                    self.diagnostics.push(Diagnostic::error("bad-user", place, message).hint(hint));
                }
                uid.map(|uid| UserText::Uid(uid, self.place(value.span())))
            }
            _ => {
                let wanted = "a user name in quotes, a user id, or a list of these";
                self.mistyped("user", value, wanted, "");
                None
            }
        }
    }
}

/// A value's type in plain words.
fn kind(value: &Value<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn quoting_hint(what: &str, value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::Integer(number) if what == "service" => {
            let port = u16::from_str_radix(number.as_str(), number.radix()).ok();
            let port = port.filter(|port| *port != 0);
            port.map(|port| format!("write \"tcp/{port}\" or \"udp/{port}\"")).unwrap_or_default()
        }
        DeValue::Array(_) => "lists don't nest: write [\"a\", \"b\"]".into(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ALLOW, METRICS, SETTINGS, SHARED};

    #[test]
    fn every_key_is_in_the_manual_page() {
        let page = include_str!("../../../docs/tierwall.toml.5");
        for key in SETTINGS.iter().chain(&SHARED).chain(&ALLOW).chain(&METRICS) {
            let named = [
                format!(".B {key}\n"),
                format!(".SH [{key}]\n"),
                format!(".SH [[{key}]]\n"),
                format!(".BR {key} "),
                format!(" {key}\n"),
            ];
            assert!(
                named.iter().any(|form| page.contains(form)),
                "`{key}` isn't in the manual page"
            );
        }
    }

    #[test]
    fn only_include_is_active_in_the_file_that_is_installed() {
        let file = include_str!("../../../config/tierwall.toml");
        assert!(file.contains("# Only `include` below is active."));
        let active: Vec<&str> =
            file.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert_eq!(active, ["include = [\"conf.d/*.toml\"]"]);
    }

    #[test]
    fn every_key_is_in_the_file_that_is_installed() {
        let file = include_str!("../../../config/tierwall.toml");
        for key in SETTINGS.iter().chain(&SHARED).chain(&ALLOW).chain(&METRICS) {
            let is_key = |line: &str| {
                let line = line.trim_start_matches('#');
                let (name, _) = line.split_once('=').unwrap_or((line, ""));
                name.trim_end().trim_matches(['[', ']']) == *key
            };
            assert!(file.lines().any(is_key), "`{key}` isn't in config/tierwall.toml");
        }
    }
}
