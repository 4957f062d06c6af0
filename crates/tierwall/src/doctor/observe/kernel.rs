//! The kernel: its release, what it can do, which of its modules are there.

use super::super::facts::Kernel;
use super::super::release::Release;
use crate::error::{Error, in_full};
use netlink::{Connection, Conntrack, KernelModule};
use std::fs;
use std::path::Path;

pub(super) fn observe(root: &Path) -> Result<Kernel, Error> {
    let release = line("/proc/sys/kernel/osrelease").unwrap_or_default();
    let probed = Connection::open().and_then(|mut connection| connection.probe());
    let (features, nf_tables) = match probed {
        Ok(features) => (Some(features), None),
        Err(error @ netlink::Error::NotPermitted) => return Err(Error::Kernel(error)),
        Err(error) => (None, Some(in_full(&error))),
    };
    let modules_disabled = line("/proc/sys/kernel/modules_disabled").as_deref() == Some("1");
    let can_load = !modules_disabled;
    let has = |module: &str, trace: &str| has_module(root, &release, module, trace, can_load);
    let conntrack = Conntrack::open().and_then(|mut conntrack| conntrack.usage());
    Ok(Kernel {
        features,
        nf_tables,
        conntrack: Some(conntrack.map_err(|error| in_full(&error))),
        log: has("nfnetlink_log", "/proc/net/netfilter/nfnetlink_log"),
        missing_modules: missing(&release, |module| has(module, &format!("/sys/module/{module}"))),
        modules_disabled,
        release,
    })
}

/// The modules that rules need and that this kernel is known to lack.
fn missing(release: &str, has: impl Fn(&str) -> Option<bool>) -> Vec<&'static str> {
    let release = Release::parse(release);
    let is_apart = |module: &KernelModule| {
        // Without a number, what may be a part of nf_tables is taken for one.
        module.part_since.is_none_or(|since| release.is_some_and(|now| !now.has(since, &[])))
    };
    let modules = netlink::kernel_modules().filter(is_apart).map(|module| module.name);
    modules.filter(|module| has(module) == Some(false)).collect()
}

/// Whether a module is loaded, which `trace` shows, built in or, if any `can_load`, there to be loaded.
/// None where there is no list of modules to look it up in.
fn has_module(
    root: &Path,
    release: &str,
    module: &str,
    trace: &str,
    can_load: bool,
) -> Option<bool> {
    if Path::new(trace).exists() {
        return Some(true);
    }
    let directory = root.join("lib/modules").join(release);
    let file = format!("/{module}.ko");
    let lists =
        ["modules.builtin", "modules.dep"].map(|list| fs::read_to_string(directory.join(list)));
    let counting = if can_load { &lists[..] } else { &lists[..1] };
    let found = counting.iter().flatten().any(|list| {
        // `kernel/net/netfilter/nfnetlink_log.ko.xz: …`
        let paths = list.lines().map(|line| line.split(':').next().unwrap_or(line));
        paths.into_iter().any(|path| path.contains(&file))
    });
    let is_known = counting.iter().any(Result::is_ok);
    is_known.then_some(found)
}

fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{has_module, missing};
    use std::fs;

    #[test]
    fn each_module_that_a_rule_needs_is_looked_for() {
        let all = missing("5.16.0", |_| Some(false));
        for module in ["nft_ct", "nft_fib_inet", "nft_fib", "nft_socket", "nft_counter"] {
            assert!(all.contains(&module), "{all:?}");
        }
        let later = missing("6.12.48", |_| Some(false));
        assert!(later.contains(&"nft_log") && !later.contains(&"nft_objref"), "{later:?}");
        assert_eq!(
            missing("6.1.0-40-amd64", |module| Some(module != "nft_socket")),
            ["nft_socket"]
        );
        assert!(missing("6.1.0", |_| None).is_empty(), "nothing is known");
    }

    #[test]
    fn a_module_is_found_in_the_lists_of_its_kernel() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directory = root.path().join("lib/modules/6.1.0-40-amd64");
        let has = |module| has_module(root.path(), "6.1.0-40-amd64", module, "/nowhere", true);
        assert_eq!(has("nfnetlink_log"), None);
        fs::create_dir_all(&directory).expect("made");
        let loadable =
            "kernel/net/netfilter/nfnetlink_log.ko.xz: kernel/net/netfilter/nfnetlink.ko.xz\n";
        fs::write(directory.join("modules.dep"), loadable).expect("written");
        assert_eq!(has("nfnetlink_log"), Some(true));
        assert_eq!(has("nfnetlink"), Some(false), "only named as what another one needs");
        fs::write(directory.join("modules.builtin"), "kernel/net/netfilter/nf_tables.ko\n")
            .expect("written");
        assert_eq!(has("nf_tables"), Some(true));
        assert_eq!(has_module(root.path(), "", "nf_conntrack", "/proc/self", true), Some(true));
        // What isn't loaded can't be any more.
        let left = |module| has_module(root.path(), "6.1.0-40-amd64", module, "/nowhere", false);
        assert_eq!((left("nf_tables"), left("nfnetlink_log")), (Some(true), Some(false)));
    }
}
