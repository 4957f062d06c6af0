//! Notice of changes of a host's addresses.

use netlink::AddressEvents;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use tierwall_tests::namespace::Namespace;

fn ip(namespace: &Namespace, arguments: &str) {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    namespace.command("ip", &arguments).unwrap();
}

/// A namespace with one interface, that is up and has had its own address.
fn host() -> Namespace {
    let namespace = Namespace::new().unwrap();
    ip(&namespace, "link add eth0 type veth peer name eth1");
    ip(&namespace, "link set eth1 up");
    ip(&namespace, "link set eth0 up");
    namespace
}

/// Waits for an event. The kernel announces what it does to IPv6 addresses from a work queue, after
/// the command has returned.
fn is_readable(events: &AddressEvents) -> bool {
    const LIMIT: u16 = 10_000;
    let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(LIMIT)).unwrap() > 0
}

#[test]
fn an_address_that_comes_or_goes_is_noticed() {
    let namespace = host();
    let mut events = namespace.run(|| AddressEvents::open().unwrap());
    assert!(!events.read().unwrap());
    for (change, addresses) in [
        ("address add 10.0.0.1/24 dev eth0", "10.0.0.1"),
        ("address add 2001:db8::1/64 dev eth0 nodad", "10.0.0.1 2001:db8::1"),
        ("address add 10.0.0.2/24 dev eth0", "10.0.0.1 10.0.0.2 2001:db8::1"),
        ("address del 10.0.0.2/24 dev eth0", "10.0.0.1 2001:db8::1"),
        ("link set eth0 down", "10.0.0.1"),
        ("address flush dev eth0", ""),
    ] {
        ip(&namespace, change);
        // Before it there may be one of a link-local address that the kernel has checked.
        while !events.read().unwrap() {
            assert!(is_readable(&events), "{change}");
        }
        assert!(!events.read().unwrap(), "{change}: all is read");
        let found = namespace.run(|| netlink::addresses().unwrap());
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), addresses, "{change}");
    }
}

#[test]
fn what_nobody_reaches_is_no_change() {
    let namespace = host();
    let mut events = namespace.run(|| AddressEvents::open().unwrap());
    for change in [
        "address add 127.0.0.2/8 dev lo",
        "address add fe80::77/64 dev eth0 nodad",
        "address add 169.254.7.7/16 dev eth0 scope link",
        "address del fe80::77/64 dev eth0",
    ] {
        ip(&namespace, change);
        assert!(is_readable(&events), "{change}");
        assert!(!events.read().unwrap(), "{change}");
    }
}

/// More events than fit into the socket's buffer: that some were lost is a change too.
#[test]
fn events_that_were_lost_are_a_change() {
    let namespace = host();
    let mut events = namespace.run(|| AddressEvents::open().unwrap());
    let batch: String = (0..2000)
        .flat_map(|n| {
            ["add", "del"]
                .map(|verb| format!("address {verb} fe80::{:x}/64 dev eth0 nodad\n", 0x1000 + n))
        })
        .collect();
    namespace.command_with_input("ip", &["-batch", "-"], &batch).unwrap();
    assert!(events.read().unwrap(), "none of them is a change by itself");
    assert!(!events.read().unwrap());
    ip(&namespace, "address add 10.0.0.1/24 dev eth0");
    assert!(events.read().unwrap());
}
