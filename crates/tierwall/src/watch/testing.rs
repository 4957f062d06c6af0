//! A model to try things on: a flood, IPv6 addresses of full length, long names.

use super::ask::Answers;
use super::model::Model;
use control::{
    DenialCount, DenialFate, DenialGroup, DenialTotal, Denials, DenialsBy, Direction, Enforcement,
    Losses, Pending, Response, SideMode, Status, TableState,
};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) const NOW: u64 = 1_700_000_000;

/// A daemon that is content.
pub(super) fn status() -> Status {
    let line = br#"{"version":1,"body":{"status":{"version":"0.1.0","pid":1,"since":1,
        "policy_file":"p","enforcement":"committed","generation":12,"role":["app"],
        "role_auto":true,"input":"enforce","output":"enforce","tiers":[],"allows":0,
        "last_commit":null,"warnings":[],"waiting":[],"problem":null,"drift":null}}}"#;
    match control::decode(line) {
        Ok(Response::Status(status)) => *status,
        other => panic!("{other:?}"),
    }
}

fn group(from: &str, from_tiers: &[&str], to: &str, service: &str, ago: u64) -> DenialGroup {
    DenialGroup {
        direction: Direction::Input,
        fate: DenialFate::Denied,
        source: from.parse().ok(),
        source_tiers: from_tiers.iter().map(|tier| (*tier).to_owned()).collect(),
        destination: to.parse().ok(),
        destination_tiers: vec!["app".into()],
        service: Some(service.into()),
        user: None,
        interface: Some("eth0".into()),
        generation: Some(12),
        count: DenialCount { connections: 1200 - ago, retries: 3 * ago },
        first: NOW - 3600,
        last: NOW - ago,
        uncertain: 0,
    }
}

fn groups() -> Vec<DenialGroup> {
    let long = "a-tier-with-a-name-of-the-greatest-length-there-is";
    let mut groups = vec![
        group("10.10.1.10", &["web"], "10.10.1.20", "tcp/22", 4),
        group(
            "2001:db8:1111:2222:3333:4444:5555:6666",
            &[long, "web"],
            "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",
            "tcp/65535",
            11,
        ),
        group("198.51.100.7", &[], "10.10.1.20", "icmpv6 type 128", 125),
    ];
    let mut output = group("10.10.1.20", &["app"], "203.0.113.40", "tcp/443", 600);
    (output.direction, output.fate) = (Direction::Output, DenialFate::WouldDeny);
    (output.user, output.destination_tiers) = (Some(1001), Vec::new());
    groups.push(output);
    for number in 1..=30 {
        groups.push(group(&format!("192.0.2.{number}"), &[], "10.10.1.20", "udp/53", 700));
    }
    groups
}

fn denials(groups: Vec<DenialGroup>) -> Denials {
    let total = |direction, fate, connections, minutes| DenialTotal {
        direction,
        fate,
        count: DenialCount { connections, retries: 2 * connections },
        minutes,
    };
    let minutes = (0..60).map(|minute| minute * minute % 37).collect();
    Denials {
        since: NOW - 7200,
        until: NOW,
        totals: vec![total(Direction::Input, DenialFate::Denied, 4000, minutes)],
        by: DenialsBy::Flow,
        groups,
        left_out: 70,
        rest: DenialCount::default(),
        losses: Losses { reading_since: Some(1), read: 12_000, ..Losses::default() },
    }
}

pub(super) fn answers() -> Answers {
    Answers {
        at: Duration::from_secs(1),
        status: status(),
        heaviest: denials(groups()),
        latest: denials(groups()),
        users: BTreeMap::from([(1001, "appuser".to_owned())]),
    }
}

/// What was asked twice, a second apart.
pub(super) fn model() -> Model {
    let mut model = Model::new("app1".into(), DenialsBy::Flow, Some(600));
    model.now = NOW;
    model.take(Ok(answers()));
    let mut second = answers();
    second.at += Duration::from_secs(1);
    second.latest.totals[0].count.connections += 12;
    second.latest.totals[0].count.retries += 70;
    model.take(Ok(second));
    model
}

/// All that can be wrong is.
pub(super) fn in_trouble() -> Model {
    let mut model = model();
    let Some(answers) = &mut model.answers else { panic!("there are some") };
    let status = &mut answers.status;
    (status.enforcement, status.table) = (Enforcement::Committed, TableState::Foreign);
    status.output = SideMode::Observe;
    status.pending = Some(Pending {
        generation: 13,
        back_to: 12,
        observes: false,
        until: NOW + 42,
        reason: "reload".into(),
        by: None,
        from: Vec::new(),
    });
    status.kernel_problem = Some("the kernel refuses the batch: out of memory".into());
    status.problem = Some("error: unknown tier `amdin`\n --> tierwall.toml:7".into());
    status.drift = Some("rule added to chain input by nft, process 4711".into());
    status.unwatched = vec!["can't watch /etc/tierwall: too many open files".into(); 3];
    answers.latest.losses.lost = 1234;
    model.take(Err("tierwalld is not running: nothing listens at /run/x".into()));
    model.now = NOW + 7;
    model
}
