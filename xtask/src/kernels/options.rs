//! The arguments of `cargo xtask kernels`.

use super::DEFAULT;
use anyhow::{Context, Result, bail};

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// A series (`6.1`) or the path of a package (`linux-image-….deb`) each.
    pub(super) kernels: Vec<String>,
    /// The test programs to run, by their names; none are all.
    pub(super) filters: Vec<String>,
    /// For the test programs.
    pub(super) arguments: Vec<String>,
}

impl Options {
    pub(super) fn parse(arguments: &[String]) -> Result<Self> {
        let (mut kernels, mut filters, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let list = match name {
                "--kernel" => &mut kernels,
                "--filter" => &mut filters,
                "--" => {
                    rest.extend(words.by_ref().cloned());
                    continue;
                }
                _ => bail!(
                    "kernels doesn't know `{word}`; it takes --kernel, --filter, and behind -- \
                     what is for the test programs"
                ),
            };
            let value = value.or_else(|| words.next().cloned());
            let value = value.with_context(|| format!("{name} takes a value"))?;
            list.extend(value.split(',').map(str::to_owned));
        }
        if kernels.is_empty() {
            kernels = DEFAULT.iter().map(|series| (*series).to_owned()).collect();
        }
        Ok(Self { kernels, filters, arguments: rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Options> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn all_kernels_and_programs_are_the_default() {
        let options = parsed("").unwrap();
        assert_eq!(options.kernels, ["6.1", "6.12"]);
        assert!(options.filters.is_empty() && options.arguments.is_empty());
    }

    #[test]
    fn what_follows_two_dashes_is_for_the_test_programs() {
        let options = parsed("--kernel 6.1 --filter=live,daemon -- --nocapture --kernel").unwrap();
        assert_eq!(options.kernels, ["6.1"]);
        assert_eq!(options.filters, ["live", "daemon"]);
        assert_eq!(options.arguments, ["--nocapture", "--kernel"]);
        assert!(parsed("--kernel").is_err());
        assert!(parsed("live").is_err());
    }
}
