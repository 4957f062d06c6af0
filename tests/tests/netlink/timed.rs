//! Elements that the kernel forgets by itself.

use crate::fixture::*;
use netlink::{CommitError, Connection, Events, Handles, Hold, Object, Verb};
use ruleset::{
    AddressRange, Elements, Family, Field, Lifetime, Plan, Rule, Ruleset, Set, Statement, Table,
    TimedSet,
};
use std::net::Ipv4Addr;
use std::time::Duration;
use tierwall_tests::namespace::Namespace;

const SET: &str = "app_v4_timed";

/// The small table with a timed set that a rule looks in.
fn with(addresses: TimedSet<Ipv4Addr>) -> Table {
    let mut table = small();
    table.sets.insert(SET.into(), Set::timed_ipv4(addresses));
    let lookup = Statement::lookup(Field::Saddr(Family::V4), SET);
    let rule = Rule::new("app", vec![lookup, accept()]);
    table.chains.get_mut("input").unwrap().rules.push(rule);
    table
}

fn lives(ranges: &[(AddressRange<Ipv4Addr>, u64)]) -> TimedSet<Ipv4Addr> {
    let lifetime = |seconds| Lifetime { until: now() + seconds, timeout: seconds };
    TimedSet::new(ranges.iter().map(|(range, seconds)| (*range, lifetime(*seconds))).collect())
}

fn settle(connection: &mut Connection, wanted: &Ruleset) -> Plan {
    let found = connection.dump().unwrap();
    let plan = found.ruleset.diff(wanted);
    let generation = Some(found.generation);
    connection.commit(&plan, &found.handles, generation, Hold::Plain).unwrap();
    plan
}

fn held(connection: &mut Connection) -> TimedSet<Ipv4Addr> {
    let mut table = connection.dump().unwrap().ruleset.table.unwrap();
    match table.sets.remove(SET).unwrap() {
        Set { elements: Elements::TimedIpv4(set), spec } => {
            assert_eq!(spec.foreign, [""; 0]);
            set
        }
        other => panic!("{other:?}"),
    }
}

/// Sleeps until that second has begun, and a little longer.
fn sleep_until(until: u64) {
    while now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn they_are_read_back_with_their_end_and_listed_with_what_is_left() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let set = lives(&[
            (single("10.0.0.7"), 7200),
            (single("10.0.0.8"), 7200),
            (range("10.1.0.0", "10.1.0.255"), 86_400),
            (single("255.255.255.255"), 60),
        ]);
        let wanted = ruleset(with(set.clone()));
        settle(&mut connection, &wanted);
        let read = connection.dump().unwrap().ruleset;
        assert_eq!(read, wanted);
        assert!(read.diff(&wanted).is_empty());
        let (sets, generation) = connection.timed_sets().unwrap();
        assert_eq!(generation, connection.generation().unwrap());
        let expected = Set::timed_ipv4(set.clone());
        assert_eq!(sets, [(SET.to_owned(), expected)].into());
        let listed = namespace.command("nft", &["list", "set", "inet", "filter", SET]).unwrap();
        let (_, lifetime) = set.elements().next().unwrap();
        let comment = lifetime.unwrap().comment();
        assert!(listed.contains("10.0.0.7 timeout 2h expires 1h59m"), "{listed}");
        assert!(listed.contains(&format!("comment \"{comment}\"")), "{listed}");
        assert!(listed.contains("10.1.0.0/24 timeout 1d expires 23h59m"), "{listed}");

        // Made anew, they have what is left and not all of it.
        let lifetime = Lifetime { until: now() + 100, timeout: 7200 };
        let old = TimedSet::new(vec![(single("10.0.0.7"), lifetime)]);
        settle(&mut connection, &Ruleset::default());
        assert!(connection.timed_sets().unwrap().0.is_empty());
        settle(&mut connection, &ruleset(with(old.clone())));
        assert_eq!(held(&mut connection), old);
        let listed = namespace.command("nft", &["list", "set", "inet", "filter", SET]).unwrap();
        assert!(listed.contains("10.0.0.7 timeout 2h expires 1m3"), "{listed}");
    });
}

#[test]
fn nft_takes_our_rendering_of_them() {
    let wanted =
        ruleset(with(lives(&[(single("10.0.0.7"), 7200), (range("10.1.0.0", "10.1.0.9"), 61)])));
    let (text, json) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    text.command_with_input("nft", &["-f", "-"], &wanted.to_nft_script()).unwrap();
    let script = wanted.to_nft_json().to_string();
    json.command_with_input("nft", &["-j", "-f", "-"], &script).unwrap();
    for namespace in [text, json] {
        let read = namespace.run(|| held(&mut Connection::open().unwrap()));
        let table = wanted.table.as_ref().unwrap();
        assert_eq!(Elements::TimedIpv4(read), table.sets[SET].elements);
    }
}

#[test]
fn they_expire_by_themselves_without_a_word() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let set = lives(&[
            (single("10.0.0.7"), 2),
            (range("10.1.0.0", "10.1.0.255"), 2),
            (single("10.2.0.1"), 600),
        ]);
        let mut mirror = ruleset(with(set.clone()));
        settle(&mut connection, &mirror);
        assert_eq!(held(&mut connection), set);
        sleep_until(now() + 2);

        let mut left = set.clone();
        assert!(left.expire(now()));
        assert_eq!(left.len(), 1);
        assert_eq!(held(&mut connection), left);

        // What overlaps them can be added by who knows that they are gone.
        assert!(mirror.table.as_mut().unwrap().expire(now()));
        let new = lives(&[(range("10.0.0.0", "10.0.0.15"), 500), (single("10.2.0.1"), 600)]);
        let wanted = ruleset(with(new.clone()));
        let plan = mirror.diff(&wanted);
        assert!(plan.is_elements_only());
        connection.commit(&plan, &Handles::default(), None, Hold::Plain).unwrap();
        assert_eq!(held(&mut connection), new);
    });
}

/// Who believes that an element is there which has expired is told so, and nothing is changed:
/// neither the one above it, which must not reach further than before.
#[test]
fn deleting_what_has_expired_is_refused_as_a_whole() {
    // The clock that `until` is of was set back meanwhile.
    let early = |until| (single("10.0.0.5"), Lifetime { until, timeout: 1 });
    for renewed in [false, true] {
        let namespace = Namespace::new().unwrap();
        namespace.run(|| {
            let mut connection = Connection::open().unwrap();
            let above = (single("10.0.0.10"), Lifetime { until: now() + 3600, timeout: 3600 });
            let mirror = ruleset(with(TimedSet::new(vec![early(now() + 1000), above])));
            settle(&mut connection, &mirror);
            std::thread::sleep(Duration::from_millis(1500));
            let again = (single("10.0.0.5"), Lifetime { until: now() + 3600, timeout: 3600 });
            let mut new = vec![above];
            new.extend(renewed.then_some(again));
            let wanted = ruleset(with(TimedSet::new(new.clone())));
            let error =
                connection.commit(&mirror.diff(&wanted), &Handles::default(), None, Hold::Plain);
            let CommitError::Refused(refusal) = error.unwrap_err() else { panic!("refused") };
            assert_eq!(refusal.errno, nix::errno::Errno::ENOENT);
            let kept = TimedSet::new(vec![above]);
            assert_eq!(held(&mut connection), kept);

            // Who looks again succeeds, and then the kernel collects what has expired.
            settle(&mut connection, &wanted);
            let more = TimedSet::new([new, vec![(single("10.9.0.1"), above.1)]].concat());
            settle(&mut connection, &ruleset(with(more.clone())));
            assert_eq!(held(&mut connection), more);
        });
    }
}

#[test]
fn a_longer_life_is_an_element_in_place_of_another() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        settle(&mut connection, &ruleset(with(lives(&[(single("10.0.0.7"), 100)]))));
        let mut events = Events::open().unwrap();
        let longer = lives(&[(single("10.0.0.7"), 5000)]);
        let plan = settle(&mut connection, &ruleset(with(longer.clone())));
        assert!(plan.is_elements_only());
        assert_eq!(held(&mut connection), longer);
        let changes = events.read().unwrap().unwrap().changes;
        let told: Vec<_> = changes.into_iter().map(|change| (change.verb, change.object)).collect();
        let one = || Object::Elements { set: SET.into(), count: 1 };
        assert_eq!(told, [(Verb::Delete, one()), (Verb::Add, one())]);
    });
}

#[test]
fn what_others_add_is_seen_and_taken_away() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let own = lives(&[(single("10.0.0.7"), 600)]);
        let wanted = ruleset(with(own.clone()));
        settle(&mut connection, &wanted);
        let elements =
            "{ 10.0.0.9, 10.0.1.0/24 timeout 1h, 10.0.3.1 comment \"until @99999999999\" }";
        namespace.command("nft", &["add", "element", "inet", "filter", SET, elements]).unwrap();
        let found = held(&mut connection);
        let unknown = found.elements().filter(|(_, lifetime)| lifetime.is_none()).count();
        assert_eq!((found.len(), unknown), (4, 3));
        let plan = settle(&mut connection, &wanted);
        assert!(plan.is_elements_only());
        assert_eq!(held(&mut connection), own);
    });
}

#[test]
fn packets_are_matched_until_the_end_and_not_after() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let seconds = 2;
        let set = lives(&[
            (range("127.0.0.0", "127.0.0.9"), seconds),
            (single("10.0.0.1"), 600),
            (single("200.0.0.1"), 600),
        ]);
        let mut table = with(set);
        let lookup = Statement::lookup(Field::Saddr(Family::V4), SET);
        let rules = vec![Rule::new("app", vec![lookup, Statement::counter("web"), accept()])];
        table.chains.get_mut("input").unwrap().rules = rules;
        settle(&mut connection, &ruleset(table));
        send_to_self(3);
        assert_eq!(connection.counters().unwrap()["web"].0, 3);
        sleep_until(now() + seconds);
        send_to_self(3);
        assert_eq!(connection.counters().unwrap()["web"].0, 3);
    });
}

/// An end that has come between planning and sending: the kernel would take no time left for all of
/// it.
#[test]
fn what_has_ended_is_not_added() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let ended = |seconds: u64| Lifetime { until: now() - seconds, timeout: 7200 };
        let set = TimedSet::new(vec![
            (single("10.0.0.7"), ended(0)),
            (single("10.0.0.8"), ended(100)),
            (single("10.0.0.9"), Lifetime { until: now() + 50, timeout: 7200 }),
        ]);
        settle(&mut connection, &ruleset(with(set)));
        assert_eq!(held(&mut connection).len(), 1);
    });
}
