//! Ports to begin connections from, for tests that count connections.
//!
//! Left to the kernel, two connections that follow each other may have the same port, and then the
//! second is counted as the first one tried again: UDP's are drawn by lot, and TCP's go on from the
//! last one that any host of the same addresses had, those of other tests at the same time too.

use std::sync::atomic::{AtomicU16, Ordering};

/// The first of them: above `net.ipv4.ip_local_port_range`, from which others have theirs.
const FIRST: u16 = 61_000;
const LAST: u16 = u16::MAX;

/// A port that nobody had yet, as far as this process knows, or not for more than four thousand.
pub fn fresh() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    FIRST + TAKEN.fetch_add(1, Ordering::Relaxed) % (LAST - FIRST)
}
