//! What the kernel is found to be able to do.

use netlink::Connection;
use tierwall_tests::features::{features, release};
use tierwall_tests::namespace::Namespace;

/// Distributions put newer features into older kernels, but take none away.
#[test]
fn a_kernel_can_what_its_release_has() {
    let (found, (version, patch_level, _)) = (features(), release());
    let release = (version, patch_level);
    for (since, has) in [
        ((5, 12), found.owner),
        ((6, 9), found.persistent_owner),
        ((6, 10), found.acknowledges_end),
    ] {
        assert!(has || release < since, "{release:?} lacks what came in {since:?}: {found:?}");
    }
    assert!(found.owner || !found.persistent_owner, "{found:?}");
}

#[test]
fn asking_leaves_nothing_behind() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let before = connection.generation().unwrap();
        connection.probe().unwrap();
        assert_eq!(connection.generation().unwrap(), before);
    });
    assert_eq!(namespace.command("nft", &["list", "ruleset"]).unwrap(), "");
}
