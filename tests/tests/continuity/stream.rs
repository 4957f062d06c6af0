//! The real edits of a real list, through the list file of a running daemon.

use crate::edit_stream::{EditStream, Ranges, merged};
use crate::kernel::{self, Elements, Monitor, elements_only};
use crate::scaled;
use netlink::KernelTable;
use std::collections::BTreeMap;
use tierwall_tests::network::Network;
use tierwall_tests::server::Server;

const POLICY: &str = r#"
role = "web"
[tiers]
web = ["10.0.1.10"]
country = { file = "country.list" }
[[allow]]
from = "country"
to = "web"
service = "tcp/443"
"#;

fn country(table: &KernelTable) -> Ranges {
    let table = table.ruleset.table.as_ref().unwrap();
    let ruleset::Elements::Ipv4(addresses) = &table.sets["country_v4"].elements else {
        panic!("country_v4 holds no addresses");
    };
    let ranges = addresses.ranges();
    ranges.map(|range| (range.first.to_bits(), range.last.to_bits())).collect()
}

/// What a transaction from one to the other has to be: no element more, and the fingerprint.
fn needed(old: &Ranges, new: &Ranges) -> BTreeMap<String, Elements> {
    let country =
        Elements { added: new.difference(old).count(), deleted: old.difference(new).count() };
    let state = Elements { added: 1, deleted: 1 };
    [("country_v4".to_owned(), country), (ruleset::STATE_SET.to_owned(), state)].into()
}

#[test]
fn the_kernel_follows_every_version_of_a_real_list() {
    let mut stream = EditStream::load();
    // Versions are skipped by taking several at once.
    let step = scaled(4, 1);
    let network = Network::new([("web", vec!["10.0.1.10".parse().unwrap()])]).unwrap();
    let host = network.host("web");
    let server = Server::new(host, POLICY).unwrap();
    server.write("country.list", stream.text(0)).unwrap();
    let daemon = server.start(&[]).unwrap();

    let start = kernel::dump(host);
    let mut held = merged(&stream.text(0));
    assert_eq!(country(&start), held);
    let mut monitor = Monitor::open(host);
    let (mut versions, mut sent) = (0, 0);
    for version in 1..=stream.versions() {
        stream.apply(version);
        if version % step != 0 {
            continue;
        }
        let text = stream.text(version);
        server.replace("country.list", &text).unwrap();
        let transaction = monitor.next(&format!("version {version}\n{}", daemon.log()));
        let new = merged(&text);
        let elements = elements_only(&transaction);
        assert_eq!(elements, Some(needed(&held, &new)), "version {version}: {transaction}");
        let dumped = kernel::dump(host);
        assert!(country(&dumped) == new, "version {version}: the kernel holds another list");
        assert_eq!(dumped.handles, start.handles, "version {version}");
        assert_eq!(dumped.generation, transaction.generation, "version {version}");
        sent += elements.unwrap().values().map(|set| set.added + set.deleted).sum::<usize>();
        held = new;
        versions += 1;
    }
    assert_eq!(monitor.heard(), None);
    println!("{versions} versions of {} elements, {sent} elements sent", held.len());
    drop(daemon);
}
