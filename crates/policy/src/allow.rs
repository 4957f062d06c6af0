//! The allows: who is meant by each side, what they open, and the key that identifies each.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::{AllowText, List, Text, UserText};
use crate::gap::Gaps;
use crate::member::{Member, MemberError};
use crate::model::{Allow, AllowKey, Endpoint, Service, Tier, User};
use crate::name;
use crate::quoting::{cut, is_invisible, quote};
use crate::service::Services;
use crate::source::Place;
use ruleset::AddressSet;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The longest `name` in bytes: rules carry it in a comment of at most 127.
const LONGEST_NAME: usize = 100;
/// The longest user name, `LOGIN_NAME_MAX` less its terminator.
const LONGEST_USER: usize = 255;

/// Resolves the allows against the tiers and services of all files.
pub(crate) struct Resolver<'t, 'd> {
    pub(crate) tiers: &'t BTreeMap<String, Tier>,
    pub(crate) services: Services<'d>,
    pub(crate) gaps: &'t Gaps,
    pub(crate) diagnostics: &'t mut Diagnostics,
}

impl<'d> Resolver<'_, 'd> {
    /// The allows in their order, each with a key of its own.
    pub(crate) fn allows(
        mut self,
        texts: impl Iterator<Item = &'d AllowText> + Clone,
    ) -> Vec<Allow> {
        let names = self.names(texts.clone());
        let mut contents: BTreeMap<String, &Place> = BTreeMap::new();
        let mut allows = Vec::new();
        for text in texts {
            let Some(allow) = self.allow(text) else { continue };
            if let AllowKey::Content(content) = &allow.key {
                if let Some(name) = names.get(content.as_str()) {
                    let message = format!("the name {} is what another allow says", quote(content));
                    let diagnostic =
                        Diagnostic::error("duplicate-name", name.place.label(), message).related(
                            text.place.labelled("it goes by its content, since it has no name"),
                        );
                    self.diagnostics.push(diagnostic.hint("choose another name".to_owned()));
                }
                match contents.entry(content.clone()) {
                    Entry::Vacant(entry) => {
                        entry.insert(&text.place);
                    }
                    Entry::Occupied(first) => {
                        let message = format!("{} is allowed twice", quote(content));
                        let diagnostic =
                            Diagnostic::warning("covered-allow", text.place.label(), message)
                                .related(first.get().labelled("first allowed here"));
                        self.diagnostics.push(diagnostic.hint("remove one of them".to_owned()));
                        continue;
                    }
                }
            }
            allows.push(allow);
        }
        allows
    }

    /// Checks the names of all allows.
    fn names(&mut self, texts: impl Iterator<Item = &'d AllowText>) -> BTreeMap<&'d str, &'d Text> {
        let mut names: BTreeMap<&str, &Text> = BTreeMap::new();
        for name in texts.filter_map(|text| text.name.as_ref()) {
            let word = name.value.as_str();
            let fault = if word.trim().is_empty() {
                Some((
                    "an allow's name is empty".to_owned(),
                    "leave the key out: a name is optional",
                ))
            } else if word.len() > LONGEST_NAME {
                let message = format!("this name has {} bytes", word.len());
                Some((message, "at most 100 fit into the comment of a rule"))
            } else if word.chars().any(is_invisible) {
                let message = format!("the name {} holds an invisible character", quote(word));
                Some((message, "names are shown in listings and logs: write plain text"))
            } else {
                None
            };
            if let Some((message, hint)) = fault {
                let diagnostic = Diagnostic::error("bad-name", name.place.label(), message);
                self.diagnostics.push(diagnostic.hint(hint.to_owned()));
            }
            match names.entry(word) {
                Entry::Vacant(entry) => {
                    entry.insert(name);
                }
                Entry::Occupied(first) => {
                    let message = format!("two allows are named {}", quote(word));
                    let diagnostic =
                        Diagnostic::error("duplicate-name", name.place.label(), message)
                            .related(first.get().place.labelled("first named here"))
                            .hint("rename one; counters and logs go by the name".to_owned());
                    self.diagnostics.push(diagnostic);
                }
            }
        }
        names
    }

    /// One allow; none where it has an error, which is reported.
    fn allow(&mut self, text: &'d AllowText) -> Option<Allow> {
        let from = text.from.as_ref().and_then(|texts| self.endpoint("from", texts));
        let to = text.to.as_ref().and_then(|texts| self.endpoint("to", texts));
        let service = text.service.as_ref().and_then(|texts| self.service(texts));
        let users = text.users.as_ref().map_or(Some(Vec::new()), |users| self.users(users));
        let acts = |side: &Endpoint| side.every_server || !side.tiers.is_empty();
        if let Some((from, to)) =
            from.as_ref().zip(to.as_ref()).filter(|(from, to)| !acts(from) && !acts(to))
        {
            self.nobody_acts(text, from, to);
            return None;
        }
        let user = text.users.iter().flat_map(|users| &users.items).next();
        if let (Some(user), true) = (user, from.as_ref().is_some_and(|from| !acts(from))) {
            let message = "no server would know this user's connections";
            let hint = "a user binds the sender: name a tier or \"*\" in `from`, or remove `user`";
            let place = user.place().label();
            let diagnostic = Diagnostic::error("user-without-sender", place, message);
            self.diagnostics.push(diagnostic.hint(hint.to_owned()));
            return None;
        }
        let location = text.place.location();
        let key = match &text.name {
            Some(name) => AllowKey::Named(name.value.clone()),
            None => AllowKey::Content(content(text)?),
        };
        Some(Allow { key, location, from: from?, to: to?, service: service?, users: users? })
    }

    fn service(&mut self, texts: &'d List<Text>) -> Option<Service> {
        if texts.is_empty() {
            self.empty(texts, "`service` opens nothing", "write \"any\" to open everything");
        }
        self.services.resolve(texts, self.gaps, self.diagnostics)
    }

    fn empty<T>(&mut self, list: &List<T>, message: &str, hint: &str) {
        let diagnostic = Diagnostic::error("empty-list", list.place.label(), message);
        self.diagnostics.push(diagnostic.hint(hint.to_owned()));
    }

    fn endpoint(&mut self, side: &str, texts: &List<Text>) -> Option<Endpoint> {
        if texts.is_empty() {
            let message = format!("`{side}` names nobody");
            self.empty(texts, &message, "name a tier, an address, \"any\" or \"*\"");
            return None;
        }
        let mut endpoint = Endpoint::default();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut is_whole = texts.is_whole;
        for text in &texts.items {
            match text.value.as_str() {
                "any" => endpoint.any = true,
                "*" => endpoint.every_server = true,
                word if self.tiers.contains_key(word) => {
                    endpoint.tiers.insert(word.to_owned());
                }
                word => match word.parse::<Member>() {
                    Ok(Member::V4(range)) => v4.push(range),
                    Ok(Member::V6(range)) => v6.push(range),
                    Err(error) => {
                        is_whole = false;
                        self.neither_tier_nor_address(text, &error);
                    }
                },
            }
        }
        endpoint.v4 = AddressSet::new(v4);
        endpoint.v6 = AddressSet::new(v6);
        is_whole.then_some(endpoint)
    }

    fn neither_tier_nor_address(&mut self, text: &Text, error: &MemberError) {
        let word = text.value.as_str();
        let is_address = !matches!(error, MemberError::NotAnAddress { .. } | MemberError::Empty)
            || word.starts_with(|c: char| c.is_ascii_digit() || c == '[')
            || word.contains([':', '/', '.', ',']);
        if is_address {
            let diagnostic =
                Diagnostic::error("bad-address", text.place.label(), error.to_string());
            return self.diagnostics.push(diagnostic.hint(error.hint()));
        }
        if !self.gaps.may_define(word) {
            let unknown = unknown_tier(text, self.tiers, &["any", "*"], self.diagnostics);
            self.diagnostics.push(unknown);
        }
    }

    fn nobody_acts(&mut self, text: &AllowText, from: &Endpoint, to: &Endpoint) {
        let holder = [from, to].into_iter().flat_map(|side| {
            self.tiers.iter().find(|(_, tier)| {
                let has_literal = !side.v4.is_empty() || !side.v6.is_empty();
                has_literal && tier.v4.covers(&side.v4) && tier.v6.covers(&side.v6)
            })
        });
        let names: Vec<String> = holder.map(|(name, _)| quote(name)).collect();
        let hint = match names.first() {
            Some(name) => format!(
                "an address never stands for a server itself: name the tier {name}, which holds it"
            ),
            None => "name a tier or \"*\" in `from` or in `to`: only they stand for servers".into(),
        };
        let message = "no server would act on this allow";
        let diagnostic = Diagnostic::error("nobody-acts", text.place.label(), message);
        self.diagnostics.push(diagnostic.hint(hint));
    }

    fn users(&mut self, texts: &List<UserText>) -> Option<Vec<User>> {
        if texts.is_empty() {
            self.empty(texts, "`user` names nobody", "leave the key out to allow every user");
            return None;
        }
        let users: Vec<Option<User>> = texts.items.iter().map(|text| self.user(text)).collect();
        users.into_iter().collect::<Option<_>>().filter(|_| texts.is_whole)
    }

    fn user(&mut self, text: &UserText) -> Option<User> {
        let name = match text {
            UserText::Uid(uid, _) => return Some(User::Uid(*uid)),
            UserText::Name(name) => name,
        };
        let word = name.value.as_str();
        let fault = if word.is_empty() {
            Some((
                "a user name is empty".to_owned(),
                "leave the key out to allow every user".into(),
            ))
        } else if word.bytes().all(|byte| byte.is_ascii_digit()) {
            let hint = format!("write a user id without quotes: user = {}", cut(word));
            Some((format!("{} is a number, not a user name", quote(word)), hint))
        } else if !is_user_name(word) {
            let hint = "write one name, or a list of them: [\"a\", \"b\"]".into();
            Some((format!("{} is not a user name", quote(word)), hint))
        } else {
            None
        };
        let Some((message, hint)) = fault else {
            return Some(User::Name { name: word.to_owned(), location: name.place.location() });
        };
        let diagnostic = Diagnostic::error("bad-user", name.place.label(), message).hint(hint);
        self.diagnostics.push(diagnostic);
        None
    }
}

/// Whether an allow can name a user so.
pub(crate) fn is_user_name(word: &str) -> bool {
    let forbidden = |c: char| is_invisible(c) || c.is_whitespace() || ":,/".contains(c);
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    !word.is_empty() && !is_number && word.len() <= LONGEST_USER && !word.contains(forbidden)
}

/// A name that is no tier's. `words` could stand there too. After many `others` it gets no hint, which
/// would take a look at every tier.
pub(crate) fn unknown_tier(
    text: &Text,
    tiers: &BTreeMap<String, Tier>,
    words: &[&str],
    others: &Diagnostics,
) -> Diagnostic {
    let word = text.value.as_str();
    let message = format!("no tier is named {}", quote(word));
    let unknown = Diagnostic::error("unknown-tier", text.place.label(), message);
    if others.is_full() {
        return unknown;
    }
    let names = || tiers.keys().map(String::as_str);
    let hint = match name::closest(word, names().chain(words.iter().copied())) {
        Some(meant) => format!("did you mean {}?", quote(meant)),
        None if word.eq_ignore_ascii_case("all") && !words.is_empty() => {
            "\"any\" is every address, \"*\" every server with this policy".into()
        }
        None => name::suggest(word, names(), "defined tiers")
            .unwrap_or_else(|| "define it in [tiers]".into()),
    };
    unknown.hint(hint)
}

/// What an allow says, on one line; see [`AllowKey`].
fn content(text: &AllowText) -> Option<String> {
    let join = |texts: &List<Text>| {
        let words: Vec<String> =
            texts.items.iter().map(|text| text.value.split_whitespace().collect()).collect();
        words.join(",")
    };
    let (from, to) = (join(text.from.as_ref()?), join(text.to.as_ref()?));
    let mut content = format!("{from} -> {to} {}", join(text.service.as_ref()?));
    if let Some(users) = &text.users {
        let users: Vec<String> = users
            .items
            .iter()
            .map(|user| match user {
                UserText::Name(name) => name.value.clone(),
                UserText::Uid(uid, _) => uid.to_string(),
            })
            .collect();
        content = format!("{content} user {}", users.join(","));
    }
    Some(content)
}
