//! Going back and forth between generations while connections are busy and new ones are opened.

use crate::kernel;
use crate::load::Load;
use crate::scaled;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::network::Network;
use tierwall_tests::server::Server;

const LONG: u16 = 7000;
const SHORT: u16 = 8080;

/// Two policies that both let everything in that the load needs, and have little else in common.
fn policy(number: usize) -> String {
    let (service, from) = match number % 2 {
        0 => ("\"tcp/8080\"", "\"web\""),
        _ => ("[\"tcp/8000-8100\", \"udp/53\"]", "[\"web\", \"10.9.0.0/16\"]"),
    };
    let own = 10_000 + number;
    format!(
        "role = \"app\"\n[tiers]\nweb = [\"10.0.1.10\", \"10.8.0.{number}\"]\n\
         app = [\"10.0.1.20\"]\n\
         [[allow]]\nname = \"long {number}\"\nfrom = \"web\"\nto = \"app\"\nservice = \"tcp/7000\"\n\
         [[allow]]\nfrom = {from}\nto = \"app\"\nservice = {service}\n\
         [[allow]]\nfrom = \"web\"\nto = \"app\"\nservice = \"tcp/{own}\"\n"
    )
}

#[test]
fn rollbacks_under_load_disturb_nothing() {
    let hosts = [("web", "10.0.1.10"), ("app", "10.0.1.20")];
    let network =
        Network::new(hosts.map(|(name, address)| (name, vec![address.parse().unwrap()]))).unwrap();
    let (web, app) = (network.host("web"), network.host("app"));
    let server = Server::new(app, &policy(0)).unwrap();
    let daemon = server.start(&[]).unwrap();
    let tierwall = |arguments: &[&str]| {
        let output = server.tierwall(arguments).unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    server.replace_policy(&policy(1)).unwrap();
    tierwall(&["reload"]);

    let mut load = Load::new();
    for port in [LONG, SHORT] {
        load.serve(app, port);
    }
    load.keep_connected(web, app, LONG);
    load.keep_connecting(web, app, SHORT);
    thread::sleep(Duration::from_millis(300));
    load.since_last();
    let (start, count) = (Instant::now(), scaled(40, 400));
    for number in 1..=count {
        // The one before the current: each time the other policy.
        tierwall(&["rollback", &number.to_string()]);
        load.assert_unbroken();
    }
    thread::sleep(Duration::from_millis(50));
    let traffic = load.since_last();
    println!("{count} rollbacks in {:.1?}: {traffic:?}", start.elapsed());
    assert!(traffic.exchanges > 0 && traffic.opened > 0, "there was no load");
    load.assert_unbroken();
    load.assert_nothing_denied(&kernel::packets(app));
    drop(load);
    drop(daemon);
}
