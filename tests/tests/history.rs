//! The generations of policies: numbered, listed, compared, and gone back to.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::time::Duration;
use tierwall_tests::site::{ADMIN, OTHER, Site, policy};

/// The policy number so much: on tcp/80 and this port.
fn numbered(number: u16) -> String {
    format!(
        "{}[[allow]]\nfrom = \"admin\"\nto = \"app\"\nservice = \"tcp/{number}\"\n",
        policy(ADMIN)
    )
}

fn json(site: &Site, arguments: &[&str]) -> Value {
    let output = site.server.tierwall(arguments).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn history(site: &Site) -> Vec<Value> {
    json(site, &["history", "--json"]).as_array().unwrap().clone()
}

/// Denials are those of the daemon's present run.
fn without_denials(mut past: Vec<Value>) -> Vec<Value> {
    past.iter_mut().for_each(|past| past["denials"] = Value::Null);
    past
}

fn generation(site: &Site) -> u64 {
    site.status()["generation"].as_u64().unwrap()
}

fn reload(site: &Site, text: &str) {
    site.server.replace("tierwall.toml", text).unwrap();
    let (code, told) = site.tierwall(&["reload"]);
    assert_eq!(code, 0, "{told}");
}

/// What the table lets in, without its numbers.
fn allows(site: &Site) -> Vec<String> {
    let listing = site.kernel().listing;
    let comments = listing.lines().filter_map(|line| line.split_once("comment \"allow "));
    comments.map(|(_, comment)| comment.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn members_are_no_generation_and_rules_are() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(generation(&site), 1);
    assert!(daemon.log().contains("generation=1 kernel_generation="), "{}", daemon.log());
    let kernel = site.status()["kernel_generation"].as_u64().unwrap();
    assert_eq!(kernel, u64::from(site.kernel().generation));

    assert_eq!(site.tierwall(&["member", "add", "admin", OTHER]).0, 0);
    site.server.replace("tierwall.toml", policy(&format!("{ADMIN}\", \"10.7.0.1"))).unwrap();
    site.status_when(|status| status["tiers"][0]["v4"] == 2);
    // Moved text neither.
    reload(&site, &format!("# moved\n\n{}", policy(&format!("{ADMIN}\", \"10.7.0.1"))));
    assert_eq!((generation(&site), history(&site).len()), (1, 1));

    reload(&site, &numbered(8001));
    reload(&site, &format!("watch = \"all\"\n{}", numbered(8001)));
    let past = history(&site);
    assert_eq!(past.len(), 3);
    let [first, second, third] = &past[..] else { panic!("{past:?}") };
    assert_eq!((&first["reason"], &first["by"]), (&"start".into(), &Value::Null));
    assert_eq!((&second["reason"], &second["by"]["uid"]), (&"reload".into(), &0.into()));
    assert_eq!(second["by"]["process"], "tierwall");
    assert!(second["by"]["pid"].as_u64().unwrap() > 1);
    let change = second["changes"][0]["text"].as_str().unwrap();
    assert!(change.contains("now reachable from admin on tcp/8001"), "{change}");
    assert!(second["edits"][0].as_str().unwrap().contains("new allow"), "{second}");
    assert_eq!(third["edits"][0], "the setting watch changes");
    assert!(third["current"] == true && third["kept"] == true && second["kept"] == true);
    let (_, told) = site.tierwall(&["history"]);
    let newest = told.lines().next().unwrap();
    assert!(
        newest.starts_with("3  reload, ") && newest.ends_with("(tierwall), enforced"),
        "{told}"
    );

    // A restart counts nothing; one that finds other rules does.
    daemon.stop().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!((generation(&site), history(&site).len()), (3, 3));
    daemon.stop().unwrap();
    site.server.replace("tierwall.toml", numbered(8003)).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let past = history(&site);
    assert_eq!((generation(&site), &past[3]["reason"]), (4, &"start".into()));
    assert!(past.iter().all(|past| past["kept"] == true), "{past:?}");
    daemon.stop().unwrap();
}

/// Whoever reads a change reads the names that the policies use, of who lost something too.
#[test]
fn users_are_named_as_the_policies_name_them() {
    let of = |users: &str| {
        format!(
            "{}[[allow]]\nfrom = \"app\"\nto = \"admin\"\nservice = \"udp/514\"\nuser = [{users}]\n",
            policy(ADMIN)
        )
    };
    let site = Site::new(&of("\"root\", \"daemon\", 4321"));
    let daemon = site.server.start(&[]).unwrap();
    site.server.replace("tierwall.toml", of("\"root\"")).unwrap();
    let (_, planned) = site.tierwall(&["plan"]);
    let line = "app may no longer open udp/514 to admin by user daemon, user 4321";
    assert!(planned.contains(line), "{planned}");
    assert!(planned.contains("established flows of user daemon to udp/514 end"), "{planned}");
    let (_, told) = site.tierwall(&["reload"]);
    assert!(told.contains(line), "{told}");
    assert!(history(&site)[1]["changes"].to_string().contains(line), "{:?}", history(&site));
    let (_, told) = site.tierwall(&["diff", "1", "2"]);
    assert!(told.contains(line), "{told}");
    // After a restart those of the last run are known.
    daemon.stop().unwrap();
    site.server.replace("tierwall.toml", policy(ADMIN)).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    let changes = history(&site)[2]["changes"].to_string();
    assert!(changes.contains("may no longer open udp/514 to admin by user root"), "{changes}");
    daemon.stop().unwrap();
}

#[test]
fn there_is_a_way_back_and_forth() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let first = allows(&site);
    // Members of its time go back with it; those by command are beside it.
    site.server.replace("tierwall.toml", policy(&format!("{ADMIN}\", \"{OTHER}"))).unwrap();
    site.status_when(|status| status["tiers"][0]["v4"] == 2);
    reload(&site, &numbered(8001).replace(ADMIN, &format!("{ADMIN}\", \"{OTHER}")));
    reload(&site, &numbered(8002));
    assert!(!site.is_let_in("other"));
    let third = allows(&site);

    let difference = json(&site, &["diff", "1", "--json"]);
    assert_eq!((&difference["from"], &difference["to"]), (&1.into(), &3.into()));
    assert_eq!(
        difference["members"],
        serde_json::json!([{"tier": "admin", "gained": 0, "lost": 1}])
    );
    assert_eq!(difference["changes"].as_array().unwrap().len(), 1);
    let (_, told) = site.tierwall(&["diff", "2", "3"]);
    assert!(told.contains("+ app is now reachable from admin on tcp/8002"), "{told}");
    assert!(told.contains("- app is no longer reachable from admin on tcp/8001"), "{told}");
    let (_, told) = site.tierwall(&["diff", "3", "3"]);
    assert!(told.contains("no difference"), "{told}");

    let (code, told) = site.tierwall(&["rollback", "1"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!((generation(&site), allows(&site)), (4, first.clone()));
    assert!(site.is_let_in("other"), "a member of its time");
    let status = site.status();
    assert_eq!(status["differs"]["kind"], "rolled-back", "{status}");
    assert!(status["waiting"].as_array().unwrap().len() == 1, "{status}");
    let (_, told) = site.tierwall(&["status"]);
    assert!(told.contains("rolled back from generation 3 to generation 1"), "{told}");
    let past = history(&site);
    assert_eq!((&past[3]["back_to"], &past[2]["rolled_back"]), (&1.into(), &true.into()));

    // Nobody applies it by itself: not a touched file, nor a restart.
    site.server.replace("tierwall.toml", numbered(8002)).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(allows(&site), first);
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!((generation(&site), allows(&site)), (4, first.clone()));
    assert!(site.is_let_in("other"));
    // Members of the text that is held back that change apply, and nothing else of it.
    let edited = numbered(8002).replace("\"10.0.0.5\"", "\"10.0.0.5\", \"10.7.0.1\"");
    site.server.replace("tierwall.toml", edited).unwrap();
    site.status_when(|status| status["tiers"][0]["v4"] == 3);
    assert_eq!(allows(&site), first);
    assert!(site.is_let_in("other"), "the member of that time stays");
    daemon.stop().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(allows(&site), first, "it is still the same text but for a member");
    assert_eq!(site.status()["differs"]["kind"], "rolled-back");

    // Also where the member was by command before.
    assert_eq!(site.tierwall(&["member", "add", "admin", "10.7.0.9"]).0, 0);
    let (code, told) = site.tierwall(&["member", "promote", "admin", "10.7.0.9"]);
    assert_eq!(code, 0, "{told}");
    let status = site.status();
    assert_eq!(
        (&status["tiers"][0]["v4"], &status["tiers"][0]["by_command"]),
        (&4.into(), &0.into())
    );
    assert_eq!((allows(&site), &status["differs"]["kind"]), (first, &"rolled-back".into()));

    // A reload asks for it.
    assert_eq!(site.tierwall(&["reload"]).0, 0);
    assert_eq!(allows(&site), third);
    assert!(site.status()["differs"].is_null());
    for (number, told) in
        [("5", "the one enforced"), ("17", "no generation 17"), ("0", "no generation 0")]
    {
        let (code, message) = site.tierwall(&["rollback", number]);
        assert!(code == 1 && message.contains(told), "{message}");
    }
    daemon.stop().unwrap();
}

/// Where every edit applies by itself, too.
#[test]
fn an_edit_of_members_does_not_bring_back_what_is_held_back() {
    let all = |text: &str| format!("watch = \"all\"\n{text}");
    let site = Site::new(&all(&policy(ADMIN)));
    let daemon = site.server.start(&[]).unwrap();
    site.server.replace("tierwall.toml", all(&numbered(8001))).unwrap();
    site.status_when(|status| status["generation"] == 2);
    let (code, told) = site.tierwall(&["rollback"]);
    assert_eq!(code, 0, "{told}");
    let first = allows(&site);
    let edited = all(&numbered(8001)).replace(ADMIN, &format!("{ADMIN}\", \"{OTHER}"));
    site.server.replace("tierwall.toml", &edited).unwrap();
    let status = site.status_when(|status| status["tiers"][0]["v4"] == 2);
    assert_eq!((allows(&site), &status["differs"]["kind"]), (first, &"rolled-back".into()));
    // Another rule is another decision; and so are the files as they were enforced.
    site.server.replace("tierwall.toml", all(&numbered(8002))).unwrap();
    let status = site.status_when(|status| status["generation"] == 4);
    assert!(status["differs"].is_null(), "{status}");
    assert!(allows(&site).iter().any(|allow| allow.contains("tcp/8002")));
    daemon.stop().unwrap();
}

#[test]
fn without_a_number_it_is_the_one_before() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    let (code, told) = site.tierwall(&["rollback"]);
    assert!(code == 1 && told.contains("no earlier generation"), "{told}");
    let first = allows(&site);
    reload(&site, &numbered(8001));
    let second = allows(&site);
    reload(&site, &numbered(8002));
    for before in [second, first] {
        let (code, told) = site.tierwall(&["rollback"]);
        assert_eq!(code, 0, "{told}");
        assert_eq!(allows(&site), before, "{told}");
    }
    assert_eq!(site.tierwall(&["rollback"]).0, 1);
    daemon.stop().unwrap();
}

/// Killed as soon as it has said that it is done.
#[test]
fn what_was_told_to_be_done_survives_a_crash() {
    let site = Site::new(&policy(ADMIN));
    let mut daemon = site.server.start(&[]).unwrap();
    let first = allows(&site);
    reload(&site, &numbered(8001));
    for _ in 0..5 {
        assert_eq!(site.tierwall(&["rollback", "1"]).0, 0);
        daemon.kill().unwrap();
        daemon = site.server.start(&[]).unwrap();
        assert_eq!(allows(&site), first);
        assert_eq!(site.status()["differs"]["kind"], "rolled-back");
        assert_eq!(site.tierwall(&["reload"]).0, 0);
        assert_ne!(allows(&site), first);
    }
    daemon.stop().unwrap();
}

#[test]
fn the_guard_is_asked() {
    let site = Site::new(&policy(ADMIN).replace("tcp/22", "tcp/23"));
    let daemon = site.server.start(&[]).unwrap();
    reload(&site, &policy(ADMIN));
    let _session = site.session("admin", 22);
    let (code, told) = site.tierwall(&["rollback"]);
    assert!(code == 6 && told.contains(ADMIN), "{told}");
    let status = site.status();
    assert!(site.is_let_in("admin") && status["generation"] == 2, "{status}");
    assert!(status["differs"].is_null(), "{status}");
    assert_eq!(site.tierwall(&["rollback", "--force"]).0, 0);
    assert!(!site.is_let_in("admin"));
    assert_eq!(history(&site)[2]["forced"], true);
    daemon.stop().unwrap();
}

#[test]
fn sixty_changes_are_fifty_generations() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    for number in 2..=60 {
        reload(&site, &numbered(8000 + number));
    }
    let past = without_denials(history(&site));
    let numbers: Vec<u64> = past.iter().map(|past| past["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (11..=60).collect::<Vec<_>>());
    assert!(past.iter().all(|past| past["kept"] == true));
    let (code, told) = site.tierwall(&["rollback", "10"]);
    assert!(code == 1 && told.contains("no longer kept"), "{told}");
    daemon.stop().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(without_denials(history(&site)), past);
    let directory = fs::read_dir(site.server.state_directory().join("history")).unwrap();
    assert_eq!(directory.count(), 50, "49 policies and the list");
    assert_eq!(site.tierwall(&["rollback", "11"]).0, 0);
    assert!(allows(&site).iter().any(|allow| allow.contains("tcp/8011")));
    daemon.stop().unwrap();
}

#[test]
fn a_disk_that_takes_nothing_costs_the_history_and_nothing_else() {
    let site = Site::new(&policy(ADMIN));
    let state = site.server.state_directory();
    fs::create_dir(state.join("history")).unwrap();
    let names = (1..9).map(|number| format!(".policy-{number}.new"));
    for name in names.chain([".generations.json.new".into()]) {
        // Root may write to any directory, but not a file where there is a directory.
        fs::create_dir(state.join("history").join(name)).unwrap();
    }
    let daemon = site.server.start(&[]).unwrap();
    let first = allows(&site);
    reload(&site, &numbered(8001));
    let second = allows(&site);
    for number in 2..5 {
        reload(&site, &numbered(8000 + number));
    }
    assert_eq!((generation(&site), history(&site).len()), (5, 5));
    assert!(daemon.log().contains("can't write the history to the state directory"));
    // The last are still in memory.
    let (code, told) = site.tierwall(&["rollback", "3"]);
    assert_eq!(code, 0, "{told}");
    assert_ne!((allows(&site) == first, allows(&site) == second), (true, true));
    daemon.stop().unwrap();

    // None at all.
    let site = Site::new(&policy(ADMIN));
    fs::remove_dir(site.server.state_directory()).unwrap();
    fs::write(site.server.state_directory(), "").unwrap();
    let daemon = site.server.start(&[]).unwrap();
    reload(&site, &numbered(8001));
    assert_eq!(generation(&site), 2);
    let (code, told) = site.tierwall(&["rollback"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!((allows(&site), generation(&site)), (first, 3));
    let (code, told) = site.tierwall(&["reload", "--confirm"]);
    assert!(code == 1 && told.contains("nothing was changed"), "{told}");
    daemon.stop().unwrap();
}

#[test]
fn a_history_that_is_damaged_begins_anew_and_no_number_comes_again() {
    let site = Site::new(&policy(ADMIN));
    let daemon = site.server.start(&[]).unwrap();
    reload(&site, &numbered(8001));
    reload(&site, &numbered(8002));
    daemon.stop().unwrap();
    let list = site.server.state_directory().join("history/generations.json");
    fs::write(&list, "[{\"number\":").unwrap();
    // As after a boot, which leaves the state directory alone.
    fs::remove_file(site.server.runtime_directory().join("generation")).unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert!(daemon.log().contains("the history can't be read"), "{}", daemon.log());
    assert_eq!((generation(&site), history(&site).len()), (4, 1));
    // The policies are still there.
    assert_eq!(site.tierwall(&["rollback", "1"]).0, 0);
    daemon.stop().unwrap();
}

/// A lockout that was forced by members alone.
#[test]
fn a_member_that_was_taken_out_by_force_comes_back_by_a_rollback() {
    let site = Site::new(&policy("10.0.0.98"));
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(site.tierwall(&["member", "add", "admin", ADMIN]).0, 0);
    let _session = site.session("admin", 22);
    assert_eq!(site.tierwall(&["member", "remove", "admin", ADMIN]).0, 6);
    assert_eq!((generation(&site), site.is_let_in("admin")), (1, true));
    assert_eq!(site.tierwall(&["member", "remove", "admin", ADMIN, "--force"]).0, 0);
    assert_eq!((generation(&site), site.is_let_in("admin")), (2, false));
    assert_eq!(history(&site)[1]["forced"], true);
    let (code, told) = site.tierwall(&["rollback"]);
    assert!(code == 0 && site.is_let_in("admin"), "{told}");
    assert_eq!(history(&site)[2]["back_to"], 1);
    // It is no way back to itself.
    assert_ne!(site.tierwall(&["rollback"]).0, 0);
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert!(site.is_let_in("admin"), "a start knows");
    // What nobody forced is none.
    assert_eq!(site.tierwall(&["member", "add", "admin", "10.0.0.97"]).0, 0);
    assert_eq!(generation(&site), 3);
    daemon.stop().unwrap();
}

#[test]
fn a_restart_that_remembers_nothing_gives_no_number_again() {
    let site = Site::new(&policy(ADMIN));
    fs::remove_dir(site.server.state_directory()).unwrap();
    fs::write(site.server.state_directory(), "").unwrap();
    let daemon = site.server.start(&[]).unwrap();
    reload(&site, &numbered(8001));
    reload(&site, &numbered(8002));
    assert_eq!(generation(&site), 3);
    daemon.kill().unwrap();
    let daemon = site.server.start(&[]).unwrap();
    assert_eq!(generation(&site), 4);
    daemon.stop().unwrap();
}
