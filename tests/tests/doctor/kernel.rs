//! What the kernel holds.

use super::*;
use netlink::{Conntrack, End, Flow, Insertion, Stage};
use std::net::{Ipv4Addr, SocketAddr};
use tierwall_tests::features::keeps_owned_tables;

/// Connections that nobody has.
fn flows(count: u32) -> Vec<Flow> {
    let flow = |number: u32| {
        let (host, port) = (number / 50_000, 1000 + (number % 50_000) as u16);
        let remote = SocketAddr::new(Ipv4Addr::from(0xc612_0000 + host).into(), port);
        let local = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 80);
        Flow { local, remote, opened_by: End::Remote, stage: Stage::Open }
    };
    (0..count).map(flow).collect()
}

#[test]
fn a_kernel_that_can_not_have_the_table_owned_is_told() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    let findings = all_findings(&server);
    let found = findings.iter().find(|finding| finding["id"] == "kernel-ownership");
    assert_eq!(found.is_none(), keeps_owned_tables(), "{findings:#?}");
    if let Some(found) = found {
        assert_eq!(found["severity"], "note", "{found:#}");
        assert!(found["what"].as_str().unwrap().contains("6.9"), "{found:#}");
    }
}

/// The limit is the machine's, not the namespace's: so the table is filled, and not made small.
#[test]
fn a_nearly_full_table_of_connections_is_told() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    assert_eq!(found(&server), ["note daemon-away"]);
    let limit = host.namespace.run(|| Conntrack::open().unwrap().usage().unwrap()).limit;
    let flows = flows((f64::from(limit) * 0.85) as u32);
    let inserted = host.namespace.run(|| Conntrack::open().unwrap().insert(&flows).unwrap());
    assert!(inserted.iter().all(|insertion| *insertion == Insertion::Inserted));
    assert_eq!(found(&server), ["warning conntrack-full", "note daemon-away"]);
    let told = finding(&server, "conntrack-full");
    let (what, advice) = (told["what"].as_str().unwrap(), told["advice"].as_str().unwrap());
    assert!(what.contains("84 %") || what.contains("85 %"), "{what}");
    assert!(advice.contains(&format!("nf_conntrack_max={}", u64::from(limit) * 2)), "{advice}");
}
