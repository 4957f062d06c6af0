//! Which upstream kernel a release names: `6.1.0-40-amd64` is 6.1.0.

/// Version, patch level and sublevel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Release {
    /// Reads the numbers that a release begins with.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = |part: Option<&str>| {
            let part = part?;
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().ok()
        };
        let mut parts = text.splitn(3, '.');
        let (version, patch_level) = (number(parts.next())?, number(parts.next())?);
        Some(Self(version, patch_level, number(parts.next()).unwrap_or(0)))
    }

    /// Whether a fix is in it that went into `mainline`, and into older lines from these releases
    /// on.
    pub(crate) fn has(self, mainline: (u32, u32), backports: &[Self]) -> bool {
        (self.0, self.1) >= mainline
            || backports
                .iter()
                .any(|first| (self.0, self.1) == (first.0, first.1) && self >= *first)
    }
}

/// Whether a distribution made it: fixes may be in it that its number doesn't tell of.
pub(crate) fn is_of_a_distribution(release: &str) -> bool {
    release.contains('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_read_and_the_rest_is_left() {
        for (text, expected) in [
            ("6.12.48", Some(Release(6, 12, 48))),
            ("6.1.0-40-amd64", Some(Release(6, 1, 0))),
            ("5.14.0-503.el9.x86_64", Some(Release(5, 14, 0))),
            ("6.17-rc6", Some(Release(6, 17, 0))),
            ("7.0+", Some(Release(7, 0, 0))),
            ("Linux", None),
            ("", None),
        ] {
            assert_eq!(Release::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_fix_is_in_mainline_and_where_it_was_carried_back() {
        let has = |text| {
            let release = Release::parse(text).expect("a release");
            release.has((6, 17), &[Release(6, 12, 48), Release(6, 16, 8)])
        };
        assert!(has("6.17.0") && has("7.1.2") && has("6.12.48") && has("6.12.60") && has("6.16.8"));
        assert!(!has("6.12.47") && !has("6.16.7") && !has("6.13.12") && !has("5.15.999"));
    }
}
