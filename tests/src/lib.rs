//! What the kernel tests stand on: network namespaces, hosts with real daemons, probes.

pub mod namespace;
