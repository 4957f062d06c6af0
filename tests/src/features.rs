//! What the kernel can do that runs the tests.
//!
//! Where it can't give a table to one program for good (before 6.9), a test of that says what holds
//! instead; none is left out. `tests/netlink/features.rs` sees to it that a kernel which can isn't
//! taken for one that can't.

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
