//! The kernel: its release, what it can do, which of its modules are there.

use super::super::facts::Kernel;
use crate::error::{Error, in_full};
use netlink::{Connection, Conntrack};
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
    let conntrack = Conntrack::open().and_then(|mut conntrack| conntrack.usage());
    Ok(Kernel {
        features,
        nf_tables,
        conntrack: Some(conntrack.map_err(|error| in_full(&error))),
        log: has_module(root, &release, "nfnetlink_log", "/proc/net/netfilter/nfnetlink_log"),
        modules_disabled: line("/proc/sys/kernel/modules_disabled").as_deref() == Some("1"),
        release,
    })
}

/// Whether a module is loaded, which `trace` shows, built in or there to be loaded. None where
/// there is no list of modules to look it up in.
fn has_module(root: &Path, release: &str, module: &str, trace: &str) -> Option<bool> {
    if Path::new(trace).exists() {
        return Some(true);
    }
    let directory = root.join("lib/modules").join(release);
    let file = format!("/{module}.ko");
    let lists =
        ["modules.builtin", "modules.dep"].map(|list| fs::read_to_string(directory.join(list)));
    let found = lists.iter().flatten().any(|list| {
        // `kernel/net/netfilter/nfnetlink_log.ko.xz: …`
        let paths = list.lines().map(|line| line.split(':').next().unwrap_or(line));
        paths.into_iter().any(|path| path.contains(&file))
    });
    let is_known = lists.iter().any(Result::is_ok);
    is_known.then_some(found)
}

fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::has_module;
    use std::fs;

    #[test]
    fn a_module_is_found_in_the_lists_of_its_kernel() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directory = root.path().join("lib/modules/6.1.0-40-amd64");
        let has = |module| has_module(root.path(), "6.1.0-40-amd64", module, "/nowhere");
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
        assert_eq!(has_module(root.path(), "", "nf_conntrack", "/proc/self"), Some(true));
    }
}
