//! Userdata: what the kernel keeps for programs without looking at it.
//!
//! libnftnl's format (`libnftnl/udata.h`): attributes of a type byte, a length byte and a value.
//! Comments are there, with their terminator.

use crate::attribute::Attribute;
use crate::uapi::NFT_USERDATA_MAXLEN;

/// The type of a comment in the userdata of tables, chains, rules, objects and elements.
pub(crate) const COMMENT: u8 = 0;
/// The longest comment that `nft` takes (`NFTNL_UDATA_COMMENT_MAXLEN`).
pub(crate) const COMMENT_LENGTH: usize = 128;

/// Userdata to be written, at most [`NFT_USERDATA_MAXLEN`] bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Userdata(Vec<u8>);

impl Userdata {
    /// A comment alone; none if it is too long or has a NUL in it. An empty one is no comment.
    pub(crate) fn comment(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        if text.len() > COMMENT_LENGTH || text.contains('\0') {
            return None;
        }
        Self::default().with(COMMENT, &[text.as_bytes(), &[0]].concat())
    }

    /// Appends an attribute; none if it doesn't fit.
    pub(crate) fn with(mut self, kind: u8, value: &[u8]) -> Option<Self> {
        self.0.extend_from_slice(&[kind, u8::try_from(value.len()).ok()?]);
        self.0.extend_from_slice(value);
        (self.0.len() <= NFT_USERDATA_MAXLEN).then_some(self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The string of a type in userdata. Other programs may have other formats there: then none.
pub(crate) fn text(userdata: Attribute<'_>, kind: u8) -> Option<String> {
    let mut rest = userdata.payload;
    while let [found, length, after @ ..] = rest {
        let payload = after.get(..usize::from(*length))?;
        if *found == kind {
            return Some(Attribute { kind: 0, payload }.text());
        }
        rest = &after[payload.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_comment_of_128_bytes_is_the_longest() {
        assert!(Userdata::comment(&"x".repeat(128)).is_some());
        assert!(Userdata::comment(&"x".repeat(129)).is_none());
        assert!(Userdata::comment("a\0b").is_none());
    }

    proptest! {
        #[test]
        fn reads_the_comment_it_wrote(comment in "[^\0]{1,30}", before in any::<[u8; 4]>()) {
            let data = Userdata::default().with(9, &before).expect("fits");
            let data = data.with(COMMENT, comment.as_bytes()).expect("fits");
            let attribute = Attribute { kind: 0, payload: data.bytes() };
            prop_assert_eq!(text(attribute, COMMENT), Some(comment));
            prop_assert_eq!(text(attribute, 5), None);
        }

        #[test]
        fn never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = text(Attribute { kind: 0, payload: &bytes }, COMMENT);
        }
    }
}
