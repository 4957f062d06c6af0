//! What identifies an allow in the kernel: the comment of its rules, and the stem of the names of
//! its chains, counter and sets.
//!
//! Both derive from the allow's key alone, so that moving text in the file changes nothing. Names
//! come from a file: whatever could end a string, write to a terminal, or pass for one of our own
//! comments is taken out here.

use crate::model::{Allow, AllowKey, Policy};
use std::collections::{BTreeMap, HashMap};

/// nftables' limit of a comment, without its terminating zero.
const COMMENT_MAX: usize = 127;

/// Long enough to be told apart, short enough for a listing.
const SLUG_MAX: usize = 60;

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
        let comments = allows.iter().map(|allow| comment(&allow.key)).collect();
        let plain: Vec<String> = allows.iter().map(|allow| slug(&allow.key)).collect();
        let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
        for slug in &plain {
            *uses.entry(slug).or_default() += 1;
        }
        let slugs = plain.iter().zip(allows).map(|(slug, allow)| match uses[slug.as_str()] {
            1 => slug.clone(),
            _ => format!("{slug}.{:08x}", hash(&allow.key)),
        });
        Self { comments, slugs: slugs.collect() }
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

    /// The stem of names: `payments_api`.
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

fn comment(key: &AllowKey) -> String {
    let text = key.to_string();
    let harmless = |c: char| c.is_alphanumeric() || c.is_ascii_punctuation() || c == ' ';
    let clean: String =
        text.chars().map(|c| if harmless(c) && c != '"' && c != '\\' { c } else { '_' }).collect();
    if clean == text && ALLOW.len() + clean.len() <= COMMENT_MAX {
        return format!("{ALLOW}{clean}");
    }
    // The text was changed: the hash tells it from others that come out the same.
    let hash = format!(" ~{:08x}", hash(key));
    let mut end = clean.len().min(COMMENT_MAX - ALLOW.len() - hash.len());
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    format!("{ALLOW}{}{hash}", &clean[..end])
}

fn slug(key: &AllowKey) -> String {
    let mut slug = String::new();
    for c in key.to_string().chars() {
        match c {
            c if c.is_ascii_alphanumeric() => slug.push(c),
            '*' => slug.push_str("all"),
            _ if slug.ends_with('_') || slug.is_empty() => {}
            _ => slug.push('_'),
        }
    }
    let trimmed = slug.trim_end_matches('_');
    match trimmed.len() {
        0 => format!("{:08x}", hash(key)),
        1..=SLUG_MAX => trimmed.to_owned(),
        _ => format!("{}.{:08x}", &trimmed[..SLUG_MAX], hash(key)),
    }
}

/// FNV-1a, folded to 32 bits: it must be the same in every build.
fn hash(key: &AllowKey) -> u32 {
    let kind = match key {
        AllowKey::Named(_) => b'n',
        AllowKey::Content(_) => b'c',
    };
    let text = key.to_string();
    let bytes = std::iter::once(kind).chain(text.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as u32
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
    fn slugs_are_nft_identifiers() {
        assert_eq!(slug(&named("payments api")), "payments_api");
        assert_eq!(slug(&AllowKey::Content("admin -> * tcp/22".into())), "admin_all_tcp_22");
        assert_eq!(slug(&named("ü")).len(), 8);
        assert!(slug(&named(&"x".repeat(200))).len() < 80);
    }
}
