//! The tierwall policy language.
mod compile;
mod model;
mod role;
pub use compile::{Host, Labels, compile};
pub use model::*;
pub use role::Role;
