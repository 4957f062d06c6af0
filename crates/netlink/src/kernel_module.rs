//! The kernel's modules that hold what our rules are made of. nf_tables loads them by itself, if they
//! are there.

/// A module that a rule of ours needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelModule {
    /// Its name: `nft_ct`.
    pub name: &'static str,
    /// From which release on it is a part of nf_tables (version and patch level), if it is. Where
    /// nf_tables is, that one is too then.
    pub part_since: Option<(u32, u32)>,
}

impl KernelModule {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, part_since: None }
    }

    pub(crate) const fn part_since(name: &'static str, release: (u32, u32)) -> Self {
        Self { name, part_since: Some(release) }
    }
}

/// The modules that any table of ours may need, besides nf_tables.
pub fn kernel_modules() -> impl Iterator<Item = KernelModule> {
    crate::expression::name::ALL.iter().flat_map(|(_, modules)| modules.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::kernel_modules;

    #[test]
    fn the_docs_name_each_module() {
        let docs = include_str!("../../../docs/kernels.md");
        for module in kernel_modules() {
            assert!(docs.contains(&format!("`{}`", module.name)), "{module:?}");
        }
        let named = docs.split('`').filter(|word| word.starts_with("nft_"));
        for name in named {
            assert!(kernel_modules().any(|module| module.name == name), "{name}");
        }
    }
}
