//! Several ways to do the same thing, measured in turns, so that what the machine does meanwhile
//! falls on all of them alike.

use crate::quiet;
use crate::report::{Kind, Row};
use crate::statistics::progress;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// How often a way is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) most: usize,
    /// After that much time, preparations included, a way that was measured [`LEAST`] times has had
    /// enough; after twice that much, one that was measured at all.
    pub(crate) budget: Duration,
}

const LEAST: usize = 3;

/// One way: what it does, and how it is measured, in the unit of its group.
pub(crate) struct Way<'a> {
    row: Row,
    measure: Box<dyn FnMut() -> Result<f64> + 'a>,
    spent: Duration,
    has_failed: bool,
}

impl<'a> Way<'a> {
    pub(crate) fn new(
        kind: Kind,
        way: impl Into<String>,
        measure: impl FnMut() -> Result<f64> + 'a,
    ) -> Self {
        let (row, measure) = (Row::new(kind, way), Box::new(measure));
        Self { row, measure, spent: Duration::ZERO, has_failed: false }
    }

    pub(crate) fn remark(mut self, remark: String) -> Self {
        self.row.remark = Some(remark);
        self
    }

    fn has_enough(&self, rounds: &Rounds) -> bool {
        let measured = self.row.samples.len();
        self.has_failed
            || (measured >= LEAST && self.spent > rounds.budget)
            || (measured >= 1 && self.spent > 2 * rounds.budget)
    }

    /// A peer that fails is left out; tierwall and its floor must not.
    fn take_turn(&mut self) -> Result<()> {
        let begun = Instant::now();
        let sample = (self.measure)();
        let took = begun.elapsed();
        self.spent += took;
        // To undo what was done takes no longer than it did.
        quiet::settle(took);
        match sample {
            Ok(sample) => self.row.samples.push(sample),
            Err(error) if self.row.kind == Kind::Other => {
                eprintln!("warning: {}: {error:#}", self.row.way);
                self.has_failed = true;
                self.row.remark = Some("failed".into());
            }
            Err(error) => return Err(error).with_context(|| self.row.way.clone()),
        }
        Ok(())
    }
}

/// Measures all of them.
///
/// # Errors
/// When tierwall or the floor fails.
pub(crate) fn interleave(what: &str, rounds: Rounds, mut ways: Vec<Way<'_>>) -> Result<Vec<Row>> {
    for round in 0..rounds.most {
        progress(what, round, rounds.most);
        for way in ways.iter_mut().filter(|way| !way.has_enough(&rounds)) {
            way.take_turn()?;
        }
    }
    progress(what, rounds.most, rounds.most);
    Ok(ways.into_iter().map(|way| way.row).collect())
}
