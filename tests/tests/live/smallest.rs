//! An edit of rules: only what differs is sent; every other rule keeps its handle, every allow its
//! count.

use crate::fixture::*;
use crate::listing::{Listing, Rule};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tierwall_tests::listener::Listener;
use tierwall_tests::network::{Host, Network};
use tierwall_tests::probe::{DENIED_LIMIT, OPEN_LIMIT, Probe};
use tierwall_tests::server::Server;
use tierwall_tests::service::Service;
use tierwall_tests::verdict::Verdict;

const ASKED: &str = "10.0.0.2";
const SERVICE: Service = Service::Tcp(8080);

fn policy(settings: &str, allows: &[(&str, &str, &str)]) -> String {
    let mut text = format!(
        "role = \"app\"\n{settings}\n[tiers]\nweb = {{ file = \"web.list\" }}\napp = [\"{ASKED}\"]\nadmin = [\"10.9.0.1\"]\n"
    );
    for (from, to, service) in allows {
        text += &format!("[[allow]]\nfrom = \"{from}\"\nto = \"{to}\"\nservice = \"{service}\"\n");
    }
    text
}

const ALLOWS: [(&str, &str, &str); 4] = [
    ("web", "app", "tcp/8080"),
    ("admin", "app", "tcp/22"),
    ("app", "web", "udp/53"),
    ("admin", "app", "gre"),
];

/// A server that was asked a few times, so that its counters say something.
struct Asked {
    server: Server,
    _daemon: tierwall_tests::daemon::Daemon,
    listener: Listener,
    asking: Host,
    stranger: Host,
    _network: Network,
}

impl Asked {
    fn new(web: &str) -> Self {
        let address = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
        let network = Network::new([
            ("asked", address(ASKED)),
            ("asking", address("10.0.0.1")),
            ("stranger", address("10.0.0.7")),
        ])
        .unwrap();
        let server = Server::new(network.host("asked"), &policy("", &ALLOWS)).unwrap();
        server.write("web.list", web).unwrap();
        let daemon = start(&server);
        let listener = Listener::start(network.host("asked"), &[SERVICE]).unwrap();
        let (asking, stranger) = (network.host("asking").clone(), network.host("stranger").clone());
        let asked = Self { server, _daemon: daemon, listener, asking, stranger, _network: network };
        for _ in 0..3 {
            assert!(asked.is_open());
        }
        asked
    }

    fn is_open(&self) -> bool {
        let probe = Probe::new(ASKED.parse().unwrap(), SERVICE, OPEN_LIMIT);
        let verdict = probe.run(&self.asking).unwrap().verdict;
        assert_eq!(self.listener.saw(probe.token), verdict == Verdict::Open);
        verdict == Verdict::Open
    }

    fn is_denied_to(&self, host: &Host) -> bool {
        let probe = Probe::new(ASKED.parse().unwrap(), SERVICE, DENIED_LIMIT);
        matches!(probe.run(host).unwrap().verdict, Verdict::Denied(_))
    }

    fn listing(&self) -> Listing {
        Listing::of(&self.server.host().namespace)
    }

    /// Edits and reloads; what went and what came. Every other rule keeps its handle, every chain
    /// and set that stays too, and the allow that was used its count.
    fn edit(&self, policy: &str) -> (Vec<Rule>, Vec<Rule>) {
        let before = self.listing();
        let mut monitor = Monitor::open(&self.server);
        rename(&self.server, "tierwall.toml", policy);
        tierwall_ok(&self.server, &["reload"]);
        assert_eq!(monitor.heard().len(), 1, "one batch");
        let after = self.listing();
        for (chain, (handle, _)) in &before.chains {
            assert!(after.chains.get(chain).is_none_or(|(after, _)| after == handle), "{chain}");
        }
        for (set, (handle, _)) in &before.sets {
            assert!(after.sets.get(set).is_none_or(|(after, _)| after == handle), "{set}");
        }
        let count = before.counters["allow.web.app.tcp/8080"];
        assert!(count >= 3, "{:?}", before.counters);
        assert_eq!(after.counters["allow.web.app.tcp/8080"], count);
        for (counter, count) in &before.counters {
            // Neighbour discovery may count on.
            assert!(after.counters.get(counter).is_none_or(|after| after >= count), "{counter}");
        }
        (before.rules_beyond(&after), after.rules_beyond(&before))
    }
}

fn all_of<'a>(rules: &'a [Rule], comment: &str) -> bool {
    !rules.is_empty() && rules.iter().all(|rule: &'a Rule| rule.comment == comment)
}

#[test]
fn one_allow_changes_only_its_own_rules() {
    let asked = Asked::new("10.0.0.1\n");
    let mut allows = ALLOWS.to_vec();

    allows.insert(1, ("web", "app", "tcp/9090"));
    let (gone, came) = asked.edit(&policy("", &allows));
    assert!(gone.is_empty(), "{gone:?}");
    assert!(all_of(&came, "allow web -> app tcp/9090"), "{came:?}");

    allows[1].2 = "tcp/9191";
    let (gone, came) = asked.edit(&policy("", &allows));
    assert!(all_of(&gone, "allow web -> app tcp/9090"), "{gone:?}");
    assert!(all_of(&came, "allow web -> app tcp/9191"), "{came:?}");

    // A bare protocol stands in the base chain itself, among others.
    allows.push(("web", "app", "esp"));
    let (gone, came) = asked.edit(&policy("", &allows));
    assert!(gone.is_empty(), "{gone:?}");
    assert!(all_of(&came, "allow web -> app esp"), "{came:?}");

    allows.retain(|(_, _, service)| *service != "gre");
    let (gone, came) = asked.edit(&policy("", &allows));
    assert!(all_of(&gone, "allow admin -> app gre"), "{gone:?}");
    assert!(came.is_empty(), "{came:?}");

    allows.retain(|(_, _, service)| !["tcp/9191", "esp"].contains(service));
    let (gone, came) = asked.edit(&policy("", &allows));
    let mut comments: Vec<&str> = gone.iter().map(|rule| rule.comment.as_str()).collect();
    comments.dedup();
    // With the last protocol without ports goes the rule that looks for it.
    let own = ["allow web -> app tcp/9191", "allow web -> app esp", "dispatch by protocol"];
    assert_eq!(comments.iter().filter(|comment| !own.contains(comment)).count(), 0, "{comments:?}");
    assert!(came.is_empty(), "{came:?}");
    assert!(asked.is_open());
}

#[test]
fn a_mode_switch_changes_what_denies_and_the_policies() {
    let asked = Asked::new("10.0.0.1\n");
    let before = asked.listing();
    let (gone, came) = asked.edit(&policy("mode = \"observe\"", &ALLOWS));
    let observing = asked.listing();
    let policies = |listing: &Listing| -> Vec<String> {
        listing.chains.values().filter_map(|(_, policy)| policy.clone()).collect()
    };
    assert_eq!(policies(&before), ["drop"; 3]);
    assert_eq!(policies(&observing), ["accept"; 3]);
    for rule in &gone {
        let denies = [" drop", " reject ", "denied", "invalid"];
        assert!(denies.iter().any(|word| rule.statements.contains(word)), "{rule:?}");
    }
    assert!(came.iter().all(|rule| !rule.statements.ends_with(" drop")), "{came:?}");
    assert!(!asked.is_denied_to(&asked.stranger));

    let (gone_again, came_again) = asked.edit(&policy("", &ALLOWS));
    assert_eq!((gone_again.len(), came_again.len()), (came.len(), gone.len()));
    assert_eq!(asked.listing().meaning(), before.meaning());
    assert!(asked.is_denied_to(&asked.stranger));
}

#[test]
fn a_forward_switch_changes_only_its_chains() {
    let asked = Asked::new("10.0.0.1\n");
    for setting in ["accept", "unmanaged", "drop"] {
        let (gone, came) = asked.edit(&policy(&format!("forward = \"{setting}\""), &ALLOWS));
        let foreign: Vec<_> =
            gone.iter().chain(&came).filter(|r| !r.chain.starts_with("forward")).collect();
        assert!(foreign.is_empty(), "{setting}: {foreign:?}");
    }
}

#[test]
fn a_reload_without_a_change_sends_nothing() {
    let asked = Asked::new("10.0.0.1\n");
    let mut monitor = Monitor::open(&asked.server);
    let generation = status(&asked.server).generation;
    let moved = policy("# said otherwise", &ALLOWS).replace("[[allow]]", "\n# a rule\n[[allow]]");
    rename(&asked.server, "tierwall.toml", &moved);
    let told = tierwall_ok(&asked.server, &["reload"]);
    assert!(told.contains("nothing changed"), "{told}");
    assert!(monitor.heard().is_empty());
    assert_eq!(status(&asked.server).generation, generation);
}

/// Every second address from 10.128.0.0 on, so that none merge.
fn many(count: u32) -> String {
    let addresses = (0..count).map(|n| std::net::Ipv4Addr::from(0x0a80_0000 + 2 * n).to_string());
    addresses.map(|address| address + "\n").collect()
}

#[test]
fn a_tier_that_outgrows_one_set_is_one_batch_and_filters_on() {
    let asked = Asked::new(&("10.0.0.1\n".to_owned() + &many(9_990)));
    let before = asked.listing();
    let mut monitor = Monitor::open(&asked.server);
    let done = AtomicBool::new(false);
    let after = thread::scope(|scope| {
        let connections = scope.spawn(|| {
            let mut made = 0;
            while !done.load(Ordering::Relaxed) || made < 3 {
                assert!(asked.is_open());
                made += 1;
            }
        });
        rename(&asked.server, "web.list", &("10.0.0.1\n".to_owned() + &many(10_050)));
        let after = eventually("the tier has two sets", || {
            status(&asked.server).last_commit.filter(|commit| commit.sets.len() > 1)?;
            Some(asked.listing())
        });
        done.store(true, Ordering::Relaxed);
        connections.join().unwrap();
        after
    });
    let heard = monitor.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(after.elements("web_v4_hosts").len(), 10_051);
    assert!(after.elements("web_v4").is_empty());
    assert!(asked.is_denied_to(&asked.stranger));
    // Only where the tier is looked up.
    for rule in before.rules_beyond(&after).iter().chain(&after.rules_beyond(&before)) {
        assert!(
            (rule.comment.starts_with("allow ") || rule.comment.ends_with("members of tiers"))
                && rule.statements.contains("web_v4"),
            "{rule:?}"
        );
    }
    assert!(after.counters["allow.web.app.tcp/8080"] >= before.counters["allow.web.app.tcp/8080"]);

    // The large tier is one of elements again, and one member counts.
    rename(&asked.server, "web.list", &many(10_050));
    eventually("the host is no member", || asked.is_denied_to(&asked.asking).then_some(()));
    let heard = monitor.heard();
    assert!(heard.iter().all(is_elements_only), "{heard:?}");
    assert_eq!(elements(&heard), ["delete an element of set web_v4_hosts"]);
}
