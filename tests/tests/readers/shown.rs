//! A kernel to show to readers.

use crate::kernel::Kernel;
use ruleset::Ruleset;

impl Kernel {
    /// A namespace that holds `ruleset` and nothing else.
    pub(crate) fn holding(ruleset: &Ruleset) -> Self {
        let mut kernel = Self::new();
        kernel.change(|_| ruleset.clone()).unwrap_or_else(|error| panic!("{error}"));
        kernel
    }

    /// Runs `nft` inside and returns what it prints.
    pub(crate) fn nft(&self, arguments: &[&str], input: &str) -> String {
        let printed = self.namespace.command_with_input("nft", arguments, input);
        printed.unwrap_or_else(|error| panic!("{error:#}"))
    }
}
