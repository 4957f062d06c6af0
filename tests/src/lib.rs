//! What the kernel tests and the demo stand on.
//!
//! ```text
//! namespace ─► network ─► listener ─┐
//!                 │                 ├─► scenario ─► the verdict of every probe
//!                 ├─► server ─► daemon
//!                 └─► probe ────────┘
//! ```
//!
//! A [`network::Network`] is a segment of hosts, each in a network namespace of its own. On some
//! of them a [`server::Server`] runs a real `tierwalld`; [`listener`]s answer on every host, and
//! [`probe`]s are real connections between them. A [`scenario`] is all of that from three files.
//! A [`site::Site`] is the smallest of these with somebody who administers the server.
//! While something changes, a [`conversation`] goes on and [`knocking`] tries new connections.
//!
//! Nothing here touches the network of the machine. What counts is which packets arrive; for what
//! packets don't show, such as that nothing was sent to the kernel, [`kernel`] reads its tables, and
//! [`trace`] follows packets on their way. A [`machine`] boots systemd, in a [`cgroup`] of its own.
//! [`firewalld`] is what others run. [`features`] is what the kernel can do. A [`flood`] is what
//! attackers send. Where
//! connections are counted, each leaves from a [`source_port`] of its own.

pub mod binaries;
pub mod cgroup;
pub mod conversation;
pub mod daemon;
pub mod fd_store;
pub mod features;
pub mod firewalld;
pub mod flood;
pub mod kernel;
pub mod knocking;
pub mod listener;
pub mod machine;
pub mod namespace;
pub mod network;
pub mod probe;
pub mod scenario;
pub mod second_reader;
pub mod server;
pub mod service;
pub mod site;
pub mod source_port;
pub mod trace;
pub mod verdict;
