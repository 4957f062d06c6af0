//! The tierwall policy language: from the text of `tierwall.toml` to a validated [`Policy`].
//!
//! [`load`] reads the policy file, the files it includes and the list files of its tiers. It
//! gives a [`Policy`] in which every name is resolved and every address set merged, or else all
//! that is wrong, each problem with its place, the line underlined, and a hint
//! ([`Diagnostics`]). [`load_again`] does the same without parsing large lists that are as they
//! were. A policy is the same on every server; what it means for one follows from
//! that server's [`Role`] ([`role_of`], [`Role::parse_as`]) and its users ([`resolve_users`]),
//! which are pure functions of what the caller knows about the server. [`compile()`] makes a
//! server's part of the policy into its table, [`Reach`] says what a table opens, a [`Judge`]
//! what becomes of a packet and which line says so, [`explain`] the same of a connection between
//! any two parties, and a [`Relation`](relation) who reaches whom on what under the policy as a whole.
//! From what was denied, [`suggest`] makes allows that would let it through.
//!
//! The crate reads the files it is given and does no other I/O: no clock, no environment, no
//! address or user of this machine.

mod added;
mod addresses;
mod allow;
mod change;
mod compile;
mod confirm;
mod diagnostic;
mod document;
mod ended;
pub mod explain;
mod file;
mod gap;
pub mod guard;
mod held;
mod include;
mod input;
pub mod judge;
mod lint;
mod list;
mod list_cache;
mod load;
mod load_options;
mod location;
mod mark;
mod member;
mod metrics;
mod metrics_table;
mod misplaced;
mod missing;
pub mod model;
mod name;
mod pattern;
mod port;
mod protocol;
mod question;
mod quoting;
mod reach;
pub mod relation;
mod render;
mod role;
mod role_setting;
mod scan;
mod service;
mod service_set;
mod setting;
mod sound;
mod source;
pub mod suggest;
mod syntax;
mod tier;
mod unincluded;
mod unseen;
mod user;
mod wait;
mod wanted;
mod way;
mod way_in;
mod world;

pub use added::AddedMember;
pub use addresses::Addresses;
pub use change::{Change, Line, Members, Part, Peers, Scopes, Side, Sign, Step, Words};
pub use compile::LOG_GROUP;
pub use compile::{Host, Labels, check_size, compile, estimate_rules};
pub use confirm::{ConfirmTime, ConfirmTimeError};
pub use diagnostic::{Diagnostic, Diagnostics, Excerpt, Label, Severity};
pub use document::is_top_level_key;
pub use ended::{UserFlows, ended_flows};
pub use held::{Again, HeldList, HoldReason, Taking};
pub use input::{Input, InputKind};
pub use judge::Judge;
pub use list_cache::{KnownLists, ListCache};
pub use load::{Loaded, load, load_again, load_text, load_text_again};
pub use load_options::Options;
pub use location::Location;
pub use mark::{Fate, Mark};
pub use member::{Member, MemberError};
pub use metrics::{Metrics, MetricsInterval};
pub use missing::{Gap, Missing, Sides};
pub use model::Policy;
pub use name::is_name;
pub use protocol::{
    name as protocol_name, number as protocol_number, service_word as protocol_word,
};
pub use quoting::is_invisible;
pub use reach::{Direction, Opening, Peer, Reach, Scope, tier_of_set};
pub use render::Style;
pub use role::{
    AsError, HostAddress, Origin, Role, check_role, closest_tier, role_of, roles_by_network,
};
pub use service_set::{Point, ServiceError};
pub use source::{Source, Sources};
pub use user::{UserNames, resolve_users};
pub use wanted::{Wanted, WantedError};
pub use way_in::{Entered, LostWayIn, check_sshd, check_way_in};
pub use world::check_added;
