//! Names: what tiers and services may be called, and which known name somebody meant.

use crate::quoting::quote;
use std::fmt;

/// The longest name of a tier or service in bytes. nftables' set names are longer, but `app` also
/// names `app_v4_hosts`.
pub(crate) const LONGEST: usize = 48;

/// Words that mean something else where a name could stand.
const RESERVED: [&str; 2] = ["any", "auto"];

/// Why a name can't be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NameError {
    Empty,
    TooLong,
    Reserved,
    Start,
    Character(char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong => write!(f, "is longer than {LONGEST} characters"),
            Self::Reserved => f.write_str("is a reserved word"),
            Self::Start => f.write_str("doesn't start with a letter"),
            Self::Character(character) => {
                write!(f, "holds the character {}", quote(&character.to_string()))
            }
        }
    }
}

impl NameError {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::TooLong => "choose a shorter one: it becomes part of the names of sets",
            Self::Reserved => "it means something else where a name could stand: choose another",
            _ => "a name starts with a letter (a-z, A-Z); letters, digits, `_` and `-` follow",
        }
    }
}

/// Whether a tier or service may be called this: `[A-Za-z][A-Za-z0-9_-]*`, since the names of
/// kernel objects derive from it.
pub(crate) fn check(name: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let Some(first) = name.chars().next() else { return Err(NameError::Empty) };
    if let Some(other) = name.chars().find(|c| !allowed(*c)) {
        return Err(NameError::Character(other));
    }
    if !first.is_ascii_alphabetic() {
        return Err(NameError::Start);
    }
    if name.len() > LONGEST {
        return Err(NameError::TooLong);
    }
    if RESERVED.contains(&name) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// Whether a tier or service may be called this.
pub fn is_name(name: &str) -> bool {
    check(name).is_ok()
}

/// The known name that is most like `name`, if one is like it at all.
pub(crate) fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Long words may differ more, but every third character at most.
    let limit = (name.chars().count() / 3).max(1);
    let lower = name.trim().to_lowercase();
    let length = lower.chars().count();
    known
        .into_iter()
        // What differs in length alone differs by as much: most candidates end here.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| {
            (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate)
        })
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean" the closest, or else what there is to choose from.
pub(crate) fn suggest<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
    kind: &str,
) -> Option<String> {
    const SHOWN: usize = 12;
    if let Some(meant) = closest(name, known.clone()) {
        return Some(format!("did you mean {}?", quote(meant)));
    }
    let names: Vec<String> = known.clone().into_iter().take(SHOWN).map(quote).collect();
    let names = names.join(", ");
    match known.into_iter().count() {
        0 => None,
        1..=SHOWN => Some(format!("{kind}: {names}")),
        count => Some(format!("{kind}: {names} and {} more", count - SHOWN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_parts_of_set_names() {
        for name in ["a", "web", "Web_2-b", &"x".repeat(48)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        assert_eq!(check(""), Err(NameError::Empty));
        assert_eq!(check("1a"), Err(NameError::Start));
        assert_eq!(check("_a"), Err(NameError::Start));
        assert_eq!(check("a b"), Err(NameError::Character(' ')));
        assert_eq!(check("a.b"), Err(NameError::Character('.')));
        assert_eq!(check("wéb"), Err(NameError::Character('é')));
        assert_eq!(check("any"), Err(NameError::Reserved));
        assert_eq!(check(&"x".repeat(49)), Err(NameError::TooLong));
    }

    #[test]
    fn finds_the_name_that_was_meant() {
        let known = ["web", "app", "db", "postgres", "management"];
        assert_eq!(closest("wbe", known), Some("web"));
        assert_eq!(closest("APP", known), Some("app"));
        assert_eq!(closest("postgresql", known), Some("postgres"));
        assert_eq!(closest("managment ", known), Some("management"));
        assert_eq!(closest("cdn", known), None);
        assert_eq!(closest("x", known), None);
    }
}
