//! What identifies an allow in the kernel: the comment of its rules, and the stem of the names of
//! its chains, counter and sets.
//!
//! Both derive from the allow's key alone, so that moving text in the file changes nothing, and no
//! two allows of a policy share one. Names come from a file: whatever could end a string, write to
//! a terminal, or pass for a comment of somebody else's is taken out here.

use super::names::{self, Hash};
use crate::model::{Allow, AllowKey, Policy};
use std::collections::HashMap;

/// nftables' limit of a comment, without its terminating zero.
const COMMENT_MAX: usize = 127;

/// What stands before the hash in a comment that doesn't hold an allow's text as it is.
const HASHED: &str = " ~";

/// Comments of allows begin with this, those of built-in rules with something else.
const ALLOW: &str = "allow ";

/// Comments of built-in rules begin with this.
pub(crate) const BUILT_IN: &str = "built-in: ";

/// The labels of a policy's allows, by their index.
#[derive(Debug, Clone)]
pub struct Labels {
    comments: Vec<String>,
    slugs: Vec<String>,
}

impl Labels {
    /// Labels for `allows`, whose keys are unique.
    pub fn of(allows: &[Allow]) -> Self {
        let keys: Vec<&AllowKey> = allows.iter().map(|allow| &allow.key).collect();
        let comments = names::assign(&keys, comment, |key, number| hashed(key, Some(number)));
        Self { comments, slugs: names::stems(&keys) }
    }

    /// The comment of every rule of the allow: `allow payments api`.
    pub fn comment(&self, index: usize) -> &str {
        &self.comments[index]
    }

    /// What the comment of an allow's rule says of it, where the policy that it is of isn't at hand:
    /// its name or content, shortened perhaps. None for built-in rules.
    pub fn allow_in(comment: &str) -> Option<&str> {
        comment.strip_prefix(ALLOW)
    }

    /// The stem of names: `payments_api`, or `web.app.tcp/8080` of an allow without a name.
    pub fn slug(&self, index: usize) -> &str {
        &self.slugs[index]
    }

    /// The named counter of the allow.
    pub fn counter(&self, index: usize) -> String {
        format!("allow.{}", self.slugs[index])
    }
}

impl Policy {
    /// The allows by the comment of their rules.
    pub fn allows_by_comment(&self) -> HashMap<String, &Allow> {
        Labels::of(&self.allows).comments.into_iter().zip(&self.allows).collect()
    }

    /// The allow whose rules bear `comment`. Who asks for many takes
    /// [`allows_by_comment`](Self::allows_by_comment).
    pub fn allow_of_comment(&self, comment: &str) -> Option<&Allow> {
        let labels = Labels::of(&self.allows);
        let index = labels.comments.iter().position(|own| own == comment)?;
        self.allows.get(index)
    }
}

/// The comment of a key, without regard to others: its text, as long as that is harmless and can't
/// be taken for a shortened one.
fn comment(key: &AllowKey) -> String {
    let text = key.to_string();
    let is_exact = text.chars().all(is_harmless)
        && ALLOW.len() + text.len() <= COMMENT_MAX
        && !text.rsplit_once(HASHED).is_some_and(|(_, end)| is_hash(end));
    if is_exact { format!("{ALLOW}{text}") } else { hashed(key, None) }
}

/// What is harmless of a key's text, and a hash of all of it, numbered if another key has the same.
fn hashed(key: &AllowKey, number: Option<usize>) -> String {
    let number = number.map(|number| format!("-{number}")).unwrap_or_default();
    let end = format!("{HASHED}{}{number}", Hash::of(key));
    let text = key.to_string();
    let clean = text.chars().map(|c| if is_harmless(c) { c } else { '_' });
    let mut comment = ALLOW.to_owned();
    for c in clean {
        if comment.len() + c.len_utf8() + end.len() > COMMENT_MAX {
            break;
        }
        comment.push(c);
    }
    comment + &end
}

fn is_harmless(c: char) -> bool {
    (c.is_alphanumeric() || c.is_ascii_punctuation() || c == ' ') && c != '"' && c != '\\'
}

/// Whether this is a hash, with a number perhaps.
fn is_hash(text: &str) -> bool {
    Hash::is_one(text.split_once('-').map_or(text, |(hash, _)| hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> AllowKey {
        AllowKey::Named(name.into())
    }

    #[test]
    fn comments_keep_what_is_harmless() {
        assert_eq!(comment(&named("payments api")), "allow payments api");
        assert_eq!(comment(&named("Zahlungen für Ärzte")), "allow Zahlungen für Ärzte");
    }

    #[test]
    fn comments_cannot_be_forged_or_broken() {
        for name in ["a\" drop", "a\u{1b}[2Jb", "a\u{202e}b", "a\\b", "a\nb"] {
            let comment = comment(&named(name));
            assert!(comment.starts_with("allow "), "{comment}");
            assert!(!comment.contains(['"', '\\', '\u{1b}', '\u{202e}', '\n']), "{comment}");
        }
        assert_ne!(comment(&named("a\"b")), comment(&named("a\\b")));
        let long = comment(&named(&"ü".repeat(100)));
        assert!(long.len() <= COMMENT_MAX, "{}", long.len());
    }

    #[test]
    fn comments_that_look_shortened_are_not_taken_for_one() {
        let long = "x".repeat(200);
        let shortened = comment(&named(&long));
        let forger = shortened.strip_prefix(ALLOW).expect("an allow's");
        assert_eq!(comment(&named("a ~b")), "allow a ~b");
        for forger in [forger.to_owned(), format!("{forger}-2")] {
            let forged = comment(&named(&forger));
            assert_ne!(forged, shortened);
            assert!(!forged.ends_with(&forger), "{forged}");
        }
    }
}
