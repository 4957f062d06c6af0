//! Numbers of packets: what allows let in, what was denied, and what of that got lost on the way
//! here.

use super::Snapshot;
use super::text::{Number, Text};
use crate::denials::{Counted, DIRECTIONS, Series, limit};
use control::{Direction, LimitCount};
use netlink::Connection;
use policy::Fate;
use std::collections::BTreeMap;

/// Packets and bytes of the kernel's counters, by their names.
type Counts = BTreeMap<String, (u64, u64)>;

pub(super) fn write(text: &mut Text, snapshot: &Snapshot) {
    let counts = Connection::open().and_then(|mut connection| connection.counters());
    text.gauge(
        "tierwall_kernel_counters_readable",
        "0 where the kernel's counters can't be read, so that what follows from them is missing.",
    )
    .is(counts.is_ok());
    let counts = counts.unwrap_or_default();
    allows(text, snapshot, &counts);
    denied(text, &snapshot.denials.series());
    closing(text, &counts);
    logged(text, snapshot, &counts);
}

/// One counter an allow, shared by all its rules, which counts what begins a connection.
fn allows(text: &mut Text, snapshot: &Snapshot, counts: &Counts) {
    let known = || {
        let named = snapshot.allows.iter();
        named.filter_map(|(counter, allow)| Some((allow, counts.get(counter)?)))
    };
    let mut packets = text.counter(
        "tierwall_allow_packets_total",
        "Packets that an allow let through: those that begin a connection.",
    );
    for (allow, (number, _)) in known() {
        packets.with(&[("allow", allow)], *number);
    }
    let mut bytes = text
        .counter("tierwall_allow_bytes_total", "Bytes of the packets that an allow let through.");
    for (allow, (_, number)) in known() {
        bytes.with(&[("allow", allow)], *number);
    }
}

/// What was read from the log, by label.
fn denied(text: &mut Text, series: &[Series]) {
    type Of = fn(Counted) -> u64;
    let (connections, retries): (Of, Of) = (|c| c.connections, |c| c.retries);
    for (name, help, number, observing) in [
        ("tierwall_denied_connections_total", "Connections denied.", connections, false),
        ("tierwall_denied_retries_total", "Retries of connections denied.", retries, false),
        (
            "tierwall_would_deny_connections_total",
            "Connections that a side which only observes would have denied.",
            connections,
            true,
        ),
        ("tierwall_would_deny_retries_total", "Retries of those.", retries, true),
    ] {
        let mut family = text.counter(name, help);
        for series in series {
            let (is_observed, reason) = match series.mark.fate {
                Fate::Denied => (false, "no-allow"),
                Fate::Invalid => (false, "invalid"),
                Fate::WouldDeny => (true, "no-allow"),
                Fate::WouldDropInvalid => (true, "invalid"),
            };
            if is_observed != observing {
                continue;
            }
            let labels = [
                ("direction", &*series.mark.hook.to_string()),
                ("reason", reason),
                ("source_tier", &series.source),
                ("destination_tier", &series.destination),
                ("service", &series.service),
                ("user", &series.user),
            ];
            family.with(&labels, Number::Whole(number(series.counted)));
        }
    }
}

/// What came to the closing rules, logged or not.
fn closing(text: &mut Text, counts: &Counts) {
    for (name, help, counter) in [
        (
            "tierwall_denied_packets_total",
            "Packets that no allow named and that were denied, in the kernel.",
            "denied",
        ),
        (
            "tierwall_would_deny_packets_total",
            "Packets that a side which only observes would have denied, in the kernel.",
            "would-deny",
        ),
        (
            "tierwall_invalid_packets_total",
            "Packets that connection tracking calls invalid: dropped, unless the side observes.",
            "invalid",
        ),
    ] {
        let mut family = text.counter(name, help);
        for side in DIRECTIONS.map(Direction::name) {
            if let Some((packets, _)) = counts.get(&format!("{counter}.{side}")) {
                family.with(&[("direction", side)], *packets);
            }
        }
    }
}

/// What of that was logged and read.
fn logged(text: &mut Text, snapshot: &Snapshot, counts: &Counts) {
    let limits = || DIRECTIONS.into_iter().filter_map(|direction| limit(counts, direction));
    let mut logged = text.counter(
        "tierwall_log_packets_total",
        "Packets of those denied, or that would be, that the kernel handed to the daemon.",
    );
    for limit in limits() {
        logged.with(&[("direction", limit.direction.name())], limit.logged);
    }
    let mut held_back = text.counter(
        "tierwall_log_held_back_packets_total",
        "Packets that the rate limits kept from the log.",
    );
    for LimitCount { direction, packets, logged, .. } in limits() {
        let side = direction.name();
        let number = snapshot.denials.held_back(side, packets, logged);
        held_back.with(&[("direction", side)], number);
    }
    let reading = snapshot.denials.reading();
    text.counter("tierwall_log_read_packets_total", "Packets that the daemon read from the log.")
        .is(reading.read);
    text.counter(
        "tierwall_log_lost_packets_total",
        "Packets that came too fast for the daemon to read.",
    )
    .is(reading.lost);
    text.counter(
        "tierwall_log_unknown_packets_total",
        "Packets read that no rule of ours logged, or without headers.",
    )
    .is(reading.unknown);
    text.gauge("tierwall_log_reading", "1 while the daemon reads denied packets.")
        .is(reading.since.is_some());
}
