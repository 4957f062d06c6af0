//! Interfaces and settings.

use super::*;

#[test]
fn lax_reverse_paths_are_a_warning_on_two_interfaces() {
    let (_network, host) = host(&["10.10.1.20", "192.0.2.20"]);
    let server = server(&host, POLICY);
    assert_eq!(found(&server), ["note daemon-away"]);
    host.namespace.sysctl("net.ipv4.conf.all.rp_filter", "0").unwrap();
    assert_eq!(found(&server), ["note daemon-away"], "each interface has its own");
    host.namespace.sysctl("net.ipv4.conf.eth1.rp_filter", "0").unwrap();
    let lax = finding(&server, "spoofing-ipv4");
    assert_eq!(lax["severity"], "warning");
    assert_eq!(lax["details"][0], "rp_filter is off on eth1");
    host.namespace.sysctl("net.ipv4.conf.all.rp_filter", "2").unwrap();
    let lax = finding(&server, "spoofing-ipv4");
    assert_eq!(lax["details"][0], "rp_filter is loose on eth0, eth1: any way back will do");
    // A rule of somebody does as well.
    let paths = "table ip paths { chain pre { type filter hook prerouting priority raw; \
                 fib saddr . iif oif missing drop; }; }";
    host.namespace.command_with_input("nft", &["-f", "-"], paths).unwrap();
    assert_eq!(found(&server), ["note daemon-away"]);
}

#[test]
fn one_interface_gives_a_note() {
    let (_network, host) = host(&["10.10.1.20"]);
    let server = server(&host, POLICY);
    host.namespace.sysctl("net.ipv4.conf.all.rp_filter", "0").unwrap();
    host.namespace.sysctl("net.ipv4.conf.eth0.rp_filter", "0").unwrap();
    assert_eq!(found(&server), ["note daemon-away", "note spoofing-ipv4"]);
}

#[test]
fn tiers_of_ipv6_give_a_note_unless_a_rule_checks_sources() {
    let (_network, host) = host(&["10.10.1.20", "2001:db8::20"]);
    let policy = POLICY.replace("\"10.10.1.20\"", "\"10.10.1.20\", \"2001:db8::20\"");
    let server = server(&host, &policy);
    assert_eq!(found(&server), ["note daemon-away", "note spoofing-ipv6"]);
    // The table that docs/doctor.md tells to make.
    let document = include_str!("../../../docs/doctor.md");
    let start = document.find("table ip6 sources").unwrap();
    let table = &document[start..start + document[start..].find("```").unwrap()];
    host.namespace.command_with_input("nft", &["-f", "-"], table).unwrap();
    assert_eq!(found(&server), ["note daemon-away"]);
}

#[test]
fn settings_are_compared_interface_by_interface() {
    let (_network, host) = host(&["10.10.1.20", "192.0.2.20"]);
    let server = server(&host, POLICY);
    let set = |name: &str, value: &str| host.namespace.sysctl(name, value).unwrap();
    set("net.ipv4.conf.eth1.send_redirects", "1");
    set("net.ipv4.tcp_rfc1337", "0");
    assert_eq!(found(&server), ["note daemon-away", "note sysctl-hardening"]);
    let details = finding(&server, "sysctl-hardening")["details"].clone();
    assert_eq!(
        details,
        serde_json::json!([
            "net.ipv4.conf.*.send_redirects is 1 on eth1, better 0",
            "net.ipv4.tcp_rfc1337 is 0, better 1"
        ])
    );
    set("net.ipv4.tcp_syncookies", "0");
    assert_eq!(
        found(&server),
        ["warning sysctl-weak", "note daemon-away", "note sysctl-hardening"]
    );
}

#[test]
fn a_router_is_told_what_a_policy_would_end() {
    let (_network, host) = host(&["10.10.1.20", "192.0.2.20"]);
    let server = server(&host, POLICY);
    host.namespace.sysctl("net.ipv4.ip_forward", "1").unwrap();
    // The kernel sets redirects anew when forwarding is switched on.
    harden(&server);
    assert_eq!(found(&server), ["warning forwarding", "note daemon-away"]);
    let observe = format!("mode = \"observe\"\n{POLICY}");
    server.write("tierwall.toml", observe).unwrap();
    let what = finding(&server, "forwarding")["what"].clone();
    assert!(what.as_str().unwrap().ends_with("once input is enforced"), "{what}");
}
