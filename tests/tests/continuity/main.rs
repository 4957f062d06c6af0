//! Live changes disturb nothing: real daemons, real connections, and what becomes of them when
//! members and rules change, daemons are killed, and policies are enforced for the first time.
//!
//! Run as `cargo xtask soak` the tests do many times more; see [`scaled`].

#![allow(clippy::unwrap_used)]

mod connections;
mod edit_stream;
mod first;
mod kernel;
mod kills;
mod load;
mod random;
mod rollback;
mod stream;
mod under_load;

/// How often to do something: the first in a test run, the second in a soak.
fn scaled(test: usize, soak: usize) -> usize {
    match std::env::var_os("TIERWALL_SOAK") {
        Some(value) if value == "1" => soak,
        _ => test,
    }
}
