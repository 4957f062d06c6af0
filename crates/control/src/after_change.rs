//! What is said of denials after a change: how many there were before and since, and which of them
//! are of connections that what held before let through.

use crate::denial::Direction;
use serde::{Deserialize, Serialize};

/// Connections that were denied, or would have been, in a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenialRate {
    /// Between addresses that tiers hold, and those of this server's own programs.
    pub connections: u64,
    /// From addresses that no tier holds.
    pub strangers: u64,
    /// How long that was, in seconds.
    pub seconds: u64,
}

/// Denials before a generation and in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenialRates {
    /// In the ten minutes before it, as far as packets were read.
    pub before: DenialRate,
    /// In its first ten minutes, as far as they have passed.
    pub after: DenialRate,
}

/// Denials since the last change, beside what held before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AfterChange {
    /// The generation of the policy since.
    pub generation: u64,
    /// That of what it is compared with: the same one where members were changed.
    pub before: u64,
    /// When the change was, in seconds since the epoch.
    pub time: u64,
    /// Why it was made: `reload`, `members changed`, …
    pub reason: String,
    /// How many there were before and since.
    pub rates: DenialRates,
    /// Connections denied since that an allow let through before.
    pub newly_denied: u64,
    /// Connections that would have been denied, on a side that only observes now.
    pub newly_would_deny: u64,
    /// Connections that came too fast to be compared.
    pub not_compared: u64,
    /// When the last of those that an allow let through before was denied, in seconds since the
    /// epoch.
    pub last: Option<u64>,
    /// What most of them are, or, where there are none, of all denied since; the most first.
    pub most: Vec<DeniedKind>,
    /// Whether it is so much more that it was told in the log, too.
    pub alarm: bool,
}

/// Denied connections of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedKind {
    /// The chain.
    pub direction: Direction,
    /// Protocol and port: `tcp/22`.
    pub service: String,
    /// The tier that they come from, or the address where no tier holds it. The tier is that before
    /// the change, if there was one.
    pub from: String,
    /// The tier or address that they go to.
    pub to: String,
    /// How many.
    pub connections: u64,
}

impl DenialRate {
    /// Connections a minute, rounded up; those of strangers aside. A time under a minute counts as
    /// one: nobody knows yet how it goes on.
    pub fn per_minute(&self) -> u64 {
        per_minute(self.connections, self.seconds)
    }

    /// The same of strangers.
    pub fn strangers_per_minute(&self) -> u64 {
        per_minute(self.strangers, self.seconds)
    }
}

fn per_minute(connections: u64, seconds: u64) -> u64 {
    connections.saturating_mul(60).div_ceil(seconds.max(60))
}

impl AfterChange {
    /// Connections that what held before let through, denied since or only counted.
    pub fn newly(&self) -> u64 {
        self.newly_denied + self.newly_would_deny
    }

    /// In a sentence, without its end: `denied connections went from 2 to 140 a minute since
    /// generation 13; generation 12 let through 138 of them, most of them tcp/5432 from app to db`.
    pub fn sentence(&self) -> String {
        let Self { generation, before, rates, .. } = self;
        let (old, new) = (rates.before.per_minute(), rates.after.per_minute());
        let is_of_members = generation == before;
        let since = match is_of_members {
            true => format!("since {} under generation {generation}", self.reason),
            false => format!("since generation {generation}"),
        };
        let earlier = match is_of_members {
            true => "what held before".to_owned(),
            false => format!("generation {before}"),
        };
        let what = match (self.newly_denied, self.newly_would_deny) {
            (0, 1..) => "connections that would be denied",
            _ => "denied connections",
        };
        // Where others became fewer, a rate that fell says nothing of these.
        let mut text = match new > old {
            true => format!("{what} went from {old} to {new} a minute {since}"),
            false => format!("{what} are {new} a minute {since}, {old} before"),
        };
        match self.newly() {
            0 if self.not_compared == 0 => {
                text += &format!("; {earlier} would have denied them too");
            }
            0 => {}
            1 => text += &format!("; {earlier} let 1 of them through"),
            newly => text += &format!("; {earlier} let {newly} of them through"),
        }
        text + &self.most_of_them()
    }

    /// The same with the commands that help: a rollback only if what it returns to let any of them
    /// through, and members are no generation to roll back.
    pub fn advised(&self, note: &str) -> String {
        let is_of_members = self.generation == self.before;
        let may_help = self.newly() > 0 || self.not_compared > 0;
        let rollback = if may_help && !is_of_members { ", `tierwall rollback`" } else { "" };
        format!("{}{note}: see `tierwall denied`{rollback}", self.sentence())
    }

    /// What most of them are: `, most tcp/5432 from app to db`. Empty where nothing is known.
    pub fn most_of_them(&self) -> String {
        let Some(DeniedKind { service, from, to, connections, .. }) = self.most.first() else {
            return String::new();
        };
        let all = if self.newly() > 0 { self.newly() } else { self.rates.after.connections };
        let most = if *connections >= all { "all" } else { "most" };
        format!(", {most} {service} from {from} to {to}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change() -> AfterChange {
        let rate = |connections, seconds| DenialRate { connections, strangers: 9, seconds };
        AfterChange {
            generation: 13,
            before: 12,
            time: 7,
            reason: "reload".into(),
            rates: DenialRates { before: rate(20, 600), after: rate(280, 120) },
            newly_denied: 138,
            newly_would_deny: 0,
            not_compared: 0,
            last: Some(8),
            most: vec![DeniedKind {
                direction: Direction::Output,
                service: "tcp/5432".into(),
                from: "app".into(),
                to: "db".into(),
                connections: 130,
            }],
            alarm: true,
        }
    }

    #[test]
    fn a_change_is_told_in_a_sentence() {
        assert_eq!(
            change().sentence(),
            "denied connections went from 2 to 140 a minute since generation 13; generation 12 let \
             138 of them through, most tcp/5432 from app to db"
        );
        let members = AfterChange { before: 13, reason: "members changed".into(), ..change() };
        assert_eq!(
            members.sentence(),
            "denied connections went from 2 to 140 a minute since members changed under generation \
             13; what held before let 138 of them through, most tcp/5432 from app to db"
        );
        let rates = change().rates;
        let fewer = DenialRates { before: rates.after, after: rates.before };
        assert_eq!(
            AfterChange { rates: fewer, newly_denied: 6, ..change() }.sentence(),
            "denied connections are 2 a minute since generation 13, 140 before; generation 12 let 6 \
             of them through, all tcp/5432 from app to db"
        );
        let other = AfterChange { newly_denied: 0, most: Vec::new(), ..change() };
        let told = change().advised("");
        assert!(
            told.ends_with(" from app to db: see `tierwall denied`, `tierwall rollback`"),
            "{told}"
        );
        // Neither members nor what was denied before come back by that.
        for helpless in [members, other.clone()] {
            let told = helpless.advised(" (the last 3 s ago)");
            assert!(told.ends_with(" (the last 3 s ago): see `tierwall denied`"), "{told}");
        }
        assert_eq!(
            other.sentence(),
            "denied connections went from 2 to 140 a minute since generation 13; generation 12 \
             would have denied them too"
        );
    }

    #[test]
    fn a_few_seconds_are_no_rate() {
        let rate = |connections, seconds| DenialRate { connections, strangers: 0, seconds };
        assert_eq!(rate(3, 1).per_minute(), 3);
        assert_eq!(rate(3, 600).per_minute(), 1);
        assert_eq!(rate(0, 0).per_minute(), 0);
    }
}
