//! Sockets that the service manager listens on in the daemon's place.

use super::http::get;
use super::{POLICY, network, server};
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use tierwall_tests::fd_store::FdStore;
use tierwall_tests::network::Host;

fn listener(host: &Host, address: &str) -> OwnedFd {
    host.namespace.run(|| TcpListener::bind(address).unwrap()).into()
}

#[test]
fn metrics_are_served_by_them_and_the_table_stays_owned() {
    let network = network();
    let host = network.host("server");
    let exclusive = POLICY.replace("\"repair\"", "\"exclusive\"");
    let listening = format!("{exclusive}[metrics]\nlisten = \"127.0.0.1:29815\"\n");
    let server = server(host, &exclusive);
    let store = FdStore::default();
    // Of both families, as a unit may name them.
    for address in ["127.0.0.1:29816", "[::1]:29816"] {
        store.put("metrics", listener(host, address));
    }
    let addresses = ["127.0.0.1:29816", "[::1]:29816"].map(|a| a.parse::<SocketAddr>().unwrap());
    let is_served = || {
        for address in addresses {
            let (head, body) = get(host, address, "GET /metrics");
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(body.contains("\ntierwall_enforced 1\n"), "{body}");
        }
    };
    server.start_with_store(&store).unwrap().kill().unwrap();
    assert_eq!(store.names(), ["metrics", "metrics", "nftables"]);
    // The one that owns the table is found among them.
    let daemon = server.start_with_store(&store).unwrap();
    is_served();
    assert!(daemon.log().contains("nothing was sent"), "{}", daemon.log());
    assert!(!daemon.log().contains("opening another"), "{}", daemon.log());

    // Where both say so, the unit does, and the other is told.
    server.replace_policy(&listening).unwrap();
    assert!(server.tierwall(&["reload"]).unwrap().status.success());
    let status = server.tierwall(&["status"]).unwrap();
    let told = String::from_utf8(status.stdout).unwrap();
    assert!(
        told.contains("127.0.0.1:29815") && told.contains("tierwalld-metrics.socket"),
        "{told}"
    );
    assert!(host.namespace.run(|| TcpStream::connect("127.0.0.1:29815")).is_err());
    is_served();
    // Where they agree, there is nothing to tell.
    server.replace_policy(&listening.replace("29815", "29816")).unwrap();
    assert!(server.tierwall(&["reload"]).unwrap().status.success());
    let status = server.tierwall(&["status"]).unwrap();
    let told = String::from_utf8(status.stdout).unwrap();
    assert!(!told.contains("metrics"), "{told}");
    daemon.stop().unwrap();
}

#[test]
fn what_nobody_listens_on_is_put_away() {
    let network = network();
    let host = network.host("server");
    for (what, descriptor) in [
        ("a file", OwnedFd::from(File::open("/dev/null").unwrap())),
        ("UDP", host.namespace.run(|| UdpSocket::bind("127.0.0.1:29815").unwrap()).into()),
        ("unix", std::os::unix::net::UnixDatagram::unbound().unwrap().into()),
    ] {
        let store = FdStore::default();
        store.put("metrics", descriptor);
        let server = server(host, POLICY);
        let daemon = server.start_with_store(&store).unwrap();
        let log = daemon.log();
        assert!(log.contains("can't serve metrics on a socket"), "{what}: {log}");
        assert!(server.tierwall(&["metrics"]).unwrap().status.success());
        daemon.stop().unwrap();
    }
}
