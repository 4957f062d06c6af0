//! What the kernel can do that runs the tests.
//!
//! Where it can't give a table to one program for good (before 6.9), or may miss a member of a set
//! while that is changed, a test of that says what holds instead; none is left out.
//! `tests/netlink/features.rs` sees to it that a kernel which can isn't taken for one that can't.

use crate::namespace::Namespace;
use netlink::{Connection, Features};
use std::sync::OnceLock;

/// What the kernel answers, asked once.
///
/// # Panics
/// Without the right to make a network namespace.
pub fn features() -> Features {
    static FEATURES: OnceLock<Features> = OnceLock::new();
    *FEATURES.get_or_init(|| {
        let namespace = Namespace::new().expect("kernel tests may make namespaces");
        let probed = namespace.run(|| Connection::open()?.probe());
        probed.expect("the kernel says what it can do")
    })
}

/// Whether a table can belong to one program, and stay when that one ends.
pub fn keeps_owned_tables() -> bool {
    features().persistent_owner
}

/// The three numbers that the kernel's release begins with.
///
/// # Panics
/// Where it doesn't.
pub fn release() -> (u32, u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse().ok()).expect("a release");
    (next(), next(), next())
}

/// Whether a lookup always finds a member that is in a set before and after a change of it: in sets
/// of ranges too, as ports and members are. Elsewhere a packet may be denied at the moment of a
/// commit. Told by the release, so that a distribution's kernel may be better than this says.
pub fn lookups_are_exact() -> bool {
    let release = release();
    match (release.0, release.1) {
        (6, 18) => release.2 >= 14,
        (6, 19) => release.2 >= 4,
        line => line >= (7, 0),
    }
}
