//! A table of another program's: read without an error, the same each time, and never as ours.

use crate::fixture::send_to_self;
use netlink::{Connection, Hold, KernelTable};
use ruleset::{Elements, KeyType, Operation, Plan, Statement, Table};
use tierwall_tests::namespace::Namespace;

const FOREIGN: &str = r#"
table inet filter {
    flags dormant
    comment "someone else's"
    counter hits { comment "of the day"; packets 3 bytes 4 }
    quota monthly { over 10 mbytes used 5 mbytes }
    limit slow { rate 1/minute }
    set pairs { type ipv4_addr . inet_service; elements = { 10.0.0.1 . 22, 10.0.0.2 . 23 }; }
    set nets { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 22-25 }; }
    set wide { type ipv6_addr . ipv6_addr; elements = { ::1 . ::2 }; }
    set macs { type ether_addr; elements = { 02:00:00:00:00:01 }; }
    set seen { type ipv4_addr; flags dynamic,timeout; timeout 5m; size 100; }
    set counted { type ipv4_addr; counter; elements = { 10.0.0.1 counter packets 1 bytes 2 }; }
    set noted { type ipv4_addr; comment "a set"; elements = { 10.0.0.1 comment "a host" }; }
    set touching { type ipv4_addr; flags interval; elements = { 10.0.0.0/31, 10.0.0.2/31 }; }
    map marks { type ipv4_addr : mark; elements = { 10.0.0.1 : 7 }; }
    map any { type ipv4_addr : verdict; elements = { 10.0.0.1 : accept, * : drop }; }
    map queues { type inet_service : verdict; elements = { 80 : continue }; }
    chain noted { comment "a chain"; }
    chain input {
        type filter hook input priority 5; policy accept;
        tcp dport { 22, 80 } accept
        tcp dport != 22 drop
        tcp dport 1-100 counter packets 5 bytes 6
        tcp flags syn counter
        ip saddr != @touching meta mark set 1
        ip saddr 10.0.0.0/8 meta mark 5 tcp dport 22 accept
        meta nfproto ipv4 accept
        ct state established,related ct status dnat accept
        ct state == new accept
        log
        log prefix "x" level debug flags all
        limit rate over 10/second drop
        limit rate 10/minute accept
        limit rate 1 mbytes/second accept
        quota 5 mbytes used 1 mbytes drop
        quota name "monthly" drop
        reject
        reject with icmp host-unreachable
        add @seen { ip saddr limit rate 5/second } accept
        iifname "eth*" accept
        meta skgid 5 accept
    }
    chain nat { type nat hook postrouting priority srcnat; masquerade; }
    chain early { type filter hook ingress device lo priority 0; }
}
table ip other {
    chain input { ip saddr 10.0.0.1 accept; }
}
"#;

fn load(text: &str) -> Namespace {
    let namespace = Namespace::new().unwrap();
    let file = std::env::temp_dir().join(format!(
        "tierwall-foreign-{}-{:?}.nft",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&file, text).unwrap();
    let loaded = namespace.command("nft", &["-f", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    loaded.unwrap();
    namespace
}

fn dump(namespace: &Namespace) -> KernelTable {
    namespace.run(|| Connection::open().unwrap().dump().unwrap())
}

fn table(dumped: KernelTable) -> Table {
    dumped.ruleset.table.unwrap()
}

#[test]
fn it_reads_the_same_twice() {
    let namespace = load(FOREIGN);
    let first = dump(&namespace);
    assert_eq!(first, dump(&namespace));
}

/// Packets and time change what counters, quotas and elements hold, not what the table is.
#[test]
fn it_reads_the_same_after_packets() {
    let namespace = load(
        "table inet filter {
            set seen { type inet_service; counter; timeout 1h; elements = { 9 }; }
            chain input {
                type filter hook input priority 0;
                counter
                quota 5 mbytes
                udp dport @seen accept
            }
        }",
    );
    let first = dump(&namespace);
    assert!(matches!(
        first.ruleset.table.as_ref().unwrap().sets["seen"].elements,
        Elements::Opaque(_)
    ));
    let list = || namespace.command("nft", &["list", "ruleset"]).unwrap();
    let before = list();
    namespace.run(|| send_to_self(1));
    assert_ne!(list(), before);
    assert_eq!(first, dump(&namespace));
}

#[test]
fn objects_are_described() {
    let table = table(dump(&load(FOREIGN)));
    assert!(!table.is_ours() && !table.is_inert());
    assert_eq!(table.counters, ["hits".to_owned()].into());
    let foreign: Vec<_> = table.foreign.iter().collect();
    insta::assert_debug_snapshot!(foreign);
}

#[test]
fn sets_are_read_as_far_as_they_are_like_ours() {
    let table = table(dump(&load(FOREIGN)));
    let sets: Vec<_> = table
        .sets
        .iter()
        .map(|(name, set)| {
            let opaque = matches!(set.elements, Elements::Opaque(_));
            assert_eq!(
                opaque,
                !set.spec.foreign.is_empty() || set.spec.key.length() > 16,
                "{name}"
            );
            let kind = if opaque { "opaque" } else { "numbers" };
            format!(
                "{name}: {:?}, {} {kind}, {:?}",
                set.spec.key,
                set.elements.len(),
                set.spec.foreign
            )
        })
        .collect();
    insta::assert_debug_snapshot!(sets);
    assert!(matches!(table.sets["macs"].spec.key, KeyType::Other { length: 6, .. }));
}

#[test]
fn rules_keep_what_no_statement_stands_for() {
    let table = table(dump(&load(FOREIGN)));
    let chain = &table.chains["input"];
    let rules: Vec<_> = chain
        .rules
        .iter()
        .map(|rule| {
            let names = rule.statements.iter().map(|statement| match statement {
                Statement::Opaque(opaque) => format!("<{}>", opaque.name),
                statement => format!("{statement:?}"),
            });
            names.collect::<Vec<_>>().join(" ")
        })
        .collect();
    insta::assert_debug_snapshot!(rules);
    assert!(
        table.chains["nat"].rules[0].statements.iter().any(
            |statement| matches!(statement, Statement::Opaque(opaque) if opaque.name == "masq")
        )
    );
}

#[test]
fn a_flow_table_is_seen_where_the_kernel_has_them() {
    let namespace = load(FOREIGN);
    let fast = "{ hook ingress priority 0; devices = { lo }; }";
    let _ = namespace.command("nft", &["add", "flowtable", "inet", "filter", "fast", fast]);
    let listed = namespace.command("nft", &["list", "flowtables"]).unwrap().contains("fast");
    let read = table(dump(&namespace));
    assert_eq!(read.foreign.contains("flowtable fast"), listed);
}

#[test]
fn it_can_be_deleted_and_only_it() {
    let namespace = load(FOREIGN);
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let dumped = connection.dump().unwrap();
        let plan = Plan { operations: vec![Operation::DeleteTable] };
        connection.commit(&plan, &dumped.handles, Some(dumped.generation), Hold::Plain).unwrap();
    });
    let left = namespace.command("nft", &["list", "tables"]).unwrap();
    assert_eq!(left, "table ip other\n");
}

#[test]
fn intervals_that_do_not_pair_make_a_set_foreign() {
    use crate::fixture::*;
    let (namespace, _) = committed(&small());
    // What another program leaves behind that deletes only the beginning of an interval: here by
    // adding one interval right behind another.
    namespace
        .command("nft", &["add", "element", "inet", "filter", "web_v4", "{ 10.0.0.2 }"])
        .unwrap();
    let read = table(dump(&namespace));
    assert_eq!(read.sets["web_v4"].spec.foreign, ["intervals that touch"]);
    assert_ne!(read, small());
    // The whole of it can be replaced.
    let mut operations = vec![Operation::DeleteTable];
    operations.extend(creation(&small()).operations);
    assert_eq!(apply(&namespace, operations).ruleset, ruleset(small()));
}
